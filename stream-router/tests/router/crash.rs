//! The publication on the in-memory log, ended at random points: between reading, concluding and committing, and in the
//! middle of a commit. What the canonical topic holds at the end is compared with the history.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_log::{CommitFault, EventLog, MemoryLog, NewRecord, ReaderSpec, Start};
use event_schema::{
    Blockhash, CanonicalEvent, Commitment, Gap, ObservedTopic, Slot, SlotAssembler, SlotBlock,
    Topics,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{observation::Lane, publication::Publication};

use crate::{
    chain::History,
    on_the_log::{new_record, settings},
    source::{Source, Written, interleave},
};

/// What readers of the canonical topic end up with.
#[derive(Debug, Default)]
pub struct Canonical {
    pub blocks: BTreeMap<(Slot, Blockhash), Arc<SlotBlock>>,
    pub fates: BTreeMap<(Slot, Blockhash), Vec<Commitment>>,
    pub gaps: Vec<Gap>,
    pub duplicates: usize,
}

pub async fn read_canonical(log: &dyn EventLog, topics: &Topics, partitions: u32) -> Canonical {
    let mut canonical = Canonical::default();
    for partition in 0..partitions {
        let mut reader = log
            .reader(ReaderSpec {
                partitions: vec![(topics.canonical.clone(), partition, Start::Earliest)],
                read_committed: true,
            })
            .await
            .expect("a reader");
        let mut assembler = SlotAssembler::new();
        loop {
            let records = reader
                .poll(1_000, Duration::from_millis(50))
                .await
                .expect("canonical records");
            let at_end = records.is_empty();
            for record in records {
                let event = assembler
                    .push(record.position.offset, &record.header, &record.value)
                    .expect("the topic's contract");
                match event {
                    Some(CanonicalEvent::Block(block)) => {
                        let key = (block.slot, block.blockhash);
                        if canonical.blocks.insert(key, block).is_some() {
                            canonical.duplicates += 1;
                        }
                    }
                    Some(CanonicalEvent::Status {
                        slot,
                        blockhash,
                        commitment,
                        ..
                    }) => {
                        let key = (slot, blockhash);
                        assert!(canonical.blocks.contains_key(&key), "status before block");
                        canonical.fates.entry(key).or_default().push(commitment);
                    }
                    Some(CanonicalEvent::Gap { gap, .. }) => canonical.gaps.push(gap),
                    None => {}
                }
            }
            if at_end && reader.lag().await.expect("lag") == 0 {
                break;
            }
        }
    }
    canonical
}

pub fn assert_exactly(canonical: &Canonical, history: &History) {
    assert_eq!(canonical.duplicates, 0, "duplicated blocks");
    assert_eq!(canonical.gaps, [], "gaps");
    let mut held = std::collections::BTreeSet::new();
    for block in &history.blocks {
        // One validator holds one block per slot: the first.
        if !held.insert(block.id.slot) {
            continue;
        }
        let key = (block.id.slot, block.id.blockhash);
        let published = canonical
            .blocks
            .get(&key)
            .unwrap_or_else(|| panic!("{block:?} is lost"));
        assert_eq!(published.accounts.len() as u64, block.accounts);
        assert_eq!(published.transactions.len() as u64, block.transactions);
        assert_eq!(published.entries.len() as u64, block.entries);
        let expected: &[Commitment] = if block.on_chain {
            &[Commitment::Confirmed, Commitment::Finalized]
        } else {
            &[Commitment::Abandoned]
        };
        assert_eq!(
            canonical.fates.get(&key).map(Vec::as_slice),
            Some(expected),
            "{block:?}"
        );
    }
    assert_eq!(canonical.blocks.len(), held.len());
}

/// One life: reads, concludes and commits a few times, then dies somewhere. True when it came to its end.
async fn one_life(rng: &mut StdRng, log: &MemoryLog, last: bool) -> bool {
    let settings = settings();
    let mut publication = Publication::open(log, settings).await.expect("opens");
    let mut readers = BTreeMap::new();
    for topic in ObservedTopic::ALL {
        let reader = log
            .reader(publication.reader_spec(topic))
            .await
            .expect("a reader");
        readers.insert(topic, reader);
    }
    let mut idle = 0;
    loop {
        let topic = ObservedTopic::ALL[rng.random_range(0..3)];
        let reader = readers.get_mut(&topic).expect("three readers");
        let records = reader
            .poll(rng.random_range(1..60), Duration::ZERO)
            .await
            .expect("records");
        idle = if records.is_empty() { idle + 1 } else { 0 };
        publication.absorb(&records);
        if !last && rng.random_bool(0.05) {
            return false;
        }
        if rng.random_bool(0.4) {
            if !last && rng.random_bool(0.1) {
                let fault = if rng.random_bool(0.5) {
                    CommitFault::Crash
                } else {
                    CommitFault::Abort
                };
                log.fail_next_commit(fault);
            }
            if publication.commit().await.is_err() {
                return false;
            }
        }
        if idle > 50 {
            break;
        }
    }
    if last {
        let _ = publication.tick(i64::MAX);
    }
    publication.commit().await.is_ok()
}

async fn crash_run(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let history = History::random(rng, 50, 1_000);
    let mut one = Source::chunking(1, rng);
    let mut two = one.alike(2);
    one.observe(&history, |_| true);
    two.observe(&history, |_| true);
    if seed % 2 == 1 {
        // Neither has any block for sure, but together they have every one.
        for (source, topic) in [
            (&mut one, ObservedTopic::Accounts),
            (&mut two, ObservedTopic::Transactions),
        ] {
            source.written.retain(|record| {
                record.of.is_none() || record.lane.topic != topic || rng.random_bool(0.8)
            });
        }
    }
    let lanes: BTreeMap<Lane, Vec<Written>> = interleave(rng, &[&one, &two]);
    let log = MemoryLog::new();
    let topics = settings().topics;
    // The first life only creates the topics.
    drop(Publication::open(&log, settings()).await.expect("opens"));
    let writer = log.writer().await.expect("a writer");
    let mut at: BTreeMap<Lane, usize> = BTreeMap::new();
    for _ in 0..25 {
        for (lane, records) in &lanes {
            let from = *at.entry(*lane).or_default();
            let to = (from + rng.random_range(0..40)).min(records.len());
            at.insert(*lane, to);
            let batch = records[from..to]
                .iter()
                .map(|record| new_record(&topics, record));
            writer.append(batch.collect()).await.expect("appended");
        }
        one_life(rng, &log, false).await;
    }
    for (lane, records) in &lanes {
        let batch = records[at[lane]..]
            .iter()
            .map(|record| new_record(&topics, record));
        writer.append(batch.collect()).await.expect("appended");
    }
    // A fault that was asked for may still strike once.
    if !one_life(rng, &log, true).await {
        assert!(
            one_life(rng, &log, true).await,
            "the last life comes to its end"
        );
    }
    let canonical = read_canonical(&log, &topics, 2).await;
    assert_exactly(&canonical, &history);
    let repaired = canonical
        .blocks
        .values()
        .filter(|block| block.seal.repaired);
    assert_eq!(repaired.count() > 0, seed % 2 == 1, "seed {seed}");
    let (_, dead_letters) = log
        .watermarks(&topics.dead_letters, 0)
        .await
        .expect("watermarks");
    assert_eq!(dead_letters, 0, "seed {seed}");
}

#[tokio::test]
async fn crashes_lose_nothing_and_repeat_nothing() {
    let seeds: Vec<u64> = match std::env::var("ROUTER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROUTER_SEED is a number")],
        Err(_) => (0..12).collect(),
    };
    for seed in seeds {
        println!("seed {seed} (replay with ROUTER_SEED={seed})");
        crash_run(seed).await;
    }
}

#[tokio::test]
async fn a_newer_router_fences_the_older() {
    let log = MemoryLog::new();
    let mut old = Publication::open(&log, settings()).await.expect("opens");
    let history = History::random(&mut StdRng::seed_from_u64(1), 5, 10);
    let mut source = Source::new(1);
    source.observe(&history, |_| true);
    let topics = settings().topics;
    let writer = log.writer().await.expect("a writer");
    let records = source
        .written
        .iter()
        .map(|record| new_record(&topics, record));
    writer.append(records.collect()).await.expect("appended");
    let mut reader = log
        .reader(old.reader_spec(ObservedTopic::Slots))
        .await
        .expect("a reader");
    let records = reader.poll(1_000, Duration::ZERO).await.expect("records");
    old.absorb(&records);
    let _new = Publication::open(&log, settings()).await.expect("opens");
    let error = old.commit().await.expect_err("the older router is fenced");
    assert!(matches!(error, event_log::Error::Fenced { .. }), "{error}");
}

#[tokio::test]
async fn poison_is_dead_lettered_with_its_reason_and_leaves_a_gap() {
    let log = MemoryLog::new();
    let mut publication = Publication::open(&log, settings()).await.expect("opens");
    let history = History::sparse(&mut StdRng::seed_from_u64(8), 3);
    let mut source = Source::new(1);
    source.observe(&history, |_| true);
    let victim = source
        .written
        .iter_mut()
        .find(|record| {
            record.lane.topic == ObservedTopic::Accounts
                && record.kind == event_schema::Kind::Account
        })
        .expect("an account");
    victim.value = bytes::Bytes::from_static(b"\xff not protobuf");
    let topics = settings().topics;
    let writer = log.writer().await.expect("a writer");
    let mut records: Vec<NewRecord> = source
        .written
        .iter()
        .map(|record| new_record(&topics, record))
        .collect();
    // And one that does not even have a header.
    records[0] = NewRecord {
        header: bytes::Bytes::new(),
        ..records[0].clone()
    };
    writer.append(records).await.expect("appended");
    for topic in ObservedTopic::ALL {
        let mut reader = log
            .reader(publication.reader_spec(topic))
            .await
            .expect("a reader");
        let records = reader.poll(10_000, Duration::ZERO).await.expect("records");
        publication.absorb(&records);
    }
    publication.tick(i64::MAX);
    publication.commit().await.expect("committed");
    let canonical = read_canonical(&log, &topics, 2).await;
    assert_eq!(
        (canonical.blocks.len(), canonical.gaps.len()),
        (history.blocks.len() - 1, 1)
    );
    let mut letters = log
        .reader(ReaderSpec {
            partitions: vec![(topics.dead_letters.clone(), 0, Start::Earliest)],
            read_committed: true,
        })
        .await
        .expect("a reader");
    let letters = letters.poll(10, Duration::ZERO).await.expect("letters");
    assert_eq!(letters.len(), 2);
    let reasons: Vec<String> = letters
        .iter()
        .map(|letter| {
            event_log::DeadLetter::decode(&letter.header)
                .expect("a dead letter")
                .reason
        })
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.starts_with("account record:")),
        "{reasons:?}"
    );
    assert!(
        reasons.iter().any(|reason| reason.contains("expected 62")),
        "{reasons:?}"
    );
}
