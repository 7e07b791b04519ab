//! What validators report beside blocks: told live, to whom it may concern.

use event_schema::{
    Kind, Slot,
    proto::{
        Message as _,
        confirmed_block::{Message, Transaction},
        geyser::{
            SlotStatus, SubscribeDeshredRequest, SubscribeRequestFilterDeshredTransactions,
            SubscribeRequestFilterSlots, SubscribeRequestPing, SubscribeUpdateContactInfoNode,
            SubscribeUpdateContactInfoRemoved, SubscribeUpdateDeshred,
            SubscribeUpdateDeshredTransaction, SubscribeUpdateDeshredTransactionInfo,
            SubscribeUpdateGossip, subscribe_update_deshred::UpdateOneof as Deshred,
            subscribe_update_gossip::UpdateOneof as Gossip,
        },
    },
};
use futures::{SinkExt, Stream, StreamExt};
use stream_router::router::{Effect, SlotUpdate};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::rig::{LONG, Rig, token};

fn transaction(slot: u64, number: u8, is_vote: bool, loaded: u8) -> Effect {
    let info = SubscribeUpdateDeshredTransactionInfo {
        signature: vec![number; 64],
        is_vote,
        transaction: Some(Transaction {
            signatures: vec![vec![number; 64]],
            message: Some(Message {
                account_keys: vec![vec![number; 32]],
                ..Message::default()
            }),
        }),
        loaded_writable_addresses: vec![vec![loaded; 32]],
        ..SubscribeUpdateDeshredTransactionInfo::default()
    };
    let update = SubscribeUpdateDeshred {
        update_oneof: Some(Deshred::DeshredTransaction(
            SubscribeUpdateDeshredTransaction {
                transaction: Some(info),
                slot,
            },
        )),
        ..SubscribeUpdateDeshred::default()
    };
    Effect::Beside {
        slot: Slot(slot),
        kind: Kind::Deshred,
        bytes: update.encode_to_vec().into(),
    }
}

fn contact(update: Gossip) -> Effect {
    let update = SubscribeUpdateGossip {
        update_oneof: Some(update),
        ..SubscribeUpdateGossip::default()
    };
    Effect::Beside {
        slot: Slot(0),
        kind: Kind::ContactInfo,
        bytes: update.encode_to_vec().into(),
    }
}

fn node(key: u8, wallclock: u64) -> Effect {
    contact(Gossip::Node(SubscribeUpdateContactInfoNode {
        pubkey: vec![key; 32],
        wallclock,
        gossip: Some("127.0.0.1:8001".into()),
        ..SubscribeUpdateContactInfoNode::default()
    }))
}

async fn next<T>(
    stream: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Result<T, Status> {
    let next = timeout(LONG, stream.next()).await;
    next.expect("in time").expect("goes on")
}

fn wanting(keys: &[u8], slots: bool) -> SubscribeDeshredRequest {
    let filter = SubscribeRequestFilterDeshredTransactions {
        vote: Some(false),
        account_include: keys
            .iter()
            .map(|key| bs58::encode([*key; 32]).into_string())
            .collect(),
        ..SubscribeRequestFilterDeshredTransactions::default()
    };
    let all = SubscribeRequestFilterSlots {
        interslot_updates: Some(true),
        ..SubscribeRequestFilterSlots::default()
    };
    SubscribeDeshredRequest {
        deshred_transactions: [("mine".to_owned(), filter)].into(),
        slots: slots
            .then(|| ("steps".to_owned(), all))
            .into_iter()
            .collect(),
        ..SubscribeDeshredRequest::default()
    }
}

#[tokio::test]
async fn transactions_are_told_before_they_are_executed() {
    let rig = Rig::with(|config| config.x_tokens = vec![token("desk", "in")]).await;
    let mut client = rig.client_with("in").await;
    let (mut requests, mut updates) = client.subscribe_deshred().await.expect("a stream");
    requests.send(wanting(&[5, 77], true)).await.expect("sent");
    let ping = SubscribeDeshredRequest {
        ping: Some(SubscribeRequestPing { id: 3 }),
        ..SubscribeDeshredRequest::default()
    };
    requests.send(ping).await.expect("sent");
    let pong = next(&mut updates).await.expect("a pong");
    assert!(matches!(pong.update_oneof, Some(Deshred::Pong(pong)) if pong.id == 3));
    // The door's command comes before; that the hub has taken it is seen by the first update.
    let step = Effect::SlotUpdate(SlotUpdate {
        slot: Slot(8),
        parent: Some(Slot(7)),
        status: SlotStatus::SlotCreatedBank,
        dead_error: None,
        at_ms: 0,
        again: false,
    });
    let begun = async {
        loop {
            rig.door.tell(&step);
            if let Ok(update) =
                timeout(std::time::Duration::from_millis(50), next(&mut updates)).await
            {
                return update.expect("a step");
            }
        }
    };
    let told = timeout(LONG, begun).await.expect("begins");
    assert_eq!(told.filters, ["steps"]);
    assert!(told.created_at.is_some());
    assert!(
        matches!(told.update_oneof, Some(Deshred::Slot(slot)) if slot.slot == 8 && slot.parent == Some(7))
    );
    for effect in [
        transaction(8, 1, false, 9),
        transaction(8, 2, false, 77),
        transaction(8, 3, true, 77),
        // By another validator, too.
        transaction(8, 2, false, 77),
        Effect::Beside {
            slot: Slot(8),
            kind: Kind::Deshred,
            bytes: bytes::Bytes::from_static(b"\xff\xff"),
        },
        transaction(8, 5, false, 9),
        transaction(9, 2, false, 77),
    ] {
        rig.door.tell(&effect);
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let update = next(&mut updates).await.expect("an update");
        match update.update_oneof {
            Some(Deshred::DeshredTransaction(told)) => {
                assert_eq!(update.filters, ["mine"]);
                let info = told.transaction.expect("a transaction");
                assert!(info.transaction.is_some());
                seen.push((told.slot, info.signature[0]));
            }
            // Steps that were told before the first came.
            Some(Deshred::Slot(_)) => {}
            other => panic!("instead of a transaction: {other:?}"),
        }
    }
    assert_eq!(seen, [(8, 2), (8, 5), (9, 2)]);
    // It counts as every stream does.
    assert_eq!(rig.metric("router_grpc_streams", &[]), 1.0);
    drop((requests, updates));
    rig.metric_becomes("router_grpc_streams", &[], 0.0).await;
    assert!(rig.metric("router_grpc_bytes_sent_total", &[("key", "desk")]) > 0.0);
}

#[tokio::test]
async fn nodes_are_told_as_they_are_and_as_they_change() {
    let rig = Rig::open().await;
    for effect in [node(1, 10), node(2, 10), node(1, 11)] {
        rig.door.tell(&effect);
    }
    let mut client = rig.client().await;
    let snapshot = async {
        loop {
            let mut updates = client.subscribe_gossip().await.expect("a stream");
            let first = next(&mut updates).await.expect("a snapshot");
            // The hub may not have taken them all.
            if first.seq == 3 {
                return (first, updates);
            }
        }
    };
    let (first, mut updates) = timeout(LONG, snapshot).await.expect("in time");
    let Some(Gossip::Snapshot(topology)) = first.update_oneof else {
        panic!("instead of a snapshot: {first:?}");
    };
    let nodes: Vec<_> = topology
        .nodes
        .iter()
        .map(|node| (node.pubkey[0], node.wallclock))
        .collect();
    assert_eq!(nodes, [(1, 11), (2, 10)]);
    rig.door.tell(&node(2, 10));
    rig.door.tell(&contact(Gossip::Removed(
        SubscribeUpdateContactInfoRemoved {
            pubkey: vec![1; 32],
        },
    )));
    let change = next(&mut updates).await.expect("a change");
    assert_eq!(change.seq, 4);
    assert!(change.created_at.is_some());
    assert!(
        matches!(change.update_oneof, Some(Gossip::Removed(removed)) if removed.pubkey == [1; 32])
    );
}

/// There is no log to catch up from: who does not read is let go, and told why.
#[tokio::test]
async fn one_that_does_not_read_is_let_go() {
    let rig = Rig::with(|config| config.queue_bytes = 64 << 10).await;
    let mut client = rig.client().await;
    let mut updates = client.subscribe_gossip().await.expect("a stream");
    next(&mut updates).await.expect("the snapshot");
    let mut wallclock = 0;
    let full = async {
        while rig.metric("router_grpc_streams_ended_total", &[("reason", "lagged")]) == 0.0 {
            for key in 0..200 {
                wallclock += 1;
                rig.door.tell(&node(key, wallclock));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            if wallclock > 100_000 {
                break;
            }
        }
    };
    timeout(LONG, full).await.expect("in time");
    let ended = async {
        loop {
            if let Err(status) = next(&mut updates).await {
                return status;
            }
        }
    };
    let status = timeout(LONG, ended).await.expect("ends");
    assert_eq!(status.code(), Code::DataLoss);
    assert!(
        status.message().contains("not told again"),
        "{}",
        status.message()
    );
}

/// Yellowstone's client says of all its calls whether it wants the state first; these have none.
#[tokio::test]
async fn a_client_that_asks_for_snapshots_gets_what_has_none() {
    let rig = Rig::open().await;
    let builder = rig.builder().set_x_request_snapshot(true);
    let mut client = builder.connect().await.expect("connection");
    let mut updates = client.subscribe_gossip().await.expect("a stream");
    let first = next(&mut updates).await.expect("a snapshot of the nodes");
    assert!(matches!(first.update_oneof, Some(Gossip::Snapshot(_))));
    client.subscribe_deshred().await.expect("a stream");
}
