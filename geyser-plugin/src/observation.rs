//! What travels from a callback to the worker, and how it lies in the ring.
//!
//! A record's bytes: one word per output that records it (for its sequence, [`UNNUMBERED`] until the worker has given one),
//! the hash of an entry or block, the key, the value.

use event_schema::Kind;

use crate::ring::{Held, Note};

/// Stands for "the snapshot" where losses are written down by slot: snapshot accounts carry the slot of their last write,
/// but are sealed together.
pub const STARTUP_SLOT: u64 = (1 << 37) - 1;

/// In the place of a sequence that was not given yet.
pub const UNNUMBERED: u64 = u64::MAX;

/// In the place of a sequence when the output's record is acknowledged, on disk, or given up.
pub const DONE: u64 = u64::MAX - 1;

/// Which outputs a callback concerns, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outputs(pub u8);

impl Outputs {
    /// As many as bits.
    pub const MAX: usize = 8;

    pub const fn first(count: usize) -> Self {
        Self(((1_u16 << count) - 1) as u8)
    }

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn contains(self, output: usize) -> bool {
        self.0 >> output & 1 == 1
    }

    /// Which word of a record is this output's.
    pub const fn word(self, output: usize) -> usize {
        (self.0 & (((1_u16 << output) - 1) as u8)).count_ones() as usize
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |output| self.contains(*output))
    }
}

/// What the slot ledger must know of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    Account,
    /// From the snapshot, before the validator follows the chain.
    StartupAccount,
    Status(Life),
    Transaction,
    Entry {
        index: u64,
        hash: [u8; 32],
    },
    Block {
        blockhash: [u8; 32],
        transactions: u64,
        /// 0 when the validator does not say: it reports no entry count for the blocks it led itself.
        entries: u64,
    },
    /// All snapshot accounts were reported.
    EndOfStartup,
    /// Out of shreds, before it is executed: of no block yet.
    Deshred,
    /// Of a node of the cluster: of no slot at all.
    ContactInfo,
}

/// What a slot status means for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Only shreds so far.
    Announced,
    /// Execution begins, perhaps again.
    Created,
    /// Executed and voted on; all its transactions were reported.
    Settled,
    Rooted,
    Dead,
}

impl Fact {
    /// `None` for what is not a record.
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Account | Self::StartupAccount => Some(Kind::Account),
            Self::Status(_) => Some(Kind::Slot),
            Self::Transaction => Some(Kind::Transaction),
            Self::Entry { .. } => Some(Kind::Entry),
            Self::Block { .. } => Some(Kind::BlockMeta),
            Self::Deshred => Some(Kind::Deshred),
            Self::ContactInfo => Some(Kind::ContactInfo),
            Self::EndOfStartup => None,
        }
    }

    const fn tag(&self) -> u8 {
        match self {
            Self::Account => 1,
            Self::StartupAccount => 2,
            Self::Transaction => 3,
            Self::Entry { .. } => 4,
            Self::Block { .. } => 5,
            Self::EndOfStartup => 6,
            Self::Status(Life::Announced) => 7,
            Self::Status(Life::Created) => 8,
            Self::Status(Life::Settled) => 9,
            Self::Status(Life::Rooted) => 10,
            Self::Status(Life::Dead) => 11,
            // 12 is a seal's, see `placing.rs`.
            Self::Deshred => 13,
            Self::ContactInfo => 14,
        }
    }

    const fn hash(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Entry { hash, .. }
            | Self::Block {
                blockhash: hash, ..
            } => Some(hash),
            _ => None,
        }
    }
}

/// One callback's report, as it lies in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation<'a> {
    pub slot: u64,
    pub fact: Fact,
    /// Outputs that record it.
    pub recorded: Outputs,
    /// Outputs that take note of it, those that record it included: a transaction that an output filters away still counts
    /// towards the completeness of its slot.
    pub seen: Outputs,
    pub key: &'a [u8],
    /// The encoded message; empty when nobody records it.
    pub value: &'a [u8],
}

/// Everything of a record but its value.
#[derive(Debug, Clone, Copy)]
pub struct Front<'a> {
    pub slot: u64,
    pub fact: Fact,
    pub recorded: Outputs,
    pub seen: Outputs,
    /// At most 64 bytes.
    pub key: &'a [u8],
}

impl Front<'_> {
    /// Bytes before the value.
    pub fn length(&self) -> usize {
        let hash = if self.fact.hash().is_some() { 32 } else { 0 };
        self.recorded.count() * 8 + hash + self.key.len()
    }

    /// Writes what comes before the value; `room` has at least [`Front::length`] bytes. Returns the rest.
    pub fn write<'r>(&self, room: &'r mut [u8]) -> &'r mut [u8] {
        let (front, rest) = room.split_at_mut(self.length());
        let (words, behind) = front.split_at_mut(self.recorded.count() * 8);
        for word in words.chunks_exact_mut(8) {
            word.copy_from_slice(&UNNUMBERED.to_ne_bytes());
        }
        let key = match self.fact.hash() {
            Some(hash) => {
                let (place, key) = behind.split_at_mut(32);
                place.copy_from_slice(hash);
                key
            }
            None => behind,
        };
        key.copy_from_slice(self.key);
        rest
    }

    pub fn note(&self) -> Note {
        let (a, b) = match self.fact {
            Fact::Entry { index, .. } => (index, 0),
            Fact::Block {
                transactions,
                entries,
                ..
            } => (transactions, entries),
            _ => (0, 0),
        };
        Note {
            slot: self.slot,
            a,
            b,
            tag: self.fact.tag(),
            // At most 64.
            head: self.key.len() as u8,
            x: self.recorded.0,
            y: self.seen.0,
        }
    }
}

impl<'a> Observation<'a> {
    /// `None` for a record that was given up while it was written, or whose bytes make no sense.
    pub fn read(held: Held<'a>) -> Option<Self> {
        let note = held.note();
        let recorded = Outputs(note.x);
        let bytes = held.bytes(recorded.count());
        let (hash, bytes) = match note.tag {
            4 | 5 => {
                let (hash, rest) = bytes.split_at_checked(32)?;
                (hash.try_into().ok()?, rest)
            }
            _ => ([0; 32], bytes),
        };
        let (key, value) = bytes.split_at_checked(note.head.into())?;
        Some(Self {
            slot: note.slot,
            fact: fact_of(&note, hash)?,
            recorded,
            seen: Outputs(note.y),
            key,
            value,
        })
    }
}

fn fact_of(note: &Note, hash: [u8; 32]) -> Option<Fact> {
    Some(match note.tag {
        1 => Fact::Account,
        2 => Fact::StartupAccount,
        3 => Fact::Transaction,
        4 => Fact::Entry {
            index: note.a,
            hash,
        },
        5 => Fact::Block {
            blockhash: hash,
            transactions: note.a,
            entries: note.b,
        },
        6 => Fact::EndOfStartup,
        7 => Fact::Status(Life::Announced),
        8 => Fact::Status(Life::Created),
        9 => Fact::Status(Life::Settled),
        10 => Fact::Status(Life::Rooted),
        11 => Fact::Status(Life::Dead),
        13 => Fact::Deshred,
        14 => Fact::ContactInfo,
        _ => return None,
    })
}

/// The kind of a record in the ring, from its note alone.
pub fn kind_of(note: &Note) -> Option<Kind> {
    fact_of(note, [0; 32])?.kind()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event_schema::SourceId;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ring::{Ring, Which},
        shared_memory::{SharedMemory, Sizes},
    };

    fn fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            Just(Fact::Account),
            Just(Fact::StartupAccount),
            Just(Fact::Transaction),
            Just(Fact::EndOfStartup),
            Just(Fact::Deshred),
            Just(Fact::ContactInfo),
            (any::<u64>(), any::<[u8; 32]>()).prop_map(|(index, hash)| Fact::Entry { index, hash }),
            (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(
                |(blockhash, transactions, entries)| Fact::Block {
                    blockhash,
                    transactions,
                    entries
                }
            ),
            prop_oneof![
                Just(Life::Announced),
                Just(Life::Created),
                Just(Life::Settled),
                Just(Life::Rooted),
                Just(Life::Dead)
            ]
            .prop_map(Fact::Status),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            slot: u64, fact in fact(), recorded: u8, seen: u8,
            key in proptest::collection::vec(any::<u8>(), 0..=64), value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let sizes = Sizes { records: 2, record_bytes: 1024, seals: 1, seal_bytes: 64 };
            let ring = Ring::new(Arc::new(SharedMemory::anonymous(sizes, SourceId::default(), &[]).unwrap()), Which::Records);
            let front = Front { slot, fact, recorded: Outputs(recorded), seen: Outputs(seen), key: &key };
            let mut room = ring.reserve(front.length() + value.len()).unwrap();
            front.write(room.room())[..value.len()].copy_from_slice(&value);
            room.commit(front.note(), front.length() + value.len());
            let held = ring.get(0).unwrap();
            for word in 0..recorded.count_ones() as usize {
                prop_assert_eq!(held.word(word).unwrap().load(std::sync::atomic::Ordering::Relaxed), UNNUMBERED);
            }
            prop_assert_eq!(Observation::read(held), Some(Observation {
                slot, fact, recorded: Outputs(recorded), seen: Outputs(seen), key: &key, value: &value,
            }));
            prop_assert_eq!(kind_of(&front.note()), fact.kind());
        }
    }
}
