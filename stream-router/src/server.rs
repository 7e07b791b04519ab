//! The door: WebSocket at any path that asks for an upgrade, HTTP for the status page. Thin.
//!
//! ```text
//! TCP ─▶ line (too many? silent?) ─▶ admit ─▶ upgrade (token, place) ─▶ conversation ⇄ fan-out
//! ```

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{
        ConnectInfo, Path, Request, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CONNECTION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use event_schema::Slot;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    access::{Arrivals, Farewell, Gate, Key, Lines, Peer, Place, Refusal, Refused},
    board::Board,
    config::WebSocketConfig,
    fanout::{self, Allowance, Command},
    metrics::Metrics,
};

mod conversation;
mod roster;
mod token;

use conversation::Conversation;
use roster::Facts;
pub use roster::{Roster, Visitor};

/// To a connection beyond the limit.
const TOO_MANY: &str =
    "too many connections (websocket.connections_max); try again later or elsewhere";

/// How long open connections have to hear that the router is going away.
const GOODBYE: Duration = Duration::from_secs(3);

/// Most requests fit, and longer ones are read in parts; the library's 128 KiB would be 1.2 GiB at 10,000 connections.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// What every connection shares.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    config: WebSocketConfig,
    gate: Gate,
    lines: Lines,
    arrivals: Arrivals,
    commands: mpsc::Sender<Command>,
    board: Board,
    metrics: Metrics,
    roster: Roster,
    next_id: AtomicU64,
    draining: watch::Sender<bool>,
}

impl Door {
    pub fn new(
        config: WebSocketConfig,
        gate: Gate,
        commands: mpsc::Sender<Command>,
        board: Board,
        metrics: Metrics,
        arrivals: Arrivals,
    ) -> Self {
        let first_request = Duration::from_secs(config.first_request_seconds);
        let farewell = Some(Farewell::http1(TOO_MANY));
        Self(Arc::new(Inner {
            lines: Lines::new(config.connections_max, first_request, farewell, &arrivals),
            config,
            gate,
            arrivals,
            commands,
            board,
            metrics,
            roster: Roster::default(),
            next_id: AtomicU64::new(0),
            draining: watch::Sender::new(false),
        }))
    }

    /// All open connections, for the admin page, which outlives the door.
    pub fn roster(&self) -> Roster {
        self.0.roster.clone()
    }
}

/// Serves until drained; open subscribers are told goodbye, and connections that do not end by themselves are cut.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    drain: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/slots/{slot}", get(slot))
        .fallback(upgrade)
        .layer(axum::middleware::from_fn_with_state(door.clone(), admit))
        .with_state(door.clone());
    let listening = door.0.lines.listening(listener);
    let draining = door.0.draining.clone();
    let (started, begun) = tokio::sync::oneshot::channel();
    let drain = async move {
        drain.await;
        draining.send_replace(true);
        let _ = started.send(());
    };
    let service = app.into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(listening, service).with_graceful_shutdown(drain);
    let mut serving = tokio::spawn(async move { serving.await });
    let over = async {
        if begun.await.is_err() {
            std::future::pending::<()>().await;
        }
        // Conversations outlive the requests that began them.
        let _ = timeout(GOODBYE, door.0.draining.closed()).await;
        door.0.lines.cut();
    };
    tokio::select! {
        served = &mut serving => return Ok(served??),
        () = over => {}
    }
    Ok(serving.await??)
}

/// Before anything else is looked at. A connection makes one request, so that none is kept without use.
async fn admit(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    peer.called();
    let mut response = if peer.is_admitted() {
        next.run(request).await
    } else {
        let metrics = &door.0.metrics;
        metrics
            .disconnects
            .with_label_values(&["connection_limit"])
            .inc();
        error(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY)
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(json!({ "error": text.into() }))).into_response()
}

async fn status(State(door): State<Door>) -> Response {
    Json(door.0.board.status()).into_response()
}

async fn slot(State(door): State<Door>, Path(slot): Path<String>) -> Response {
    let Ok(number) = slot.parse::<u64>() else {
        let text = format!("slot {slot:?} is not a number; write /v1/slots/123");
        return error(StatusCode::BAD_REQUEST, text);
    };
    let blocks = door.0.board.slot(Slot(number));
    if blocks.is_empty() {
        let text = format!("no block of slot {number} was published lately by this router");
        return error(StatusCode::NOT_FOUND, text);
    }
    Json(json!({ "slot": number, "blocks": blocks })).into_response()
}

async fn upgrade(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let text = "subscribe here over WebSocket (Solana PubSub JSON-RPC); see also /v1/status and /v1/slots/SLOT";
        return error(StatusCode::NOT_FOUND, text);
    };
    let (key, place) = match door.welcome(token::token(&headers, &uri)) {
        Ok(welcome) => welcome,
        Err(refusal) => return door.refuse(&refusal),
    };
    let most = door.0.config.request_bytes_max;
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(READ_BUFFER_BYTES)
        .on_upgrade(move |socket| async move {
            door.0.metrics.subscribers.inc();
            door.talk(&peer, key, socket).await;
            door.0.metrics.subscribers.dec();
            drop(place);
        })
}

impl Door {
    fn welcome(&self, token: Option<Vec<u8>>) -> Result<(Arc<Key>, Place), Refusal> {
        let gate = &self.0.gate;
        let key = if self.0.config.x_tokens {
            gate.caller(token.as_deref())?
        } else {
            gate.anonymous()
        };
        let place = key.place()?;
        Ok((key, place))
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        self.0.arrivals.refused(refusal.why);
        let status = match refusal.why {
            Refused::TokenMissing | Refused::TokenUnknown => StatusCode::UNAUTHORIZED,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        let mut response = error(status, &refusal.text);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        response
    }

    async fn talk(&self, peer: &Peer, key: Arc<Key>, socket: axum::extract::ws::WebSocket) {
        let inner = &self.0;
        // Before anybody hears of it, so that a drain waits for it.
        let draining = inner.draining.subscribe();
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (outbox, inbox) = fanout::queue(&inner.config);
        let most = inner.config.subscriptions_per_connection_max;
        let allowance = Arc::new(Allowance::new(Arc::clone(&key), most));
        let facts = Facts {
            peer: peer.address(),
            since: SystemTime::now(),
            messages_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            allowance: Arc::clone(&allowance),
            queued: inbox.texts.queued(),
        };
        let connect = Command::Connect(id, outbox, allowance);
        if inner.commands.send(connect).await.is_err() {
            return;
        }
        let conversation = Conversation {
            visit: inner.roster.enter(id, facts),
            key,
            commands: inner.commands.clone(),
            silence: Duration::from_secs(inner.config.ping_seconds),
            request_bytes_max: inner.config.request_bytes_max,
            draining,
        };
        let why = conversation.run(socket, inbox).await;
        inner.metrics.disconnects.with_label_values(&[why]).inc();
        // Fails only when the process ends.
        let _ = inner.commands.send(Command::Disconnect(id)).await;
    }
}
