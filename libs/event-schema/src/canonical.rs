//! Canonical records → whole blocks and their fate, for the sinks.
//!
//! One [`SlotAssembler`] serves one partition of the canonical topic. Push its records in order; it answers with events.
//! A reader that starts in the middle of a block skips the rest of it and says so. Values that were written in chunks
//! come out whole: a sink never sees a chunk.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::{
    header::{CanonicalHeader, HeaderError, Kind},
    identity::{Blockhash, Slot},
    proto::geyser::{
        SlotStatus, SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateBlockMeta,
        SubscribeUpdateEntry, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
    },
    reassembly::{Broken, Reassembled, Reassembler},
    seal::{CanonicalSeal, Gap},
};

/// A block as the router published it: complete, ordered, on one fork.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotBlock {
    pub slot: Slot,
    pub blockhash: Blockhash,
    /// Offset of the block's first record: a reader that must see the block again starts here.
    pub first_offset: i64,
    /// Offset after the block's last record.
    pub next_offset: i64,
    /// By write version.
    pub accounts: Vec<SubscribeUpdateAccount>,
    /// By index.
    pub transactions: Vec<SubscribeUpdateTransactionInfo>,
    /// By index.
    pub entries: Vec<SubscribeUpdateEntry>,
    pub meta: SubscribeUpdateBlockMeta,
    pub seal: CanonicalSeal,
}

/// What became of a block after it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Commitment {
    Confirmed,
    Finalized,
    /// Not on the chain: dead, or beside the root.
    Abandoned,
}

#[derive(Debug, Clone, PartialEq)]
pub enum CanonicalEvent {
    Block(Arc<SlotBlock>),
    Status {
        slot: Slot,
        blockhash: Blockhash,
        commitment: Commitment,
        offset: i64,
    },
    Gap {
        gap: Gap,
        offset: i64,
    },
}

/// A record that breaks the topic's contract. The sink dead-letters it and goes on; the block it belongs to is given up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AssemblyError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{kind:?} record of slot {slot}: {problem}")]
    Value {
        kind: Kind,
        slot: Slot,
        problem: String,
    },
    #[error("slot {slot}: record {got} where {expected} was due; the block is given up")]
    Order { slot: Slot, expected: u32, got: u32 },
    #[error("slot {slot}: {broken}; the block is given up")]
    Chunks { slot: Slot, broken: Broken },
    #[error(
        "slot {slot}: its seal counts {sealed} {what}, {read} were read; the block is given up"
    )]
    Count {
        slot: Slot,
        what: &'static str,
        sealed: u64,
        read: u64,
    },
}

#[derive(Debug)]
struct Open {
    slot: Slot,
    blockhash: Blockhash,
    first_offset: i64,
    next_index: u32,
    chunks: Reassembler,
    accounts: Vec<SubscribeUpdateAccount>,
    transactions: Vec<SubscribeUpdateTransactionInfo>,
    entries: Vec<SubscribeUpdateEntry>,
    meta: Option<SubscribeUpdateBlockMeta>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SlotAssembler {
    open: Option<Open>,
    skipped: u64,
}

impl SlotAssembler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that belonged to a block whose beginning was not read.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Offset of the first record of the block being read; `None` between blocks.
    pub fn open_since(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.first_offset)
    }

    /// `header` and `value` are those of the record at `offset`.
    pub fn push(
        &mut self,
        offset: i64,
        header: &[u8],
        value: &Bytes,
    ) -> Result<Option<CanonicalEvent>, AssemblyError> {
        let header = CanonicalHeader::decode(header)?;
        match header.kind {
            Kind::Status => status(&header, value, offset).map(Some),
            Kind::Gap => {
                let gap = Gap::decode(value.as_ref())
                    .map_err(|error| damaged(&header, error.to_string()))?;
                Ok(Some(CanonicalEvent::Gap { gap, offset }))
            }
            Kind::Slot => Err(damaged(&header, "slot records are not canonical".into())),
            _ => self.block_record(&header, value, offset),
        }
    }

    fn block_record(
        &mut self,
        header: &CanonicalHeader,
        value: &Bytes,
        offset: i64,
    ) -> Result<Option<CanonicalEvent>, AssemblyError> {
        if header.index == 0 {
            self.open = Some(Open {
                slot: header.slot,
                blockhash: header.blockhash,
                first_offset: offset,
                next_index: 0,
                chunks: Reassembler::new(),
                accounts: Vec::new(),
                transactions: Vec::new(),
                entries: Vec::new(),
                meta: None,
            });
        }
        let Some(mut open) = self.open.take() else {
            self.skipped += 1;
            return Ok(None);
        };
        if (open.slot, open.blockhash) != (header.slot, header.blockhash)
            || open.next_index != header.index
        {
            return Err(AssemblyError::Order {
                slot: header.slot,
                expected: open.next_index,
                got: header.index,
            });
        }
        let index = u64::from(header.index);
        let Reassembled { whole, broken } =
            open.chunks.push(header.kind, header.slot, index, value);
        if let Some(broken) = broken {
            return Err(AssemblyError::Chunks {
                slot: header.slot,
                broken,
            });
        }
        open.next_index += 1;
        if let Some(whole) = whole {
            let header = CanonicalHeader {
                kind: whole.kind,
                ..*header
            };
            if header.kind == Kind::Seal {
                let seal = CanonicalSeal::decode(whole.value)
                    .map_err(|error| damaged(&header, error.to_string()))?;
                return close(open, seal, &header, offset)
                    .map(|block| Some(CanonicalEvent::Block(block)));
            }
            take(&mut open, &header, &whole.value)?;
        }
        self.open = Some(open);
        Ok(None)
    }
}

fn take(open: &mut Open, header: &CanonicalHeader, value: &Bytes) -> Result<(), AssemblyError> {
    let update = SubscribeUpdate::decode(value.as_ref())
        .map_err(|error| damaged(header, error.to_string()))?;
    match (header.kind, update.update_oneof) {
        (Kind::Account, Some(UpdateOneof::Account(account))) => open.accounts.push(account),
        (Kind::Transaction, Some(UpdateOneof::Transaction(update))) => {
            let transaction = update
                .transaction
                .ok_or_else(|| damaged(header, "no transaction in the update".into()))?;
            open.transactions.push(transaction);
        }
        (Kind::Entry, Some(UpdateOneof::Entry(entry))) => open.entries.push(entry),
        (Kind::BlockMeta, Some(UpdateOneof::BlockMeta(meta))) => open.meta = Some(meta),
        _ => {
            return Err(damaged(
                header,
                "the value is not what the header says".into(),
            ));
        }
    }
    Ok(())
}

fn close(
    open: Open,
    seal: CanonicalSeal,
    header: &CanonicalHeader,
    offset: i64,
) -> Result<Arc<SlotBlock>, AssemblyError> {
    for (what, sealed, read) in [
        ("accounts", seal.accounts, open.accounts.len()),
        ("transactions", seal.transactions, open.transactions.len()),
        ("entries", seal.entries, open.entries.len()),
    ] {
        if sealed != read as u64 {
            return Err(AssemblyError::Count {
                slot: header.slot,
                what,
                sealed,
                read: read as u64,
            });
        }
    }
    let meta = open
        .meta
        .ok_or_else(|| damaged(header, "no block metadata before the seal".into()))?;
    Ok(Arc::new(SlotBlock {
        slot: open.slot,
        blockhash: open.blockhash,
        first_offset: open.first_offset,
        next_offset: offset + 1,
        accounts: open.accounts,
        transactions: open.transactions,
        entries: open.entries,
        meta,
        seal,
    }))
}

fn status(
    header: &CanonicalHeader,
    value: &Bytes,
    offset: i64,
) -> Result<CanonicalEvent, AssemblyError> {
    let update = SubscribeUpdate::decode(value.as_ref())
        .map_err(|error| damaged(header, error.to_string()))?;
    let Some(UpdateOneof::Slot(update)) = update.update_oneof else {
        return Err(damaged(header, "a status without a slot update".into()));
    };
    let commitment = match update.status() {
        SlotStatus::SlotConfirmed => Commitment::Confirmed,
        SlotStatus::SlotFinalized => Commitment::Finalized,
        SlotStatus::SlotDead => Commitment::Abandoned,
        other => {
            return Err(damaged(
                header,
                format!("status {other:?} is not canonical"),
            ));
        }
    };
    Ok(CanonicalEvent::Status {
        slot: header.slot,
        blockhash: header.blockhash,
        commitment,
        offset,
    })
}

fn damaged(header: &CanonicalHeader, problem: String) -> AssemblyError {
    AssemblyError::Value {
        kind: header.kind,
        slot: header.slot,
        problem,
    }
}

#[cfg(test)]
mod tests;
