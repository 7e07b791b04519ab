//! One call against one engine session, on a thread that may block: text and data apart, settings, result in pieces.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    body::BodyReader,
    coding::BlockWriter,
    config::ReaderLimits,
    error::{Kind, ServerError},
    format::Joining,
    request::Call,
    statement::{self, Scan},
    users::{self, Role},
};
use crate::engine::{
    Handle,
    ffi::{Progress, QueryClass, QueryResult},
    quote_identifier, quote_text,
};

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
    /// Set while the statement may be cancelled by a client that goes away. An insert is not: its data may be complete.
    pub cancellable: Arc<AtomicBool>,
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

/// Runs the job and answers exactly once.
pub fn execute(handle: &mut Handle, mut job: Job) {
    if let Err(error) = run(handle, &mut job) {
        match job.answer.head.take() {
            // A client that is gone needs no answer.
            Some(head) => drop(head.send(Err(error))),
            None => break_off(&mut job, error),
        }
    }
}

/// Ends a result that has begun, as servers since 25.11 do: the message in a marked block, then no proper end.
fn break_off(job: &mut Job, error: ServerError) {
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
    drop(job.answer.pieces.blocking_send(Piece::Broken(error)));
}

fn run(handle: &mut Handle, job: &mut Job) -> Result<(), ServerError> {
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
            send_head(
                &mut job.answer,
                Head {
                    format: None,
                    progress,
                    elapsed: started.elapsed(),
                    whole: Some(Vec::new()),
                },
            );
            Ok(())
        }
        Scan::Statement | Scan::Incomplete => {
            users::permit(&text, job.role)?;
            prepare(handle, job)?;
            select(handle, job, &text, started)
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

fn select(
    handle: &mut Handle,
    job: &mut Job,
    text: &[u8],
    started: Instant,
) -> Result<(), ServerError> {
    if text.trim_ascii().is_empty() {
        return Err(ServerError::new(
            Kind::SyntaxError,
            "Empty query: send SQL in the body or as the parameter query",
        ));
    }
    let found = handle.connection.classify(text);
    if found.statements > 1 {
        return Err(ServerError::new(
            Kind::SyntaxError,
            "Multi-statements are not allowed: send one statement per request",
        ));
    }
    if job.call.read_only && !matches!(found.class, QueryClass::ReadOnly | QueryClass::Unknown) {
        return Err(ServerError::new(
            Kind::Readonly,
            "Cannot execute query in readonly mode. For queries that change something, use POST",
        ));
    }
    handle.changed |= found.class != QueryClass::ReadOnly;
    let format = statement::output_format(text)
        .or_else(|| job.call.default_format.clone())
        .unwrap_or_else(|| "TabSeparated".into());
    let word = statement::first_word(text);
    let joining = Joining::of(&format);
    let streams = found.class == QueryClass::ReadOnly
        && matches!(word.as_str(), "SELECT" | "WITH" | "FROM")
        && joining != Joining::Whole;
    job.answer
        .cancellable
        .store(found.class == QueryClass::ReadOnly, Ordering::Release);
    let outcome = if streams {
        stream(handle, job, text, &format, joining, started)
    } else {
        Err(NOT_STREAMED.into())
    };
    let outcome = match outcome {
        Err(problem) if problem.contains(NOT_STREAMED) && job.answer.head.is_some() => {
            whole(handle, job, text, &format, started)
        }
        other => other,
    };
    job.answer.cancellable.store(false, Ordering::Release);
    outcome.map_err(|problem| ServerError::of_engine(&problem))
}

/// How the engine words that a statement has no streaming form.
const NOT_STREAMED: &str = "Streaming query is not supported";

fn whole(
    handle: &mut Handle,
    job: &mut Job,
    text: &[u8],
    format: &str,
    started: Instant,
) -> Result<(), String> {
    let result = handle.connection.query(text, format, &job.call.params)?;
    let progress = result.progress();
    let mut writer = job
        .call
        .output
        .writer()
        .map_err(|error| error.to_string())?;
    let mut body = vec![encoded(&mut writer, result, 0).map_err(|error| error.to_string())?];
    body.push(writer.end().map_err(|error| error.to_string())?.into());
    send_head(
        &mut job.answer,
        Head {
            format: Some(format.to_owned()),
            progress,
            elapsed: started.elapsed(),
            whole: Some(body),
        },
    );
    Ok(())
}

fn stream(
    handle: &mut Handle,
    job: &mut Job,
    text: &[u8],
    format: &str,
    joining: Joining,
    started: Instant,
) -> Result<(), String> {
    let mut rows = handle.connection.stream(text, format, &job.call.params)?;
    let writer = job
        .call
        .output
        .writer()
        .map_err(|error| error.to_string())?;
    let writer = job.writer.insert(writer);
    let mut heading: Option<Vec<u8>> = None;
    let mut progress = Progress::default();
    // The first two blocks are waited for: a result of one block is then answered whole, with its final figures, and an
    // error at the start with its own status.
    let mut ahead: Vec<Bytes> = Vec::new();
    let mut sent_head = false;
    loop {
        let Some(block) = rows.next_chunk()? else {
            break;
        };
        add(&mut progress, block.progress());
        let skip = match (joining, &heading) {
            (Joining::Heading(kind), None) => {
                let length = kind.length(block.bytes()).unwrap_or(block.bytes().len());
                heading = Some(block.bytes()[..length].to_vec());
                0
            }
            (Joining::Heading(_), Some(heading)) if block.bytes().starts_with(heading) => {
                heading.len()
            }
            _ => 0,
        };
        let bytes = encoded(writer, block, skip).map_err(|error| error.to_string())?;
        if sent_head {
            if job.answer.pieces.blocking_send(Piece::Data(bytes)).is_err() {
                // The client is gone; dropping the stream cancels the statement.
                return Ok(());
            }
            continue;
        }
        ahead.push(bytes);
        if ahead.len() == 2 && !job.call.wait_end {
            sent_head = true;
            send_head(
                &mut job.answer,
                Head {
                    format: Some(format.to_owned()),
                    progress,
                    elapsed: started.elapsed(),
                    whole: None,
                },
            );
            for bytes in ahead.drain(..) {
                if job.answer.pieces.blocking_send(Piece::Data(bytes)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    let end = match job.writer.take() {
        Some(writer) => Bytes::from(writer.end().map_err(|error| error.to_string())?),
        None => Bytes::new(),
    };
    if sent_head {
        // A client that is gone does not mind.
        let _ = job.answer.pieces.blocking_send(Piece::Data(end));
        let _ = job.answer.pieces.blocking_send(Piece::End);
    } else {
        ahead.push(end);
        send_head(
            &mut job.answer,
            Head {
                format: Some(format.to_owned()),
                progress,
                elapsed: started.elapsed(),
                whole: Some(ahead),
            },
        );
    }
    Ok(())
}

fn encoded(writer: &mut BlockWriter, block: QueryResult, skip: usize) -> std::io::Result<Bytes> {
    if writer.is_plain() {
        // The engine's own buffer goes to the socket.
        return Ok(Bytes::from_owner(block).slice(skip..));
    }
    if block.bytes().len() == skip {
        return Ok(Bytes::new());
    }
    writer.block(&block.bytes()[skip..]).map(Bytes::from)
}

/// A block's figures are its own; results add up, what was read from storage is reported as a running total.
fn add(total: &mut Progress, block: Progress) {
    total.result_rows += block.result_rows;
    total.result_bytes += block.result_bytes;
    total.read_rows = total.read_rows.max(block.read_rows);
    total.read_bytes = total.read_bytes.max(block.read_bytes);
}

fn send_head(answer: &mut Answer, head: Head) {
    if let Some(sender) = answer.head.take() {
        // A client that is gone needs no answer.
        let _ = sender.send(Ok(head));
    }
}
