//! The HTTP side: a request becomes a [`Job`], its answer a response with the headers of a ClickHouse server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    body::BodyReader,
    coding::Coding,
    config::{Limits, ReaderLimits},
    error::{Kind, ServerError},
    execute::{Answer, Head, Job, Piece, execute},
    format,
    metrics::DoorMetrics,
    request::{Call, SessionRef, form_fields, query_pairs},
    session::Sessions,
    users::{self, Role, User},
    watch::{Cancellation, Watch},
};
use crate::engine::{Engine, Handle, ffi::Progress};

/// Result pieces between engine and socket. The engine waits when they are full, so a slow client holds few blocks.
const PIECES_AHEAD: usize = 4;

/// What all requests share.
pub struct Door {
    pub engine: Arc<Engine>,
    pub users: Vec<User>,
    pub limits: Limits,
    pub sessions: Sessions,
    /// One permit per running statement.
    pub turns: Arc<Semaphore>,
    pub metrics: DoorMetrics,
}

pub fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(handle).with_state(door)
}

async fn handle(State(door): State<Arc<Door>>, request: Request) -> Response {
    let path = request.uri().path();
    match (path, request.method()) {
        ("/ping" | "/replicas_status", &Method::GET | &Method::HEAD) => {
            plain(StatusCode::OK, "Ok.\n")
        }
        ("/" | "/query", &Method::GET | &Method::HEAD)
            if request.uri().query().is_none_or(str::is_empty) =>
        {
            plain(StatusCode::OK, "Ok.\n")
        }
        ("/" | "/query", &Method::GET | &Method::HEAD | &Method::POST | &Method::PUT) => {
            query(&door, request).await
        }
        ("/" | "/query", _) => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "Use GET for queries that change nothing, POST for all.\n",
        ),
        _ => plain(
            StatusCode::NOT_FOUND,
            &format!(
                "There is no handle {path}\n\nUse / or /ping for health checks.\nOr /replicas_status for more sophisticated health checks.\n\nSend queries from your program with POST method or GET /?query=...\n"
            ),
        ),
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    response
}

/// What became of the call, for the log and the metrics.
struct Outcome<'a> {
    user: &'a str,
    query_id: &'a str,
    started: Instant,
}

async fn query(door: &Arc<Door>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut pairs = query_pairs(parts.uri.query().unwrap_or_default());
    let query_id = match pairs
        .iter()
        .find(|(name, value)| name == "query_id" && !value.is_empty())
    {
        Some((_, id)) => id.clone(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let body = match form_body(&parts.headers, body, door.limits.text_bytes).await {
        Ok((body, fields)) => {
            pairs.extend(fields);
            body
        }
        Err(error) => {
            return failure(
                door,
                &Outcome {
                    user: "",
                    query_id: &query_id,
                    started,
                },
                &error,
            );
        }
    };
    let call = match Call::read(&parts.method, &parts.headers, pairs) {
        Ok(call) => call,
        Err(error) => {
            return failure(
                door,
                &Outcome {
                    user: "",
                    query_id: &query_id,
                    started,
                },
                &error,
            );
        }
    };
    let user = match users::authenticate(&door.users, &call.credentials) {
        Ok(user) => user,
        Err(error) => {
            return failure(
                door,
                &Outcome {
                    user: "",
                    query_id: &query_id,
                    started,
                },
                &error,
            );
        }
    };
    let outcome = Outcome {
        user: &user.name,
        query_id: &query_id,
        started,
    };
    match run(door, user, call, body).await {
        Ok(response) => finish(door, &outcome, response),
        Err(error) => failure(door, &outcome, &error),
    }
}

/// A form's fields are parameters; any other body stays a body.
async fn form_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<(Option<Body>, Vec<(String, String)>), ServerError> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Ok((Some(body), Vec::new()));
    }
    let bytes = axum::body::to_bytes(body, bytes_max)
        .await
        .map_err(|error| {
            ServerError::new(
                Kind::QueryTooLarge,
                format!("the form could not be read: {error} (limits.text_bytes is {bytes_max})"),
            )
        })?;
    let fields = form_fields(kind, &bytes).ok_or_else(|| {
        ServerError::new(
            Kind::BadArguments,
            "the multipart/form-data body is malformed",
        )
    })?;
    Ok((None, fields))
}

/// An answer that has begun.
struct Begun {
    head: Head,
    coding: Coding,
    exception_tag: String,
    pieces: mpsc::Receiver<Piece>,
    watch: Watch,
}

async fn run(
    door: &Arc<Door>,
    user: &User,
    mut call: Call,
    body: Option<Body>,
) -> Result<Begun, ServerError> {
    let wait = Duration::from_secs(door.limits.wait_seconds);
    let Ok(Ok(turn)) = tokio::time::timeout(wait, door.turns.clone().acquire_owned()).await else {
        return Err(ServerError::new(
            Kind::TooManyQueries,
            format!(
                "Too many simultaneous queries: {} run already, and none ended within {} s. Try again",
                door.limits.queries,
                wait.as_secs()
            ),
        ));
    };
    // A reader's session could hold nothing that a fresh one does not: no settings, no temporary tables.
    let session = call.session.take().filter(|_| user.role == Role::Writer);
    let mut held = HeldSession::take(door, &user.name, session)?;
    let (head_sender, head) = oneshot::channel();
    let (piece_sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let cancellation = Arc::<Cancellation>::default();
    let coding = call.output;
    let exception_tag = exception_tag();
    let job = Job {
        role: user.role,
        limits: match user.role {
            Role::Reader => door.limits.reader.clone(),
            Role::Writer => ReaderLimits::default(),
        },
        text_bytes_max: door.limits.text_bytes,
        body: body.map(BodyReader::start),
        answer: Answer {
            head: Some(head_sender),
            pieces: piece_sender,
            cancellation: cancellation.clone(),
            exception_tag: exception_tag.clone(),
            version: door.engine.version().to_owned(),
        },
        writer: None,
        call,
    };
    let mut engine_session = held
        .handle
        .take()
        .map_or_else(|| door.engine.session(), Ok)
        .map_err(|error| ServerError::new(Kind::Engine, error))?;
    let watch = Watch {
        engine: door.engine.clone(),
        tag: engine_session.tag.clone(),
        cancellation: cancellation.clone(),
        done: false,
    };
    tokio::task::spawn_blocking(move || {
        let finale = execute(&mut engine_session, job);
        engine_session.abandoned |= cancellation.abandoned();
        held.put_back(engine_session);
        drop(turn);
        finale.say();
    });
    match head.await {
        Ok(Ok(head)) => Ok(Begun {
            head,
            coding,
            exception_tag,
            pieces,
            watch,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ServerError::new(
            Kind::Engine,
            "the statement's thread ended without an answer",
        )),
    }
}

/// An engine session on loan to one call: out of the pool, or of a named session.
struct HeldSession {
    door: Arc<Door>,
    user: String,
    named: Option<SessionRef>,
    handle: Option<Handle>,
    returned: bool,
}

impl HeldSession {
    fn take(door: &Arc<Door>, user: &str, named: Option<SessionRef>) -> Result<Self, ServerError> {
        let handle = match &named {
            Some(session) => door.sessions.take(user, session, Instant::now())?,
            None => None,
        };
        Ok(Self {
            door: door.clone(),
            user: user.to_owned(),
            named,
            handle,
            returned: false,
        })
    }

    fn put_back(mut self, handle: Handle) {
        self.returned = true;
        match &self.named {
            Some(session) => self.door.sessions.put(
                &self.user,
                session,
                Some(handle).filter(|handle| !handle.abandoned),
                Instant::now(),
            ),
            None => self.door.engine.give_back(handle),
        }
    }
}

impl Drop for HeldSession {
    /// The call failed before it had an engine session, or its thread panicked: the named session ends.
    fn drop(&mut self) {
        if let Some(session) = self.named.as_ref().filter(|_| !self.returned) {
            self.door
                .sessions
                .put(&self.user, session, self.handle.take(), Instant::now());
        }
    }
}

/// Sixteen random letters that no data contains by chance.
fn exception_tag() -> String {
    uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}

fn failure(door: &Door, outcome: &Outcome<'_>, error: &ServerError) -> Response {
    door.metrics.failed(error.code, outcome.started.elapsed());
    tracing::info!(query_id = outcome.query_id, user = outcome.user, code = error.code, elapsed_ms = outcome.started.elapsed().as_millis() as u64, %error, "query failed");
    let mut response = plain(error.status(), &error.body(door.engine.version()));
    let headers = response.headers_mut();
    common_headers(headers, door, outcome.query_id);
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(error.code));
    if error.status() == StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"ClickHouse server HTTP API\""),
        );
    }
    response
}

fn finish(door: &Arc<Door>, outcome: &Outcome<'_>, begun: Begun) -> Response {
    let Begun {
        head,
        coding,
        exception_tag,
        pieces,
        mut watch,
    } = begun;
    door.metrics
        .answered(&head.progress, outcome.started.elapsed());
    tracing::debug!(
        query_id = outcome.query_id,
        user = outcome.user,
        read_rows = head.progress.read_rows,
        written_rows = head.progress.written_rows,
        elapsed_ms = outcome.started.elapsed().as_millis() as u64,
        "query answered"
    );
    let body = match head.whole {
        Some(parts) => {
            watch.done = true;
            Body::from(joined(parts))
        }
        None => streamed(pieces, watch, outcome.query_id.to_owned()),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    common_headers(headers, door, outcome.query_id);
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
        ("x-clickhouse-timezone", door.engine.timezone()),
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
