//! Accounts of blocks that no source had, asked of a node: real routers on a real broker, one of them killed, and every bad answer
//! before the good one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chain_blocks::rpc::{AccountsReply, accounts};
use event_log::{EventLog, KafkaConfig, KafkaLog, MemoryLog, ReaderSpec, Start};
use event_schema::{
    AccountState, AccountStateReader, AsOf, Kind, ObservedTopic, Pubkey, Slot,
    proto::{
        Message,
        geyser::{SubscribeUpdate, SubscribeUpdateAccountInfo, subscribe_update::UpdateOneof},
    },
};
use local_services::{Child, ChildSpec, Kafka, KafkaOptions};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use stream_router::{
    account_state::{AccountsTopicConfig, Answer, Wanted},
    archive::Archive,
    publication::{Publication, Settings},
    repair::{
        convert,
        reply::{self, Reply},
    },
    router::Mended,
};

use crate::{
    chain::History,
    crash::read_canonical,
    node::{assert_repaired, blocks},
    on_the_log::{self, new_record},
    oracle,
    server::Node,
    source::{Source, interleave},
};

const PARTITIONS: u32 = 3;
/// Of which no source has anything.
const LOST: [u64; 3] = [104, 105, 107];
const FIRST: u64 = 100;
const LAST: u64 = 130;
/// The node's newest finalized slot.
const ROOT: u64 = 122;
/// More than those of one request.
const ADDRESSES: u8 = 240;

fn settings() -> Settings {
    Settings {
        accounts_topic: AccountsTopicConfig {
            enabled: true,
            partitions: PARTITIONS,
            ..AccountsTopicConfig::default()
        },
        repaired_accounts_max: 10_000,
        ..on_the_log::settings()
    }
}

/// An account's lamports, owner and data; closed ones are not there.
type Accounts = BTreeMap<Pubkey, (u64, Vec<u8>, Vec<u8>)>;

fn content(info: SubscribeUpdateAccountInfo) -> (Pubkey, (u64, Vec<u8>, Vec<u8>)) {
    let key = Pubkey::try_from(info.pubkey.as_slice()).expect("a key");
    (key, (info.lamports, info.owner, info.data))
}

fn info(update: &bytes::Bytes) -> SubscribeUpdateAccountInfo {
    let update = SubscribeUpdate::decode(update.clone()).expect("an update");
    match update.update_oneof {
        Some(UpdateOneof::Account(account)) => account.account.expect("an account"),
        other => panic!("{other:?}"),
    }
}

/// The chain as it truly was.
struct Truth {
    history: History,
    whole: Source,
}

impl Truth {
    fn new() -> Self {
        let slots: Vec<u64> = (FIRST..=LAST).collect();
        let mut history = blocks(&slots);
        for block in &mut history.blocks {
            // The lost ones write more than the others write again.
            block.accounts = if LOST.contains(&block.id.slot.0) {
                150
            } else {
                12
            };
        }
        let mut whole = Source::new(1);
        whole.addresses = Some(ADDRESSES);
        whole.account_bytes = 400;
        whole.observe(&history, |_| true);
        Self { history, whole }
    }

    fn writes(&self, from: u64, through: u64) -> impl Iterator<Item = SubscribeUpdateAccountInfo> {
        let values = self.whole.values.iter();
        let of = values.filter(move |value| {
            value.kind == Kind::Account && (from..=through).contains(&value.block.slot.0)
        });
        of.map(|value| info(&value.bytes))
    }

    fn accounts(&self, through: u64) -> Accounts {
        let mut accounts = Accounts::new();
        for info in self.writes(FIRST, through) {
            let (key, content) = content(info);
            match content.0 {
                0 => accounts.remove(&key),
                _ => accounts.insert(key, content),
            };
        }
        accounts
    }

    /// What the sources show of it.
    fn shown(&self) -> Source {
        let mut source = Source::new(1);
        source.written = self.whole.written.clone();
        source
            .written
            .retain(|record| !LOST.contains(&record.slot.0));
        source
    }

    /// As `getBlock` tells it: the accounts that it wrote are in a lookup table.
    fn block(&self, slot: u64) -> Value {
        let block = self
            .history
            .blocks
            .iter()
            .find(|block| block.id.slot.0 == slot);
        let Some(block) = block else {
            return oracle::error(-32007, "skipped");
        };
        let written: BTreeSet<String> = self
            .writes(slot, slot)
            .map(|info| content(info).0.to_string())
            .collect();
        let mut result = oracle::result(block);
        result["transactions"][0]["meta"]["loadedAddresses"]["writable"] = json!(written);
        json!({"jsonrpc": "2.0", "id": 1, "result": result})
    }

    fn told(&self, keys: &[String], as_of: u64) -> Value {
        let accounts = self.accounts(as_of);
        let tell = |key: &String| {
            let account = accounts.get(&key.parse::<Pubkey>().expect("a key"));
            account.map(|(lamports, owner, data)| {
                json!({
                    "lamports": lamports, "owner": bs58::encode(owner).into_string(),
                    "data": [BASE64_STANDARD.encode(data), "base64"],
                    "executable": false, "rentEpoch": u64::MAX, "space": data.len(),
                })
            })
        };
        let value: Vec<Value> = keys.iter().map(|key| json!(tell(key))).collect();
        json!({"jsonrpc": "2.0", "id": 1, "result": {"context": {"slot": as_of}, "value": value}})
    }
}

/// How the node answers for accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    NotYet,
    /// Each bad answer once, then good ones.
    Bad(usize),
}

fn bad_answer(at: usize, truth: &Truth, keys: &[String], at_least: u64) -> Option<Response> {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut reply = truth.told(keys, at_least.max(ROOT));
        change(&mut reply["result"]);
        Some(Json(reply).into_response())
    };
    match at {
        0 => Some("<html>not JSON at all".into_response()),
        1 => Some((StatusCode::TOO_MANY_REQUESTS, "slower").into_response()),
        2 => Some(Json(oracle::error(-32602, "Invalid params: minContextSlot")).into_response()),
        3 => changed(&|result| result["context"]["slot"] = json!(at_least - 1)),
        4 => changed(&|result| drop(result["value"].as_array_mut().expect("a list").pop())),
        5 => changed(&|result| result["value"][0] = json!({"lamports": 1})),
        6 => Some(vec![b' '; 2 << 20].into_response()),
        7 => Some(StatusCode::BAD_GATEWAY.into_response()),
        _ => None,
    }
}

const BAD_ANSWERS: usize = 8;

fn router(dir: &Path, name: &str, brokers: &str, node: &Node) -> Child {
    let config = format!(
        "listen = \"127.0.0.1:0\"\ntopic_prefix = \"t\"\n[kafka]\nbrokers = \"{brokers}\"\n\
         [topics]\naccounts = 3\ntransactions = 3\nslots = 1\ncanonical = 2\n\
         [accounts_topic]\nenabled = true\npartitions = {PARTITIONS}\n\
         [limits]\ngap_after_ms = 1000\nsettle_ms = 100\n\
         [leadership]\nname = \"{name}\"\nlease_ms = 1500\n\
         [repair]\nrpc_urls = [\"{}\"]\nrequests_per_second = 200\nbackoff_ms = 20\nbackoff_max_ms = 100\n\
         reply_mebibytes = 1\n\
         [grpc]\nenabled = false\n[host]\nadmin = \"127.0.0.1:0\"\n",
        node.url()
    );
    let file = dir.join(format!("{name}.toml"));
    std::fs::write(&file, config).expect("a config file");
    let log = dir.join(format!("{name}.log"));
    let spec = ChildSpec::new(name, env!("CARGO_BIN_EXE_stream-router"), log);
    Child::spawn(spec.arg("--config").arg(file)).expect("the router starts")
}

type States = BTreeMap<Pubkey, AccountState>;

async fn folded(log: &dyn EventLog) -> Option<(States, AsOf)> {
    let topic = settings().topics.accounts;
    let all = (0..PARTITIONS).map(|partition| (topic.clone(), partition, Start::Earliest));
    let spec = ReaderSpec {
        partitions: all.collect(),
        read_committed: true,
    };
    let mut reader = log.reader(spec).await.expect("a reader");
    let mut states = AccountStateReader::new(PARTITIONS, |_: &Pubkey, _: &AccountState| true);
    loop {
        let records = reader.poll(1_000, Duration::from_millis(20)).await;
        let records = records.expect("records");
        if records.is_empty() && reader.lag().await.expect("lag") == 0 {
            break;
        }
        for record in records {
            let parts = (record.key, record.header, record.value);
            let pushed = states.push(record.position.partition, parts);
            pushed.expect("the topic's contract");
        }
    }
    states.stop_at_newest();
    let as_of = states.as_of()?.clone();
    Some((states.into_accounts().into_iter().collect(), as_of))
}

/// The state, when it is like that.
async fn until(
    log: &dyn EventLog,
    routers: &[&Child],
    is: impl Fn(&AsOf) -> bool,
) -> (States, AsOf) {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < Duration::from_secs(60) {
        if let Some((states, as_of)) = folded(log).await {
            if is(&as_of) {
                return (states, as_of);
            }
            last = Some(as_of);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let logs: Vec<String> = routers.iter().map(|router| router.log_tail(30)).collect();
    panic!("still {last:?}\n{}", logs.join("\n---\n"));
}

fn slots(holes: &[event_schema::account_state::Hole]) -> BTreeSet<u64> {
    let slots = holes
        .iter()
        .flat_map(|hole| hole.first_slot..=hole.last_slot);
    slots.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_blocks_wrote_is_asked_of_a_node_by_whoever_publishes() {
    let truth = Arc::new(Truth::new());
    let mood = Arc::new(Mutex::new(Mood::NotYet));
    let asked = Arc::new(Mutex::new(Vec::<(usize, u64)>::new()));
    let node = {
        let (for_blocks, truth) = (Arc::clone(&truth), Arc::clone(&truth));
        let (mood, asked) = (Arc::clone(&mood), Arc::clone(&asked));
        let accounts = move |keys: Vec<String>, options: Value| {
            let at_least = options["minContextSlot"].as_u64().expect("a slot");
            asked.lock().expect("no panic").push((keys.len(), at_least));
            let mut mood = mood.lock().expect("no panic");
            let Mood::Bad(at) = *mood else {
                return Json(oracle::error(-32016, "Minimum context slot")).into_response();
            };
            *mood = Mood::Bad(at + 1);
            if let Some(bad) = bad_answer(at, &truth, &keys, at_least) {
                return bad;
            }
            match at_least <= ROOT {
                true => Json(truth.told(&keys, ROOT)).into_response(),
                // What a node without the next roots says; they come.
                false => Json(truth.told(&keys, LAST)).into_response(),
            }
        };
        let block = move |slot, _, _| {
            let reply = for_blocks.block(slot);
            async move { Json(reply).into_response() }
        };
        Node::telling(block, accounts).await
    };
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    let opened = Publication::open(&log, settings()).await;
    drop(opened.expect("topics are made"));
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = router(dir.path(), "first", &kafka.brokers(), &node);
    let topics = settings().topics;
    let lanes = interleave(&mut StdRng::seed_from_u64(1), &[&truth.shown()]);
    let records = lanes.values().flatten();
    let batch = records.map(|record| new_record(&topics, record)).collect();
    let writer = log.writer().await.expect("a writer");
    writer.append(batch).await.expect("appended");

    // The blocks come from the node, and the state goes on without their writes, and says so.
    let whole = |as_of: &AsOf| as_of.slot == LAST && as_of.held_back == 0;
    let (states, as_of) = until(&log, &[&first], whole).await;
    assert_eq!(slots(&as_of.holes), LOST.into());
    assert_eq!(as_of.repaired, []);
    assert!(states.values().all(|state| state.repaired().is_none()));
    let expected = truth.accounts(LAST);
    assert_ne!(accounts_of(&states), expected, "something is stale");

    // Whoever takes over finds the holes in the log alone.
    let second = router(dir.path(), "second", &kafka.brokers(), &node);
    first.kill();
    let requests = || asked.lock().expect("no panic").clone();
    let before = requests().len();
    *mood.lock().expect("no panic") = Mood::Bad(0);
    let filled = |as_of: &AsOf| as_of.holes.is_empty() && as_of.slot == LAST;
    let (states, as_of) = until(&log, &[&second], filled).await;
    assert_eq!(slots(&as_of.repaired), LOST.into());
    assert_eq!(accounts_of(&states), expected);
    let of_second = requests()[before..].to_vec();
    assert!(of_second.len() >= BAD_ANSWERS, "{of_second:?}");
    assert!(
        of_second.iter().all(|(keys, _)| *keys <= 100),
        "{of_second:?}"
    );
    assert!(of_second.len() < 60, "requests are bounded: {of_second:?}");

    // Marked is what nobody wrote after the losses, and nothing else.
    let touched: BTreeSet<Pubkey> = LOST
        .iter()
        .flat_map(|slot| truth.writes(*slot, *slot))
        .map(|info| content(info).0)
        .collect();
    let mut marked = 0;
    for (account, state) in &states {
        let Some(mark) = state.repaired() else {
            continue;
        };
        marked += 1;
        assert!(touched.contains(account), "{account} was not lost");
        assert_eq!(mark.source, "rpc:127.0.0.1");
        assert!(LOST.contains(&mark.lost_slot), "{mark:?}");
        assert_eq!(
            (mark.as_of_slot, state.slot),
            (state.slot.0, Slot(mark.as_of_slot))
        );
    }
    assert!(marked > 50, "{marked}");
    // The blocks are marked, too, and the gaps stay told.
    let canonical = read_canonical(&log).await;
    for block in &truth.history.blocks {
        if LOST.contains(&block.id.slot.0) {
            assert_repaired(&canonical, block);
        }
    }
    assert_eq!(canonical.gaps.len(), 2, "{:?}", canonical.gaps);

    // One more life has nothing to ask for.
    let before = (requests().len(), node.slots().len());
    let mut third = router(dir.path(), "third", &kafka.brokers(), &node);
    drop(second);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (states, as_of) = folded(&log).await.expect("a state");
    assert_eq!((accounts_of(&states), as_of.holes), (expected, Vec::new()));
    assert_eq!((requests().len(), node.slots().len()), before);
    assert!(third.is_running(), "{}", third.log_tail(20));
    let text = std::fs::read_to_string(dir.path().join("second.log")).expect("a log");
    for told in [
        "take it out of repair.rpc_urls",
        "lower repair.requests_per_second",
        "does not keep minContextSlot",
        "is not understood",
        "accounts where",
        "HTTP status 502",
    ] {
        assert!(text.contains(told), "{told}:\n{text}");
    }
    assert!(!text.contains("secret-key"));
}

fn accounts_of(states: &States) -> Accounts {
    let contents = states.values().map(|state| content(info(&state.value)));
    contents.filter(|(_, content)| content.0 > 0).collect()
}

/// A router without a broker and without a node: each step is the test's.
struct Bed {
    log: Arc<MemoryLog>,
    archive: Archive,
    publication: Publication,
    truth: Truth,
}

impl Bed {
    /// Everything that the sources show is read.
    async fn new() -> Self {
        let (log, truth) = (Arc::new(MemoryLog::new()), Truth::new());
        let opened = Publication::open(log.as_ref(), settings()).await;
        let lanes = interleave(&mut StdRng::seed_from_u64(1), &[&truth.shown()]);
        let topics = settings().topics;
        let records = lanes.values().flatten();
        let batch = records.map(|record| new_record(&topics, record)).collect();
        let writer = log.writer().await.expect("a writer");
        writer.append(batch).await.expect("appended");
        let shared: Arc<dyn EventLog> = log.clone();
        let mut bed = Self {
            archive: Archive::new(shared, topics.canonical, 2),
            publication: opened.expect("opens"),
            log,
            truth,
        };
        bed.read().await;
        bed
    }

    async fn read(&mut self) {
        for topic in ObservedTopic::ALL {
            let spec = self.publication.reader_spec(topic);
            let mut reader = self.log.reader(spec).await.expect("a reader");
            let records = reader.poll(100_000, Duration::ZERO).await.expect("records");
            self.publication.absorb(&records);
        }
        self.commit().await;
    }

    async fn commit(&mut self) {
        loop {
            self.publication.commit().await.expect("committed");
            if !self.publication.has_pending() {
                return;
            }
            let settled = self.publication.settle(self.log.as_ref(), &self.archive);
            settled.await.expect("the log is there");
        }
    }

    /// As after SIGKILL.
    async fn next_life(&mut self) {
        let opened = Publication::open(self.log.as_ref(), settings()).await;
        self.publication = opened.expect("opens");
        self.read().await;
    }

    async fn mend(&mut self, slot: u64) {
        let reply = self.truth.block(slot).to_string();
        let Reply::Block(reply) = reply::read(reply.as_bytes()) else {
            panic!("it is a block");
        };
        let block = convert::block(Slot(slot), &Arc::from("node"), *reply).expect("believed");
        let (mended, _) = self.publication.mend(block);
        assert!(matches!(mended, Mended::Published), "{mended:?}");
        self.commit().await;
    }

    /// Everything that is wanted is had, from a node that has come to this slot. How many accounts were asked for.
    async fn answer(&mut self, as_of: u64) -> usize {
        let mut asked = 0;
        while let Some(wanted) = self.publication.next_wanted() {
            let answer = match wanted {
                Wanted::Block(place) => {
                    let (offset, not_before) = (place.offset, place.not_before);
                    let read = self.archive.block(place.block, offset, not_before).await;
                    Answer::Read(read.expect("it is on the log"))
                }
                Wanted::Accounts(ask) => {
                    asked += ask.keys.len();
                    let keys: Vec<String> = ask.keys.iter().map(Pubkey::to_string).collect();
                    let reply = self.truth.told(&keys, as_of).to_string();
                    let read = accounts::read(reply.as_bytes(), ask.at_least, keys.len());
                    let AccountsReply::Told(told) = read else {
                        panic!("{read:?}");
                    };
                    let host = Arc::from("node");
                    Answer::Told { ask, host, told }
                }
            };
            self.publication.answer(answer);
        }
        self.commit().await;
        asked
    }

    async fn state(&self) -> (Accounts, AsOf) {
        let (states, as_of) = folded(self.log.as_ref()).await.expect("a state");
        (accounts_of(&states), as_of)
    }
}

/// The blocks come before the state has gone on without them, or after; and a life may end at every step.
#[tokio::test]
async fn holes_are_filled_whenever_the_blocks_come() {
    for (late, dies) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut bed = Bed::new().await;
        if late {
            for step in 1..=4 {
                let _ = bed.publication.tick(i64::MAX / 2 + step * 20_000);
                bed.commit().await;
            }
            let (_, as_of) = bed.state().await;
            assert_eq!((slots(&as_of.holes), as_of.slot), (LOST.into(), LAST));
        }
        // From above: a block waits for the one below it.
        for slot in LOST.iter().rev() {
            bed.mend(*slot).await;
            if dies {
                bed.next_life().await;
            }
        }
        let (accounts, as_of) = bed.state().await;
        let what = format!("late: {late}, dies: {dies}");
        assert_eq!((as_of.slot, as_of.held_back), (LAST, 0), "{what}");
        assert_eq!(slots(&as_of.holes), LOST.into(), "{what}");
        let expected = bed.truth.accounts(LAST);
        assert_ne!(accounts, expected, "{what}");

        let asked = bed.answer(LAST).await;
        assert!(
            (30..=ADDRESSES as usize).contains(&asked),
            "{what}: {asked}"
        );
        let (accounts, as_of) = bed.state().await;
        assert_eq!(accounts, expected, "{what}");
        assert_eq!(
            (slots(&as_of.repaired), as_of.holes),
            (LOST.into(), Vec::new()),
            "{what}"
        );
        let counts = bed.publication.lost_accounts();
        assert_eq!((counts.0.told as usize, counts.1), (asked, 0), "{what}");

        bed.next_life().await;
        assert_eq!(
            bed.publication.next_wanted(),
            None,
            "{what}: nothing is left to ask for"
        );
        assert_eq!(bed.state().await.0, expected, "{what}");
    }
}
