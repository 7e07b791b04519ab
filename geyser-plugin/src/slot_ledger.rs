//! Pure: what was written for each slot, lane by lane; when a slot is complete; what its seals say.
//!
//! A slot is complete when its block metadata is in and the transactions and entries it counts have been seen, recorded or
//! lost: a loss is stated, not waited for. A validator counts no entries for the blocks it led itself; then the slot's last
//! entry is known by its hash, which is the block's hash, and a block without any entry is complete once it has settled.
//!
//! | what happens | the slot is sealed |
//! |---|---|
//! | complete | with the batch of records that completed it |
//! | marked dead | with the batch that said so, as it is |
//! | its beginning was not seen: loaded in the middle | as the next row, marked as partial |
//! | never completed: metadata missing, fork left alone | when the root passes it, or [`FORCE_AFTER_SLOTS`] later ones were executed |
//! | a record or a loss after the seal | again, revision + 1, with the batch |
//! | a status after the seal | not again: statuses are life, not content, and every slot gets several after its seal |
//! | executed a second time (`CreatedBank` again) | again, when that execution is complete; the seal's range begins there |
//! | a deshredded transaction, contact info | no: they belong to no block; nor are they counted where seals of others say how many |
//! | the snapshot's accounts | when the validator says that was all, under the greatest slot among them |
//!
//! [`KEEP_AFTER_ROOT_SLOTS`] slots below the root are kept; what comes for an older one is numbered, but no seal counts it.
//! Limits count slots that this validator reported, not numbers: numbers jump, in a replay of recorded blocks by millions.
//!
//! Seals are made when somebody has room for them, slot by slot: until then a slot that is due waits as what it is, a few
//! hundred bytes, whatever its number of lanes. Forgotten slots' memory is used again, so that after a while nothing is
//! allocated: a guest's leftovers between the validator's own allocations would cost it more than their size.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::{Kind, Seal, SealHash, SealedPartition};

use crate::{
    lane::{Lane, Lanes},
    loss::Loss,
    observation::{Fact, Life, STARTUP_SLOT},
};

/// When so many later slots were executed and no root says so earlier, a slot is sealed as it is.
pub const FORCE_AFTER_SLOTS: usize = 512;
/// So many slots below the root are kept for late records.
pub const KEEP_AFTER_ROOT_SLOTS: usize = 512;
/// So many slots are kept whatever the root, due or not: bounds memory, at about 800 bytes each with nine lanes. While ring and
/// disk are full nothing can be sealed, and these are 54 minutes of slots of 400 ms.
pub const KEEP_SLOTS: usize = 8192;

/// One lane's share of a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    records: u64,
    first: u64,
    last: u64,
    hash: SealHash,
    lost: u64,
}

/// What one execution of the slot has shown. A slot that is executed again starts another.
#[derive(Debug, Default)]
struct Execution {
    block: Option<Block>,
    /// Recorded or lost.
    transactions: u64,
    /// Recorded or lost.
    entries: u64,
    /// Entry with the greatest index, and that index.
    last_entry: Option<(u64, [u8; 32])>,
    settled: bool,
}

#[derive(Debug)]
struct Block {
    blockhash: [u8; 32],
    transactions: u64,
    entries: u64,
}

impl Execution {
    fn is_complete(&self) -> bool {
        let Some(block) = &self.block else {
            return false;
        };
        if self.transactions < block.transactions {
            return false;
        }
        if block.entries > 0 {
            return self.entries >= block.entries;
        }
        match self.last_entry {
            Some((index, hash)) => hash == block.blockhash && self.entries > index,
            None => self.settled,
        }
    }

    fn has_content(&self) -> bool {
        self.block.is_some() || self.transactions > 0 || self.entries > 0
    }
}

#[derive(Debug, Default)]
struct SlotState {
    /// By lane; `None` where nothing was recorded or lost.
    shares: Vec<Option<Share>>,
    execution: Execution,
    /// Recorded or lost, in this execution.
    transactions: u64,
    entries: u64,
    accounts: u64,
    /// Revision of the next seal.
    revision: u32,
    /// Something a seal must state is not yet in one.
    changed: bool,
    /// Will not become complete: seal it as it is.
    forced: bool,
    /// Executed anew since its last seal.
    reopened: bool,
    /// More than shreds was reported.
    executed: bool,
    /// Its beginning was reported: nothing of it came before this plugin was loaded.
    created: bool,
}

impl SlotState {
    /// The validator executes the slot anew: what it reported before is another attempt's, and not counted any more. Losses
    /// that no seal has stated yet are kept: which attempt they hit does not matter to who misses them.
    fn start_over(&mut self, forced: bool) {
        let mut shares = std::mem::take(&mut self.shares);
        for share in shares.iter_mut().flatten() {
            // A lane that gets nothing this time is sealed, too: its seal says that what lies there is another attempt's.
            *share = Share {
                lost: if self.changed { share.lost } else { 0 },
                first: if share.records > 0 {
                    share.last + 1
                } else {
                    share.first
                },
                last: share.last,
                ..Share::default()
            };
        }
        *self = Self {
            shares,
            revision: self.revision,
            reopened: true,
            executed: true,
            created: true,
            forced,
            ..Self::default()
        };
    }

    /// As new, in the same memory.
    fn clear(&mut self) {
        let mut shares = std::mem::take(&mut self.shares);
        shares.clear();
        *self = Self {
            shares,
            ..Self::default()
        };
    }

    /// Of the lane with this index among `lanes`.
    fn share(&mut self, index: usize, lanes: Lanes) -> &mut Share {
        self.shares.resize(lanes.count(), None);
        self.shares[index].get_or_insert_default()
    }

    /// Lanes that a seal of the slot goes to.
    fn lanes_sealed(&self) -> usize {
        self.shares.iter().flatten().count()
    }

    fn is_due(&self) -> bool {
        let sealed_before = self.revision > 0 && !self.reopened;
        self.changed
            && (self.forced || sealed_before || self.created && self.execution.is_complete())
    }
}

/// See the module.
#[derive(Debug)]
pub struct SlotLedger {
    lanes: Lanes,
    sequences: Vec<u64>,
    slots: BTreeMap<u64, Box<SlotState>>,
    /// Of forgotten slots, to be used again. Boxed, so that they change between here and there without a copy.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<SlotState>>,
    due: BTreeSet<u64>,
    startup: SlotState,
    startup_slot: u64,
    root: Option<u64>,
    newest: u64,
    /// The set of executed slots, or the root, has changed since limits were looked at.
    grown: bool,
    /// Slots below are sealed as they are.
    forced_below: u64,
    /// Slots below were forgotten.
    forgotten_below: u64,
    unsealed: u64,
    seals_dropped: u64,
}

/// A seal and where it goes. It takes its lane's next sequence when it is numbered.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSeal {
    pub lane: Lane,
    pub seal: Seal,
}

impl SlotLedger {
    pub fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            sequences: vec![0; lanes.count()],
            slots: BTreeMap::new(),
            spare: Vec::new(),
            due: BTreeSet::new(),
            startup: SlotState::default(),
            startup_slot: 0,
            root: None,
            newest: 0,
            grown: false,
            forced_below: 0,
            forgotten_below: 0,
            unsealed: 0,
            seals_dropped: 0,
        }
    }

    /// Takes the lane's next sequence, for a seal.
    pub fn number(&mut self, lane: Lane) -> u64 {
        let next = &mut self.sequences[self.lanes.index(lane)];
        let sequence = *next;
        *next += 1;
        sequence
    }

    /// Numbers a record and takes note of it. `checksum` is the CRC-32 of its value.
    pub fn record(&mut self, slot: u64, lane: Lane, fact: &Fact, checksum: u32) -> u64 {
        let sequence = self.number(lane);
        self.note(slot, fact, Some((lane, sequence, checksum)));
        sequence
    }

    /// Numbers a further record of the same observation, when it was too large for one.
    pub fn record_more(&mut self, slot: u64, lane: Lane, fact: &Fact, checksum: u32) -> u64 {
        let sequence = self.number(lane);
        let state = if *fact == Fact::StartupAccount {
            Some(&mut self.startup)
        } else {
            self.slots.get_mut(&slot).map(Box::as_mut)
        };
        match state {
            Some(state) => add_record(state, self.lanes, lane, sequence, checksum),
            None => self.unsealed += 1,
        }
        sequence
    }

    /// Takes note of what is not recorded, because it is filtered away: it counts towards the completeness of its slot.
    pub fn see(&mut self, slot: u64, fact: &Fact) {
        self.note(slot, fact, None);
    }

    /// `recorded`: lane, sequence and checksum.
    fn note(&mut self, slot: u64, fact: &Fact, recorded: Option<(Lane, u64, u32)>) {
        // Numbered, and that is all. It must not open a slot, nor tell how far the validator is: it comes before execution.
        if fact.kind().is_some_and(Kind::is_beside_blocks) {
            return;
        }
        if *fact == Fact::StartupAccount {
            if let Some((lane, sequence, checksum)) = recorded {
                self.startup_slot = self.startup_slot.max(slot);
                add_record(&mut self.startup, self.lanes, lane, sequence, checksum);
                self.startup.accounts += 1;
            }
            return;
        }
        if slot < self.forgotten_below {
            // The root's own status is expected; anything else is content that no seal will count.
            if recorded.is_some() && !matches!(fact, Fact::Status(_)) {
                self.unsealed += 1;
            }
            return;
        }
        let spare = &mut self.spare;
        let state = self.slots.entry(slot);
        let state = state.or_insert_with(|| spare.pop().unwrap_or_default());
        // A shred can name any slot; only what this validator executes tells how far it is.
        if *fact != Fact::Status(Life::Announced) && !state.executed {
            state.executed = true;
            self.newest = self.newest.max(slot);
            self.grown = true;
        }
        state.forced |= slot < self.forced_below;
        if let Fact::Status(Life::Created) = fact
            && state.execution.has_content()
        {
            state.start_over(slot < self.forced_below);
        }
        state.created |= *fact == Fact::Status(Life::Created);
        if let Some((lane, sequence, checksum)) = recorded {
            add_record(state, self.lanes, lane, sequence, checksum);
        }
        match *fact {
            Fact::Account | Fact::StartupAccount => state.accounts += 1,
            Fact::Transaction => {
                state.transactions += 1;
                state.execution.transactions += 1;
            }
            Fact::Entry { index, hash } => {
                state.entries += 1;
                state.execution.entries += 1;
                if state
                    .execution
                    .last_entry
                    .is_none_or(|(last, _)| index >= last)
                {
                    state.execution.last_entry = Some((index, hash));
                }
            }
            Fact::Block {
                blockhash,
                transactions,
                entries,
            } => {
                state.execution.block = Some(Block {
                    blockhash,
                    transactions,
                    entries,
                });
            }
            Fact::Status(Life::Settled | Life::Rooted) => state.execution.settled = true,
            Fact::Status(Life::Dead) => {
                state.forced = true;
                state.changed = true;
            }
            Fact::Status(_) | Fact::EndOfStartup | Fact::Deshred | Fact::ContactInfo => {}
        }
        state.changed |= !matches!(fact, Fact::Status(_));
        if state.is_due() {
            self.due.insert(slot);
        }
        if *fact == Fact::Status(Life::Rooted) {
            self.root = self.root.max(Some(slot));
            self.grown = true;
        }
    }

    /// Takes note of what a callback, or Kafka, lost.
    pub fn lost(&mut self, loss: Loss) {
        let state = if loss.slot == STARTUP_SLOT {
            &mut self.startup
        } else if loss.slot < self.forgotten_below {
            self.unsealed += loss.count;
            return;
        } else {
            if loss.kind != Kind::Slot {
                self.newest = self.newest.max(loss.slot);
                self.grown = true;
            }
            let spare = &mut self.spare;
            let state = self.slots.entry(loss.slot);
            let state = state.or_insert_with(|| spare.pop().unwrap_or_default());
            state.forced |= loss.slot < self.forced_below;
            state
        };
        let index = self.lanes.index(loss.lane);
        state.share(index, self.lanes).lost += loss.count;
        state.changed = true;
        match loss.kind {
            Kind::Account => state.accounts += loss.count,
            Kind::Transaction => {
                state.transactions += loss.count;
                state.execution.transactions += loss.count;
            }
            Kind::Entry => {
                state.entries += loss.count;
                state.execution.entries += loss.count;
            }
            _ => {}
        }
        if loss.slot != STARTUP_SLOT && state.is_due() {
            self.due.insert(loss.slot);
        }
    }

    /// A record that had its sequence did not reach the log after all: counted already, so only the loss is stated.
    pub fn lost_after_numbering(&mut self, slot: u64, lane: Lane) {
        if let Some(state) = self.slots.get_mut(&slot) {
            state.share(self.lanes.index(lane), self.lanes).lost += 1;
            state.changed = true;
            if state.is_due() {
                self.due.insert(slot);
            }
        } else {
            self.unsealed += 1;
        }
    }

    /// Losses nobody could attribute: the newest slot's seals state them, so that no loss goes unstated.
    pub fn lost_unplaced(&mut self, count: u64) {
        let slot = self.newest;
        self.lost(Loss {
            slot,
            lane: self.lanes.of_slot(slot),
            kind: Kind::Slot,
            count,
        });
    }

    /// Keeps to the limits: seals as they are what the root has passed, forgets what is old. Ask after each batch, and while
    /// nothing can be sealed.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.grown) {
            self.force_passed();
            self.forget_old();
        }
    }

    /// The seals of the oldest slot that is due. What comes of the slot afterwards amends them.
    pub fn seal_next(&mut self) -> Option<Vec<DueSeal>> {
        // Once one is sealed it may be forgotten.
        self.grown |= !self.due.is_empty();
        while let Some(slot) = self.due.pop_first() {
            // Executed anew since, it is not.
            if let Some(state) = self.slots.get_mut(&slot)
                && state.is_due()
            {
                return Some(seals_of(self.lanes, slot, state));
            }
        }
        None
    }

    /// The snapshot's accounts are all in.
    pub fn end_startup(&mut self) -> Vec<DueSeal> {
        if self.startup.lanes_sealed() == 0 {
            return Vec::new();
        }
        // It is no slot, and begins when it begins.
        self.startup.created = true;
        seals_of(self.lanes, self.startup_slot, &mut self.startup)
    }

    /// Records and losses of slots that were forgotten already.
    pub fn unsealed(&self) -> u64 {
        self.unsealed
    }

    /// Seals given up: their slots were forgotten before there was room for them.
    pub fn seals_dropped(&self) -> u64 {
        self.seals_dropped
    }

    /// Slots in memory.
    pub fn slots_held(&self) -> usize {
        self.slots.len()
    }

    fn force_passed(&mut self) {
        let executed = self.slots.iter().rev().filter(|(_, state)| state.executed);
        let behind_newest = executed.map(|(slot, _)| *slot).nth(FORCE_AFTER_SLOTS - 1);
        let Some(limit) = self
            .root
            .max(behind_newest)
            .filter(|limit| *limit > self.forced_below)
        else {
            return;
        };
        for (slot, state) in self.slots.range_mut(self.forced_below..limit) {
            state.forced = true;
            if state.is_due() {
                self.due.insert(*slot);
            }
        }
        self.forced_below = limit;
    }

    fn forget_old(&mut self) {
        let mut below_root = self.slots.range(..self.root.unwrap_or(0)).count();
        while let Some(oldest) = self.slots.first_entry() {
            let is_due = self.due.contains(oldest.key());
            let old = below_root > KEEP_AFTER_ROOT_SLOTS && !is_due;
            if !old && self.slots.len() <= KEEP_SLOTS {
                break;
            }
            below_root = below_root.saturating_sub(1);
            let Some((slot, mut state)) = self.slots.pop_first() else {
                break;
            };
            self.due.remove(&slot);
            // No seal states what came of it last, and none will.
            if state.changed {
                self.seals_dropped += state.lanes_sealed() as u64;
            }
            self.forgotten_below = slot + 1;
            state.clear();
            self.spare.push(state);
        }
    }
}

fn add_record(state: &mut SlotState, lanes: Lanes, lane: Lane, sequence: u64, checksum: u32) {
    let share = state.share(lanes.index(lane), lanes);
    if share.records == 0 {
        share.first = sequence;
    }
    share.records += 1;
    share.last = sequence;
    share.hash.add(sequence, checksum);
}

/// One seal for every lane that has records or losses of the slot.
fn seals_of(lanes: Lanes, slot: u64, state: &mut SlotState) -> Vec<DueSeal> {
    let shares = || {
        let shares = state.shares.iter().enumerate();
        // Below the number of lanes, which fits.
        shares.filter_map(|(index, share)| Some((Lane(lanes.first + index as u16), (*share)?)))
    };
    let table: Vec<SealedPartition> = shares()
        .map(|(lane, share)| {
            let (topic, partition) = lanes.place(lane);
            SealedPartition {
                topic: topic as u32,
                partition,
                records: share.records,
                lost: share.lost,
            }
        })
        .collect();
    let seals = shares()
        .map(|(lane, share)| DueSeal {
            lane,
            seal: Seal {
                slot,
                revision: state.revision,
                records: share.records,
                first_sequence: share.first,
                last_sequence: share.last,
                hash: share.hash.value(),
                lost: share.lost,
                table: table.clone(),
                transactions: state.transactions,
                entries: state.entries,
                accounts: state.accounts,
                partial: !state.created,
            },
        })
        .collect();
    state.revision += 1;
    state.changed = false;
    state.reopened = false;
    seals
}

#[cfg(test)]
mod tests;
