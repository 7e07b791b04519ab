//! Effects in, subscribers' messages out: no network, no clock.

use std::sync::Arc;

use event_schema::{Pubkey, Signature, Slot, proto::geyser::SubscribeUpdateTransactionInfo};
use serde_json::{Value, json};
use stream_router::{
    access::Gate,
    assembly::Block,
    commitment::{Change, Standing},
    config::WebSocketConfig,
    dedup::EventId,
    fanout::{Allowance, Command, Fanout, GivenUp, Inbox, queue},
    jsonrpc::Request,
    metrics::Metrics,
    observation::{Body, Content},
    router::Effect,
    slot_tree::BlockId,
    yellowstone::config::GrpcConfig,
};

use small_block::{account, key, transaction};

use crate::chain::blockhash;

mod blocks;
mod requests;
mod resumption;
mod slots;
mod small_block;
mod transactions;
mod votes;

struct Hall {
    fanout: Fanout,
    config: WebSocketConfig,
}

struct Client {
    id: u64,
    inbox: Inbox,
    allowance: Arc<Allowance>,
}

impl Hall {
    fn new(config: WebSocketConfig) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("metrics");
        Self {
            fanout: Fanout::new(config, metrics),
            config,
        }
    }

    fn enter(&mut self, id: u64) -> Client {
        let (outbox, inbox) = queue(&self.config);
        let gate = Gate::new(&GrpcConfig::default(), &prometheus::Registry::new()).expect("keys");
        let most = self.config.subscriptions_per_connection_max;
        let allowance = Arc::new(Allowance::new(gate.anonymous(), most));
        let connect = Command::Connect(id, outbox, Arc::clone(&allowance));
        self.fanout.command(connect);
        Client {
            id,
            inbox,
            allowance,
        }
    }

    async fn ask(&mut self, client: &mut Client, method: &str, params: Value) -> Value {
        let text =
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        self.fanout
            .command(Command::Request(client.id, Request::read(&text)));
        client.next().await.expect("an answer")
    }

    fn publish(&mut self, block: Block) -> BlockId {
        let id = block.id;
        self.fanout.effect(&Effect::Publish(Arc::new(block)));
        id
    }

    fn judge(&mut self, block: BlockId, standing: Standing) {
        self.fanout
            .effect(&Effect::Standing(Change { block, standing }));
    }
}

impl Client {
    /// `None` when nothing is queued.
    async fn next(&mut self) -> Option<Value> {
        let text =
            tokio::time::timeout(std::time::Duration::from_millis(5), self.inbox.texts.next())
                .await
                .ok()??;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    async fn result(&mut self) -> Option<Value> {
        self.next()
            .await
            .map(|message| message["params"]["result"].clone())
    }
}

/// The transaction as it would be if `how` had been done to it.
fn change(content: &mut Content, how: impl FnOnce(&mut SubscribeUpdateTransactionInfo)) {
    if let Body::Transaction(info) = &mut content.body {
        let mut changed = (**info).clone();
        how(&mut changed);
        *info = changed.into();
    }
}

fn block(slot: u64, contents: Vec<Content>) -> Block {
    let id = |slot| BlockId::new(Slot(slot), blockhash(slot, 0));
    small_block::block(id(slot), id(slot - 1), contents)
}

#[tokio::test]
async fn accounts_are_told_once_per_change_at_the_level_asked_for() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let confirmed = json!([key(5), {"commitment": "confirmed", "encoding": "base64"}]);
    hall.ask(&mut client, "accountSubscribe", confirmed).await;
    let first = hall.publish(block(
        10,
        vec![
            account(5, 9, 1, b"a", 1),
            account(5, 9, 2, b"b", 2),
            account(6, 9, 3, b"c", 3),
        ],
    ));
    assert_eq!(client.next().await, None, "processed is too early");
    hall.judge(first, Standing::Confirmed);
    let value = client.result().await.expect("confirmed");
    assert_eq!(value["context"], json!({"slot": 10}));
    assert_eq!(value["value"]["lamports"], 2, "the last state in the slot");
    hall.judge(first, Standing::Confirmed);
    hall.judge(first, Standing::Finalized);
    assert_eq!(client.next().await, None, "not twice the same");
    // Closed: told once as an empty account.
    for slot in [11, 12] {
        let closed = hall.publish(block(slot, vec![account(5, 9, 0, b"", slot)]));
        hall.judge(closed, Standing::Confirmed);
    }
    let value = client.result().await.expect("closed");
    assert_eq!(
        (&value["value"]["lamports"], &value["value"]["rentEpoch"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn an_abandoned_block_is_never_confirmed_to_anyone() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    for level in ["processed", "confirmed"] {
        let params = json!([key(5), {"commitment": level, "encoding": "base64", "dataSlice": {"offset": 1, "length": 1}}]);
        hall.ask(&mut client, "accountSubscribe", params).await;
    }
    let lost = hall.publish(block(10, vec![account(5, 9, 1, b"abc", 1)]));
    hall.judge(lost, Standing::Abandoned);
    let value = client.result().await.expect("processed");
    assert_eq!(
        (&value["value"]["data"], &value["value"]["space"]),
        (&json!(["Yg==", "base64"]), &json!(3))
    );
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn programs_are_filtered() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params = json!([key(9), {"commitment": "processed", "encoding": "base64",
        "filters": [{"dataSize": 2}, {"memcmp": {"offset": 1, "bytes": [98]}}]}]);
    hall.ask(&mut client, "programSubscribe", params).await;
    hall.publish(block(
        10,
        vec![
            account(1, 9, 1, b"ab", 1),
            account(2, 9, 1, b"ac", 2),
            account(3, 8, 1, b"ab", 3),
            account(4, 9, 0, b"ab", 4),
        ],
    ));
    let value = client.result().await.expect("one match");
    assert_eq!(value["value"]["pubkey"], key(1));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn logs_and_signatures_carry_the_error_clients_know() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let processed = json!({"commitment": "processed"});
    hall.ask(
        &mut client,
        "logsSubscribe",
        json!([{"mentions": [key(200)]}, processed]),
    )
    .await;
    hall.ask(&mut client, "logsSubscribe", json!(["all", processed]))
        .await;
    let signature = Signature([3; 64]).to_string();
    let received = json!({"commitment": "confirmed", "enableReceivedNotification": true});
    hall.ask(
        &mut client,
        "signatureSubscribe",
        json!([signature, received]),
    )
    .await;
    // InstructionError(0, Custom(1)), as the storage format writes it.
    let error = vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
    let id = hall.publish(block(
        10,
        vec![
            transaction(1, true, &[4], None),
            transaction(2, false, &[4, 7], Some(error)),
        ],
    ));
    let expected_error = json!({"InstructionError": [0, {"Custom": 1}]});
    assert_eq!(
        client.result().await.expect("received"),
        json!({"context": {"slot": 10}, "value": "receivedSignature"})
    );
    let mut logs = Vec::new();
    while let Some(value) = client.result().await {
        logs.push(value["value"].clone());
    }
    // Mentioned by both (through a lookup table), "all" leaves the vote out.
    assert_eq!(logs.len(), 3);
    assert_eq!(
        logs.iter()
            .filter(|log| log["logs"] == json!(["log 2"]))
            .count(),
        2
    );
    assert!(
        logs.contains(&json!({"signature": signature, "err": expected_error, "logs": ["log 2"]}))
    );
    hall.judge(id, Standing::Confirmed);
    assert_eq!(
        client.result().await.expect("confirmed"),
        json!({"context": {"slot": 10}, "value": {"err": expected_error}})
    );
    hall.judge(id, Standing::Finalized);
    assert_eq!(client.next().await, None);
}

/// However it ends: what one asked for is not counted any more.
#[tokio::test]
async fn what_was_asked_for_is_given_back() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_items_max: 8,
        ..WebSocketConfig::default()
    });
    let (mut leaves, mut stalls, mut changes) = (hall.enter(1), hall.enter(2), hall.enter(3));
    for client in [&mut leaves, &mut stalls, &mut changes] {
        hall.ask(client, "slotSubscribe", json!([])).await;
        hall.ask(client, "accountSubscribe", json!([key(5)])).await;
        let used = (
            client.allowance.subscriptions(),
            client.allowance.addresses(),
        );
        assert_eq!(used, (2, 1));
    }
    hall.fanout.command(Command::Disconnect(leaves.id));
    for slot in 1..=20 {
        hall.fanout.effect(&Effect::SlotCreated {
            slot: Slot(slot),
            parent: Slot(slot - 1),
            root: Slot(0),
        });
        changes.next().await.expect("a slot");
    }
    for number in [4, 5] {
        let method = ["slotUnsubscribe", "accountUnsubscribe"][number - 4];
        let answer = hall.ask(&mut changes, method, json!([number])).await;
        assert_eq!(answer["result"], true);
    }
    for client in [leaves, stalls, changes] {
        let used = (
            client.allowance.subscriptions(),
            client.allowance.addresses(),
        );
        assert_eq!(used, (0, 0), "client {}", client.id);
    }
}

#[tokio::test]
async fn a_stalled_subscriber_is_ended_and_nobody_else_notices() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_items_max: 8,
        ..WebSocketConfig::default()
    });
    let (mut stalled, mut alive) = (hall.enter(1), hall.enter(2));
    hall.ask(&mut stalled, "slotSubscribe", json!([])).await;
    hall.ask(&mut alive, "slotSubscribe", json!([])).await;
    for slot in 1..=20 {
        hall.fanout.effect(&Effect::SlotCreated {
            slot: Slot(slot),
            parent: Slot(slot - 1),
            root: Slot(0),
        });
        let value = alive.result().await.expect("told");
        assert_eq!(value, json!({"slot": slot, "parent": slot - 1, "root": 0}));
    }
    assert_eq!(
        stalled.inbox.end.try_recv(),
        Ok(GivenUp::Slow(
            "slow consumer: too many unsent notifications"
        ))
    );
}

#[tokio::test]
async fn who_has_missed_blocks_is_ended_and_who_listens_to_nothing_is_not() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let (mut listens, mut idle) = (hall.enter(1), hall.enter(2));
    hall.ask(&mut listens, "slotSubscribe", json!([])).await;
    hall.fanout.effect(&Effect::PassedOver);
    assert_eq!(listens.inbox.end.try_recv(), Ok(GivenUp::Missed));
    assert_eq!(listens.allowance.subscriptions(), 0);
    idle.inbox
        .end
        .try_recv()
        .expect_err("it has missed nothing");
    let answer = hall.ask(&mut idle, "slotSubscribe", json!([])).await;
    assert!(answer["result"].is_u64());
}

#[tokio::test]
async fn limits_and_foreign_ids_are_refused() {
    let mut hall = Hall::new(WebSocketConfig {
        subscriptions_per_connection_max: 2,
        ..WebSocketConfig::default()
    });
    let (mut one, mut two) = (hall.enter(1), hall.enter(2));
    let id = hall.ask(&mut one, "slotSubscribe", json!([])).await["result"].clone();
    let foreign = hall.ask(&mut two, "slotUnsubscribe", json!([id])).await;
    assert_eq!(foreign["error"]["message"], "Invalid subscription id.");
    hall.ask(&mut one, "rootSubscribe", json!([])).await;
    let third = hall.ask(&mut one, "rootSubscribe", json!([])).await;
    assert_eq!(third["error"]["code"], -32603);
    assert_eq!(
        hall.ask(&mut one, "slotUnsubscribe", json!([id])).await["result"],
        true
    );
    assert!(hall.ask(&mut one, "rootSubscribe", json!([])).await["result"].is_u64());
}
