//! The HTTP side: a request becomes a [`Job`], its answer a response with the headers of a ClickHouse server.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    admission::Admission,
    body::BodyReader,
    config::{Limits, ReaderLimits},
    error::{Kind, ServerError},
    execute::{Answer, Job, Outcome, Place, execute},
    metrics::DoorMetrics,
    policy::Policy,
    printed::PrintedStatements,
    query_log::{Entry, QueryLog},
    quota::Quotas,
    request::{Call, form_fields, query_pairs},
    response::{Begun, exception_tag, failure, finish, plain},
    session::{HeldSession, Sessions},
    upstream::Upstream,
    users::{self, Role, User},
    watch::{Cancellation, Watch},
};
use crate::engine::{Engine, Printed};

/// Result pieces between engine and socket. The engine waits when they are full, so a slow client holds few blocks.
const PIECES_AHEAD: usize = 4;

/// What all requests share.
pub struct Door {
    pub backend: Backend,
    pub policy: Arc<Policy>,
    pub printed: Arc<PrintedStatements>,
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
    pub fn version(&self) -> String {
        match &self.backend {
            Backend::Engine(engine) => {
                format!("{} (heliograph embedded engine)", engine.version())
            }
            Backend::Upstream(upstream) => format!("{} (heliograph door)", upstream.version),
        }
    }

    pub fn timezone(&self) -> &str {
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

/// Who asked, for the log and the metrics.
#[derive(Clone)]
pub struct Caller {
    pub user: String,
    key: String,
    role: Option<Role>,
    address: String,
    pub query_id: String,
    pub started: Instant,
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
        printed: door.printed.clone(),
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
