//! Statements with a result: streamed block by block where the format allows, else fetched whole.

use std::time::Instant;

use bytes::Bytes;

use super::{Answer, Head, Job, Last, PIECE_BYTES, Piece};
use crate::{
    door::{
        coding::BlockWriter,
        error::{Kind, ServerError},
        format::Joining,
        statement,
    },
    engine::{
        Handle,
        ffi::{Progress, QueryClass, QueryResult},
    },
};

pub fn select(
    handle: &mut Handle,
    job: &mut Job,
    text: &[u8],
    started: Instant,
) -> Result<Last, ServerError> {
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
    if found.class == QueryClass::ReadOnly {
        job.answer.cancellation.begin();
        // A client that left before this was not waited for: nobody would end the statement.
        if job.answer.cancellation.abandoned() {
            job.answer.cancellation.end();
            return Ok(Last::Nothing);
        }
    }
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
    job.answer.cancellation.end();
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
) -> Result<Last, String> {
    let result = handle.connection.query(text, format, &job.call.params)?;
    job.outcome.progress = result.progress();
    let mut writer = job
        .call
        .output
        .writer()
        .map_err(|error| error.to_string())?;
    let mut body = vec![encoded(&mut writer, result, 0).map_err(|error| error.to_string())?];
    body.push(writer.end().map_err(|error| error.to_string())?.into());
    Ok(Last::Head(Ok(Head {
        format: Some(format.to_owned()),
        progress: job.outcome.progress,
        elapsed: started.elapsed(),
        whole: Some(body),
        exception_tag: None,
    })))
}

fn stream(
    handle: &mut Handle,
    job: &mut Job,
    text: &[u8],
    format: &str,
    joining: Joining,
    started: Instant,
) -> Result<Last, String> {
    let mut rows = handle.connection.stream(text, format, &job.call.params)?;
    let writer = job
        .call
        .output
        .writer()
        .map_err(|error| error.to_string())?;
    let writer = job.writer.insert(writer);
    let mut heading: Option<Vec<u8>> = None;
    // The first two blocks are waited for: a result of one block is then answered whole, with its final figures, and an
    // error at the start with its own status.
    let mut ahead: Vec<Bytes> = Vec::new();
    let mut sent_head = false;
    loop {
        let Some(block) = rows.next_chunk()? else {
            break;
        };
        add(&mut job.outcome.progress, block.progress());
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
            if !send(&job.answer, bytes) {
                // The client is gone; dropping the stream cancels the statement.
                return Ok(Last::Nothing);
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
                    progress: job.outcome.progress,
                    elapsed: started.elapsed(),
                    whole: None,
                    exception_tag: None,
                },
            );
            for bytes in ahead.drain(..) {
                if !send(&job.answer, bytes) {
                    return Ok(Last::Nothing);
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
        return Ok(Last::Piece(Piece::End));
    }
    ahead.push(end);
    Ok(Last::Head(Ok(Head {
        format: Some(format.to_owned()),
        progress: job.outcome.progress,
        elapsed: started.elapsed(),
        whole: Some(ahead),
        exception_tag: None,
    })))
}

/// Hands a block over in slices, so that the few pieces that may wait are few megabytes, however wide the rows. `false`:
/// nobody takes them.
fn send(answer: &Answer, mut block: Bytes) -> bool {
    while !block.is_empty() {
        let piece = block.split_to(block.len().min(PIECE_BYTES));
        if answer.pieces.blocking_send(Piece::Data(piece)).is_err() {
            return false;
        }
    }
    true
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
