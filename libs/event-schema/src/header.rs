//! The one binary header of every record: readable without touching the value, written without allocating.
//!
//! All integers are little-endian. Observed, 62 bytes: version u8 (1), kind u8, flags u16 (0), slot u64, validator 32,
//! instance u64, sequence u64, spare u16 (0). Canonical, 48 bytes: version u8 (1), kind u8, flags u16 (0), slot u64,
//! blockhash 32, index u32.

use crate::identity::{Blockhash, Pubkey, Sequence, Slot, SourceId};

/// Key of the header in the Kafka record.
pub const HEADER_KEY: &str = "h";
/// The layout described above.
pub const HEADER_VERSION: u8 = 1;

/// What a record's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Account = 1,
    Slot = 2,
    Transaction = 3,
    Entry = 4,
    BlockMeta = 5,
    /// [`crate::Seal`] in an observed topic, [`crate::CanonicalSeal`] in the canonical one.
    Seal = 6,
    Gap = 7,
    /// Canonical only: the slot's block is now confirmed, finalized or abandoned.
    Status = 8,
    /// Part of a value that is longer than a record may be; see [`crate::chunk`].
    Chunk = 9,
    /// A transaction as it came in shreds, before it is executed. Its value is a `SubscribeUpdateDeshred`; see
    /// [`Kind::is_beside_blocks`].
    Deshred = 10,
    /// How a node of the cluster is reached, or that it is gone. Its value is a `SubscribeUpdateGossip`; see
    /// [`Kind::is_beside_blocks`]. It belongs to no slot: the header's is 0.
    ContactInfo = 11,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Account,
        Self::Slot,
        Self::Transaction,
        Self::Entry,
        Self::BlockMeta,
        Self::Seal,
        Self::Gap,
        Self::Status,
        Self::Chunk,
        Self::Deshred,
        Self::ContactInfo,
    ];

    /// The kinds whose values may be written as [`Self::Chunk`]s: those that a seal counts.
    pub const fn may_be_chunked(self) -> bool {
        matches!(
            self,
            Self::Account | Self::Slot | Self::Transaction | Self::Entry | Self::BlockMeta
        )
    }

    /// What a validator reports beside the chain: part of no block, counted by no seal, in no canonical record, never in
    /// chunks. Such a record takes its partition's next sequence like any other; one that was lost before it had a sequence
    /// is only counted by its source.
    pub const fn is_beside_blocks(self) -> bool {
        matches!(self, Self::Deshred | Self::ContactInfo)
    }

    /// Name for metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Slot => "slot",
            Self::Transaction => "transaction",
            Self::Entry => "entry",
            Self::BlockMeta => "block_meta",
            Self::Seal => "seal",
            Self::Gap => "gap",
            Self::Status => "status",
            Self::Chunk => "chunk",
            Self::Deshred => "deshred",
            Self::ContactInfo => "contact_info",
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = HeaderError;

    fn try_from(byte: u8) -> Result<Self, HeaderError> {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(HeaderError::Kind(byte))
    }
}

/// Why a record's header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("header has {got} bytes, expected {expected}")]
    Length { got: usize, expected: usize },
    #[error("header version {0} is not known to this release; upgrade the reader first")]
    Version(u8),
    #[error("kind {0} is not known to this release; upgrade the reader first")]
    Kind(u8),
}

/// Header of a record in an observed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedHeader {
    pub kind: Kind,
    pub slot: Slot,
    pub source: SourceId,
    /// Contiguous per (source, topic, partition), every chunk and the seals included.
    pub sequence: Sequence,
}

impl ObservedHeader {
    pub const LENGTH: usize = 62;

    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        out[0] = HEADER_VERSION;
        out[1] = self.kind as u8;
        out[4..12].copy_from_slice(&self.slot.0.to_le_bytes());
        out[12..44].copy_from_slice(&self.source.validator.0);
        out[44..52].copy_from_slice(&self.source.instance.to_le_bytes());
        out[52..60].copy_from_slice(&self.sequence.0.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; Self::LENGTH] = fixed(bytes)?;
        Ok(Self {
            kind: Kind::try_from(bytes[1])?,
            slot: Slot(u64_at(bytes, 4)),
            source: SourceId {
                validator: Pubkey(array_at(bytes, 12)),
                instance: u64_at(bytes, 44),
            },
            sequence: Sequence(u64_at(bytes, 52)),
        })
    }
}

/// Header of a record in the canonical topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalHeader {
    pub kind: Kind,
    pub slot: Slot,
    /// Names the fork together with the slot. All zero only in a [`Kind::Gap`] whose block is not known.
    pub blockhash: Blockhash,
    /// Counts the records of a published block from 0, every chunk and its seal included; 0 in status and gap records.
    pub index: u32,
}

impl CanonicalHeader {
    pub const LENGTH: usize = 48;

    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        out[0] = HEADER_VERSION;
        out[1] = self.kind as u8;
        out[4..12].copy_from_slice(&self.slot.0.to_le_bytes());
        out[12..44].copy_from_slice(&self.blockhash.0);
        out[44..48].copy_from_slice(&self.index.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; Self::LENGTH] = fixed(bytes)?;
        Ok(Self {
            kind: Kind::try_from(bytes[1])?,
            slot: Slot(u64_at(bytes, 4)),
            blockhash: Blockhash(array_at(bytes, 12)),
            index: u32::from_le_bytes(array_at(bytes, 44)),
        })
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], HeaderError> {
    let array: &[u8; N] = bytes.try_into().map_err(|_| HeaderError::Length {
        got: bytes.len(),
        expected: N,
    })?;
    match array[0] {
        HEADER_VERSION => Ok(array),
        other => Err(HeaderError::Version(other)),
    }
}

/// `N` bytes at a constant offset that the caller keeps within `bytes`.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn observed_headers_survive(kind in 1u8..=11, slot: u64, validator: [u8; 32], instance: u64, sequence: u64) {
            let header = ObservedHeader {
                kind: Kind::try_from(kind).unwrap(),
                slot: Slot(slot),
                source: SourceId { validator: Pubkey(validator), instance },
                sequence: Sequence(sequence),
            };
            prop_assert_eq!(ObservedHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn canonical_headers_survive(kind in 1u8..=11, slot: u64, blockhash: [u8; 32], index: u32) {
            let header = CanonicalHeader {
                kind: Kind::try_from(kind).unwrap(),
                slot: Slot(slot),
                blockhash: Blockhash(blockhash),
                index,
            };
            prop_assert_eq!(CanonicalHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = ObservedHeader::decode(&bytes);
            let _ = CanonicalHeader::decode(&bytes);
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = [0; CanonicalHeader::LENGTH];
        bytes[0] = 2;
        assert_eq!(
            CanonicalHeader::decode(&bytes),
            Err(HeaderError::Version(2))
        );
    }
}
