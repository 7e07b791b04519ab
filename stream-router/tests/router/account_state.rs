//! The accounts topic against the canonical one: after any deaths it holds the last write of every account on the chain,
//! and whoever begins with it at any moment and goes on in the canonical topic ends at the same state.

mod reading;
mod rig;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_log::{
    CommitFault, EventLog, KafkaConfig, KafkaLog, MemoryLog, NewRecord, Record, TopicSpec,
};
use event_schema::{
    AccountState, AsOf, Commitment, ObservedTopic, Slot, account_state::AS_OF_KEY, proto::Message,
};
use local_services::{Kafka, KafkaOptions};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    account_state::AccountsTopicConfig,
    archive::Archive,
    observation::Lane,
    publication::{Publication, Settings},
    slot_tree::BlockId,
};

use crate::{
    chain::{History, blockhash},
    crash::{assert_exactly, read_canonical},
    on_the_log,
    source::{Source, Written, interleave},
};
use reading::{compacted, continued, folded, info, records_of, states_of, truth};
use rig::Rig;

const PARTITIONS: u32 = 3;
const CANONICAL: u32 = 2;

fn settings() -> Settings {
    Settings {
        accounts_topic: AccountsTopicConfig {
            enabled: true,
            partitions: PARTITIONS,
            // Nearly nothing stays in memory: late blocks are read from the log.
            memory_mebibytes: 1,
            ..AccountsTopicConfig::default()
        },
        ..on_the_log::settings()
    }
}

/// One life, that dies somewhere. True when it came to its end.
async fn one_life(rng: &mut StdRng, log: &MemoryLog, last: bool) -> bool {
    let settings = settings();
    let shared: Arc<dyn EventLog> = Arc::new(log.clone());
    let archive = Archive::new(shared, settings.topics.canonical.clone(), CANONICAL);
    let mut publication = Publication::open(log, settings).await.expect("opens");
    let mut readers = BTreeMap::new();
    for topic in ObservedTopic::ALL {
        let reader = log.reader(publication.reader_spec(topic)).await;
        readers.insert(topic, reader.expect("a reader"));
    }
    let mut idle = 0;
    loop {
        let topic = ObservedTopic::ALL[rng.random_range(0..3)];
        let reader = readers.get_mut(&topic).expect("three readers");
        let records = reader.poll(rng.random_range(1..60), Duration::ZERO).await;
        let records = records.expect("records");
        idle = if records.is_empty() { idle + 1 } else { 0 };
        publication.absorb(&records);
        if !last && rng.random_bool(0.05) {
            return false;
        }
        if rng.random_bool(0.4) {
            if !last && rng.random_bool(0.1) {
                log.fail_next_commit(if rng.random_bool(0.5) {
                    CommitFault::Crash
                } else {
                    CommitFault::Abort
                });
            }
            if rng.random_bool(0.7) {
                let settled = publication.settle(log, &archive).await;
                settled.expect("the log is there");
            }
            if publication.commit().await.is_err() {
                return false;
            }
        }
        if idle > 50 {
            break;
        }
    }
    if !last {
        return publication.commit().await.is_ok();
    }
    let _ = publication.tick(i64::MAX);
    loop {
        if publication.commit().await.is_err() {
            return false;
        }
        if !publication.has_pending() {
            return true;
        }
        let settled = publication.settle(log, &archive).await;
        settled.expect("the log is there");
    }
}

fn records(lanes: &BTreeMap<Lane, Vec<Written>>) -> Vec<NewRecord> {
    let topics = settings().topics;
    let all = lanes.values().flatten();
    all.map(|record| on_the_log::new_record(&topics, record))
        .collect()
}

async fn crash_run(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let history = History::random(rng, 60, 1_000);
    let mut one = Source::new(1);
    one.addresses = Some(12);
    // A block is more than the memory for blocks; two chunks per account in every third run.
    one.account_bytes = if seed.is_multiple_of(3) {
        1_000_000
    } else {
        40_000
    };
    let mut two = one.alike(2);
    one.observe(&history, |_| true);
    two.observe(&history, |_| true);
    let lanes = interleave(rng, &[&one, &two]);
    let log = MemoryLog::new();
    let topics = settings().topics;
    drop(Publication::open(&log, settings()).await.expect("opens"));
    let writer = log.writer().await.expect("a writer");
    let mut at: BTreeMap<Lane, usize> = BTreeMap::new();
    let mut begun = Vec::new();
    for _ in 0..25 {
        for (lane, records) in &lanes {
            let from = *at.entry(*lane).or_default();
            let to = (from + rng.random_range(0..40)).min(records.len());
            at.insert(*lane, to);
            let batch = records[from..to].iter();
            let batch = batch.map(|record| on_the_log::new_record(&topics, record));
            writer.append(batch.collect()).await.expect("appended");
        }
        one_life(rng, &log, false).await;
        let now = records_of(&log, &topics.accounts, PARTITIONS).await;
        begun.extend(folded(&now));
    }
    for (lane, records) in &lanes {
        let batch = records[at[lane]..].iter();
        let batch = batch.map(|record| on_the_log::new_record(&topics, record));
        writer.append(batch.collect()).await.expect("appended");
    }
    if !one_life(rng, &log, true).await {
        assert!(
            one_life(rng, &log, true).await,
            "the last life comes to its end"
        );
    }
    let canonical = read_canonical(&log, &topics, CANONICAL).await;
    assert_exactly(&canonical, &history);
    let chain: HashSet<BlockId> = history
        .blocks
        .iter()
        .filter(|block| block.on_chain)
        .map(|block| block.id)
        .collect();
    let on_chain = canonical
        .blocks
        .values()
        .filter(|block| chain.contains(&BlockId::new(block.slot, block.blockhash)));
    let expected = truth(on_chain);
    let all = records_of(&log, &topics.accounts, PARTITIONS).await;
    let (reader, as_of) = folded(&all).expect("a state");
    let tip = history.blocks.iter().rfind(|block| block.on_chain);
    let tip = tip.expect("blocks").id;
    assert_eq!((as_of.slot, as_of.held_back), (tip.slot.0, 0));
    assert_eq!(as_of.holes, [], "seed {seed}");
    assert_eq!(states_of(&reader), expected, "seed {seed}");
    let compacted = compacted(rng, &all);
    let (after, _) = folded(&compacted).expect("a state");
    assert_eq!(states_of(&after), expected, "seed {seed}");
    assert!(begun.len() > 5, "seed {seed}: {}", begun.len());
    for (reader, as_of) in begun {
        let slot = as_of.slot;
        let states = continued(&log, reader, &as_of).await;
        assert_eq!(states, expected, "seed {seed}, from slot {slot}");
    }
}

#[tokio::test]
async fn deaths_leave_the_last_write_of_every_account() {
    let seeds: Vec<u64> = match std::env::var("ROUTER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROUTER_SEED is a number")],
        Err(_) => (0..6).collect(),
    };
    for seed in seeds {
        println!("seed {seed} (replay with ROUTER_SEED={seed})");
        crash_run(seed).await;
    }
}

#[tokio::test]
async fn a_confirmed_block_that_proves_abandoned_leaves_no_trace() {
    for dies in [false, true] {
        let mut rig = Rig::new(4).await;
        let genesis = BlockId::new(Slot(9), blockhash(9, 0));
        let ten = rig.block(10, 0, genesis, 5);
        rig.confirm(ten);
        rig.feed(1_000).await;
        let (before, as_of, _) = rig.state().await;
        assert_eq!(as_of.slot, 10);
        assert!(!before.is_empty());
        // The validator is on a fork that seems confirmed, and has accounts that ten does not have.
        let wrong = rig.block(11, 1, ten, 9);
        rig.confirm(wrong);
        rig.feed(2_000).await;
        let (there, as_of, _) = rig.state().await;
        assert_eq!(as_of.slot, 11);
        assert_ne!(there, before);
        if dies {
            rig.next_life().await;
        }
        let twelve = rig.block(12, 0, ten, 0);
        rig.root(twelve, ten);
        rig.feed(3_000).await;
        let (after, as_of, _) = rig.state().await;
        assert_eq!(as_of.slot, 12, "dies: {dies}");
        assert_eq!(after, before, "dies: {dies}");
        let canonical = read_canonical(rig.log.as_ref(), &settings().topics, CANONICAL).await;
        assert_eq!(
            canonical.fates[&(wrong.slot, wrong.blockhash)],
            [Commitment::Confirmed, Commitment::Abandoned]
        );
    }
}

#[tokio::test]
async fn a_large_account_that_shrinks_leaves_no_chunk() {
    let mut rig = Rig::new(1).await;
    let mut parent = BlockId::new(Slot(9), blockhash(9, 0));
    for (slot, bytes) in [
        (10, 3_000_000),
        (11, 1_500_000),
        (12, 5),
        (13, 2_000_000),
        (14, 7),
    ] {
        rig.source.account_bytes = bytes;
        let block = rig.block(slot, 0, parent, 2);
        rig.confirm(block);
        rig.feed(slot as i64 * 1_000).await;
        // What chunks there are is remembered over deaths.
        rig.next_life().await;
        parent = block;
        let (states, as_of, records) = rig.state().await;
        assert_eq!(as_of.slot, slot);
        for (_, data, of) in states.values() {
            assert_eq!((*data, *of), (bytes, slot));
        }
        // What compaction leaves in the end: the newest record of each key, without tombstones.
        let mut newest: HashMap<Bytes, &Record> = HashMap::new();
        for record in &records {
            newest.insert(record.key.clone(), record);
        }
        newest.retain(|key, record| !record.value.is_empty() && key.as_ref() != AS_OF_KEY);
        assert!(
            newest.len() <= 1 + bytes / 900_000,
            "{bytes}: {}",
            newest.len()
        );
    }
}

#[tokio::test]
async fn a_closed_account_is_forgotten_when_that_is_final() {
    let mut rig = Rig::new(12).await;
    let closed = |records: &[Record]| {
        let (reader, _) = folded(records).expect("a state");
        let lamports = |state: &AccountState| info(&state.value).1;
        let states = reader.accounts().values();
        states.filter(|state| lamports(state) == 0).count()
    };
    let mut chain = vec![BlockId::new(Slot(9), blockhash(9, 0))];
    for slot in 10..16 {
        let block = rig.block(slot, 0, chain[chain.len() - 1], 6);
        rig.confirm(block);
        rig.feed(slot as i64 * 1_000).await;
        chain.push(block);
    }
    let (before, _, records) = rig.state().await;
    assert!(closed(&records) > 0, "nothing was closed");
    rig.root(chain[6], chain[5]);
    rig.feed(20_000).await;
    let (after, as_of, records) = rig.state().await;
    assert_eq!(closed(&records), 0);
    assert_eq!(
        (after, as_of.slot),
        (before, 15),
        "nothing else has changed"
    );
}

#[tokio::test]
async fn a_block_that_never_comes_is_a_hole_of_the_state() {
    let mut rig = Rig::new(4).await;
    let genesis = BlockId::new(Slot(9), blockhash(9, 0));
    let ten = rig.block(10, 0, genesis, 5);
    rig.confirm(ten);
    rig.feed(1_000).await;
    let eleven = BlockId::new(Slot(11), blockhash(11, 0));
    let twelve = rig.block(12, 0, eleven, 5);
    rig.root(twelve, eleven);
    rig.feed(2_000).await;
    let (before, as_of, _) = rig.state().await;
    assert_eq!((as_of.slot, as_of.held_back), (10, 0));
    // Longer than `gap_after_ms`.
    rig.feed(10_000).await;
    rig.feed(20_000).await;
    let (after, as_of, _) = rig.state().await;
    assert_eq!(as_of.slot, 12);
    assert_ne!(after, before);
    let holes: Vec<_> = as_of
        .holes
        .iter()
        .map(|hole| (hole.first_slot, hole.last_slot))
        .collect();
    assert_eq!(holes, [(11, 11)]);
}

/// What the topic costs, per canonical record: counted, so that a change is seen.
#[tokio::test]
async fn the_cost_is_one_record_per_account_and_block() {
    let mut rig = Rig::new(200).await;
    rig.source.account_bytes = 200;
    let mut parent = BlockId::new(Slot(9), blockhash(9, 0));
    const BLOCKS: u64 = 20;
    for slot in 10..10 + BLOCKS {
        // As on mainnet: about three account writes per transaction are all that matters here.
        let block = rig.block(slot, 0, parent, 60);
        rig.confirm(block);
        rig.feed(slot as i64 * 1_000).await;
        parent = block;
    }
    let canonical = records_of(rig.log.as_ref(), &settings().topics.canonical, CANONICAL).await;
    let accounts = records_of(rig.log.as_ref(), &settings().topics.accounts, PARTITIONS).await;
    let bytes = |records: &[Record]| -> usize {
        let of = |record: &Record| record.key.len() + record.header.len() + record.value.len();
        records.iter().map(of).sum()
    };
    let ends = accounts
        .iter()
        .filter(|record| record.key.as_ref() == AS_OF_KEY)
        .count();
    println!(
        "{} canonical records of {} bytes; {} account states of {} bytes, {ends} ends of transactions",
        canonical.len(),
        bytes(&canonical),
        accounts.len() - ends,
        bytes(&accounts)
    );
    assert_eq!(ends as u64, BLOCKS * u64::from(PARTITIONS));
    let written = BLOCKS * 60;
    let states = accounts.len() - ends;
    // Some accounts are written twice in a block; none has two states of it.
    assert!(states < written as usize && states > written as usize / 2);
    let mut seen = HashSet::new();
    for record in accounts.iter().filter(|record| record.key.len() == 32) {
        assert!(seen.insert((record.key.clone(), record.header[..44].to_vec())));
    }
}

/// The broker's own cleaner at work, with settings that let it begin at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_compacts_leaves_the_state() {
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    let hasty = [
        ("segment.ms", "200"),
        ("min.compaction.lag.ms", "0"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let spec = TopicSpec {
        config: hasty
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..settings().accounts_topic.spec(&settings().topics, 1)
    };
    log.ensure_topics(&[spec]).await.expect("a topic");
    let mut rig = Rig::on(Arc::new(log), 6).await;
    let mut parent = BlockId::new(Slot(9), blockhash(9, 0));
    let mut ancestors = Vec::new();
    let began = Instant::now();
    let mut compacted = false;
    for slot in 10.. {
        // Now and then an account is in chunks.
        rig.source.account_bytes = if slot % 7 == 0 { 1_200_000 } else { 50 };
        let block = rig.block(slot, 0, parent, 4);
        rig.confirm(block);
        if let [.., grandparent, _] = ancestors[..] {
            rig.root(block, grandparent);
        }
        rig.feed(slot as i64 * 1_000).await;
        ancestors.push(block);
        parent = block;
        let records = records_of(rig.log.as_ref(), &settings().topics.accounts, PARTITIONS).await;
        // Markers of transactions have offsets, too; but they are fewer than the records were.
        let first = records.first().map_or(0, |record| record.position.offset);
        let (reader, as_of) = folded(&records).expect("a state");
        let canonical = read_canonical(rig.log.as_ref(), &settings().topics, CANONICAL).await;
        assert_eq!(states_of(&reader), truth(canonical.blocks.values()));
        assert_eq!(as_of.slot, slot);
        let sequences: HashSet<u64> = records
            .iter()
            .filter(|record| record.key.as_ref() == AS_OF_KEY)
            .map(|record| AsOf::decode(record.value.clone()).expect("an end").sequence)
            .collect();
        // Compaction has taken ends of transactions, and states with them.
        if compacted && slot % 7 == 3 {
            println!(
                "{} records are left of {} transactions, from offset {first}",
                records.len(),
                as_of.sequence
            );
            return;
        }
        compacted |= (sequences.len() as u64) + 5 < as_of.sequence;
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "the broker does not compact: {} of {}",
            sequences.len(),
            as_of.sequence
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
