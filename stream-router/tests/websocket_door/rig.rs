//! A door on a port of its own, the fan-out behind it, and effects in the test's hands.

use std::net::SocketAddr;

use event_schema::Slot;
use futures::{SinkExt, StreamExt};
use prometheus::Registry;
use serde_json::{Value, json};
use stream_router::{
    access::{Arrivals, Gate},
    board::Board,
    config::WebSocketConfig,
    fanout::Fanout,
    metrics::Metrics,
    router::Effect,
    server::{self, Door},
    yellowstone::config::GrpcConfig,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Request},
};

use crate::at_a_door;
pub use crate::at_a_door::{LONG, token};

pub struct Rig {
    pub address: SocketAddr,
    pub door: Door,
    pub gate: Gate,
    pub effects: mpsc::Sender<Vec<Effect>>,
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<anyhow::Result<()>>,
}

pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Rig {
    pub async fn open() -> Self {
        Self::with(|_, _| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut WebSocketConfig, &mut GrpcConfig)) -> Self {
        let (mut config, mut grpc) = (WebSocketConfig::default(), GrpcConfig::default());
        change(&mut config, &mut grpc);
        grpc.check().expect("configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("metrics");
        let gate = Gate::new(&grpc, &registry).expect("keys");
        let (commands, command_queue) = mpsc::channel(64);
        let (effects, effect_queue) = mpsc::channel(64);
        let fanout = Fanout::new(config, metrics.clone());
        tokio::spawn(fanout.run(effect_queue, command_queue));
        let door = Door::new(
            config,
            gate.clone(),
            commands,
            Board::default(),
            metrics,
            Arrivals::new("websocket", &registry).expect("metrics"),
        );
        let (stop, stopped) = oneshot::channel();
        let drain = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(server::serve(listener, door.clone(), drain));
        Self {
            address,
            door,
            gate,
            effects,
            registry,
            stop: Some(stop),
            served,
        }
    }

    pub fn drain(&mut self) {
        let stop = self.stop.take().expect("drained once");
        stop.send(()).expect("the server runs");
    }

    pub fn request(&self, path: &str) -> Request<()> {
        let url = format!("ws://{}{path}", self.address);
        url.into_client_request().expect("a request")
    }

    pub async fn client(&self) -> Client {
        self.enter(self.request("/")).await.expect("comes in")
    }

    /// Status and text of the refusal.
    pub async fn enter(&self, request: Request<()>) -> Result<Client, (u16, String)> {
        let connected = timeout(LONG, connect_async(request))
            .await
            .expect("in time");
        match connected {
            Ok((stream, _)) => Ok(Client(stream)),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((
                    response.status().as_u16(),
                    String::from_utf8(body).expect("text"),
                ))
            }
            Err(error) => panic!("instead of an answer: {error}"),
        }
    }

    /// Tells everyone who listens for slots.
    pub async fn slot(&self, slot: u64) {
        let created = Effect::SlotCreated {
            slot: Slot(slot),
            parent: Slot(slot - 1),
            root: Slot(0),
        };
        self.effects.send(vec![created]).await.expect("a fan-out");
    }

    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        at_a_door::metric(&self.registry, name, labels)
    }

    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        at_a_door::metric_becomes(&self.registry, name, labels, value).await;
    }
}

impl Client {
    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.expect("sent");
    }

    /// The next text; pings are answered meanwhile.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = timeout(LONG, self.0.next()).await.expect("in time");
            match message.expect("goes on").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("instead of a text: {other:?}"),
            }
        }
    }

    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.send(Message::text(call.to_string())).await;
        self.next().await
    }

    /// Code and reason of the goodbye.
    pub async fn goodbye(&mut self) -> (u16, String) {
        loop {
            let message = timeout(LONG, self.0.next()).await.expect("in time");
            match message.expect("a goodbye first").expect("a message") {
                Message::Close(Some(frame)) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Close(None) => panic!("no reason"),
                _ => {}
            }
        }
    }
}
