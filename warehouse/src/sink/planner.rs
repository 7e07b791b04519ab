//! From canonical records to batches: which blocks a batch inserts, which statuses it records, where reading resumes. Pure.
//!
//! Blocks are held from their publication to their confirmation. A batch is everything that status and gap records between
//! two offsets of each partition ask for; so a batch can be rebuilt, byte by byte, from those offsets and the log. That is
//! what makes a repeated insert recognisable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event_log::Record;
use event_schema::{
    Blockhash, CanonicalEvent, Commitment, Slot, SlotAssembler, SlotBlock,
    seal::{Gap, GapReason},
};
use serde::{Deserialize, Serialize};

/// Where one partition stands after a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Offset after the last record whose effect is in this batch or an earlier one.
    pub applied_to: i64,
    /// Offset a reader starts at to have all blocks that were still held.
    pub resume_at: i64,
}

/// Extents by partition.
pub type Extents = BTreeMap<u32, Extent>;

/// A status to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusChange {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub commitment: Commitment,
    pub partition: u32,
    pub offset: i64,
    /// When the router wrote it, Unix milliseconds.
    pub timestamp_ms: i64,
}

/// A gap to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundGap {
    pub gap: Gap,
    pub partition: u32,
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// What one batch does, in the order of the slots.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Batch {
    pub blocks: Vec<Arc<SlotBlock>>,
    pub statuses: Vec<StatusChange>,
    pub gaps: Vec<FoundGap>,
    /// Slots whose rows go away. A batch that deletes inserts no blocks: repeated after a crash, it would delete them.
    pub deletes: Vec<Slot>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
            && self.statuses.is_empty()
            && self.gaps.is_empty()
            && self.deletes.is_empty()
    }

    /// Rough size, to bound a batch.
    pub fn transactions(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| block.transactions.len())
            .sum()
    }
}

struct Partition {
    assembler: SlotAssembler,
    /// Published, not yet confirmed or abandoned.
    held: BTreeMap<(Slot, Blockhash), Arc<SlotBlock>>,
    /// Records before this offset had their effect in an earlier batch; they are read again only for their blocks.
    applied_to: i64,
    next_offset: i64,
}

/// What pushing a record led to, beside what it added to the batch.
#[derive(Debug, PartialEq)]
pub enum Pushed {
    Taken,
    /// The record is against the contract: put it aside, with this reason.
    Damaged(String),
    /// The batch must be committed before this record; push it again afterwards.
    CommitFirst,
}

/// See the module.
#[derive(Default)]
pub struct Planner {
    partitions: BTreeMap<u32, Partition>,
    batch: Batch,
}

impl Planner {
    /// Continues after `extents`; partitions that are not in it start where they are first read.
    pub fn new(extents: &Extents) -> Self {
        let partitions = extents.iter().map(|(number, extent)| {
            let partition = Partition {
                assembler: SlotAssembler::new(),
                held: BTreeMap::new(),
                applied_to: extent.applied_to,
                next_offset: extent.resume_at,
            };
            (*number, partition)
        });
        Self {
            partitions: partitions.collect(),
            batch: Batch::default(),
        }
    }

    /// The batch so far.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Blocks waiting for their confirmation.
    pub fn held(&self) -> usize {
        self.partitions
            .values()
            .map(|partition| partition.held.len())
            .sum()
    }

    pub fn push(&mut self, record: &Record) -> Pushed {
        let number = record.position.partition;
        let offset = record.position.offset;
        let partition = self.partitions.entry(number).or_insert_with(|| Partition {
            assembler: SlotAssembler::new(),
            held: BTreeMap::new(),
            applied_to: offset,
            next_offset: offset,
        });
        if offset < partition.next_offset {
            return Pushed::Taken;
        }
        let applied = offset < partition.applied_to;
        let event = match partition
            .assembler
            .push(offset, &record.header, &record.value)
        {
            Ok(event) => event,
            Err(error) => {
                partition.next_offset = offset + 1;
                return if applied {
                    Pushed::Taken
                } else {
                    Pushed::Damaged(error.to_string())
                };
            }
        };
        match event {
            Some(CanonicalEvent::Block(block)) => {
                partition.held.insert((block.slot, block.blockhash), block);
            }
            Some(CanonicalEvent::Status {
                slot,
                blockhash,
                commitment,
                ..
            }) => {
                let deletes = commitment == Commitment::Abandoned
                    && !applied
                    && !partition.held.contains_key(&(slot, blockhash));
                if !applied && self.batch_conflicts(deletes) {
                    return Pushed::CommitFirst;
                }
                self.status(
                    number,
                    applied,
                    StatusChange {
                        slot,
                        blockhash,
                        commitment,
                        partition: number,
                        offset,
                        timestamp_ms: record.timestamp_ms,
                    },
                );
            }
            Some(CanonicalEvent::Gap { gap, offset }) if !applied => {
                self.batch.gaps.push(FoundGap {
                    gap,
                    partition: number,
                    offset,
                    timestamp_ms: record.timestamp_ms,
                });
            }
            Some(CanonicalEvent::Gap { .. }) | None => {}
        }
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.next_offset = offset + 1;
        }
        Pushed::Taken
    }

    /// A delete stands among deletes, an insert among inserts. Gaps stand with either: where they come in the order of several
    /// partitions must not matter, for a batch that is rebuilt is read in another one.
    fn batch_conflicts(&self, deletes: bool) -> bool {
        if deletes {
            !self.batch.statuses.is_empty() && self.batch.deletes.is_empty()
        } else {
            !self.batch.deletes.is_empty()
        }
    }

    fn status(&mut self, number: u32, applied: bool, change: StatusChange) {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        let key = (change.slot, change.blockhash);
        let held = match change.commitment {
            Commitment::Confirmed | Commitment::Abandoned => partition.held.remove(&key),
            Commitment::Finalized => None,
        };
        if applied {
            return;
        }
        match (change.commitment, held) {
            (Commitment::Confirmed, Some(block)) => self.batch.blocks.push(block),
            // Not held: it was confirmed earlier, or never seen. Deleting nothing is harmless.
            (Commitment::Abandoned, None) => self.batch.deletes.push(change.slot),
            _ => {}
        }
        self.batch.statuses.push(change);
    }

    /// Where the partitions stand with the current batch applied.
    pub fn extents(&self) -> Extents {
        self.partitions
            .iter()
            .map(|(number, partition)| {
                let applied_to = partition.next_offset.max(partition.applied_to);
                let held = partition
                    .held
                    .values()
                    .map(|block| block.first_offset)
                    .min();
                // In the middle of reading again, what is still to come may hold blocks too.
                let resume_at = [held, partition.assembler.open_since()]
                    .into_iter()
                    .flatten()
                    .fold(partition.next_offset, i64::min);
                (
                    *number,
                    Extent {
                        applied_to,
                        resume_at,
                    },
                )
            })
            .collect()
    }

    /// Takes the batch out, its parts in an order that does not depend on how partitions interleaved.
    pub fn take_batch(&mut self) -> Batch {
        for partition in self.partitions.values_mut() {
            partition.applied_to = partition.applied_to.max(partition.next_offset);
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch
            .blocks
            .sort_by_key(|block| (block.slot, block.blockhash));
        batch
            .statuses
            .sort_by_key(|status| (status.slot, status.offset));
        batch.gaps.sort_by_key(|gap| (gap.partition, gap.offset));
        batch.deletes = batch
            .deletes
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        batch
    }
}

/// The word of a gap's reason in the table.
pub fn gap_reason(gap: &Gap) -> &'static str {
    match gap.reason() {
        GapReason::Unknown => "unknown",
        GapReason::LostAtSource => "lost_at_source",
        GapReason::MissingRecords => "missing_records",
        GapReason::NeverSealed => "never_sealed",
    }
}

#[cfg(test)]
mod tests;
