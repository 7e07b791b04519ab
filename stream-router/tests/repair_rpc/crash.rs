//! Repairs on the in-memory log, ended at random points: between the gap and the reply, between the block and its commit, and in
//! the middle of a commit. Nothing of a repair is kept anywhere but in the stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use event_log::{CommitFault, EventLog, MemoryLog, ReaderSpec, Start};
use event_schema::{
    Blockhash, CanonicalEvent, Commitment, ObservedTopic, Slot, SlotAssembler, SlotBlock,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    observation::Lane,
    publication::Publication,
    repair::{Hole, book::Book},
    router::{Effect, Mended},
};

use crate::{
    chain::History,
    history::{lose, rules},
    on_the_log::{new_record, settings},
    oracle::Chain,
    source::{Source, Written, interleave, signature},
};

/// What readers of the canonical topic end up with.
#[derive(Debug, Default)]
pub struct Canonical {
    pub blocks: BTreeMap<(Slot, Blockhash), Arc<SlotBlock>>,
    pub fates: BTreeMap<(Slot, Blockhash), Vec<Commitment>>,
    /// First and last slots, in the order of each partition.
    pub gaps: Vec<(u64, u64)>,
}

pub async fn read_canonical(log: &dyn EventLog) -> Canonical {
    let mut canonical = Canonical::default();
    let topic = settings().topics.canonical;
    for partition in 0..2 {
        let mut reader = log
            .reader(ReaderSpec {
                partitions: vec![(topic.clone(), partition, Start::Earliest)],
                read_committed: true,
            })
            .await
            .expect("a reader");
        let mut assembler = SlotAssembler::new();
        loop {
            let records = reader
                .poll(1_000, Duration::from_millis(10))
                .await
                .expect("records");
            let at_end = records.is_empty();
            for record in records {
                let event = assembler
                    .push(record.position.offset, &record.header, &record.value)
                    .expect("the topic's contract");
                match event {
                    Some(CanonicalEvent::Block(block)) => {
                        let key = (block.slot, block.blockhash);
                        assert!(
                            canonical.blocks.insert(key, block).is_none(),
                            "{key:?} twice"
                        );
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
                    Some(CanonicalEvent::Gap { gap, .. }) => {
                        canonical.gaps.push((gap.first_slot, gap.last_slot));
                    }
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

/// How a life goes.
struct Life<'a> {
    chain: &'a Chain,
    /// Everything that the log will ever hold is in it: time may pass.
    complete: bool,
    /// It comes to its end.
    last: bool,
}

impl Life<'_> {
    /// True when nothing is left to do.
    async fn run(&self, rng: &mut StdRng, log: &MemoryLog, clock: &mut i64) -> bool {
        let mut publication = Publication::open(log, settings()).await.expect("opens");
        let mut readers = BTreeMap::new();
        for topic in ObservedTopic::ALL {
            let spec = publication.reader_spec(topic);
            readers.insert(topic, log.reader(spec).await.expect("a reader"));
        }
        let mut book = Book::new(rules());
        for (first, last) in publication.told_holes() {
            book.want(Hole::new(publication.router(), first, last));
        }
        let (mut now_ms, mut idle, mut quiet) = (0, 0, 0);
        loop {
            let topic = ObservedTopic::ALL[rng.random_range(0..3)];
            let reader = readers.get_mut(&topic).expect("three readers");
            let polled = reader.poll(rng.random_range(1..80), Duration::ZERO).await;
            let records = polled.expect("records");
            idle = if records.is_empty() { idle + 1 } else { 0 };
            let effects = publication.absorb(&records);
            want(&mut book, &publication, &effects);
            if self.complete && idle > 30 {
                *clock += 20_000;
                let effects = publication.tick(*clock);
                want(&mut book, &publication, &effects);
                quiet += 1;
            }
            if !self.last && rng.random_bool(0.02) {
                return false;
            }
            now_ms += 7;
            if let Some(slot) = book.next(now_ms) {
                quiet = 0;
                self.mend(slot, &mut book, &mut publication, now_ms);
            }
            if rng.random_bool(0.3) {
                if !self.last && rng.random_bool(0.05) {
                    let crash = rng.random_bool(0.5);
                    log.fail_next_commit(if crash {
                        CommitFault::Crash
                    } else {
                        CommitFault::Abort
                    });
                }
                if publication.commit().await.is_err() {
                    return false;
                }
            }
            let done = if self.complete {
                quiet > 30 && book.wanted() == 0
            } else {
                idle > 30
            };
            if done {
                return publication.commit().await.is_ok();
            }
        }
    }

    fn mend(
        &self,
        slot: Slot,
        book: &mut Book<Box<stream_router::assembly::Block>>,
        publication: &mut Publication,
        now_ms: u64,
    ) {
        let Some(block) = self.chain.block(slot) else {
            assert!(!book.is_named(slot), "{slot} is skipped, but named");
            return book.done(slot);
        };
        let mut offers = vec![(slot, Box::new(block))];
        while let Some((slot, block)) = offers.pop() {
            let parent = block.parent.slot;
            let (mended, effects) = publication.mend(*block);
            want(book, publication, &effects);
            match mended {
                Mended::Published => {
                    book.linked(slot, parent);
                    offers.extend(book.offer_again());
                }
                Mended::Known => book.done(slot),
                Mended::Unlinked(block) => assert!(book.keep(slot, block, now_ms)),
                Mended::Refused(contradiction) => panic!("slot {slot}: {contradiction}"),
            }
        }
    }
}

fn want<B>(book: &mut Book<B>, publication: &Publication, effects: &[Effect]) {
    let holes = effects
        .iter()
        .filter_map(|effect| Hole::of(publication.router(), effect));
    for hole in holes {
        book.want(hole);
    }
}

async fn crash_run(seed: u64) -> usize {
    let rng = &mut StdRng::seed_from_u64(seed);
    let history = History::random(rng, 50, 1_000);
    let chain = Chain::of(&history);
    let mut source = Source::chunking(1, rng);
    source.observe(&history, |_| true);
    lose(rng, &history, &mut source, 0.1);
    let lanes: BTreeMap<Lane, Vec<Written>> = interleave(rng, &[&source]);
    let log = MemoryLog::new();
    let topics = settings().topics;
    // The first life only creates the topics.
    drop(Publication::open(&log, settings()).await.expect("opens"));
    let writer = log.writer().await.expect("a writer");
    let mut at: BTreeMap<Lane, usize> = BTreeMap::new();
    let mut clock = i64::MAX / 2;
    for round in 0..5 {
        for (lane, records) in &lanes {
            let from = *at.entry(*lane).or_default();
            let to = match round {
                4 => records.len(),
                _ => (from + rng.random_range(0..60)).min(records.len()),
            };
            at.insert(*lane, to);
            let batch = records[from..to]
                .iter()
                .map(|record| new_record(&topics, record));
            writer.append(batch.collect()).await.expect("appended");
        }
        let life = Life {
            chain: &chain,
            complete: false,
            last: false,
        };
        life.run(rng, &log, &mut clock).await;
    }
    let mut lives = 0;
    loop {
        let life = Life {
            chain: &chain,
            complete: true,
            last: lives >= 6,
        };
        if life.run(rng, &log, &mut clock).await && life.last {
            break;
        }
        lives += 1;
        assert!(lives < 30, "the last life comes to its end");
    }
    let canonical = read_canonical(&log).await;
    let mut fetched = 0;
    for block in chain.blocks() {
        let key = (block.id.slot, block.id.blockhash);
        let published = canonical.blocks.get(&key);
        let published = published.unwrap_or_else(|| panic!("{block:?} is lost"));
        assert_eq!(
            canonical.fates[&key],
            [Commitment::Confirmed, Commitment::Finalized],
            "{block:?}"
        );
        let signatures: Vec<Vec<u8>> = published
            .transactions
            .iter()
            .map(|transaction| transaction.signature.clone())
            .collect();
        let expected: Vec<Vec<u8>> = (0..block.transactions)
            .map(|index| signature(block, index))
            .collect();
        assert_eq!(signatures, expected, "{block:?}");
        if published.seal.repaired {
            fetched += 1;
            assert_eq!(published.seal.sources, ["rpc:node.example"]);
            assert_eq!((published.seal.accounts, published.seal.entries), (0, 0));
            let slot = block.id.slot.0;
            let mut gaps = canonical.gaps.iter();
            assert!(
                gaps.any(|(first, last)| (*first..=*last).contains(&slot)),
                "{slot} was repaired silently"
            );
        } else {
            assert_eq!(published.accounts.len() as u64, block.accounts);
        }
    }
    let on_chain: BTreeSet<_> = chain.blocks().map(|block| block.id).collect();
    for (slot, blockhash) in canonical.blocks.keys() {
        let on_chain = on_chain
            .iter()
            .any(|id| (id.slot, id.blockhash) == (*slot, *blockhash));
        let fate = canonical
            .fates
            .get(&(*slot, *blockhash))
            .and_then(|f| f.last());
        assert_eq!(fate == Some(&Commitment::Abandoned), !on_chain, "{slot}");
    }
    fetched
}

#[tokio::test]
async fn a_repair_that_a_crash_cut_short_is_done_by_the_next_life() {
    let seeds: Vec<u64> = match std::env::var("ROUTER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROUTER_SEED is a number")],
        Err(_) => (0..8).collect(),
    };
    let mut fetched = 0;
    for seed in seeds {
        println!("seed {seed} (replay with ROUTER_SEED={seed})");
        fetched += crash_run(seed).await;
    }
    assert!(fetched > 0, "something was repaired");
}
