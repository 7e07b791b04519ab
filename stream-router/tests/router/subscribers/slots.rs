//! `slotsUpdatesSubscribe`.

use event_schema::{
    Gap, GapReason,
    proto::{
        Message as _,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateEntry, subscribe_update::UpdateOneof,
        },
    },
};
use stream_router::router::SlotUpdate;

use super::*;

fn entry(index: u64, transactions: u64) -> Content {
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Entry(SubscribeUpdateEntry {
            index,
            executed_transaction_count: transactions,
            ..Default::default()
        })),
        ..Default::default()
    };
    Content {
        records: 1,
        id: EventId::Entry(index),
        bytes: update.encode_to_vec().into(),
        body: Body::Entry,
    }
}

impl Hall {
    fn report(&mut self, slot: u64, status: SlotStatus) {
        self.fanout.effect(&Effect::SlotUpdate(SlotUpdate {
            slot: Slot(slot),
            parent: Some(Slot(slot - 1)),
            status,
            dead_error: (status == SlotStatus::SlotDead).then(|| "it is dead".to_owned()),
            at_ms: 1_000 + status as i64,
            again: false,
        }));
    }
}

#[tokio::test]
async fn every_step_of_a_slot_is_told() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    hall.ask(&mut client, "slotsUpdatesSubscribe", json!([]))
        .await;
    for (status, expected) in [
        (
            SlotStatus::SlotFirstShredReceived,
            json!({"type": "firstShredReceived", "slot": 10, "timestamp": 1003}),
        ),
        (
            SlotStatus::SlotCompleted,
            json!({"type": "completed", "slot": 10, "timestamp": 1004}),
        ),
        (
            SlotStatus::SlotCreatedBank,
            json!({"type": "createdBank", "slot": 10, "parent": 9, "timestamp": 1005}),
        ),
        (
            SlotStatus::SlotDead,
            json!({"type": "dead", "slot": 10, "err": "it is dead", "timestamp": 1006}),
        ),
        (
            SlotStatus::SlotConfirmed,
            json!({"type": "optimisticConfirmation", "slot": 10, "timestamp": 1001}),
        ),
        (
            SlotStatus::SlotFinalized,
            json!({"type": "root", "slot": 10, "timestamp": 1002}),
        ),
    ] {
        hall.report(10, status);
        let told = client.next().await.expect("told");
        assert_eq!(told["method"], "slotsUpdatesNotification");
        assert_eq!(told["params"]["result"], expected);
    }
    assert_eq!(client.next().await, None);
}

/// The report that a bank is frozen and its block come from different topics, in either order.
#[tokio::test]
async fn a_frozen_bank_is_told_once_with_the_figures_of_its_block() {
    for block_first in [false, true] {
        let mut hall = Hall::new(WebSocketConfig::default());
        let mut client = hall.enter(1);
        hall.ask(&mut client, "slotsUpdatesSubscribe", json!([]))
            .await;
        let error = vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
        let contents = vec![
            transaction(0, false, &[4], None),
            transaction(1, false, &[5], Some(error)),
            transaction(2, true, &[6], None),
            entry(0, 2),
            entry(1, 0),
            entry(2, 1),
        ];
        let block = block(10, contents);
        if block_first {
            hall.publish(block);
            assert_eq!(client.next().await, None, "nobody froze it yet");
            hall.report(10, SlotStatus::SlotProcessed);
        } else {
            hall.report(10, SlotStatus::SlotProcessed);
            assert_eq!(client.next().await, None, "the figures are not here yet");
            hall.publish(block);
        }
        // The validator counts what it committed as successful, failed transactions included.
        assert_eq!(
            client.result().await.expect("frozen"),
            json!({"type": "frozen", "slot": 10, "timestamp": 1000, "stats": {
                "numTransactionEntries": 2, "numSuccessfulTransactions": 3,
                "numFailedTransactions": 1, "maxTransactionsPerEntry": 2}})
        );
        hall.report(10, SlotStatus::SlotFinalized);
        assert_eq!(client.result().await.expect("root")["type"], "root");
        assert_eq!(client.next().await, None, "frozen only once");
    }
    // A slot that a validator begins anew is frozen again, with the figures of the new block.
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    hall.ask(&mut client, "slotsUpdatesSubscribe", json!([]))
        .await;
    let mut another = block(10, vec![transaction(0, false, &[4], None)]);
    another.id.blockhash = blockhash(10, 1);
    for (block, transactions) in [(block(10, vec![]), 0), (another, 1)] {
        hall.report(10, SlotStatus::SlotCreatedBank);
        assert_eq!(client.result().await.expect("begun")["type"], "createdBank");
        hall.publish(block);
        assert_eq!(client.next().await, None);
        hall.report(10, SlotStatus::SlotProcessed);
        let stats = client.result().await.expect("frozen")["stats"].clone();
        assert_eq!(stats["numSuccessfulTransactions"], transactions);
    }
}

#[tokio::test]
async fn a_stalled_subscriber_of_slot_updates_delays_nobody() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_items_max: 8,
        ..WebSocketConfig::default()
    });
    let (mut stalled, mut alive) = (hall.enter(1), hall.enter(2));
    for client in [&mut stalled, &mut alive] {
        hall.ask(client, "slotsUpdatesSubscribe", json!([])).await;
    }
    for slot in 1..=20 {
        hall.report(slot, SlotStatus::SlotConfirmed);
        assert_eq!(alive.result().await.expect("told")["slot"], slot);
    }
    assert_eq!(
        stalled.inbox.end.try_recv(),
        Ok(GivenUp::Slow(
            "slow consumer: too many unsent notifications"
        ))
    );
}

/// Only those who ask for it hear of gaps: clients that do not know the method are not told.
#[tokio::test]
async fn a_gap_is_told_to_those_who_ask_for_it() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let (mut asks, mut other) = (hall.enter(1), hall.enter(2));
    hall.ask(&mut asks, "gapSubscribe", json!([])).await;
    hall.ask(&mut other, "slotSubscribe", json!([])).await;
    let gap = Gap {
        first_slot: 5,
        last_slot: 6,
        reason: GapReason::NeverSealed as i32,
        detail: "for people".into(),
        ..Gap::default()
    };
    hall.fanout.effect(&Effect::Gap(gap));
    let told = asks.next().await.expect("told");
    assert_eq!(told["method"], "gapNotification");
    assert_eq!(
        told["params"]["result"],
        json!({"firstSlot": 5, "lastSlot": 6, "records": null, "reason": "neverSealed", "source": null, "detail": "for people"})
    );
    assert_eq!(other.next().await, None);
}
