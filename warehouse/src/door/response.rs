//! Answers as a ClickHouse server words them: status, headers, bodies that come in pieces.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

use super::{
    coding::Coding,
    error::ServerError,
    execute::{Head, Piece},
    format,
    server::{Caller, Door},
    watch::Watch,
};
use crate::engine::ffi::Progress;

/// An answer that has begun.
pub struct Begun {
    pub head: Head,
    pub coding: Coding,
    pub exception_tag: String,
    pub pieces: mpsc::Receiver<Piece>,
    pub watch: Watch,
}

pub fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    response
}

/// Sixteen random letters that no data contains by chance.
pub fn exception_tag() -> String {
    uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}

pub fn failure(door: &Door, caller: &Caller, error: &ServerError) -> Response {
    door.metrics.failed(error.code, caller.started.elapsed());
    tracing::info!(query_id = caller.query_id, user = caller.user, code = error.code, elapsed_ms = caller.started.elapsed().as_millis() as u64, %error, "query failed");
    let mut response = plain(error.status(), &error.body(&door.version()));
    let headers = response.headers_mut();
    common_headers(headers, door, &caller.query_id);
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(error.code));
    if error.status() == StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"ClickHouse server HTTP API\""),
        );
    }
    response
}

pub fn finish(door: &Arc<Door>, caller: &Caller, begun: Begun) -> Response {
    let Begun {
        head,
        coding,
        exception_tag,
        pieces,
        mut watch,
    } = begun;
    door.metrics
        .answered(&head.progress, caller.started.elapsed());
    tracing::debug!(
        query_id = caller.query_id,
        user = caller.user,
        read_rows = head.progress.read_rows,
        written_rows = head.progress.written_rows,
        elapsed_ms = caller.started.elapsed().as_millis() as u64,
        "query answered"
    );
    let body = match head.whole {
        Some(parts) => {
            watch.done = true;
            Body::from(joined(parts))
        }
        None => streamed(pieces, watch, caller.query_id.clone()),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    common_headers(headers, door, &caller.query_id);
    if let Some(name) = &head.format {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(format::content_type(name)),
        );
        if let Ok(value) = HeaderValue::from_str(name) {
            headers.insert("x-clickhouse-format", value);
        }
    } else {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=UTF-8"),
        );
    }
    if let Some(encoding) = coding.header().filter(|_| head.format.is_some()) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if let Ok(tag) = HeaderValue::from_str(&exception_tag) {
        headers.insert("x-clickhouse-exception-tag", tag);
    }
    if let Ok(summary) = HeaderValue::from_str(&summary(&head.progress, head.elapsed)) {
        headers.insert("x-clickhouse-summary", summary);
    }
    response
}

fn common_headers(headers: &mut HeaderMap, door: &Door, query_id: &str) {
    for (name, value) in [
        ("x-clickhouse-query-id", query_id),
        ("x-clickhouse-server-display-name", "heliograph"),
        ("x-clickhouse-timezone", door.timezone()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

fn joined(mut parts: Vec<Bytes>) -> Bytes {
    parts.retain(|part| !part.is_empty());
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.remove(0),
        _ => parts.concat().into(),
    }
}

fn streamed(pieces: mpsc::Receiver<Piece>, watch: Watch, query_id: String) -> Body {
    Body::from_stream(stream::unfold(
        Some((pieces, watch, query_id)),
        |state| async move {
            let (mut pieces, mut watch, query_id) = state?;
            match pieces.recv().await {
                Some(Piece::Data(bytes)) => Some((
                    Ok::<_, std::io::Error>(bytes),
                    Some((pieces, watch, query_id)),
                )),
                Some(Piece::End) => {
                    watch.done = true;
                    None
                }
                Some(Piece::Broken(error)) => {
                    watch.done = true;
                    tracing::info!(query_id, code = error.code, %error, "query failed in the middle of its result");
                    // The message block leaves before the connection is cut.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Err(std::io::Error::other(error.to_string())), None))
                }
                None => Some((
                    Err(std::io::Error::other("the statement's thread ended early")),
                    None,
                )),
            }
        },
    ))
}

/// As a real server words it: every figure is a string.
fn summary(progress: &Progress, elapsed: Duration) -> String {
    format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"written_bytes\":\"{}\",\"total_rows_to_read\":\"0\",\
         \"result_rows\":\"{}\",\"result_bytes\":\"{}\",\"elapsed_ns\":\"{}\",\"memory_usage\":\"0\"}}",
        progress.read_rows,
        progress.read_bytes,
        progress.written_rows,
        progress.written_bytes,
        // An insert returns what it wrote, as a server counts it.
        progress.result_rows.max(progress.written_rows),
        progress.result_bytes.max(progress.written_bytes),
        elapsed.as_nanos(),
    )
}
