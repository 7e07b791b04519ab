//! The real binary on a real broker, killed with SIGKILL in a loop; then a real subscriber.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use event_log::{EventLog, KafkaConfig, KafkaLog};
use event_schema::{Slot, Topics};
use futures::{SinkExt, StreamExt};
use local_services::{Child, ChildSpec, Kafka, KafkaOptions, free_port};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use stream_router::{observation::Lane, publication::Publication, slot_tree::BlockId};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    chain::{History, TrueBlock, blockhash},
    crash::{assert_exactly, read_canonical},
    on_the_log::{new_record, settings},
    source::{Source, Written, interleave, signature},
};

const KILLS: u32 = 10;
const PARTITIONS_CANONICAL: u32 = 2;

fn router(dir: &Path, brokers: &str, port: u16) -> Child {
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\ntopic_prefix = \"t\"\n[kafka]\nbrokers = \"{brokers}\"\n\
         [topics]\naccounts = 3\ntransactions = 3\nslots = 1\ncanonical = {PARTITIONS_CANONICAL}\n\
         [grpc]\nenabled = false\n[host]\nadmin = \"127.0.0.1:0\"\n"
    );
    let file = dir.join("router.toml");
    std::fs::write(&file, config).expect("a config file");
    let spec = ChildSpec::new(
        "stream-router",
        env!("CARGO_BIN_EXE_stream-router"),
        dir.join("router.log"),
    )
    .arg("--config")
    .arg(file);
    Child::spawn(spec).expect("the router starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_binary_survives_sigkill_on_a_real_broker() {
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let dir = tempfile::tempdir().expect("a directory");
    let rng = &mut StdRng::seed_from_u64(20_260_701);
    let history = History::random(rng, 300, 1_000);
    let (mut one, mut two) = (Source::chunking(1, rng), Source::chunking(2, rng));
    one.observe(&history, |_| true);
    two.observe(&history, |_| true);
    let lanes: BTreeMap<Lane, Vec<Written>> = interleave(rng, &[&one, &two]);
    let records: usize = lanes.values().map(Vec::len).sum();
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    let topics = Topics::new("t");
    drop(
        Publication::open(&log, settings())
            .await
            .expect("topics are made"),
    );
    let writer = log.writer().await.expect("a writer");

    let port = free_port();
    let mut child = router(dir.path(), &kafka.brokers(), port);
    let mut at: BTreeMap<Lane, usize> = BTreeMap::new();
    let steps = 4 * KILLS as usize;
    for step in 1..=steps {
        for (lane, records) in &lanes {
            let from = at.insert(*lane, records.len() * step / steps).unwrap_or(0);
            let batch = records[from..at[lane]]
                .iter()
                .map(|record| new_record(&topics, record));
            writer.append(batch.collect()).await.expect("appended");
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..400))).await;
        if step % 4 == 0 {
            child.kill();
            child.respawn().expect("the router starts again");
        }
    }

    let started = Instant::now();
    let expected: std::collections::BTreeSet<Slot> =
        history.blocks.iter().map(|block| block.id.slot).collect();
    let canonical = loop {
        let canonical = read_canonical(&log, &topics, PARTITIONS_CANONICAL).await;
        let done = canonical.blocks.len() >= expected.len()
            && canonical.fates.len() >= expected.len()
            && canonical
                .fates
                .values()
                .all(|fates| fates.last() != Some(&event_schema::Commitment::Confirmed));
        if done || started.elapsed() > Duration::from_secs(60) {
            break canonical;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    println!(
        "{KILLS} SIGKILLs, {records} observed records of two sources, {} blocks published, {} lost, {} duplicated",
        canonical.blocks.len(),
        expected.len() - canonical.blocks.len().min(expected.len()),
        canonical.duplicates,
    );
    assert_exactly(&canonical, &history);
    assert!(child.is_running(), "{}", child.log_tail(20));

    subscribe_and_hear(port, &history, &mut one, |records| {
        let batch: Vec<_> = records
            .iter()
            .map(|record| new_record(&topics, record))
            .collect();
        let writer = &writer;
        async move {
            writer.append(batch).await.expect("appended");
        }
    })
    .await;

    assert!(
        child
            .stop(Duration::from_secs(15))
            .is_some_and(|status| status.success()),
        "SIGTERM drains:\n{}",
        child.log_tail(20)
    );
}

/// A new block is heard at processed, confirmed and finalized, each once.
async fn subscribe_and_hear<F: Future<Output = ()>>(
    port: u16,
    history: &History,
    source: &mut Source,
    append: impl Fn(Vec<Written>) -> F,
) {
    let tip = history.blocks.last().expect("blocks").id;
    let slot = tip.slot.0 + 5;
    let block = TrueBlock {
        id: BlockId::new(Slot(slot), blockhash(slot, 0)),
        parent: tip,
        on_chain: true,
        accounts: 2,
        transactions: 2,
        entries: 1,
    };
    let url = format!("ws://127.0.0.1:{port}");
    let (mut socket, _) = tokio_tungstenite::connect_async(&url)
        .await
        .expect("connected");
    let transaction = bs58::encode(signature(&block, 1)).into_string();
    let owner = bs58::encode([3; 32]).into_string();
    let asks = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "rootSubscribe"}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "logsSubscribe", "params": ["all", {"commitment": "processed"}]}),
        json!({"jsonrpc": "2.0", "id": 4, "method": "signatureSubscribe", "params": [transaction, {"commitment": "confirmed"}]}),
        json!({"jsonrpc": "2.0", "id": 5, "method": "programSubscribe", "params": [owner, {"commitment": "finalized", "encoding": "base64"}]}),
    ];
    let mut ids = Vec::new();
    for ask in asks {
        socket
            .send(Message::text(ask.to_string()))
            .await
            .expect("sent");
        ids.push(next(&mut socket).await["result"].as_u64().expect("an id"));
    }
    assert_eq!(
        ids.iter().collect::<std::collections::BTreeSet<_>>().len(),
        5,
        "ids are unique"
    );
    source.written.clear();
    source.block(&block);
    for status in [
        event_schema::proto::geyser::SlotStatus::SlotConfirmed,
        event_schema::proto::geyser::SlotStatus::SlotFinalized,
    ] {
        source.status(block.id.slot, Some(tip.slot), status);
    }
    append(source.written.clone()).await;
    let mut heard: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for _ in 0..7 {
        let message = loop {
            let message = next(&mut socket).await;
            // The canonical topic can be complete before the router that was killed last has read the observed topics
            // to their end: until then it tells its subscribers of the slots it meets on the way.
            if !is_about_the_past(&message, slot) {
                break message;
            }
        };
        let method = message["method"]
            .as_str()
            .expect("a notification")
            .to_owned();
        heard
            .entry(method)
            .or_default()
            .push(message["params"]["result"].clone());
    }
    assert_eq!(heard["slotNotification"][0]["slot"], slot);
    assert_eq!(heard["slotNotification"][0]["parent"], tip.slot.0);
    assert_eq!(heard["rootNotification"], [json!(slot)]);
    assert_eq!(
        heard["logsNotification"][1],
        json!({"context": {"slot": slot}, "value": {"signature": transaction, "err": null, "logs": ["log 1"]}})
    );
    assert_eq!(
        heard["signatureNotification"],
        [json!({"context": {"slot": slot}, "value": {"err": null}})]
    );
    assert_eq!(heard["programNotification"].len(), 2);
    let account = &heard["programNotification"][0]["value"]["account"];
    assert_eq!(account["data"][1], "base64");
    assert_eq!(
        (&account["lamports"], &account["space"]),
        (&json!(1), &json!(5))
    );

    // The signature's subscription ended by itself, the others end when asked.
    for (id, method, expected) in [
        (
            ids[3],
            "signatureUnsubscribe",
            json!({"code": -32602, "message": "Invalid subscription id."}),
        ),
        (ids[0], "slotUnsubscribe", json!(true)),
    ] {
        let ask = json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": [id]});
        socket
            .send(Message::text(ask.to_string()))
            .await
            .expect("sent");
        let answer = next(&mut socket).await;
        assert!(
            answer["result"] == expected || answer["error"] == expected,
            "{answer}"
        );
    }
}

/// A slot or a root below `slot`.
fn is_about_the_past(message: &Value, slot: u64) -> bool {
    let result = &message["params"]["result"];
    let told = match message["method"].as_str() {
        Some("slotNotification") => result["slot"].as_u64(),
        Some("rootNotification") => result.as_u64(),
        _ => None,
    };
    told.is_some_and(|told| told < slot)
}

async fn next(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next())
            .await
            .expect("an answer in time")
            .expect("an open socket")
            .expect("a message");
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}
