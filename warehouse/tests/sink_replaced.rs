//! A sink whose request was held up on its way while another one took over: what arrives late must change nothing.

mod built_door;
mod support;

use std::{sync::Arc, time::Duration};

use built_door::start_door;
use event_log::{EventLog, MemoryLog};
use event_schema::{Topics, proto::geyser::SlotStatus};
use support::{ask, block, create_topics, start_sink, status, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

/// Passes requests on to the door. The first one that has `wanted` in it waits until it is let go.
struct Relay {
    url: String,
    caught: Arc<Notify>,
    release: watch::Sender<bool>,
}

/// How much of the request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Whole,
    /// The body's last bytes.
    End,
}

impl Held {
    /// How many of these bytes may go on now. `None`: more must come first.
    fn may_go(self, request: &[u8]) -> Option<usize> {
        if self == Self::Whole {
            return Some(0);
        }
        let body = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        (request.len() > body + 64).then(|| request.len() - 8)
    }
}

impl Relay {
    async fn start(door: u16, wanted: &'static str, held: Held) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (release, released) = watch::channel(false);
        let caught = Arc::new(Notify::new());
        let found = Arc::clone(&caught);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", door)).await.unwrap();
                let (mut asks, mut hears) = client.into_split();
                let (mut answers, mut takes) = server.into_split();
                let (mut released, found) = (released.clone(), Arc::clone(&found));
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut answers, &mut hears).await;
                });
                tokio::spawn(async move {
                    let mut bytes = Vec::with_capacity(1 << 20);
                    while let Ok(1..) = asks.read_buf(&mut bytes).await {
                        let is_wanted = String::from_utf8_lossy(&bytes).contains(wanted);
                        if is_wanted && !*released.borrow() {
                            let Some(first) = held.may_go(&bytes) else {
                                continue;
                            };
                            takes.write_all(&bytes[..first]).await.unwrap();
                            bytes.drain(..first);
                            found.notify_one();
                            let _ = released.wait_for(|released| *released).await;
                        }
                        if takes.write_all(&bytes).await.is_err() {
                            return;
                        }
                        bytes.clear();
                    }
                });
            }
        });
        Self {
            url,
            caught,
            release,
        }
    }
}

/// Slot 10 has a block and loses it while the first sink is held up at `wanted`; the second sink stores the slot's other block.
async fn late(wanted: &'static str) {
    let door = start_door().await;
    let (url, log, topics) = (door.url(), MemoryLog::new(), Topics::new("heliograph"));
    create_topics(&log, &topics).await.unwrap();
    let writer = log.writer().await.unwrap();
    let relay = Relay::start(door.port(), wanted, Held::Whole).await;
    let (_host, first) = start_sink(&log, &relay.url);
    let confirmed = |fork| status(&topics, 10, fork, SlotStatus::SlotConfirmed);
    writer.append(block(&topics, 10, 1, 7)).await.unwrap();
    writer.append(vec![confirmed(1)]).await.unwrap();
    until(&url, "SELECT count() FROM transactions", "7").await;
    until(&url, "SELECT count() FROM slot_status", "1").await;
    writer
        .append(vec![status(&topics, 10, 1, SlotStatus::SlotDead)])
        .await
        .unwrap();
    relay.caught.notified().await;

    let (host, second) = start_sink(&log, &url);
    until(&url, "SELECT count() FROM sink_owners", "2").await;
    writer.append(block(&topics, 10, 2, 3)).await.unwrap();
    writer.append(vec![confirmed(2)]).await.unwrap();
    until(&url, "SELECT count() FROM transactions", "3").await;
    until(
        &url,
        "SELECT status FROM slot_status FINAL WHERE status = 'confirmed'",
        "confirmed",
    )
    .await;
    // The status comes before the batch is done.
    let all_done = "SELECT uniqExactIf(batch_id, phase = 'planned') = uniqExactIf(batch_id, phase = 'done') FROM sink_batches";
    until(&url, all_done, "1").await;
    let content = "SELECT (SELECT count() FROM blocks), (SELECT count() FROM transactions), (SELECT count() FROM instructions), (SELECT count() FROM balance_changes), (SELECT count() FROM sink_batches), (SELECT countIf(phase = 'done') FROM sink_batches)";
    let before = ask(&url, content).await;

    relay.release.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), first).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("has taken over"), "{error}");
    assert_eq!(ask(&url, content).await, before);
    host.request_drain();
    second.await.unwrap().unwrap();
}

/// The first sink is held up while it stores slot 10's block. The second sink stores that, deletes it, and stores so many
/// batches that the tables have forgotten the first ones.
async fn late_insert(held: Held) {
    const WINDOW: u64 = 2;
    let door = start_door().await;
    let (url, log, topics) = (door.url(), MemoryLog::new(), Topics::new("heliograph"));
    create_topics(&log, &topics).await.unwrap();
    let writer = log.writer().await.unwrap();
    let relay = Relay::start(door.port(), "INSERT+INTO+transactions+%28", held).await;
    let (_host, first) = start_sink(&log, &relay.url);
    until(&url, "SELECT count() FROM sink_owners", "1").await;
    ask(
        &url,
        &format!(
            "ALTER TABLE transactions MODIFY SETTING non_replicated_deduplication_window = {WINDOW}"
        ),
    )
    .await;
    let news = |slot, fork, to| status(&topics, slot, fork, to);
    writer.append(block(&topics, 10, 1, 7)).await.unwrap();
    writer
        .append(vec![news(10, 1, SlotStatus::SlotConfirmed)])
        .await
        .unwrap();
    relay.caught.notified().await;

    let (host, second) = start_sink(&log, &url);
    until(&url, "SELECT count() FROM transactions", "7").await;
    writer
        .append(vec![news(10, 1, SlotStatus::SlotDead)])
        .await
        .unwrap();
    until(&url, "SELECT count() FROM transactions", "0").await;
    for slot in 11..11 + 2 * WINDOW {
        writer.append(block(&topics, slot, 1, 1)).await.unwrap();
        writer
            .append(vec![news(slot, 1, SlotStatus::SlotConfirmed)])
            .await
            .unwrap();
        let stored = format!("SELECT count() FROM slot_status WHERE slot = {slot}");
        until(&url, &stored, "1").await;
    }

    relay.release.send(true).unwrap();
    // It learns that it was replaced when it begins its next batch.
    writer.append(block(&topics, 20, 1, 1)).await.unwrap();
    writer
        .append(vec![news(20, 1, SlotStatus::SlotConfirmed)])
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), first).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("has taken over"), "{error}");
    until(&url, "SELECT count() FROM slot_status WHERE slot = 20", "1").await;
    let stored = "SELECT arrayStringConcat(arraySort(groupArray(slot))::Array(String), ' ') FROM transactions";
    assert_eq!(ask(&url, stored).await, "11 12 13 14 20");
    host.request_drain();
    second.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_insert_stores_nothing() {
    late_insert(Held::Whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_ends_late_stores_nothing() {
    late_insert(Held::End).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_delete_leaves_the_other_blocks_rows() {
    late("DELETE FROM instructions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_plan_is_not_journalled() {
    // The plan of the batch that deletes: the second one of this stream.
    late("SELECT 2, 'planned'").await;
}

/// ClickHouse notes the tokens of inserts before their parts: killed between the two, it knows the token of rows it has not.
/// Rows that are deleted while their token stays are the same to a sink that repeats the batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_which_only_the_tokens_are_left_are_stored_again() {
    let door = start_door().await;
    let (url, log, topics) = (door.url(), MemoryLog::new(), Topics::new("heliograph"));
    create_topics(&log, &topics).await.unwrap();
    let writer = log.writer().await.unwrap();
    // The last insert of the batch.
    let relay = Relay::start(door.port(), "INSERT+INTO+slot_status+%28", Held::Whole).await;
    let (_host, first) = start_sink(&log, &relay.url);
    writer.append(block(&topics, 10, 1, 7)).await.unwrap();
    let confirmed = status(&topics, 10, 1, SlotStatus::SlotConfirmed);
    writer.append(vec![confirmed]).await.unwrap();
    relay.caught.notified().await;
    let content = "SELECT (SELECT count() FROM blocks), (SELECT count() FROM transactions), (SELECT count() FROM instructions), (SELECT count() FROM balance_changes), (SELECT count() FROM transactions_by_signature)";
    let whole = ask(&url, content).await;
    for table in ["transactions", "balance_changes"] {
        ask(&url, &format!("DELETE FROM {table} WHERE slot = 10")).await;
        until(&url, &format!("SELECT count() FROM {table}"), "0").await;
    }
    first.abort();

    let (host, second) = start_sink(&log, &url);
    until(
        &url,
        "SELECT count() FROM sink_batches WHERE phase = 'done'",
        "1",
    )
    .await;
    assert_eq!(ask(&url, content).await, whole);
    assert_eq!(ask(&url, "SELECT count() FROM transactions").await, "7");
    host.request_drain();
    second.await.unwrap().unwrap();
}
