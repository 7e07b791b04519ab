//! A door on a port of its own, and the engine behind it in the test's hands.

use std::net::SocketAddr;

use bytes::Bytes;
use event_schema::proto::{
    Message,
    geyser::{
        SubscribeRequest, SubscribeRequestFilterSlots, SubscribeUpdate, SubscribeUpdateSlot,
        subscribe_update::UpdateOneof,
    },
};
use futures::{Stream, StreamExt};
use prometheus::Registry;
use stream_router::{
    access::Gate,
    yellowstone::{
        beside,
        config::GrpcConfig,
        door::{self, Door, DoorMetrics},
        engine::{Command, Start},
        filter::{Filters, SubscriberId},
        outbox::{Frame, Outbox},
        tips::Tips,
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tonic::Status;
use yellowstone_grpc_client::{GeyserGrpcBuilder, GeyserGrpcClient};

use crate::at_a_door;
pub use crate::at_a_door::{LONG, token};

pub struct Rig {
    pub address: SocketAddr,
    pub door: Door,
    pub tips: Tips,
    pub engine: mpsc::Receiver<Command>,
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<anyhow::Result<()>>,
}

/// What the engine got by `Connect`.
pub struct Subscriber {
    pub id: SubscriberId,
    pub outbox: Outbox,
    pub filters: Filters,
    pub start: Start,
}

impl Rig {
    pub async fn open() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut GrpcConfig)) -> Self {
        let mut config = GrpcConfig::default();
        change(&mut config);
        config.check().expect("configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let registry = Registry::new();
        let metrics = DoorMetrics::new(&registry).expect("metrics");
        let (commands, engine) = mpsc::channel(64);
        let tips = Tips::default();
        let gate = Gate::new(&config, &registry).expect("keys");
        let (beside, hub) = beside::open(&registry).expect("metrics");
        tokio::spawn(hub.run());
        let door = Door::new(config, gate, commands, beside, tips.clone(), metrics);
        let (stop, stopped) = oneshot::channel();
        let drain = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(door::serve(listener, door.clone(), drain));
        Self {
            address,
            door,
            tips,
            engine,
            registry,
            stop: Some(stop),
            served,
        }
    }

    pub fn drain(&mut self) {
        let stop = self.stop.take().expect("drained once");
        stop.send(()).expect("the server runs");
    }

    pub fn builder(&self) -> GeyserGrpcBuilder {
        GeyserGrpcClient::build_from_shared(format!("http://{}", self.address)).expect("address")
    }

    pub async fn client(&self) -> GeyserGrpcClient {
        self.builder().connect().await.expect("connection")
    }

    pub async fn client_with(&self, token: &str) -> GeyserGrpcClient {
        let builder = self.builder().x_token(Some(token)).expect("token");
        builder.connect().await.expect("connection")
    }

    pub async fn command(&mut self) -> Command {
        let command = timeout(LONG, self.engine.recv()).await;
        command
            .expect("a command in time")
            .expect("the door is there")
    }

    pub async fn connected(&mut self) -> Subscriber {
        match self.command().await {
            Command::Connect {
                id,
                outbox,
                filters,
                start,
            } => Subscriber {
                id,
                outbox,
                filters,
                start,
            },
            other => panic!("instead of Connect: {other:?}"),
        }
    }

    pub async fn disconnected(&mut self) -> SubscriberId {
        match self.command().await {
            Command::Disconnect { id } => id,
            other => panic!("instead of Disconnect: {other:?}"),
        }
    }

    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        at_a_door::metric(&self.registry, name, labels)
    }

    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        at_a_door::metric_becomes(&self.registry, name, labels, value).await;
    }
}

/// A request with one filter, `slots["mine"]`.
pub fn slots() -> SubscribeRequest {
    let filter = SubscribeRequestFilterSlots::default();
    SubscribeRequest {
        slots: [("mine".to_owned(), filter)].into(),
        ..SubscribeRequest::default()
    }
}

/// A request for that many accounts in one filter.
pub fn accounts(count: u32) -> SubscribeRequest {
    let mut request = SubscribeRequest::default();
    let filter = request.accounts.entry("many".to_owned()).or_default();
    filter.account = (0..count)
        .map(|n| {
            let mut key = [7; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            bs58::encode(key).into_string()
        })
        .collect();
    request
}

/// A slot's update in three pieces, padded by a long error text.
pub fn frame(slot: u64, padding: usize) -> Frame {
    let encoded = |update: SubscribeUpdate| Bytes::from(update.encode_to_vec());
    let head = SubscribeUpdate {
        filters: vec!["mine".to_owned()],
        ..SubscribeUpdate::default()
    };
    let body = SubscribeUpdateSlot {
        slot,
        dead_error: (padding > 0).then(|| "x".repeat(padding)),
        ..SubscribeUpdateSlot::default()
    };
    let body = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Slot(body)),
        ..SubscribeUpdate::default()
    };
    let mut tail = SubscribeUpdate::default();
    tail.created_at.get_or_insert_default().seconds = 77;
    Frame {
        head: encoded(head),
        body: encoded(body),
        tail: encoded(tail),
    }
}

pub async fn next(
    stream: &mut (impl Stream<Item = Result<SubscribeUpdate, Status>> + Unpin),
) -> Result<SubscribeUpdate, Status> {
    let next = timeout(LONG, stream.next()).await;
    next.expect("an update in time")
        .expect("the stream goes on")
}

pub async fn slot(
    stream: &mut (impl Stream<Item = Result<SubscribeUpdate, Status>> + Unpin),
) -> u64 {
    match next(stream).await.expect("an update").update_oneof {
        Some(UpdateOneof::Slot(update)) => update.slot,
        other => panic!("instead of a slot: {other:?}"),
    }
}

/// Why the stream ends.
pub async fn end(
    stream: &mut (impl Stream<Item = Result<SubscribeUpdate, Status>> + Unpin),
) -> Status {
    let status = next(stream).await.expect_err("the end");
    let after = timeout(LONG, stream.next()).await.expect("the end in time");
    assert!(after.is_none(), "something after the end: {after:?}");
    status
}
