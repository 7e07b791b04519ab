//! The HTTP side: a request becomes a [`Job`], its answer a response with the headers of a ClickHouse server.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
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
    execute::{Answer, Head, Job, Outcome, Piece, Place, execute},
    format,
    metrics::DoorMetrics,
    policy::Policy,
    query_log::{Entry, QueryLog},
    quota::{Bound, Holder, Left, Quotas, Usage},
    request::{Call, SessionRef, form_fields, query_pairs},
    session::Sessions,
    upstream::Upstream,
    users::{self, Role, User},
    watch::{Cancellation, Watch},
};
use crate::engine::{Engine, Handle, Printed, ffi::Progress};

/// Result pieces between engine and socket. The engine waits when they are full, so a slow client holds few blocks.
const PIECES_AHEAD: usize = 4;

/// What all requests share.
pub struct Door {
    pub backend: Backend,
    pub policy: Arc<Policy>,
    pub users: Vec<User>,
    pub limits: Limits,
    pub quotas: Quotas,
    pub log: QueryLog,
    pub sessions: Sessions,
    /// One permit per running statement.
    pub turns: Arc<Semaphore>,
    pub metrics: DoorMetrics,
}

/// Where statements run.
pub enum Backend {
    Engine(Arc<Engine>),
    Upstream(Arc<Upstream>),
}

impl Door {
    /// The engine's version, as errors end with it.
    fn version(&self) -> String {
        match &self.backend {
            Backend::Engine(engine) => {
                format!("{} (heliograph embedded engine)", engine.version())
            }
            Backend::Upstream(upstream) => format!("{} (heliograph door)", upstream.version),
        }
    }

    fn timezone(&self) -> &str {
        match &self.backend {
            Backend::Engine(engine) => engine.timezone(),
            Backend::Upstream(upstream) => &upstream.timezone,
        }
    }
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

/// Who asked, for the log and the metrics.
#[derive(Clone)]
struct Caller {
    user: String,
    key: String,
    role: Option<Role>,
    address: String,
    query_id: String,
    started: Instant,
}

impl Caller {
    fn entry(&self, outcome: Outcome) -> Entry {
        let (exception_code, exception) = match &outcome.error {
            Some(error) => (error.code, error.to_string()),
            None => (0, String::new()),
        };
        Entry {
            query_id: self.query_id.clone(),
            user: self.user.clone(),
            key: self.key.clone(),
            role: self.role.map(|role| role.to_string()).unwrap_or_default(),
            address: self.address.clone(),
            statement_hash: outcome.printed.hash,
            statement: outcome.printed.text,
            duration: self.started.elapsed(),
            progress: outcome.progress,
            // As a server logs what was killed: QUERY_WAS_CANCELLED.
            cancelled: outcome.cancelled || exception_code == 394,
            exception_code,
            exception,
        }
    }
}

async fn query(door: &Arc<Door>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut pairs = query_pairs(parts.uri.query().unwrap_or_default());
    let query_id = pairs
        .iter()
        .find(|(name, value)| name == "query_id" && !value.is_empty())
        .map(|(_, id)| id.clone());
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let mut caller = Caller {
        user: String::new(),
        key: String::new(),
        role: None,
        address: address
            .map(|info| info.ip().to_string())
            .unwrap_or_default(),
        query_id: query_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        started: Instant::now(),
    };
    let begun = async {
        let (body, fields) = form_body(&parts.headers, body, door.limits.text_bytes).await?;
        pairs.extend(fields);
        let mut call = Call::read(&parts.method, &parts.headers, pairs)?;
        call.query_id = Some(caller.query_id.clone());
        caller.user = call.credentials.user.clone().unwrap_or_default();
        let (user, key) = users::authenticate(&door.users, &call.credentials)?;
        caller.user = user.name.clone();
        caller.key = key.to_owned();
        caller.role = Some(user.role);
        admitted(door, user, &caller, call, body).await
    }
    .await;
    match begun {
        Ok(Ok(begun)) => finish(door, &caller, begun),
        // What ran has been logged by its thread.
        Ok(Err(error)) => failure(door, &caller, &error),
        Err(error) => {
            door.log.report(caller.entry(Outcome {
                error: Some(error.clone()),
                ..Outcome::default()
            }));
            failure(door, &caller, &error)
        }
    }
}

/// A place that the user's quota gave to one statement. Dropped unused, it is given back.
struct Admission {
    door: Arc<Door>,
    template: String,
    holder: Holder,
    left: Left,
    paid: bool,
}

impl Admission {
    fn ask(door: &Arc<Door>, user: &User, key: &str) -> Result<Self, ServerError> {
        let holder = (user.name.clone(), key.to_owned());
        let left = door.quotas.admit(&user.quota, &holder, SystemTime::now())?;
        Ok(Self {
            door: door.clone(),
            template: user.quota.clone(),
            holder,
            left,
            paid: false,
        })
    }

    fn pay(mut self, outcome: &Outcome, elapsed: Duration) {
        self.paid = true;
        let cost = Usage {
            queries: 0,
            errors: u64::from(outcome.error.is_some()),
            rows_read: outcome.progress.read_rows,
            bytes_read: outcome.progress.read_bytes,
            rows_returned: outcome.progress.result_rows,
            execution_milliseconds: elapsed.as_millis() as u64,
        };
        let now = SystemTime::now();
        self.door
            .quotas
            .release(&self.template, &self.holder, cost, now);
    }

    /// The limits of one statement: the role's, tightened to what the quota has left.
    fn tighten(&self, mut limits: ReaderLimits) -> ReaderLimits {
        let narrow = |limit: &mut u64, bound: Option<u64>| {
            if let Some(bound) = bound.filter(|bound| *limit == 0 || bound < limit) {
                *limit = bound;
            }
        };
        let rest = |bound: Option<Bound>| bound.map(|bound| bound.rest);
        narrow(&mut limits.rows_read, rest(self.left.rows_read));
        narrow(&mut limits.bytes_read, rest(self.left.bytes_read));
        let seconds = rest(self.left.milliseconds).map(|rest| rest.div_ceil(1_000));
        narrow(&mut limits.seconds, seconds);
        limits
    }

    /// Gives an engine limit that stood for the quota the quota's name.
    fn rewording(
        &self,
        limits: &ReaderLimits,
    ) -> Box<dyn Fn(ServerError) -> ServerError + Send + 'static> {
        let of_quota = |limit: u64, bound: Option<Bound>, unit: u64| {
            bound.filter(|bound| bound.rest.div_ceil(unit) == limit)
        };
        let rows = of_quota(limits.rows_read, self.left.rows_read, 1);
        let bytes = of_quota(limits.bytes_read, self.left.bytes_read, 1);
        let time = of_quota(limits.seconds, self.left.milliseconds, 1_000);
        let (door, template) = (self.door.clone(), self.template.clone());
        let holder = self.holder.clone();
        Box::new(move |error| {
            let bound = match error.code {
                158 => rows.map(|bound| ("read_rows", bound)),
                307 => bytes.map(|bound| ("read_bytes", bound)),
                159 => time.map(|bound| ("execution_time_ms", bound)),
                _ => None,
            };
            match bound {
                Some((resource, bound)) => {
                    let now = SystemTime::now();
                    door.quotas
                        .exceeded(&template, &holder, resource, bound, now)
                }
                None => error,
            }
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.paid {
            self.door.quotas.release(
                &self.template,
                &self.holder,
                Usage::default(),
                SystemTime::now(),
            );
        }
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

/// Waits for a turn and runs the call. The outer error is one from before the statement ran: nobody has logged it yet.
async fn admitted(
    door: &Arc<Door>,
    user: &User,
    caller: &Caller,
    mut call: Call,
    body: Option<Body>,
) -> Result<Result<Begun, ServerError>, ServerError> {
    let admission = Admission::ask(door, user, &caller.key)?;
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
    let (head_sender, head) = oneshot::channel();
    let (piece_sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let cancellation = Arc::<Cancellation>::default();
    let (mut place, held, session) = match &door.backend {
        Backend::Upstream(upstream) => (Place::Upstream(upstream.clone()), None, None),
        Backend::Engine(engine) => {
            // A reader's session could hold nothing that a fresh one does not: no settings, no temporary tables.
            let session = call.session.take().filter(|_| user.role != Role::Reader);
            let mut held = HeldSession::take(door, &user.name, session)?;
            let handle = held
                .handle
                .take()
                .map_or_else(|| engine.session(), Ok)
                .map_err(|error| ServerError::new(Kind::Engine, error))?;
            let session = Some((engine.clone(), handle.tag.clone()));
            (Place::Engine(engine.clone(), handle), Some(held), session)
        }
    };
    let watch = Watch {
        session,
        cancellation: cancellation.clone(),
        done: false,
    };
    let coding = call.output;
    let exception_tag = exception_tag();
    let limits = admission.tighten(match user.role {
        Role::Reader => door.limits.reader.clone(),
        Role::Writer | Role::Admin => ReaderLimits::none(),
    });
    let job = Job {
        user: user.name.clone(),
        role: user.role,
        policy: door.policy.clone(),
        reword: admission.rewording(&limits),
        limits,
        text_bytes_max: door.limits.text_bytes,
        body: body.map(BodyReader::start),
        answer: Answer {
            head: Some(head_sender),
            pieces: piece_sender,
            cancellation: cancellation.clone(),
            exception_tag: exception_tag.clone(),
            version: door.version(),
        },
        writer: None,
        outcome: Outcome {
            printed: Printed::default(),
            ..Outcome::default()
        },
        call,
    };
    let (door, caller) = (door.clone(), caller.clone());
    tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let (finale, outcome) = execute(&mut place, job);
        if let (Place::Engine(_, mut handle), Some(held)) = (place, held) {
            handle.abandoned |= cancellation.abandoned();
            held.put_back(handle);
        }
        admission.pay(&outcome, started.elapsed());
        door.log.report(caller.entry(outcome));
        drop(turn);
        finale.say();
    });
    Ok(match head.await {
        Ok(Ok(head)) => Ok(Begun {
            exception_tag: head.exception_tag.clone().unwrap_or(exception_tag),
            head,
            coding,
            pieces,
            watch,
        }),
        Ok(Err(error)) => {
            let mut watch = watch;
            watch.done = true;
            Err(error)
        }
        Err(_) => Err(ServerError::new(
            Kind::Engine,
            "the statement's thread ended without an answer",
        )),
    })
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
            None => {
                if let Backend::Engine(engine) = &self.door.backend {
                    engine.give_back(handle);
                }
            }
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

fn failure(door: &Door, caller: &Caller, error: &ServerError) -> Response {
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

fn finish(door: &Arc<Door>, caller: &Caller, begun: Begun) -> Response {
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
