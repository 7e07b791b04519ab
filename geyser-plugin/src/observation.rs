//! What travels from a callback to the worker: the record's bytes, and the few facts the slot ledger needs from it.

use event_schema::Kind;

use crate::lane::Lane;

/// Stands for "the snapshot" where losses are written down by slot: snapshot accounts carry the slot of their last write,
/// but are sealed together.
pub const STARTUP_SLOT: u64 = (1 << 37) - 1;

/// One callback's report.
#[derive(Debug)]
pub struct Observation {
    pub slot: u64,
    pub lane: Lane,
    pub key: Key,
    pub fact: Fact,
    /// The encoded `SubscribeUpdate`; empty in a [`Fact::EndOfStartup`], which is no record.
    pub value: Vec<u8>,
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
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Account | Self::StartupAccount => Some(Kind::Account),
            Self::Status(_) => Some(Kind::Slot),
            Self::Transaction => Some(Kind::Transaction),
            Self::Entry { .. } => Some(Kind::Entry),
            Self::Block { .. } => Some(Kind::BlockMeta),
            Self::EndOfStartup => None,
        }
    }
}

/// A record's key, inline: an address, a signature, or a slot.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    bytes: [u8; 64],
    length: u8,
}

impl Key {
    /// Bytes past the 64th are cut.
    pub fn new(key: &[u8]) -> Self {
        let length = key.len().min(64);
        let mut bytes = [0; 64];
        bytes[..length].copy_from_slice(&key[..length]);
        // At most 64.
        Self {
            bytes,
            length: length as u8,
        }
    }

    pub fn of_slot(slot: u64) -> Self {
        Self::new(&slot.to_be_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
