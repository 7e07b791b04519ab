//! The door: WebSocket at any path that asks for an upgrade, HTTP for the status page. Thin.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{
        Path, State,
        ws::{
            CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use event_schema::Slot;
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::{net::TcpListener, sync::mpsc, time::Instant};

use crate::{
    board::Board,
    config::WebSocketConfig,
    fanout::{self, Command, ConnectionId},
    jsonrpc::Request,
    metrics::Metrics,
};

/// How long a goodbye may take.
const CLOSE: Duration = Duration::from_secs(1);

/// What every connection shares.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    config: WebSocketConfig,
    commands: mpsc::Sender<Command>,
    board: Board,
    metrics: Metrics,
    connections: AtomicUsize,
    next_id: AtomicU64,
    draining: watch::Sender<bool>,
}

impl Door {
    pub fn new(
        config: WebSocketConfig,
        commands: mpsc::Sender<Command>,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            commands,
            board,
            metrics,
            connections: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            draining: watch::Sender::new(false),
        }))
    }
}

/// Serves until drained; open subscribers are told goodbye.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    drain: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/slots/{slot}", get(slot))
        .fallback(upgrade)
        .with_state(door.clone());
    let goodbye = async move {
        drain.await;
        door.0.draining.send_replace(true);
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(goodbye)
        .await?;
    Ok(())
}

async fn status(State(door): State<Door>) -> Response {
    Json(door.0.board.status()).into_response()
}

async fn slot(State(door): State<Door>, Path(slot): Path<String>) -> Response {
    let Ok(number) = slot.parse::<u64>() else {
        let error = format!("slot {slot:?} is not a number; write /v1/slots/123");
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    };
    let blocks = door.0.board.slot(Slot(number));
    if blocks.is_empty() {
        let error = format!("no block of slot {number} was published lately by this router");
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    }
    Json(json!({ "slot": number, "blocks": blocks })).into_response()
}

async fn upgrade(
    State(door): State<Door>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let error = "subscribe here over WebSocket (Solana PubSub JSON-RPC); see also /v1/status and /v1/slots/SLOT";
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    };
    let config = &door.0.config;
    if door.0.connections.fetch_add(1, Ordering::Relaxed) >= config.connections_max {
        door.0.connections.fetch_sub(1, Ordering::Relaxed);
        door.0
            .metrics
            .disconnects
            .with_label_values(&["connection_limit"])
            .inc();
        let error = "too many connections; try again later (websocket.connections_max)";
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "error": error })),
        )
            .into_response();
    }
    let seat = Seat(door.clone());
    upgrade
        .max_message_size(config.request_bytes_max)
        .max_frame_size(config.request_bytes_max)
        .on_upgrade(move |socket| async move {
            seat.0.0.metrics.subscribers.inc();
            connection(seat.0.clone(), socket).await;
            seat.0.0.metrics.subscribers.dec();
        })
}

/// Gives the connection's place back, however it ends.
struct Seat(Door);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(door: Door, socket: WebSocket) {
    let id = door.0.next_id.fetch_add(1, Ordering::Relaxed);
    let (outbox, inbox) = fanout::queue(&door.0.config);
    if door
        .0
        .commands
        .send(Command::Connect(id, outbox))
        .await
        .is_err()
    {
        return;
    }
    let reason = talk(&door, id, socket, inbox).await;
    door.0
        .metrics
        .disconnects
        .with_label_values(&[reason])
        .inc();
    // Fails only when the process ends.
    let _ = door.0.commands.send(Command::Disconnect(id)).await;
}

async fn drained(draining: &mut watch::Receiver<bool>) {
    // Also when the sender is gone: the process is ending.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Returns why the conversation ended.
async fn talk(
    door: &Door,
    id: ConnectionId,
    socket: WebSocket,
    inbox: fanout::Inbox,
) -> &'static str {
    let fanout::Inbox { mut texts, mut end } = inbox;
    let (mut sink, mut stream) = socket.split();
    let silence = Duration::from_secs(door.0.config.ping_seconds);
    let mut last_heard = Instant::now();
    let mut ping_at = last_heard + silence;
    let mut draining = door.0.draining.subscribe();
    let (code, reason) = loop {
        let outgoing = tokio::select! {
            text = texts.next() => match text {
                Some(text) => Message::Text(text.into()),
                None => break (close_code::AWAY, "closed"),
            },
            frame = stream.next() => {
                last_heard = Instant::now();
                match frame {
                    Some(Ok(Message::Text(text))) => {
                        let request = Request::read(&text);
                        if door.0.commands.send(Command::Request(id, request)).await.is_err() {
                            break (close_code::AWAY, "closed");
                        }
                        continue;
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        let request = std::str::from_utf8(&bytes).map_or(Request::Broken, Request::read);
                        if door.0.commands.send(Command::Request(id, request)).await.is_err() {
                            break (close_code::AWAY, "closed");
                        }
                        continue;
                    }
                    // Pings are answered by the protocol layer; pongs only show that the peer lives.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) | None => return "client_closed",
                    Some(Err(_)) => break (close_code::PROTOCOL, "protocol_error"),
                }
            },
            () = tokio::time::sleep_until(ping_at) => {
                if last_heard.elapsed() >= silence * 2 {
                    break (close_code::POLICY, "no_pong");
                }
                ping_at = Instant::now() + silence;
                Message::Ping(Default::default())
            },
            Ok(reason) = &mut end => break (close_code::POLICY, reason),
            () = drained(&mut draining) => break (close_code::RESTART, "the router is shutting down"),
        };
        // A peer that does not read must not keep us from noticing that it was given up.
        tokio::select! {
            sent = sink.send(outgoing) => if sent.is_err() {
                return "connection_lost";
            },
            Ok(reason) = &mut end => break (close_code::POLICY, reason),
            () = drained(&mut draining) => break (close_code::RESTART, "the router is shutting down"),
        }
    };
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    let goodbye = async {
        sink.send(Message::Close(Some(frame))).await?;
        // Until the peer has answered, so that it sees the reason.
        while let Some(Ok(_)) = stream.next().await {}
        Ok::<(), axum::Error>(())
    };
    // A peer that does not answer is dropped.
    let _ = tokio::time::timeout(CLOSE, goodbye).await;
    match reason {
        "protocol_error" | "no_pong" => reason,
        slow if slow.starts_with("slow consumer") => "slow_consumer",
        _ => "shutdown",
    }
}
