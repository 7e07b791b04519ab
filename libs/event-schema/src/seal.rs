//! Seals make loss provable: they count what a source wrote for a slot, partition by partition.
//!
//! `records`, sequences and hashes are about records: a value written in chunks counts once per chunk, and the hash goes
//! over each chunk's own value. `transactions`, `entries` and `accounts` are about what the source saw: there a value
//! counts once, in however many chunks it was written.

use crate::identity::{Blockhash, Slot};

/// Appended by the plugin to every partition it wrote for a slot, when the slot is complete at the source.
///
/// A record that comes after its seal is followed by an amended seal (`revision` + 1) in every partition of the slot.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Seal {
    #[prost(uint64, tag = "1")]
    pub slot: u64,
    /// 0 for the first seal of the slot; the greatest revision counts.
    #[prost(uint32, tag = "2")]
    pub revision: u32,
    /// Records of this slot in this partition: each chunk is one, seals are none.
    #[prost(uint64, tag = "3")]
    pub records: u64,
    /// Sequence of the first of them. What lies before it in the partition belongs to an earlier execution of the slot, and is
    /// not part of its block; a partition that only such records lie in is sealed with 0 records and the sequence after them.
    #[prost(uint64, tag = "4")]
    pub first_sequence: u64,
    /// Sequence of the last of them.
    #[prost(uint64, tag = "5")]
    pub last_sequence: u64,
    /// [`SealHash`] over them in sequence order.
    #[prost(uint64, tag = "6")]
    pub hash: u64,
    /// Callbacks of this slot that were counted but could not be kept, in this partition.
    #[prost(uint64, tag = "7")]
    pub lost: u64,
    /// All partitions the source wrote for this slot, this one included.
    #[prost(message, repeated, tag = "8")]
    pub table: Vec<SealedPartition>,
    /// Transactions the source saw in the slot.
    #[prost(uint64, tag = "9")]
    pub transactions: u64,
    /// Entries the source saw in the slot.
    #[prost(uint64, tag = "10")]
    pub entries: u64,
    /// Account updates the source saw in the slot.
    #[prost(uint64, tag = "11")]
    pub accounts: u64,
    /// The source did not see the slot begin: it was loaded while the slot was executed. What came before is not counted, so
    /// the slot is not whole, whatever the counts say.
    #[prost(bool, tag = "12")]
    pub partial: bool,
}

/// One row of a seal's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct SealedPartition {
    /// [`crate::ObservedTopic`] as a number.
    #[prost(uint32, tag = "1")]
    pub topic: u32,
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Records of the slot in that partition: each chunk is one, seals are none.
    #[prost(uint64, tag = "3")]
    pub records: u64,
    /// Callbacks of the slot that belonged there and were lost.
    #[prost(uint64, tag = "4")]
    pub lost: u64,
}

/// Closes a block in the canonical topic. It counts whole values, in however many chunks they were written.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct CanonicalSeal {
    #[prost(uint64, tag = "1")]
    pub slot: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub blockhash: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub parent_slot: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_blockhash: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub transactions: u64,
    #[prost(uint64, tag = "6")]
    pub entries: u64,
    #[prost(uint64, tag = "7")]
    pub accounts: u64,
    /// The sources whose observations agreed on it when it was published, as `validator/instance`.
    #[prost(string, repeated, tag = "8")]
    pub sources: Vec<String>,
    /// The block was completed from somewhere else than a plugin (a second source's records, RPC).
    #[prost(bool, tag = "9")]
    pub repaired: bool,
}

/// A hole in the stream, with its exact extent.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Gap {
    #[prost(uint64, tag = "1")]
    pub first_slot: u64,
    /// Inclusive.
    #[prost(uint64, tag = "2")]
    pub last_slot: u64,
    /// Records known to be missing; 0 when not known.
    #[prost(uint64, tag = "3")]
    pub records: u64,
    #[prost(enumeration = "GapReason", tag = "4")]
    pub reason: i32,
    /// The source with the hole, as `validator/instance`; empty when all have it.
    #[prost(string, tag = "5")]
    pub source: String,
    /// For people.
    #[prost(string, tag = "6")]
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum GapReason {
    Unknown = 0,
    /// The source's seal counts records that it lost before the log.
    LostAtSource = 1,
    /// The seal counts records that are not in the log.
    MissingRecords = 2,
    /// The slot was rooted, but no source sealed it.
    NeverSealed = 3,
}

/// Rolling 64-bit hash (FNV-1a over whole records) that shows records were neither exchanged nor reordered. It guards
/// against accidents, not against an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealHash(u64);

impl Default for SealHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl SealHash {
    /// `checksum` is the CRC-32 of the record's value: of a chunk, its own, envelope included.
    pub fn add(&mut self, sequence: u64, checksum: u32) {
        for byte in sequence
            .to_le_bytes()
            .into_iter()
            .chain(checksum.to_le_bytes())
        {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

impl CanonicalSeal {
    pub fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    /// `None` when the seal was damaged.
    pub fn blockhash(&self) -> Option<Blockhash> {
        Blockhash::try_from(self.blockhash.as_slice()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_and_content() {
        let mut one = SealHash::default();
        one.add(1, 10);
        one.add(2, 20);
        let mut swapped = SealHash::default();
        swapped.add(2, 20);
        swapped.add(1, 10);
        let mut other = SealHash::default();
        other.add(1, 10);
        other.add(2, 21);
        assert_ne!(one, swapped);
        assert_ne!(one, other);
    }
}
