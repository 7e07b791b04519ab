//! One call against one engine session, on a thread that may block: text and data apart, settings, result in pieces.

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
    request::Call,
    statement::{self, Scan},
    users::{self, Role},
    watch::Cancellation,
};
use crate::engine::{Handle, ffi::Progress, quote_identifier, quote_text};

/// Bytes read from a body at a time, and handed to the engine at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A call, ready to run.
pub struct Job {
    pub call: Call,
    pub role: Role,
    pub limits: ReaderLimits,
    /// Longest statement text accepted, in bytes; data of inserts does not count.
    pub text_bytes_max: usize,
    pub body: Option<BodyReader>,
    pub answer: Answer,
    /// Compresses the answer; here so that an error in the middle of a result goes through it too.
    pub writer: Option<BlockWriter>,
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

enum Last {
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
pub fn execute(handle: &mut Handle, mut job: Job) -> Finale {
    let last = match run(handle, &mut job) {
        Ok(last) => last,
        Err(error) if job.answer.head.is_some() => Last::Head(Err(error)),
        Err(error) => break_off(&mut job, error),
    };
    Finale {
        answer: job.answer,
        last,
    }
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

fn run(handle: &mut Handle, job: &mut Job) -> Result<Last, ServerError> {
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
    match scan {
        Scan::Insert { head, format, data } => {
            users::permit(&text[..head], job.role)?;
            if job.call.read_only || job.role == Role::Reader {
                return Err(ServerError::new(
                    Kind::Readonly,
                    "Cannot execute query in readonly mode: INSERT. Use POST, and a user with role writer",
                ));
            }
            prepare(handle, job)?;
            let progress = insert(
                handle,
                &job.call,
                &text[..head],
                &format,
                &text[data..],
                body,
            )?;
            Ok(Last::Head(Ok(Head {
                format: None,
                progress,
                elapsed: started.elapsed(),
                whole: Some(Vec::new()),
            })))
        }
        Scan::Statement | Scan::Incomplete => {
            users::permit(&text, job.role)?;
            prepare(handle, job)?;
            select::select(handle, job, &text, started)
        }
    }
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

/// Database and settings of the call. Whatever is set makes the session one that is not given back.
fn prepare(handle: &mut Handle, job: &Job) -> Result<(), ServerError> {
    let call = &job.call;
    if let Some(database) = call
        .database
        .as_deref()
        .filter(|database| !database.is_empty())
    {
        command(handle, &format!("USE {}", quote_identifier(database)))?;
    }
    if job.role == Role::Reader
        && let Some((name, _)) = call
            .settings
            .iter()
            .find(|(name, _)| !users::reader_may_set(name))
    {
        return Err(ServerError::new(
            Kind::Readonly,
            format!("Cannot modify '{name}' setting in readonly mode"),
        ));
    }
    if !call.settings.is_empty() {
        let list: Vec<String> = call
            .settings
            .iter()
            .map(|(name, value)| format!("{name} = {}", quote_text(value)))
            .collect();
        command(handle, &format!("SET {}", list.join(", ")))?;
    }
    if job.role == Role::Reader {
        let limits = &job.limits;
        command(
            handle,
            &format!(
                "SET max_execution_time = {}, max_memory_usage = {}, max_rows_to_read = {}, max_bytes_to_read = {}, \
                 max_result_rows = {}, allow_ddl = 0, readonly = 1",
                limits.seconds,
                limits.memory_mb.saturating_mul(1 << 20),
                limits.rows_read,
                limits.bytes_read,
                limits.rows_returned,
            ),
        )?;
    }
    Ok(())
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
    first: &[u8],
    mut body: Box<dyn Read + Send>,
) -> Result<Progress, ServerError> {
    let of_engine = |problem: String| ServerError::of_engine(&problem);
    let mut stream = handle
        .connection
        .insert(head, format, &call.params)
        .map_err(of_engine)?;
    if !first.is_empty() {
        stream.append(first).map_err(of_engine)?;
    }
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        // Dropping the stream on an error cancels the insert.
        body.by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)
            .map_err(unreadable)?;
        if piece.is_empty() {
            return stream.finish().map_err(of_engine);
        }
        stream.append(&piece).map_err(of_engine)?;
    }
}
