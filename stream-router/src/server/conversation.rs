//! One WebSocket connection from its greeting to its end: requests in, notifications and answers out, and a reason at the
//! end for whoever still listens.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite;

use super::roster::Visit;
use crate::{
    access::Key,
    fanout::{Command, GivenUp, Inbox},
    jsonrpc::Request,
};

/// How long a goodbye may take.
const CLOSE: Duration = Duration::from_secs(1);

pub struct Conversation {
    pub visit: Visit,
    pub key: Arc<Key>,
    pub commands: mpsc::Sender<Command>,
    /// A ping after this much silence; as much again without an answer is the end.
    pub silence: Duration,
    pub request_bytes_max: usize,
    pub draining: watch::Receiver<bool>,
}

/// Why it ended. The first word is for metrics, the others are for the peer.
enum End {
    /// The peer went, or can be told nothing.
    Gone(&'static str),
    Told(&'static str, u16, String),
}

impl End {
    fn shutdown() -> Self {
        Self::told(
            "shutdown",
            close_code::RESTART,
            "the router is shutting down",
        )
    }

    fn told(why: &'static str, code: u16, text: impl Into<String>) -> Self {
        Self::Told(why, code, text.into())
    }
}

impl Conversation {
    /// Returns why it ended, for metrics.
    pub async fn run(self, socket: WebSocket, inbox: Inbox) -> &'static str {
        let (mut sink, mut stream) = socket.split();
        match self.talk(&mut sink, &mut stream, inbox).await {
            End::Gone(why) => why,
            End::Told(why, code, text) => {
                let reason = text.into();
                let goodbye = async {
                    let frame = CloseFrame { code, reason };
                    sink.send(Message::Close(Some(frame))).await?;
                    // Until the peer has answered, so that it sees the reason.
                    while let Some(Ok(_)) = stream.next().await {}
                    Ok::<(), axum::Error>(())
                };
                // A peer that does not answer is dropped.
                let _ = timeout(CLOSE, goodbye).await;
                why
            }
        }
    }

    async fn talk(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        stream: &mut SplitStream<WebSocket>,
        inbox: Inbox,
    ) -> End {
        let Inbox { mut texts, mut end } = inbox;
        let mut draining = self.draining.clone();
        let mut last_heard = Instant::now();
        let mut ping_at = last_heard + self.silence;
        // Until then a key has used up its bytes per second.
        let mut paid_at = last_heard;
        loop {
            let paid = paid_at <= Instant::now();
            let outgoing = tokio::select! {
                text = texts.next(), if paid => match text {
                    Some(text) => Message::Text(text.into()),
                    None => return over(&mut end, &mut draining).await,
                },
                () = sleep_until(paid_at), if !paid => continue,
                frame = stream.next() => {
                    last_heard = Instant::now();
                    if let Err(end) = self.hear(frame).await {
                        return end;
                    }
                    continue;
                }
                () = sleep_until(ping_at) => {
                    if last_heard.elapsed() >= self.silence * 2 {
                        return End::told("no_pong", close_code::POLICY, "no_pong: a ping was not answered");
                    }
                    ping_at = Instant::now() + self.silence;
                    Message::Ping(Default::default())
                },
                end = over(&mut end, &mut draining) => return end,
            };
            let bytes = match &outgoing {
                Message::Text(text) => text.len(),
                _ => 0,
            };
            // A peer that does not read must not keep us from noticing that it was given up.
            tokio::select! {
                sent = timeout(self.silence * 2, sink.send(outgoing)) => match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Gone("connection_lost"),
                    Err(_) => return End::Gone("stalled"),
                },
                end = over(&mut end, &mut draining) => return end,
            }
            if bytes > 0 {
                self.count(bytes);
                if let Some(rate) = &self.key.rate {
                    let now = Instant::now();
                    paid_at = now + rate.take(bytes, now.into_std());
                }
            }
        }
    }

    fn count(&self, bytes: usize) {
        let facts = &self.visit.facts;
        facts.messages_sent.fetch_add(1, Ordering::Relaxed);
        facts.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.key.websocket_bytes.inc_by(bytes as u64);
    }

    async fn hear(&self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let request = match frame {
            Some(Ok(Message::Text(text))) => Request::read(&text),
            Some(Ok(Message::Binary(bytes))) => {
                std::str::from_utf8(&bytes).map_or(Request::Broken, Request::read)
            }
            // Pings are answered by the protocol layer; pongs only show that the peer lives.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone("client_closed")),
            Some(Err(error)) => return Err(self.broken(error)),
        };
        let told = self
            .commands
            .send(Command::Request(self.visit.id, request))
            .await;
        told.map_err(|_| End::shutdown())
    }

    fn broken(&self, error: axum::Error) -> End {
        use tungstenite::{Error, error::ProtocolError};
        match error.into_inner().downcast_ref::<Error>() {
            Some(Error::Capacity(_)) => {
                let most = self.request_bytes_max;
                let text = format!(
                    "the request is longer than {most} bytes (websocket.request_bytes_max)"
                );
                End::told("request_size", close_code::SIZE, text)
            }
            Some(Error::Utf8(_)) => {
                let text = "a text frame is not UTF-8";
                End::told("protocol_error", close_code::INVALID, text)
            }
            // What it did can be said in its own words, which are short.
            Some(Error::Protocol(error))
                if *error != ProtocolError::ResetWithoutClosingHandshake =>
            {
                let text: String = error.to_string().chars().take(100).collect();
                End::told("protocol_error", close_code::PROTOCOL, text)
            }
            _ => End::Gone("connection_lost"),
        }
    }
}

/// When the subscriber is given up, or the router goes away. A sender that is gone means that, too.
async fn over(end: &mut oneshot::Receiver<GivenUp>, draining: &mut watch::Receiver<bool>) -> End {
    tokio::select! {
        given_up = end => match given_up {
            Ok(GivenUp::Slow(reason)) => End::told("slow_consumer", close_code::POLICY, reason),
            Ok(GivenUp::Missed) => {
                let text = "missed blocks: more was published elsewhere than this router can tell";
                End::told("missed", close_code::AGAIN, text)
            }
            Err(_) => End::shutdown(),
        },
        _ = draining.wait_for(|draining| *draining) => End::shutdown(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::{
        access::Gate,
        config::WebSocketConfig,
        fanout::{Allowance, Fanout, queue},
        metrics::Metrics,
        yellowstone::config::GrpcConfig,
    };

    /// What did not fit was the first: the queue is at its end as soon as the reason is there.
    #[tokio::test]
    async fn one_that_is_given_up_is_told_why_though_nothing_is_queued() {
        let registry = Registry::new();
        let config = WebSocketConfig {
            queue_bytes_max: 1,
            ..WebSocketConfig::default()
        };
        let mut fanout = Fanout::new(config, Metrics::new(&registry).unwrap());
        let gate = Gate::new(&GrpcConfig::default(), &registry).unwrap();
        let allowance = Allowance::new(gate.anonymous(), 1);
        let (outbox, mut inbox) = queue(&config);
        fanout.command(Command::Connect(1, outbox, Arc::new(allowance)));
        fanout.command(Command::Request(1, Request::Broken));
        assert_eq!(inbox.texts.next().await, None);
        let (_router, mut draining) = watch::channel(false);
        let end = over(&mut inbox.end, &mut draining).await;
        assert!(matches!(end, End::Told("slow_consumer", ..)));
    }
}
