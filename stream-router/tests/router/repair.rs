//! Holes of one source filled from another: published exactly when the sources together prove the block whole.

use std::collections::BTreeSet;

use event_schema::{
    Kind, ObservedTopic, Slot,
    proto::{
        Message,
        geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{observation::Lane, router::Router, slot_tree::BlockId};

use crate::{
    chain::{History, TrueBlock},
    oracle::{Told, assert_content, assert_standings, deliver, limits},
    source::{Source, Written, interleave},
};

/// A source as the log shows it.
struct Half<'a> {
    source: &'a Source,
    /// Of its values, which are in the log with every record.
    kept: Vec<bool>,
}

impl<'a> Half<'a> {
    /// `written`: everything the source wrote, before records were lost from the log.
    fn new(source: &'a Source, written: &[Written]) -> Self {
        let records = |records: &[Written], value| {
            let of_value = records.iter().filter(|record| record.of == Some(value));
            of_value.count()
        };
        let kept = (0..source.values.len())
            .map(|value| {
                let due = records(written, value);
                due > 0 && records(&source.written, value) == due
            })
            .collect();
        Self { source, kept }
    }

    /// Of the block's values of the kind, in their order, which are here.
    fn of(&self, block: BlockId, kind: Kind) -> Vec<bool> {
        let values = self.source.values.iter().zip(&self.kept);
        values
            .filter(|(value, _)| (value.block, value.kind) == (block, kind))
            .map(|(_, kept)| *kept)
            .collect()
    }

    fn knows(&self, block: BlockId) -> bool {
        self.of(block, Kind::BlockMeta) == [true]
    }

    fn has_whole(&self, block: BlockId) -> bool {
        let values = self.source.values.iter().zip(&self.kept);
        let mut own = values.filter(|(value, _)| value.block == block).peekable();
        own.peek().is_some() && own.all(|(_, kept)| *kept)
    }

    fn account_lanes(&self, block: BlockId) -> BTreeSet<Lane> {
        let values = self.source.values.iter();
        values
            .filter(|value| (value.block, value.kind) == (block, Kind::Account))
            .map(|value| value.lane)
            .collect()
    }

    fn has_lane(&self, block: BlockId, lane: Lane) -> bool {
        let values = self.source.values.iter().zip(&self.kept);
        values
            .filter(|(value, _)| (value.block, value.lane) == (block, lane))
            .all(|(_, kept)| *kept)
    }

    /// Records and losses that it sealed there.
    fn sealed(&self, block: BlockId, lane: Lane) -> (u64, u64) {
        self.source
            .sealed
            .get(&(block, lane))
            .map_or((0, 0), |share| (share.records, share.lost))
    }

    fn accounts_are_there(&self, block: BlockId, halves: &[&Half<'_>]) -> bool {
        self.account_lanes(block).into_iter().all(|lane| {
            let (records, lost) = self.sealed(block, lane);
            self.has_lane(block, lane)
                || halves.iter().any(|other| {
                    other.has_lane(block, lane) && other.sealed(block, lane) == (records + lost, 0)
                })
        })
    }
}

/// What is to become of a block.
#[derive(Debug, PartialEq)]
enum Fate {
    Whole,
    Repaired,
    Gap,
}

fn fate(block: BlockId, halves: &[Half<'_>]) -> Fate {
    if halves.iter().any(|half| half.has_whole(block)) {
        return Fate::Whole;
    }
    let halves: Vec<&Half<'_>> = halves.iter().filter(|half| half.knows(block)).collect();
    let some_has_each = |kind| {
        let lists: Vec<Vec<bool>> = halves.iter().map(|half| half.of(block, kind)).collect();
        let count = lists.first().map_or(0, Vec::len);
        (0..count).all(|index| lists.iter().any(|list| list[index]))
    };
    let proven = !halves.is_empty()
        && some_has_each(Kind::Transaction)
        && some_has_each(Kind::Entry)
        && halves
            .iter()
            .any(|half| half.accounts_are_there(block, &halves));
    if proven { Fate::Repaired } else { Fate::Gap }
}

fn run(rng: &mut StdRng, sources: &[Source]) -> (Router, Told) {
    let lanes = interleave(rng, &sources.iter().collect::<Vec<_>>());
    let mut router = Router::new(limits());
    let mut told = Told::default();
    deliver(rng, &mut router, &lanes, &mut told);
    (router, told)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sources on forks of their own, with records lost from the log and values lost before it.
    #[test]
    fn together_they_have_what_none_has_alone(seed: u64, count in 2u64..4, loss in 0.0f64..0.3) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 25, 1_000);
        let model = Source::chunking(9, rng);
        let mut sources = Vec::new();
        let mut written = Vec::new();
        for number in 0..count {
            // Most cut alike, as validators of one operator do.
            let base = if rng.random_bool(0.8) { model.alike(number + 1) } else { Source::chunking(number + 1, rng) };
            let mut source = if rng.random_bool(0.5) { base.losing(loss / 2.0, rng) } else { base };
            let mut choice = StdRng::seed_from_u64(rng.random());
            source.observe(&history, |block| number == 0 || !block.on_chain || choice.random_bool(0.9));
            written.push(source.written.clone());
            source.written.retain(|record| record.of.is_none() || !rng.random_bool(loss / 2.0));
            sources.push(source);
        }
        let (router, told) = run(rng, &sources);
        let halves: Vec<Half<'_>> = sources.iter().zip(&written).map(|(source, written)| Half::new(source, written)).collect();
        let held: BTreeSet<BlockId> = sources.iter().flat_map(|source| source.held.iter().copied()).collect();
        let gaps: BTreeSet<Slot> = told.gaps.iter().map(|gap| gap.0).collect();
        let mut lost: BTreeSet<Slot> = BTreeSet::new();
        for block in &held {
            let fate = fate(*block, &halves);
            prop_assert_eq!(told.blocks.contains_key(block), fate != Fate::Gap, "{:?}: {:?}", block, fate);
            prop_assert_eq!(told.repaired.contains(block), fate == Fate::Repaired, "{:?}", block);
            if fate == Fate::Gap {
                lost.insert(block.slot);
                // Who does not know its own block cannot tell a hole from another's block of the slot.
                if halves.iter().any(|half| half.knows(*block)) {
                    prop_assert!(gaps.contains(&block.slot), "{:?} vanished silently", block);
                }
            }
        }
        prop_assert!(gaps.is_subset(&lost), "gaps {:?}, lost {:?}", gaps, lost);
        for block in history.blocks.iter().filter(|block| told.blocks.contains_key(&block.id)) {
            assert_content(&told, block);
        }
        let published: BTreeSet<BlockId> = told.blocks.keys().copied().collect();
        if lost.is_empty() {
            assert_standings(&told, &history, &published);
        }
        prop_assert_eq!(router.totals().repaired, told.repaired.len() as u64);
        prop_assert_eq!((router.open_slots(), router.open_bytes()), (0, 0));
    }
}

/// Two sources of one block; the first loses a transaction, the second an entry: together they are whole.
fn halves() -> (TrueBlock, Source, Source) {
    let block = TrueBlock {
        accounts: 12,
        transactions: 3,
        entries: 2,
        ..History::sparse(&mut StdRng::seed_from_u64(6), 1).blocks[0].clone()
    };
    let (mut one, mut two) = (Source::new(1), Source::new(2));
    one.block(&block);
    two.block(&block);
    lose(&mut one, ObservedTopic::Transactions, Kind::Transaction);
    lose(&mut two, ObservedTopic::Slots, Kind::Entry);
    (block, one, two)
}

/// The first record of the kind; returns its partition.
fn lose(source: &mut Source, topic: ObservedTopic, kind: Kind) -> Lane {
    let at = source
        .written
        .iter()
        .position(|record| record.lane.topic == topic && record.kind == kind)
        .expect("a record");
    source.written.remove(at).lane
}

fn rewrite(record: &mut Written, change: impl FnOnce(&mut UpdateOneof)) {
    let mut update = SubscribeUpdate::decode(record.value.clone()).unwrap();
    change(update.update_oneof.as_mut().unwrap());
    record.value = update.encode_to_vec().into();
}

fn outcome(sources: [Source; 2]) -> (usize, usize) {
    let (_, told) = run(&mut StdRng::seed_from_u64(1), &sources);
    assert_eq!(told.blocks.len(), told.repaired.len());
    (told.repaired.len(), told.gaps.len())
}

#[test]
fn two_halves_are_a_block() {
    let (block, one, two) = halves();
    let (_, told) = run(&mut StdRng::seed_from_u64(1), &[one, two]);
    assert_content(&told, &block);
    assert_eq!((told.repaired.len(), told.gaps.len()), (1, 0));
}

#[test]
fn what_comes_after_the_repair_changes_nothing() {
    let (_, one, two) = halves();
    let (mut again_one, mut again_two) = (one.written.clone(), two.written.clone());
    let mut lanes = interleave(&mut StdRng::seed_from_u64(1), &[&one, &two]);
    let (mut router, mut told) = (Router::new(limits()), Told::default());
    let rng = &mut StdRng::seed_from_u64(2);
    deliver(rng, &mut router, &lanes, &mut told);
    // A new producer writes all of it again, whatever the old one wrote.
    again_one.append(&mut again_two);
    for record in again_one {
        lanes.entry(record.lane).or_default().push(record);
    }
    deliver(rng, &mut router, &lanes, &mut told);
    assert_eq!((told.blocks.len(), told.gaps.len(), told.late), (1, 0, 0));
    assert_eq!(router.open_slots(), 0);
}

#[test]
fn a_lane_of_accounts_is_filled_only_by_one_that_agrees() {
    let lossy = || {
        let (_, mut one, two) = halves();
        let lane = lose(&mut one, ObservedTopic::Accounts, Kind::Account);
        (one, two, lane)
    };
    let (one, two, _) = lossy();
    assert_eq!(outcome([one, two]), (1, 0), "the other has the lane");

    // The other saw something else in one of the accounts that both have: one of them is wrong about the block.
    let (one, mut two, lane) = lossy();
    let shared = two
        .written
        .iter_mut()
        .rfind(|record| record.lane == lane && record.kind == Kind::Account)
        .expect("an account that both have");
    let change = |update: &mut UpdateOneof| {
        let UpdateOneof::Account(account) = update else {
            panic!("{update:?}");
        };
        account.account.as_mut().unwrap().lamports += 1;
    };
    rewrite(shared, change);
    assert_eq!(outcome([one, two]), (0, 2));
}

#[test]
fn one_that_saw_fewer_accounts_repairs_nothing() {
    let (block, mut one, _) = halves();
    lose(&mut one, ObservedTopic::Accounts, Kind::Account);
    // The second validator's plugin leaves an account out, as if by a filter.
    let (less, mut two) = (
        TrueBlock {
            accounts: block.accounts - 1,
            ..block
        },
        Source::new(2),
    );
    two.block(&less);
    lose(&mut two, ObservedTopic::Slots, Kind::Entry);
    assert_eq!(outcome([one, two]), (0, 2));
}

#[test]
fn lanes_of_accounts_from_each_other() {
    let (block, mut one, mut two) = halves();
    let lane = lose(&mut one, ObservedTopic::Accounts, Kind::Account);
    let other_lane = two
        .written
        .iter()
        .position(|record| record.kind == Kind::Account && record.lane != lane)
        .expect("an account of another partition");
    two.written.remove(other_lane);
    let (_, told) = run(&mut StdRng::seed_from_u64(1), &[one, two]);
    assert_content(&told, &block);
    assert_eq!((told.repaired.len(), told.gaps.len()), (1, 0));
}

#[test]
fn sources_that_contradict_one_another_are_not_joined() {
    let (_, one, mut two) = halves();
    let transaction = two
        .written
        .iter_mut()
        .rfind(|record| record.kind == Kind::Transaction)
        .expect("a transaction");
    rewrite(transaction, |update| {
        let UpdateOneof::Transaction(update) = update else {
            panic!("{update:?}");
        };
        update.transaction.as_mut().unwrap().signature = vec![0xee; 64];
    });
    assert_eq!(outcome([one, two]), (0, 2));
}
