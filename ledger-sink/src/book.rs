//! What to do about each canonical record of one partition. Pure.
//!
//! A block is held from its arrival until it is confirmed, then written; finality and abandonment follow. The position to
//! resume from is the first record of the oldest block still held, so that a crash loses nothing; what is read twice is
//! recognised by slot and blockhash when it is written.
//!
//! Held blocks are bounded. Beyond the bound the oldest one's content is let go; if it is confirmed after all, the
//! partition is read again from there.

use std::collections::{BTreeMap, BTreeSet};

use event_log::Record;
use event_schema::canonical::AssemblyError;
use event_schema::{Blockhash, CanonicalEvent, Commitment, Gap, Slot, SlotAssembler};

use crate::entry::{BlockEntry, block_entry};
use crate::token_instructions::KnownKeys;

pub type BlockId = (Slot, Blockhash);

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write the block's entries.
    Post(Box<BlockEntry>),
    Finalize(BlockId),
    /// Reverse what was written of the block, if anything.
    Abandon(BlockId),
    Gap {
        gap: Gap,
        offset: i64,
    },
    /// Continue reading at this offset; what was held from there on is dropped and will come again.
    Reread(i64),
}

pub struct PartitionBook {
    known: KnownKeys,
    assembler: SlotAssembler,
    held: BTreeMap<BlockId, Held>,
    /// Confirmed while their content was gone: written as soon as they are read again.
    confirmed_ahead: BTreeSet<BlockId>,
    next_offset: i64,
    held_max: usize,
}

enum Held {
    Whole(Box<BlockEntry>),
    Dropped { first_offset: i64 },
}

impl Held {
    fn first_offset(&self) -> i64 {
        match self {
            Held::Whole(entry) => entry.first_offset,
            Held::Dropped { first_offset } => *first_offset,
        }
    }
}

impl PartitionBook {
    pub fn new(next_offset: i64, held_max: usize) -> Self {
        Self {
            known: KnownKeys::new(),
            assembler: SlotAssembler::new(),
            held: BTreeMap::new(),
            confirmed_ahead: BTreeSet::new(),
            next_offset,
            held_max: held_max.max(1),
        }
    }

    /// The offset to start from after a crash now.
    pub fn resume_offset(&self) -> i64 {
        let held = self.held.values().map(Held::first_offset);
        held.chain(self.assembler.open_since())
            .min()
            .unwrap_or(self.next_offset)
            .min(self.next_offset)
    }

    /// The offset of the next record this book expects.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn held_blocks(&self) -> usize {
        self.held.len()
    }

    /// The actions this record calls for, in order. An error means the record (or the block it closes) is poison.
    pub fn push(&mut self, record: &Record) -> Result<Vec<Action>, AssemblyError> {
        let offset = record.position.offset;
        self.next_offset = self.next_offset.max(offset + 1);
        let Some(event) = self.assembler.push(offset, &record.header, &record.value)? else {
            return Ok(Vec::new());
        };
        Ok(match event {
            CanonicalEvent::Block(block) => {
                let entry = Box::new(block_entry(&block, &self.known));
                let id = (block.slot, block.blockhash);
                if self.confirmed_ahead.remove(&id) {
                    return Ok(vec![Action::Post(entry)]);
                }
                self.held.insert(id, Held::Whole(entry));
                self.bound();
                Vec::new()
            }
            CanonicalEvent::Status {
                slot,
                blockhash,
                commitment,
                ..
            } => self.status((slot, blockhash), commitment),
            CanonicalEvent::Gap { gap, offset } => vec![Action::Gap { gap, offset }],
        })
    }

    fn status(&mut self, id: BlockId, commitment: Commitment) -> Vec<Action> {
        let held = self.held.remove(&id);
        match commitment {
            Commitment::Abandoned => {
                self.confirmed_ahead.remove(&id);
                vec![Action::Abandon(id)]
            }
            Commitment::Confirmed => self.act(id, held),
            Commitment::Finalized => {
                // Confirmed comes before finalized, but a reader may have started between the two.
                let mut actions = self.act(id, held);
                if !matches!(actions.last(), Some(Action::Reread(_))) {
                    actions.push(Action::Finalize(id));
                }
                actions
            }
        }
    }

    fn act(&mut self, id: BlockId, held: Option<Held>) -> Vec<Action> {
        match held {
            // Written before the last restart, or from before this ledger's beginning.
            None => Vec::new(),
            Some(Held::Whole(entry)) => vec![Action::Post(entry)],
            Some(Held::Dropped { first_offset }) => {
                self.confirmed_ahead.insert(id);
                // What lies before is not read again, so it stays.
                self.held
                    .retain(|_, held| held.first_offset() < first_offset);
                self.assembler = SlotAssembler::new();
                self.next_offset = first_offset;
                vec![Action::Reread(first_offset)]
            }
        }
    }

    fn bound(&mut self) {
        while self
            .held
            .values()
            .filter(|held| matches!(held, Held::Whole(_)))
            .count()
            > self.held_max
        {
            let oldest = self
                .held
                .values_mut()
                .find(|held| matches!(held, Held::Whole(_)));
            if let Some(held) = oldest {
                *held = Held::Dropped {
                    first_offset: held.first_offset(),
                };
            }
        }
    }
}
