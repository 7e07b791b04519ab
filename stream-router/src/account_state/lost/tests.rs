//! Against a model of the chain, the topic and a node that answers late, from behind and from ahead.

use event_schema::Blockhash;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const ACCOUNTS: u8 = 6;
const BLOCKS: u64 = 60;
/// Blocks above it are finalized this much later.
const FINALITY: u64 = 4;

fn key(number: u8) -> Pubkey {
    Pubkey([number; 32])
}

fn id(slot: u64, fork: u8) -> BlockId {
    BlockId::new(Slot(slot), Blockhash([fork; 32]))
}

/// Which write left a state: the block's slot and fork.
type Write = (u64, u8);

#[derive(Debug, Clone, Default)]
struct TrueBlock {
    writes: BTreeSet<u8>,
    /// No source has its account updates.
    is_lost: bool,
    /// What a reader of its transactions must suspect.
    may_write: BTreeSet<Pubkey>,
}

/// What the node is about to answer.
struct UnderWay {
    ask: Ask,
    /// With the slot as of which it was read.
    read: Option<u64>,
}

struct World {
    rng: StdRng,
    /// By slot; the first is slot 1.
    chain: Vec<TrueBlock>,
    head: u64,
    /// The state's blocks above the finalized ones may be of another fork: their slots, forks and writes.
    applied: Vec<(u64, u8, BTreeSet<u8>)>,
    finalized: u64,
    /// By account, in the order of the topic: the block that the record came with (`None`: a node), and its content.
    topic: BTreeMap<u8, Vec<(Option<Write>, Write)>>,
    lost: LostWrites,
    entered: BTreeSet<u64>,
    filled: BTreeSet<u64>,
    under_way: Vec<UnderWay>,
    may_fail: bool,
    /// No block comes any more, and the last ones become final, too.
    is_over: bool,
}

impl World {
    fn new(seed: u64, may_fail: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let some = |rng: &mut StdRng, chance| -> BTreeSet<u8> {
            (0..ACCOUNTS).filter(|_| rng.random_bool(chance)).collect()
        };
        let chain = (1..=BLOCKS).map(|slot| {
            let writes = some(&mut rng, 0.2);
            let more = some(&mut rng, 0.2);
            TrueBlock {
                may_write: writes.union(&more).map(|account| key(*account)).collect(),
                writes,
                // The last ones heal nothing and are not asked for in time.
                is_lost: slot + FINALITY < BLOCKS && rng.random_bool(0.25),
            }
        });
        Self {
            chain: chain.collect(),
            rng,
            head: 0,
            applied: Vec::new(),
            finalized: 0,
            topic: BTreeMap::new(),
            lost: LostWrites::new(1_000),
            entered: BTreeSet::new(),
            filled: BTreeSet::new(),
            under_way: Vec::new(),
            may_fail,
            is_over: false,
        }
    }

    fn block(&self, slot: u64) -> &TrueBlock {
        &self.chain[slot as usize - 1]
    }

    /// Of the true chain.
    fn final_head(&self) -> u64 {
        match self.is_over {
            true => self.head,
            false => self.head.saturating_sub(FINALITY),
        }
    }

    fn tip(&self) -> u64 {
        self.applied.last().map_or(0, |(slot, ..)| *slot)
    }

    /// The account's newest write on the true chain.
    fn truth(&self, account: u8, through: u64) -> Option<Write> {
        let mut slots = (1..=through).rev();
        let written = slots.find(|slot| self.block(*slot).writes.contains(&account));
        written.map(|slot| (slot, 0))
    }

    /// What the state should have: as the blocks left it that it consists of.
    fn expected(&self, account: u8) -> Option<Write> {
        let newest = self.applied.iter().rev();
        let mut writes = newest.filter(|(.., writes)| writes.contains(&account));
        writes.next().map(|(slot, fork, _)| (*slot, *fork))
    }

    fn apply(&mut self) {
        let slot = self.tip() + 1;
        if slot > self.head {
            return;
        }
        let block = self.block(slot).clone();
        let on_fork = self.applied.last().is_some_and(|(_, fork, _)| *fork > 0);
        let forks = slot > self.final_head() + 1 && (on_fork || self.rng.random_bool(0.15));
        if forks {
            let writes: BTreeSet<u8> = (0..ACCOUNTS)
                .filter(|_| self.rng.random_bool(0.4))
                .collect();
            self.write(slot, 1, &writes);
            return;
        }
        if on_fork {
            return;
        }
        if block.is_lost {
            // Known to be lost when it is finalized; the state waits.
            if slot <= self.final_head() {
                self.applied.push((slot, 0, block.writes));
            }
            return;
        }
        self.write(slot, 0, &block.writes);
    }

    fn write(&mut self, slot: u64, fork: u8, writes: &BTreeSet<u8>) {
        for account in writes {
            let records = self.topic.entry(*account).or_default();
            records.push((Some((slot, fork)), (slot, fork)));
        }
        self.applied.push((slot, fork, writes.clone()));
        let keys: Vec<Pubkey> = writes.iter().map(|account| key(*account)).collect();
        self.lost.wrote(Slot(slot), &keys);
    }

    /// The fork proves abandoned.
    fn undo(&mut self) {
        let Some(from) = self.applied.iter().find(|(_, fork, _)| *fork > 0) else {
            return;
        };
        let from = from.0;
        self.applied.retain(|(slot, ..)| *slot < from);
        for records in self.topic.values_mut() {
            records.retain(|(of, _)| of.is_none_or(|(_, fork)| fork == 0));
        }
        self.lost.undone(Slot(from));
    }

    fn finalize(&mut self) {
        let fork = self.applied.iter().find(|(_, fork, _)| *fork > 0);
        let below_fork = fork.map_or(self.tip(), |(slot, ..)| slot - 1);
        self.finalized = self.final_head().min(below_fork);
        self.lost.finalized(Slot(self.finalized));
    }

    /// A block that the state has, or will have, without its account updates.
    fn enter(&mut self) {
        let missing = (1..=self.final_head())
            .filter(|slot| self.block(*slot).is_lost && !self.entered.contains(slot));
        let missing: Vec<u64> = missing.collect();
        if missing.is_empty() {
            return;
        }
        let slot = missing[self.rng.random_range(0..missing.len())];
        self.entered.insert(slot);
        let may_write = self.block(slot).may_write.clone();
        let tip = Slot(self.tip());
        assert!(
            self.lost
                .block(id(slot, 0), Slot(slot - 1), &may_write, tip)
        );
    }

    fn ask(&mut self) {
        if let Some(ask) = self.lost.next(Slot(self.finalized)) {
            assert!(ask.keys.len() <= KEYS_MAX);
            self.under_way.push(UnderWay { ask, read: None });
        }
    }

    fn answer(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.under_way.len());
        let at_least = self.under_way[at].ask.at_least.0;
        if self.under_way[at].read.is_none() {
            // The node reads its state, or has not come so far.
            if at_least <= self.final_head() {
                let slot = self.rng.random_range(at_least..=self.final_head());
                self.under_way[at].read = Some(slot);
            }
            return;
        }
        let UnderWay { ask, read } = self.under_way.swap_remove(at);
        if self.rng.random_bool(0.1) && self.lost.too_long(&ask) {
            return;
        }
        if self.may_fail && self.rng.random_bool(0.2) {
            self.lost.failed(&ask);
            return;
        }
        let as_of = read.expect("it was read");
        for (index, lost) in self.lost.told(&ask, Slot(as_of), Slot(self.finalized)) {
            let account = ask.keys[index].0[0];
            assert!(as_of <= self.finalized, "ahead of the state");
            assert!(lost.0 <= as_of, "the loss is in the answer");
            let content = self.truth(account, as_of);
            let records = self.topic.entry(account).or_default();
            if let Some((Some((slot, _)), _)) = records.last() {
                assert!(*slot <= as_of, "a newer write is written over");
            }
            match content {
                Some(content) => records.push((None, content)),
                // There is no such account.
                None => records.clear(),
            }
        }
    }

    fn take_filled(&mut self) {
        for (first, last) in self.lost.take_filled(Slot(self.tip())) {
            assert_eq!(first, last, "no slot is skipped here");
            assert!(self.entered.contains(&last.0));
            assert!(self.filled.insert(last.0), "{last} is filled twice");
        }
    }

    /// An account that is not known to be lost is what the state's blocks left.
    fn check(&self) {
        for account in 0..ACCOUNTS {
            let unknown = self.applied.iter().any(|(slot, fork, writes)| {
                let is_lost = *fork == 0 && self.block(*slot).is_lost;
                is_lost && !self.entered.contains(slot) && writes.contains(&account)
            });
            if unknown || self.lost.accounts.contains_key(&key(account)) {
                continue;
            }
            let records = self.topic.get(&account).and_then(|records| records.last());
            let content = records.map(|(_, content)| *content);
            assert_eq!(
                content,
                self.expected(account),
                "account {account} at {}",
                self.tip()
            );
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..12) {
            0..2 => self.head = (self.head + 1).min(BLOCKS),
            2..5 => self.apply(),
            5 => self.undo(),
            6 => self.finalize(),
            7 => self.enter(),
            8..10 => self.ask(),
            _ => self.answer(),
        }
        self.take_filled();
        if !self.may_fail {
            self.check();
        }
    }

    /// Time passes until nothing is left to do.
    fn settle(&mut self) {
        (self.head, self.is_over) = (BLOCKS, true);
        for _ in 0..20_000 {
            self.step();
            let lost = self.chain.iter().filter(|block| block.is_lost).count();
            let is_done = self.tip() == BLOCKS
                && self.applied.iter().all(|(_, fork, _)| *fork == 0)
                && self.entered.len() == lost
                && self.finalized == BLOCKS
                && self.lost.written.is_empty()
                && self.lost.ready.is_empty()
                && self.under_way.is_empty();
            if is_done {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Replay a failure with the seed that it names.
    #[test]
    fn the_state_is_what_the_chain_left(seed: u64) {
        let mut world = World::new(seed, false);
        for _ in 0..600 {
            world.step();
        }
        world.settle();
        world.check();
        let lost = (1..=BLOCKS).filter(|slot| world.block(*slot).is_lost);
        prop_assert_eq!(&world.filled, &lost.collect(), "every slot is filled");
        prop_assert_eq!((world.lost.len(), world.lost.blocks.len()), (0, 0));
        prop_assert_eq!(world.lost.counts().failed, 0);
    }

    /// Whatever is given up is never called filled, and everything ends.
    #[test]
    fn what_no_node_told_stays_a_hole(seed: u64) {
        let mut world = World::new(seed, true);
        for _ in 0..600 {
            world.step();
        }
        world.settle();
        for slot in 1..=BLOCKS {
            let account_is_wrong = |account: &u8| {
                let records = world.topic.get(account).and_then(|records| records.last());
                let content = records.map(|(_, content)| *content);
                content != world.expected(*account)
            };
            if world.filled.contains(&slot) {
                // Wrong is only what a later loss left wrong, and that one is not filled.
                for account in world.block(slot).writes.iter().filter(|account| account_is_wrong(account)) {
                    let later = (slot + 1..=BLOCKS).any(|later| {
                        let block = world.block(later);
                        block.is_lost && block.writes.contains(account) && !world.filled.contains(&later)
                    });
                    prop_assert!(later, "slot {}, account {}", slot, account);
                }
            }
        }
    }
}

fn keys(count: usize) -> BTreeSet<Pubkey> {
    let key = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Pubkey(bytes)
    };
    (0..count).map(key).collect()
}

#[test]
fn a_node_that_lies_about_its_slot_is_asked_ever_more_rarely() {
    let mut lost = LostWrites::new(10);
    assert!(lost.block(id(5, 0), Slot(4), &keys(1), Slot(5)));
    let mut asked = Vec::new();
    for tip in 5..100_000 {
        if let Some(ask) = lost.next(Slot(tip)) {
            assert_eq!(ask.again as usize, asked.len());
            assert!(lost.told(&ask, Slot(u64::MAX), Slot(tip)).is_empty());
            asked.push(tip);
        }
    }
    assert!((8..12).contains(&asked.len()), "{asked:?}");
}

#[test]
fn what_finds_no_room_is_counted_and_costs_nothing() {
    let mut lost = LostWrites::new(10);
    assert!(lost.block(id(5, 0), Slot(4), &keys(8), Slot(5)));
    assert!(!lost.block(id(6, 0), Slot(5), &keys(11), Slot(6)));
    assert!(
        lost.block(id(7, 0), Slot(6), &keys(8), Slot(7)),
        "the same accounts"
    );
    let counts = lost.counts();
    assert_eq!((lost.len(), counts.lost, counts.refused), (8, 8, 11));
}

#[test]
fn a_reply_that_is_too_long_is_asked_for_in_parts() {
    let mut lost = LostWrites::new(1_000);
    assert!(lost.block(id(5, 0), Slot(4), &keys(150), Slot(5)));
    let mut sizes = Vec::new();
    while let Some(ask) = lost.next(Slot(9)) {
        sizes.push(ask.keys.len());
        // A node tells up to thirty.
        if ask.keys.len() > 30 {
            assert!(lost.too_long(&ask));
        } else {
            assert_eq!(lost.told(&ask, Slot(7), Slot(9)).len(), ask.keys.len());
        }
        assert!(sizes.len() < 30);
    }
    assert_eq!(sizes[..3], [100, 50, 25]);
    assert_eq!(lost.take_filled(Slot(9)), [(Slot(5), Slot(5))]);
    let one = Ask {
        keys: keys(1).into_iter().collect(),
        at_least: Slot(1),
        again: 0,
    };
    assert!(!lost.too_long(&one), "no smaller part");
}

#[test]
fn a_block_that_wrote_nothing_is_filled_when_the_state_has_passed_it() {
    let mut lost = LostWrites::new(10);
    assert!(lost.block(id(5, 0), Slot(2), &keys(0), Slot(2)));
    assert!(lost.take_filled(Slot(4)).is_empty());
    assert!(lost.has_filled(Slot(5)));
    assert_eq!(lost.take_filled(Slot(5)), [(Slot(3), Slot(5))]);
}
