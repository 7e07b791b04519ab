//! The pure part: random histories whose blocks are lost in parts and as a whole, repaired from a node that knows the chain.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::{Kind, Slot};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    commitment::Standing,
    dedup::EventId,
    observation::{self, Lane, Place},
    repair::{
        Hole,
        book::{Book, Rules},
    },
    router::{Contradiction, Effect, Limits, Mended, Router},
    slot_tree::BlockId,
};

use crate::{
    chain::{History, TrueBlock},
    oracle::Chain,
    source::{Source, Written, interleave, signature},
};

const CONCURRENCY: usize = 3;

pub fn rules() -> Rules {
    Rules {
        concurrency: CONCURRENCY,
        backoff_ms: 10,
        backoff_max_ms: 100,
        deadline_ms: 100_000,
        slots_max: 10_000,
    }
}

/// What readers were told, checked as it came.
#[derive(Debug, Default)]
struct Readers {
    blocks: BTreeMap<BlockId, Vec<EventId>>,
    fetched: BTreeSet<BlockId>,
    standings: BTreeMap<BlockId, Vec<Standing>>,
    /// First and last slots.
    gaps: Vec<(u64, u64)>,
    parent_gaps: Vec<(u64, u64)>,
    late: usize,
    holes: Vec<Hole>,
}

impl Readers {
    fn take(&mut self, router: &Router, effects: Vec<Effect>) {
        for effect in effects {
            self.holes.extend(Hole::of(router, &effect));
            match effect {
                Effect::Publish(block) => {
                    if block.fetched_from.is_some() {
                        self.fetched.insert(block.id);
                        assert!(
                            self.is_told(block.id.slot),
                            "{:?} came without a gap",
                            block.id
                        );
                    }
                    let events = block.contents.iter().map(|content| content.id).collect();
                    assert!(
                        self.blocks.insert(block.id, events).is_none(),
                        "{:?} was published twice",
                        block.id
                    );
                }
                Effect::Standing(change) => {
                    assert!(
                        self.blocks.contains_key(&change.block),
                        "{change:?} before its block"
                    );
                    let standings = self.standings.entry(change.block).or_default();
                    standings.push(change.standing);
                }
                Effect::Gap(gap) => self.gaps.push((gap.first_slot, gap.last_slot)),
                Effect::ParentGap { gap, .. } => {
                    self.parent_gaps.push((gap.first_slot, gap.last_slot));
                }
                Effect::Late { .. } => self.late += 1,
                _ => {}
            }
        }
    }

    fn is_told(&self, slot: Slot) -> bool {
        let mut all = self.gaps.iter().chain(&self.parent_gaps);
        all.any(|(first, last)| (*first..=*last).contains(&slot.0))
    }
}

/// Delivers all records in a random order between partitions, then lets time pass.
fn deliver(
    rng: &mut StdRng,
    router: &mut Router,
    lanes: &BTreeMap<Lane, Vec<Written>>,
    readers: &mut Readers,
    clock: &mut i64,
) {
    let mut at: BTreeMap<Lane, usize> = lanes.keys().map(|lane| (*lane, 0)).collect();
    loop {
        let open: Vec<Lane> = at
            .iter()
            .filter(|(lane, at)| **at < lanes[lane].len())
            .map(|(lane, _)| *lane)
            .collect();
        if open.is_empty() {
            break;
        }
        let lane = open[rng.random_range(0..open.len())];
        let offset = at[&lane];
        at.insert(lane, offset + 1);
        let record = &lanes[&lane][offset];
        let place = Place {
            lane,
            offset: offset as i64,
            timestamp_ms: *clock,
        };
        let (observation, _) = observation::read(place, &record.header, &record.value);
        let mut effects = Vec::new();
        router.observe(observation.expect("a good header"), &mut effects);
        readers.take(router, effects);
    }
    pass(router, readers, clock);
}

fn pass(router: &mut Router, readers: &mut Readers, clock: &mut i64) {
    for step in [200, 2_000, 20_000, 90_000] {
        *clock += step;
        let mut effects = Vec::new();
        router.tick(*clock, &mut effects);
        readers.take(router, effects);
    }
}

/// Asks for every hole until nothing is wanted; replies come in any order, and some only at a later try.
fn repair(
    rng: &mut StdRng,
    router: &mut Router,
    readers: &mut Readers,
    chain: &Chain,
    clock: &mut i64,
) {
    let mut book = Book::new(rules());
    let mut now_ms = 0;
    let mut asking: Vec<(Slot, Option<_>)> = Vec::new();
    loop {
        for hole in readers.holes.drain(..) {
            book.want(hole);
        }
        while let Some(slot) = book.next(now_ms) {
            asking.push((slot, None));
        }
        if asking.is_empty() {
            match book.due_ms() {
                Some(due) => now_ms = due,
                None => {
                    let before = readers.holes.len();
                    pass(router, readers, clock);
                    if readers.holes.len() == before {
                        break;
                    }
                }
            }
            continue;
        }
        let (slot, held) = asking.swap_remove(rng.random_range(0..asking.len()));
        if held.is_none() && rng.random_bool(0.2) {
            assert!(book.put_off(slot, now_ms), "there is time enough");
            continue;
        }
        let Some(block) = held.or_else(|| chain.block(slot).map(Box::new)) else {
            assert!(!book.is_named(slot), "{slot} is skipped, but named");
            book.done(slot);
            continue;
        };
        let parent = block.parent.slot;
        let mut effects = Vec::new();
        let mended = router.mend(*block, &mut effects);
        readers.take(router, effects);
        match mended {
            Mended::Published => {
                book.linked(slot, parent);
                let again = book.offer_again().into_iter();
                asking.extend(again.map(|(slot, block)| (slot, Some(block))));
            }
            Mended::Known => book.done(slot),
            Mended::Unlinked(block) => assert!(book.keep(slot, block, now_ms)),
            Mended::Refused(contradiction) => panic!("slot {slot}: {contradiction}"),
        }
        if rng.random_bool(0.1) {
            *clock += 5_000;
            let mut effects = Vec::new();
            router.tick(*clock, &mut effects);
            readers.take(router, effects);
        }
    }
    assert_eq!(book.wanted(), 0);
}

/// Blocks of which everything, or something, never reached the log; never the chain's first and last.
pub fn lose(rng: &mut StdRng, history: &History, source: &mut Source, loss: f64) {
    let chain = Chain::of(history);
    let (first, last) = (
        chain.blocks().next().expect("a chain").id.slot,
        chain.blocks().next_back().expect("a chain").id.slot,
    );
    let mut gone = BTreeSet::new();
    let mut torn = BTreeSet::new();
    for slot in first.0 + 1..last.0 {
        if rng.random_bool(loss) {
            let length = rng.random_range(1..5);
            gone.extend(slot..(slot + length).min(last.0));
        }
        if rng.random_bool(loss) {
            torn.insert(slot);
        }
    }
    let mut tear = StdRng::seed_from_u64(rng.random());
    source.written.retain(|record| {
        let slot = record.slot.0;
        let kept = !torn.contains(&slot)
            || matches!(record.kind, Kind::Slot | Kind::Seal)
            || tear.random_bool(0.5);
        !gone.contains(&slot) && kept
    });
}

fn assert_fetched(readers: &Readers, block: &TrueBlock) {
    let events = &readers.blocks[&block.id];
    let mut expected: Vec<EventId> = (0..block.transactions)
        .map(|index| {
            let signature = signature(block, index);
            EventId::Transaction(index, signature.as_slice().try_into().expect("64 bytes"))
        })
        .collect();
    expected.push(EventId::BlockMeta);
    assert_eq!(events, &expected, "{block:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_chain_is_whole_in_the_end(seed: u64, loss in 0.0f64..0.25, two_sources: bool) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 50, 1_000);
        let chain = Chain::of(&history);
        let mut sources: Vec<Source> = (0..1 + u64::from(two_sources)).map(|number| Source::chunking(number + 1, rng)).collect();
        for source in &mut sources {
            source.observe(&history, |_| true);
            lose(rng, &history, source, loss);
        }
        let lanes = interleave(rng, &sources.iter().collect::<Vec<_>>());
        let limits = Limits { gap_after_ms: 1_000, settle_ms: 100, ..Limits::default() };
        let mut router = Router::new(limits);
        let (mut readers, mut clock) = (Readers::default(), 0);
        deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
        let before: BTreeSet<BlockId> = readers.blocks.keys().copied().collect();
        repair(rng, &mut router, &mut readers, &chain, &mut clock);

        for block in chain.blocks() {
            prop_assert!(readers.blocks.contains_key(&block.id), "{:?} is still missing", block);
            prop_assert_eq!(&readers.standings[&block.id], &[Standing::Confirmed, Standing::Finalized], "{:?}", block);
            prop_assert_eq!(readers.fetched.contains(&block.id), !before.contains(&block.id), "{:?}", block);
            if readers.fetched.contains(&block.id) {
                assert_fetched(&readers, block);
            }
        }
        for (block, standings) in &readers.standings {
            let on_chain = chain.at(block.slot).is_some_and(|known| known.id == *block);
            prop_assert!(on_chain || standings == &[Standing::Abandoned], "{:?}: {:?}", block, standings);
        }
        prop_assert_eq!(router.totals().fetched, readers.fetched.len() as u64);
        // A hole below finalized blocks is told once, however it is filled.
        let mut told = BTreeSet::new();
        for slot in readers.parent_gaps.iter().flat_map(|(first, last)| *first..=*last) {
            prop_assert!(told.insert(slot), "slot {} is told twice: {:?}", slot, readers.parent_gaps);
        }

        // Everything that was lost comes after all, from a third source: copies, and no more.
        let (published, gaps) = (readers.blocks.len(), (readers.gaps.clone(), readers.parent_gaps.clone()));
        let on_chain: BTreeSet<BlockId> = chain.blocks().map(|block| block.id).collect();
        let mut late = Source::new(9);
        late.observe(&history, |block| on_chain.contains(&block.id));
        let lanes = interleave(rng, &[&late]);
        deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
        prop_assert_eq!(readers.blocks.len(), published);
        prop_assert_eq!((readers.gaps, readers.parent_gaps), gaps);
        prop_assert_eq!((readers.late, router.open_slots()), (0, 0));
    }
}

/// A chain of four blocks of which the third is lost, and the router that misses it.
fn missing_third() -> (Chain, Vec<TrueBlock>, Source, Router, Readers, i64) {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut parent = BlockId::new(Slot(99), crate::chain::blockhash(99, 0));
    let blocks: Vec<TrueBlock> = (100..104)
        .map(|slot| {
            let id = BlockId::new(Slot(slot), crate::chain::blockhash(slot, 0));
            TrueBlock {
                id,
                parent: std::mem::replace(&mut parent, id),
                on_chain: true,
                accounts: 2,
                transactions: 3,
                entries: 1,
            }
        })
        .collect();
    let history = History {
        blocks: blocks.clone(),
    };
    let mut source = Source::new(1);
    source.observe(&history, |_| true);
    let mut whole = Source::new(1);
    whole.written = source.written.clone();
    source.written.retain(|record| record.slot != Slot(102));
    let lanes = interleave(rng, &[&source]);
    let mut router = Router::new(Limits {
        gap_after_ms: 1_000,
        settle_ms: 100,
        ..Limits::default()
    });
    let (mut readers, mut clock) = (Readers::default(), 0);
    deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
    assert_eq!(readers.parent_gaps, [(102, 102)]);
    (Chain::of(&history), blocks, whole, router, readers, clock)
}

#[test]
fn a_block_that_contradicts_the_chain_is_refused() {
    let (chain, blocks, _, mut router, _, _) = missing_third();
    let other = |slot: u64| BlockId::new(Slot(slot), crate::chain::blockhash(slot, 7));
    let offer = |router: &mut Router, id: BlockId, parent: BlockId| {
        let mut block = chain.block(Slot(102)).expect("it is there");
        (block.id, block.parent) = (id, parent);
        let mut out = Vec::new();
        let mended = router.mend(block, &mut out);
        assert!(out.is_empty(), "{out:?}");
        mended
    };
    let (second, third) = (blocks[1].id, blocks[2].id);
    for (id, parent, expected) in [
        (other(102), second, Contradiction::Rival(third)),
        (third, other(101), Contradiction::ParentRival(second)),
        (third, blocks[0].id, Contradiction::Between(second)),
        (third, third, Contradiction::ParentNotBelow(Slot(102))),
        (other(101), blocks[0].id, Contradiction::Rival(second)),
    ] {
        let mended = offer(&mut router, id, parent);
        assert!(
            matches!(&mended, Mended::Refused(got) if *got == expected),
            "{id:?} on {parent:?}: {mended:?}"
        );
    }
    let mended = offer(&mut router, other(500), other(499));
    assert!(matches!(mended, Mended::Unlinked(_)), "{mended:?}");
    let mended = offer(&mut router, second, blocks[0].id);
    assert!(matches!(mended, Mended::Known), "{mended:?}");
}

#[test]
fn the_lost_records_of_a_repaired_block_are_copies_when_they_come_after_all() {
    let (chain, blocks, whole, mut router, mut readers, mut clock) = missing_third();
    let rng = &mut StdRng::seed_from_u64(1);
    repair(rng, &mut router, &mut readers, &chain, &mut clock);
    assert!(readers.fetched.contains(&blocks[2].id));
    let gaps = readers.gaps.clone();
    let lanes = interleave(rng, &[&whole]);
    deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
    assert_eq!(readers.blocks.len(), 4);
    assert_eq!((readers.gaps, readers.late), (gaps, 0));
    assert_eq!(router.open_slots(), 0);
}

#[test]
fn of_a_torn_block_what_the_node_gave_is_a_copy_and_what_it_lacks_is_kept() {
    let (_, blocks, whole, _, _, _) = missing_third();
    let history = History {
        blocks: blocks.clone(),
    };
    let chain = Chain::of(&history);
    let is_lost = |record: &Written| {
        record.slot == Slot(102) && matches!(record.kind, Kind::Transaction | Kind::Account)
    };
    let mut torn = Source::new(1);
    torn.written = whole.written.clone();
    torn.written.retain(|record| !is_lost(record));
    let rng = &mut StdRng::seed_from_u64(1);
    let mut router = Router::new(Limits {
        gap_after_ms: 1_000,
        settle_ms: 100,
        ..Limits::default()
    });
    let (mut readers, mut clock) = (Readers::default(), 0);
    let lanes = interleave(rng, &[&torn]);
    deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
    assert_eq!(readers.gaps, [(102, 102)]);
    repair(rng, &mut router, &mut readers, &chain, &mut clock);
    assert!(readers.fetched.contains(&blocks[2].id));
    // They come out of order, as from a producer that lost and found them.
    let mut lost = Source::new(1);
    lost.written = whole
        .written
        .iter()
        .filter(|record| is_lost(record))
        .cloned()
        .collect();
    let duplicates = router.totals().duplicates;
    let lanes = interleave(rng, &[&lost]);
    deliver(rng, &mut router, &lanes, &mut readers, &mut clock);
    assert_eq!(router.totals().duplicates - duplicates, 3, "transactions");
    assert_eq!(readers.late, 2, "account updates");
    assert_eq!((readers.blocks.len(), readers.gaps.len()), (4, 1));
}
