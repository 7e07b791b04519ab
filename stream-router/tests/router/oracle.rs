//! The pure core against histories: any order between partitions, several sources, lost and repeated records.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::{Kind, ObservedTopic, Seal, Slot, proto::Message as _};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    commitment::Standing,
    dedup::EventId,
    observation::{self, Lane, Place},
    router::{Effect, Limits, Router},
    slot_tree::BlockId,
};

use crate::chain::{History, TrueBlock, blockhash};
use crate::source::{Source, Written, interleave};

/// Everything a run told, checked for order as it came.
#[derive(Debug, Default)]
pub struct Told {
    pub blocks: BTreeMap<BlockId, Vec<EventId>>,
    /// Blocks that were published from several sources.
    pub repaired: BTreeSet<BlockId>,
    pub standings: BTreeMap<BlockId, Vec<Standing>>,
    pub gaps: Vec<(Slot, u64, String)>,
    /// First and last slot of holes below finalized blocks.
    pub parent_gaps: Vec<(u64, u64)>,
    pub late: usize,
}

impl Told {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => {
                    if !block.repaired_from.is_empty() {
                        self.repaired.insert(block.id);
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
                    self.standings
                        .entry(change.block)
                        .or_default()
                        .push(change.standing);
                }
                Effect::ParentGap { gap, .. } => {
                    self.parent_gaps.push((gap.first_slot, gap.last_slot));
                }
                Effect::Gap(gap) => {
                    self.gaps
                        .push((Slot(gap.first_slot), gap.records, gap.detail));
                }
                Effect::Late { .. } => self.late += 1,
                _ => {}
            }
        }
    }

    fn last_standing(&self, block: BlockId) -> Standing {
        self.standings
            .get(&block)
            .and_then(|standings| standings.last())
            .copied()
            .unwrap_or_default()
    }
}

pub fn limits() -> Limits {
    Limits {
        gap_after_ms: 1_000,
        settle_ms: 100,
        ..Limits::default()
    }
}

/// Delivers the lanes in a random interleaving, sometimes one lane far ahead of the others.
pub fn deliver(
    rng: &mut StdRng,
    router: &mut Router,
    lanes: &BTreeMap<Lane, Vec<Written>>,
    told: &mut Told,
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
        for _ in 0..rng.random_range(1..200) {
            let offset = at[&lane];
            let Some(record) = lanes[&lane].get(offset) else {
                break;
            };
            at.insert(lane, offset + 1);
            let place = Place {
                lane,
                offset: offset as i64,
                timestamp_ms: 0,
            };
            let (observation, poison) = observation::read(place, &record.header, &record.value);
            assert_eq!(poison, None);
            let mut effects = Vec::new();
            router.observe(observation.expect("a good header"), &mut effects);
            told.take(effects);
        }
        // Time stands still while partitions lag: no tick may conclude anything.
        let mut effects = Vec::new();
        router.tick(0, &mut effects);
        told.take(effects);
    }
    for log_ms in [200, 2_000, 20_000, 90_000] {
        let mut effects = Vec::new();
        router.tick(log_ms, &mut effects);
        told.take(effects);
    }
}

pub fn assert_content(told: &Told, block: &TrueBlock) {
    let events = &told.blocks[&block.id];
    assert!(
        events.windows(2).all(|pair| pair[0] < pair[1]),
        "canonical order"
    );
    let count =
        |kind: fn(&EventId) -> bool| events.iter().filter(|event| kind(event)).count() as u64;
    assert_eq!(
        count(|event| matches!(event, EventId::Account(..))),
        block.accounts
    );
    assert_eq!(
        count(|event| matches!(event, EventId::Transaction(..))),
        block.transactions
    );
    assert_eq!(
        count(|event| matches!(event, EventId::Entry(_))),
        block.entries
    );
    assert_eq!(events.last(), Some(&EventId::BlockMeta));
}

pub fn assert_standings(told: &Told, history: &History, published: &BTreeSet<BlockId>) {
    for block in &history.blocks {
        if !published.contains(&block.id) {
            continue;
        }
        let standings = told.standings.get(&block.id).cloned().unwrap_or_default();
        let expected: &[Standing] = if block.on_chain {
            &[Standing::Confirmed, Standing::Finalized]
        } else {
            &[Standing::Abandoned]
        };
        assert_eq!(standings, expected, "{block:?}");
    }
}

/// Which sources hold which blocks: the first holds the chain, the others may hold a rival.
fn sources(rng: &mut StdRng, history: &History, count: u64) -> Vec<Source> {
    (0..count)
        .map(|number| {
            let mut source = Source::chunking(number + 1, rng);
            let mut rng = StdRng::seed_from_u64(rng.random());
            source.observe(history, |block| {
                number == 0 || !block.on_chain || rng.random_bool(0.8)
            });
            source
        })
        .collect()
}

fn held_blocks(sources: &[Source]) -> BTreeSet<BlockId> {
    sources
        .iter()
        .flat_map(|source| source.held.iter().copied())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Forks, rivals, several sources with skew and their own write versions, partitions read in any order.
    #[test]
    fn every_block_once_whole_and_rightly_judged(seed: u64, source_count in 1u64..4) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 40, 1_000);
        let sources = sources(rng, &history, source_count);
        let lanes = interleave(rng, &sources.iter().collect::<Vec<_>>());
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);

        let expected = held_blocks(&sources);
        prop_assert_eq!(told.blocks.keys().copied().collect::<BTreeSet<_>>(), expected.clone());
        for block in history.blocks.iter().filter(|block| expected.contains(&block.id)) {
            assert_content(&told, block);
        }
        assert_standings(&told, &history, &expected);
        prop_assert_eq!(&told.gaps, &Vec::new());
        prop_assert_eq!(&told.parent_gaps, &Vec::new());
        prop_assert_eq!(told.late, 0);
        prop_assert_eq!(router.open_slots(), 0, "nothing is left open");
        prop_assert_eq!(router.open_bytes(), 0);
        prop_assert!(router.low_watermarks().is_empty());
    }

    /// Recorded blocks from scattered slots, from two sources one after the other or at once.
    #[test]
    fn scattered_slots_from_two_sources(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::sparse(rng, 12);
        let sources = sources(rng, &history, 2);
        // Two of them may happen to lie close together.
        let mut router = Router::new(Limits { gap_slots: 0, ..limits() });
        let mut told = Told::default();
        if rng.random_bool(0.5) {
            let lanes = interleave(rng, &sources.iter().collect::<Vec<_>>());
            deliver(rng, &mut router, &lanes, &mut told);
        } else {
            for source in &sources {
                let lanes = interleave(rng, &[source]);
                deliver(rng, &mut router, &lanes, &mut told);
            }
        }
        prop_assert_eq!(told.blocks.len(), history.blocks.len());
        for block in &history.blocks {
            assert_content(&told, block);
            prop_assert_eq!(told.last_standing(block.id), Standing::Finalized);
        }
        prop_assert_eq!(&told.gaps, &Vec::new());
        prop_assert_eq!(router.open_slots(), 0);
    }

    /// A lost record of the only source: its block is a gap with the exact extent, and never published.
    #[test]
    fn a_lost_record_is_a_gap(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 30, 5_000);
        let mut source = Source::chunking(1, rng);
        source.observe(&history, |_| true);
        let contents: Vec<usize> = source.written.iter().enumerate()
            .filter(|(_, record)| matches!(record.kind, Kind::Account | Kind::Transaction | Kind::Entry | Kind::BlockMeta | Kind::Chunk))
            .map(|(index, _)| index)
            .collect();
        let lost = source.written.remove(contents[rng.random_range(0..contents.len())]);
        let lanes = interleave(rng, &[&source]);
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);

        prop_assert_eq!(told.gaps.len(), 1, "{:?}", told.gaps);
        let (slot, records, detail) = &told.gaps[0];
        prop_assert_eq!((*slot, *records), (lost.slot, 1));
        let sequence = event_schema::ObservedHeader::decode(&lost.header).unwrap().sequence;
        prop_assert!(detail.contains(&format!("missing sequences {sequence}")), "{detail}");
        prop_assert!(!told.blocks.keys().any(|block| block.slot == lost.slot));
        let held: BTreeSet<Slot> = source.written.iter().map(|record| record.slot).collect();
        prop_assert_eq!(told.blocks.len(), held.len() - 1);
    }

    /// A source that was away: blocks of which no record exists are in a gap, whatever else is there, and only those.
    #[test]
    fn blocks_of_which_nothing_is_left_are_a_gap(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 60, 5_000);
        let mut source = Source::new(1);
        source.observe(&history, |_| true);
        let away: BTreeSet<u64> = (0..3)
            .flat_map(|_| {
                let first = rng.random_range(5_000..5_055u64);
                first..first + rng.random_range(1..8)
            })
            .collect();
        source.written.retain(|record| !away.contains(&record.slot.0));
        let lanes = interleave(rng, &[&source]);
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);
        prop_assert_eq!(&told.gaps, &Vec::new());
        let chain: Vec<&TrueBlock> = history.blocks.iter().filter(|block| block.on_chain).collect();
        let seen = || chain.iter().map(|block| block.id.slot.0).filter(|slot| !away.contains(slot));
        // Only what lies between the first block of any fork and the last of the chain can be known to be missing.
        let first = told.blocks.keys().next().unwrap().slot.0;
        let last = seen().max().unwrap();
        let in_gap = |slot: u64| told.parent_gaps.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        for block in &chain {
            let slot = block.id.slot.0;
            let missing = away.contains(&slot) && (first..last).contains(&slot);
            prop_assert_eq!(in_gap(slot), missing, "slot {}", slot);
        }
        for slot in told.parent_gaps.iter().flat_map(|(first, last)| *first..=*last) {
            prop_assert!(!told.blocks.keys().any(|block| block.slot.0 == slot && told.last_standing(*block) == Standing::Finalized));
        }
        prop_assert_eq!(router.open_slots(), 0);
    }

    /// The same loss, but another source has the block: no gap.
    #[test]
    fn another_source_fills_the_hole(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 30, 5_000);
        let (mut one, mut two) = (Source::chunking(1, rng), Source::chunking(2, rng));
        one.observe(&history, |_| true);
        two.observe(&history, |_| true);
        let expected = held_blocks(std::slice::from_ref(&two));
        // Both lose records, of different slots.
        let parity = rng.random_range(0..2);
        for (source, parity) in [(&mut one, parity), (&mut two, 1 - parity)] {
            source.written.retain(|record| {
                matches!(record.kind, Kind::Slot | Kind::Seal) || record.slot.0 % 2 == parity || rng.random_bool(0.8)
            });
        }
        let lanes = interleave(rng, &[&one, &two]);
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);
        prop_assert_eq!(told.blocks.keys().copied().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(&told.gaps, &Vec::new());
        prop_assert_eq!(router.open_slots(), 0);
    }

    /// A source that was loaded while a slot was executed says so in its seals: its counts agree, and yet it is not whole.
    #[test]
    fn a_source_that_began_in_the_middle_has_no_whole_slot(seed: u64, two_sources: bool) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 30, 5_000);
        let (mut one, mut two) = (Source::chunking(1, rng), Source::chunking(2, rng));
        one.observe(&history, |_| true);
        two.observe(&history, |_| true);
        let held: Vec<BlockId> = held_blocks(std::slice::from_ref(&one)).into_iter().collect();
        let begun = held[rng.random_range(0..held.len())];
        for record in &mut one.written {
            if record.kind == Kind::Seal && record.slot == begun.slot {
                let mut seal = Seal::decode(record.value.clone()).unwrap();
                seal.partial = true;
                record.value = seal.encode_to_vec().into();
            }
        }
        let sources: &[&Source] = if two_sources { &[&one, &two] } else { &[&one] };
        let lanes = interleave(rng, sources);
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);
        let published: BTreeSet<BlockId> = told.blocks.keys().copied().collect();
        let expected: BTreeSet<BlockId> =
            held.into_iter().filter(|block| two_sources || block.slot != begun.slot).collect();
        prop_assert_eq!(published, expected);
        prop_assert_eq!(told.gaps.len(), usize::from(!two_sources));
        for (slot, _, detail) in &told.gaps {
            prop_assert_eq!(*slot, begun.slot);
            prop_assert!(detail.contains("loaded while the slot was executed"), "{detail}");
        }
    }

    /// A slot that is executed again, and again: its block is the last execution's, whatever the first ones left, in whatever
    /// order partitions are read.
    #[test]
    fn a_slot_executed_again_is_its_last_execution(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 20, 2_000);
        let mut source = Source::chunking(1, rng);
        let mut expected = BTreeSet::new();
        for block in history.blocks.iter().filter(|block| block.on_chain) {
            for attempt in 0..rng.random_range(0..3u8) {
                source.attempt(&TrueBlock {
                    id: BlockId::new(block.id.slot, blockhash(block.id.slot.0, 100 + attempt)),
                    accounts: rng.random_range(0..8),
                    transactions: rng.random_range(0..6),
                    entries: rng.random_range(0..5),
                    ..block.clone()
                });
            }
            source.block(block);
            expected.insert(block.id);
        }
        let lanes = interleave(rng, &[&source]);
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);
        prop_assert_eq!(told.blocks.keys().copied().collect::<BTreeSet<_>>(), expected);
        for block in history.blocks.iter().filter(|block| block.on_chain) {
            let events = &told.blocks[&block.id];
            prop_assert_eq!(events.len() as u64, block.accounts + block.transactions + block.entries + 1);
            assert_content(&told, block);
        }
        prop_assert_eq!(&told.gaps, &Vec::new());
    }

    /// Records that are read again (a producer that resent, a reader that moved back) change nothing.
    #[test]
    fn repetitions_change_nothing(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 20, 300);
        let mut source = Source::chunking(1, rng);
        source.observe(&history, |_| true);
        let mut lanes = interleave(rng, &[&source]);
        for records in lanes.values_mut() {
            for _ in 0..5 {
                let from = rng.random_range(0..records.len());
                let again: Vec<Written> = records[from..].iter().take(7).cloned().collect();
                let at = rng.random_range((from + again.len()).min(records.len())..=records.len());
                records.splice(at..at, again);
            }
        }
        let mut router = Router::new(limits());
        let mut told = Told::default();
        deliver(rng, &mut router, &lanes, &mut told);
        prop_assert_eq!(told.blocks.keys().copied().collect::<BTreeSet<_>>(), held_blocks(&[source]));
        prop_assert_eq!(&told.gaps, &Vec::new());
        prop_assert!(router.totals().duplicates > 0);
    }
}

fn run_one(source: &Source) -> (Router, Told) {
    let rng = &mut StdRng::seed_from_u64(1);
    let lanes = interleave(rng, &[source]);
    let mut router = Router::new(limits());
    let mut told = Told::default();
    deliver(rng, &mut router, &lanes, &mut told);
    (router, told)
}

fn one_block() -> TrueBlock {
    History::sparse(&mut StdRng::seed_from_u64(3), 1).blocks[0].clone()
}

#[test]
fn an_update_after_the_seal_belongs_to_the_block_while_it_is_open() {
    let block = TrueBlock {
        accounts: 2,
        transactions: 1,
        entries: 1,
        ..one_block()
    };
    let mut source = Source::new(1);
    source.block(&block);
    // The validator has not yet said that the slot is processed: the plugin amends the seal.
    let processed = source.written.pop().unwrap();
    assert_eq!(processed.kind, Kind::Slot);
    source.late_account(&block);
    let (_, told) = run_one(&source);
    assert_content(
        &told,
        &TrueBlock {
            accounts: 3,
            ..block
        },
    );
    assert_eq!(told.late, 0);
}

#[test]
fn an_update_after_publication_is_kept_as_a_dead_letter() {
    let block = TrueBlock {
        accounts: 2,
        transactions: 1,
        entries: 1,
        ..one_block()
    };
    let mut source = Source::new(1);
    source.block(&block);
    let mut router = Router::new(limits());
    let mut told = Told::default();
    let rng = &mut StdRng::seed_from_u64(1);
    let lanes = interleave(rng, &[&source]);
    deliver(rng, &mut router, &lanes, &mut told);
    assert_eq!(told.blocks.len(), 1);
    source.written.clear();
    source.late_account(&block);
    let lanes = interleave(rng, &[&source]);
    deliver(rng, &mut router, &lanes, &mut told);
    assert_eq!((told.blocks.len(), told.late), (1, 1));
    assert_eq!(router.open_slots(), 0);
}

#[test]
fn a_slot_known_only_by_statuses_is_no_gap() {
    let block = TrueBlock {
        accounts: 1,
        transactions: 1,
        entries: 1,
        ..one_block()
    };
    let slot = block.id.slot;
    let mut source = Source::new(1);
    // Loaded in the middle: the chain below is known only because it is rooted later.
    for below in (1..5).rev() {
        source.status(
            Slot(slot.0 - below),
            Some(Slot(slot.0 - below - 1)),
            event_schema::proto::geyser::SlotStatus::SlotFinalized,
        );
    }
    source.block(&block);
    let (router, told) = run_one(&source);
    assert_eq!((told.blocks.len(), told.gaps.len()), (1, 0));
    assert_eq!(router.totals().forgotten, 4);
}

#[test]
fn a_whole_slot_that_vanished_is_a_gap_once_it_is_rooted() {
    let rng = &mut StdRng::seed_from_u64(11);
    let history = History::random(rng, 12, 100);
    let mut source = Source::new(1);
    source.observe(&history, |_| true);
    let chain: Vec<&TrueBlock> = history
        .blocks
        .iter()
        .filter(|block| block.on_chain)
        .collect();
    let victim = chain[chain.len() / 2].id.slot;
    source
        .written
        .retain(|record| record.slot != victim || record.kind == Kind::Slot);
    let (_, told) = run_one(&source);
    assert_eq!(told.gaps.len(), 1, "{:?}", told.gaps);
    assert_eq!(told.gaps[0].0, victim);
}

#[test]
fn open_slots_never_hold_more_than_their_budget() {
    let rng = &mut StdRng::seed_from_u64(5);
    let history = History::random(rng, 60, 100);
    let mut source = Source::new(1);
    source.observe(&history, |_| true);
    // Without the slots topic nothing completes.
    source
        .written
        .retain(|record| record.lane.topic != ObservedTopic::Slots);
    let lanes = interleave(rng, &[&source]);
    let mut router = Router::new(Limits {
        open_bytes: 4_000,
        ..limits()
    });
    let mut told = Told::default();
    deliver(rng, &mut router, &lanes, &mut told);
    assert!(router.open_bytes() <= 4_000);
    assert!(
        told.gaps.iter().any(|gap| gap.2.contains("memory")),
        "{:?}",
        told.gaps
    );
}
