//! One call on a thread that may block: text and data apart, policy, settings, result in pieces. It runs on a session of
//! the engine here, or on the server behind the door ([`super::upstream`]).

mod input_table;
mod select;

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    body::BodyReader,
    coding::BlockWriter,
    config::ReaderLimits,
    error::{Kind, ServerError},
    policy::{Asked, Policy},
    printed::PrintedStatements,
    request::Call,
    statement::{self, Scan},
    upstream::Upstream,
    users::{self, Role},
    watch::Cancellation,
};
use crate::engine::{Engine, Handle, Printed, ffi::Progress, quote_identifier, quote_text};

/// Bytes read from a body at a time, and handed to the engine at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A call, ready to run.
pub struct Job {
    pub call: Call,
    pub user: String,
    pub role: Role,
    pub policy: Arc<Policy>,
    pub printed: Arc<PrintedStatements>,
    pub limits: ReaderLimits,
    /// Longest statement text accepted, in bytes; data of inserts does not count.
    pub text_bytes_max: usize,
    pub body: Option<BodyReader>,
    pub answer: Answer,
    /// Compresses the answer; here so that an error in the middle of a result goes through it too.
    pub writer: Option<BlockWriter>,
    /// What is known so far, for the log and the quota.
    pub outcome: Outcome,
    /// Gives an engine limit that stands for a quota the quota's name.
    pub reword: Box<dyn Fn(ServerError) -> ServerError + Send>,
}

/// What became of a job.
#[derive(Debug, Default)]
pub struct Outcome {
    pub printed: Printed,
    pub progress: Progress,
    pub error: Option<ServerError>,
    pub cancelled: bool,
}

/// Where statements run.
pub enum Place {
    Engine(Arc<Engine>, Handle),
    Upstream(Arc<Upstream>),
}

impl Place {
    /// The statement as the parser there prints it.
    fn print(&self, text: &[u8]) -> Result<Printed, ServerError> {
        let printed = match self {
            Self::Engine(engine, _) => engine.print(text).map_err(|error| match error {
                crate::engine::EngineError::Statement { problem, .. } => problem,
                other => other.to_string(),
            }),
            Self::Upstream(upstream) => upstream.print(text),
        };
        printed.map_err(|problem| ServerError::of_engine(&Printed::problem(&problem)))
    }
}

/// Where a job's answer goes.
pub struct Answer {
    pub head: Option<oneshot::Sender<Result<Head, ServerError>>>,
    pub pieces: mpsc::Sender<Piece>,
    pub cancellation: Arc<Cancellation>,
    /// Marks an error in the middle of a result.
    pub exception_tag: String,
    /// The engine's version, for error texts.
    pub version: String,
}

/// What is known when the answer can begin.
#[derive(Debug)]
pub struct Head {
    pub format: Option<String>,
    pub progress: Progress,
    pub elapsed: Duration,
    /// The whole body, or `None` when it follows in pieces.
    pub whole: Option<Vec<Bytes>>,
    /// The mark of errors in the middle of a result, when it is another's than the door's.
    pub exception_tag: Option<String>,
}

#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    End,
    /// The result breaks off here: the connection is not to end as if it were complete.
    Broken(ServerError),
}

/// The last word of an answer. It is said when the engine session is free again, because a client may use that at once.
pub struct Finale {
    answer: Answer,
    last: Last,
}

pub enum Last {
    Head(Result<Head, ServerError>),
    Piece(Piece),
    /// The client is gone.
    Nothing,
}

impl Finale {
    pub fn say(mut self) {
        // A client that is gone needs no answer, here and below.
        match self.last {
            Last::Head(head) => {
                if let Some(sender) = self.answer.head.take() {
                    let _ = sender.send(head);
                }
            }
            Last::Piece(piece) => {
                let _ = self.answer.pieces.blocking_send(piece);
            }
            Last::Nothing => {}
        }
    }
}

/// Runs the job. All but the last word of its answer is said on the way.
pub fn execute(place: &mut Place, mut job: Job) -> (Finale, Outcome) {
    let last = match run(place, &mut job) {
        Ok(last) => {
            job.outcome.cancelled = matches!(last, Last::Nothing);
            last
        }
        Err(error) => {
            let error = (job.reword)(error);
            job.outcome.error = Some(error.clone());
            if job.answer.head.is_some() {
                Last::Head(Err(error))
            } else {
                break_off(&mut job, error)
            }
        }
    };
    job.outcome.cancelled |= job.answer.cancellation.abandoned();
    let finale = Finale {
        answer: job.answer,
        last,
    };
    (finale, job.outcome)
}

/// Ends a result that has begun, as servers since 25.11 do: the message in a marked block, then no proper end.
fn break_off(job: &mut Job, error: ServerError) -> Last {
    let message = error.body(&job.answer.version);
    let tag = &job.answer.exception_tag;
    let block = format!(
        "\r\n__exception__\r\n{tag}\r\n{message}{} {tag}\r\n__exception__\r\n",
        message.len()
    );
    if let Some(mut writer) = job.writer.take()
        && let Ok(mut bytes) = writer.block(block.as_bytes())
        && let Ok(end) = writer.end()
    {
        bytes.extend(end);
        drop(job.answer.pieces.blocking_send(Piece::Data(bytes.into())));
    }
    Last::Piece(Piece::Broken(error))
}

fn run(place: &mut Place, job: &mut Job) -> Result<Last, ServerError> {
    let started = Instant::now();
    let mut body: Box<dyn Read + Send> = match job.body.take() {
        Some(body) => job.call.input.reader(body).map_err(unreadable)?,
        None => Box::new(std::io::empty()),
    };
    let mut text = job.call.query.take().unwrap_or_default().into_bytes();
    if !text.is_empty() {
        text.push(b'\n');
    }
    let scan = read_statement(&mut text, &mut body, job.text_bytes_max)?;
    permit(place, job, &text, &scan)?;
    match place {
        Place::Upstream(upstream) => upstream.run(job, text, scan, body, started),
        Place::Engine(engine, handle) => {
            prepare(engine, handle, job)?;
            match scan {
                Scan::Insert {
                    head,
                    format,
                    data,
                    input,
                } => {
                    let (head, first) = (&text[..head], &text[data..]);
                    let rows = first.chain(body);
                    job.outcome.progress = match input {
                        Some(input) => {
                            let folder = engine.folder();
                            input_table::insert(
                                handle, &job.call, head, input, &format, rows, folder,
                            )?
                        }
                        None => insert(handle, &job.call, head, &format, rows)?,
                    };
                    Ok(Last::Head(Ok(Head {
                        format: None,
                        progress: job.outcome.progress,
                        elapsed: started.elapsed(),
                        whole: Some(Vec::new()),
                        exception_tag: None,
                    })))
                }
                Scan::Statement | Scan::Incomplete => select::select(handle, job, &text, started),
            }
        }
    }
}

/// Has the statement printed by the engine's parser, and asks the policy about that.
fn permit(place: &Place, job: &mut Job, text: &[u8], scan: &Scan) -> Result<(), ServerError> {
    if text.trim_ascii().is_empty() {
        return Err(ServerError::new(
            Kind::SyntaxError,
            "Empty query: send SQL in the body or as the parameter query",
        ));
    }
    // Until the parser has printed it, the log has the client's own words.
    job.outcome.printed.text = String::from_utf8_lossy(text).into_owned();
    let print = |text: &[u8]| job.printed.of(text, || place.print(text));
    job.outcome.printed = match scan {
        // The parser wants a format behind an INSERT; the text itself may lack it.
        Scan::Insert { head, format, .. } => {
            print(&[&text[..*head], b" FORMAT ", format.as_bytes()].concat())?
        }
        _ => print(text)?,
    };
    if job.call.read_only && matches!(scan, Scan::Insert { .. }) {
        return Err(ServerError::new(
            Kind::Readonly,
            "Cannot execute query in readonly mode: INSERT. Use POST",
        ));
    }
    let asked = Asked {
        role: job.role,
        database: job.call.database.as_deref(),
        settings: &job.call.settings,
        params: &job.call.params,
    };
    job.policy
        .permit(job.outcome.printed.text.as_bytes(), asked)?;
    if job.role == Role::Reader
        && let Some((name, _)) = job
            .call
            .settings
            .iter()
            .find(|(name, _)| !users::reader_may_set(name))
    {
        return Err(ServerError::new(
            Kind::Readonly,
            format!("Cannot modify '{name}' setting in readonly mode"),
        ));
    }
    Ok(())
}

fn unreadable(error: std::io::Error) -> ServerError {
    let kind = if error.kind() == std::io::ErrorKind::ConnectionAborted {
        Kind::Aborted
    } else {
        Kind::CannotReadData
    };
    ServerError::new(kind, error)
}

/// Reads as much of the body as tells the statement from its data.
fn read_statement(
    text: &mut Vec<u8>,
    body: &mut dyn Read,
    text_bytes_max: usize,
) -> Result<Scan, ServerError> {
    let mut complete = false;
    // Reading doubles each time, so that scanning again from the start stays linear in all.
    let mut step = 16 * 1024;
    loop {
        let scan = statement::scan(text, complete);
        if complete || matches!(scan, Scan::Insert { .. }) {
            return Ok(scan);
        }
        if text.len() > text_bytes_max {
            return Err(ServerError::new(
                Kind::QueryTooLarge,
                format!(
                    "the statement is longer than {text_bytes_max} bytes (limits.text_bytes of the door)"
                ),
            ));
        }
        let before = text.len();
        body.take(step).read_to_end(text).map_err(unreadable)?;
        complete = text.len() == before;
        step *= 2;
    }
}

/// Database, settings and limits of the call. Whatever is set makes the session one that is not given back.
fn prepare(engine: &Engine, handle: &mut Handle, job: &mut Job) -> Result<(), ServerError> {
    // A session that nothing was changed in is in the engine's own database.
    let is_there = |database: &str| !handle.changed && database == engine.database();
    if let Some(database) = job
        .call
        .database
        .as_deref()
        .filter(|database| !database.is_empty() && !is_there(database))
    {
        command(handle, &format!("USE {}", quote_identifier(database)))?;
    }
    let mut list: Vec<String> = job
        .call
        .settings
        .iter()
        // The door's own: see `session_comment`.
        .filter(|(name, _)| name != "log_comment")
        .map(|(name, value)| format!("{name} = {}", quote_text(value)))
        .collect();
    if job.role == Role::Reader || job.outcome.printed.text.contains("query_log") {
        let comment = format!("{}/{}", handle.tag, session_user(job));
        list.push(format!("log_comment = {}", quote_text(&comment)));
    }
    list.extend(
        limit_settings(job)
            .into_iter()
            .map(|(name, value)| format!("{name} = {value}")),
    );
    if !list.is_empty() {
        command(handle, &format!("SET {}", list.join(", ")))?;
    }
    Ok(())
}

/// Whose rows of the query log the session sees. A door in front of this one says for whom it asks.
pub fn session_user(job: &Job) -> &str {
    let given = job
        .call
        .settings
        .iter()
        .find(|(name, _)| name == "log_comment")
        .and_then(|(_, value)| value.strip_prefix("door/"));
    match given {
        Some(user) if job.role == Role::Admin => user,
        _ => &job.user,
    }
}

/// The engine's own guards, `readonly` last: after it nothing can be set.
pub fn limit_settings(job: &Job) -> Vec<(&'static str, u64)> {
    let limits = &job.limits;
    let mut list = vec![
        ("max_execution_time", limits.seconds),
        ("max_memory_usage", limits.memory_mb.saturating_mul(1 << 20)),
        ("max_rows_to_read", limits.rows_read),
        ("max_bytes_to_read", limits.bytes_read),
        ("max_result_rows", limits.rows_returned),
    ];
    if job.role == Role::Reader {
        list.push(("allow_ddl", 0));
        list.push(("readonly", 1));
    } else {
        list.retain(|(_, value)| *value > 0);
    }
    list
}

fn command(handle: &mut Handle, sql: &str) -> Result<(), ServerError> {
    handle.changed = true;
    handle
        .connection
        .query(sql.as_bytes(), "Null", &[])
        .map(drop)
        .map_err(|problem| ServerError::of_engine(&problem))
}

/// Streams the rows into the engine; they are committed only when the body has ended well.
fn insert(
    handle: &mut Handle,
    call: &Call,
    head: &[u8],
    format: &str,
    rows: impl Read,
) -> Result<Progress, ServerError> {
    let of_engine = |problem: String| ServerError::of_engine(&problem);
    let mut stream = handle
        .connection
        .insert(head, format, &call.params)
        .map_err(of_engine)?;
    // Dropping the stream on an error cancels the insert.
    pieces(rows, |piece| stream.append(piece).map_err(of_engine))?;
    stream.finish().map_err(of_engine)
}

fn pieces(
    mut rows: impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        rows.by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)
            .map_err(unreadable)?;
        if piece.is_empty() {
            return Ok(());
        }
        take(&piece)?;
    }
}
