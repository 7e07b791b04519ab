//! The compacted accounts topic: what its records are, and the fold that turns them into the newest confirmed states.
//!
//! An account lies in partition [`crate::partition_of`] of its address. Its value is the account's `SubscribeUpdate`,
//! unchanged; the header is a [`CanonicalHeader`] with the slot and the block of the write, and the write's place among
//! the block's account writes as `index`.
//!
//! | record | key | value |
//! |---|---|---|
//! | a state | address | the update, [`Kind::Account`] |
//! | a state in chunks | address for the first, address ++ number (u32, big-endian) for the others | [`Kind::Chunk`] |
//! | nothing is known of the account, or it is closed for good | address | none (a tombstone) |
//! | a chunk that the newest state does not have | address ++ number | none |
//! | end of a transaction | [`AS_OF_KEY`] | [`AsOf`], [`Kind::Seal`] |
//!
//! Every transaction that writes to the topic ends with an [`AsOf`] in *every* partition. Between two of them a partition
//! is in the middle of a transaction; at one, it is the state as of that block. Of a chunked state that was replaced,
//! compaction may leave any part: chunks without their beginning are nothing.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use prost::Message;

use crate::{
    canonical::SlotBlock,
    chunk::{self, ChunkError, Piece},
    header::{CanonicalHeader, HeaderError, Kind},
    identity::{Blockhash, ParseIdentityError, Pubkey, Slot},
    proto::geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
};

pub mod repaired;

/// Key of the record that ends a transaction.
pub const AS_OF_KEY: [u8; 1] = [0];

/// Key of a state's record: the whole of it or its first chunk (0), or a later chunk.
pub fn key_of(account: &Pubkey, chunk: u32) -> Bytes {
    let mut key = Vec::with_capacity(Pubkey::LENGTH + 4);
    key.extend_from_slice(account.as_bytes());
    if chunk > 0 {
        key.extend_from_slice(&chunk.to_be_bytes());
    }
    key.into()
}

/// Up to where the state goes, and how to continue it from the canonical topic.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AsOf {
    /// The newest block that is in the state.
    #[prost(uint64, tag = "1")]
    pub slot: u64,
    /// 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub blockhash: Bytes,
    /// Counts the transactions of the topic: the same in every partition.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// The router's number of the newest telling that is in the state, as cursors count.
    #[prost(uint64, tag = "4")]
    pub telling: u64,
    /// The state knows of no write before this slot.
    #[prost(uint64, tag = "5")]
    pub since_slot: u64,
    /// Confirmed blocks that wait for an earlier one. While there are any, `telling` is before them.
    #[prost(uint32, tag = "6")]
    pub held_back: u32,
    /// By partition of the canonical topic: every block that is not in the state begins at or after this offset.
    #[prost(int64, repeated, tag = "7")]
    pub positions: Vec<i64>,
    /// Slots whose writes are not in the state, because no source had the block in time. An account that was written
    /// there and not since is older than it should be. The newest; what was forgotten is inside the first.
    #[prost(message, repeated, tag = "8")]
    pub holes: Vec<Hole>,
    /// Slots that were among the holes. An account that may have been written there was written again since, or has the
    /// state that an RPC node told of it later, marked. The newest.
    #[prost(message, repeated, tag = "9")]
    pub repaired: Vec<Hole>,
}

/// First and last slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Hole {
    #[prost(uint64, tag = "1")]
    pub first_slot: u64,
    /// Inclusive.
    #[prost(uint64, tag = "2")]
    pub last_slot: u64,
}

impl AsOf {
    /// Whether a block of the slot needs no folding: the state has it, or has given it up as part of a hole.
    pub fn covers(&self, slot: Slot) -> bool {
        slot.0 <= self.slot
    }
}

/// An account as it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    pub slot: Slot,
    pub blockhash: Blockhash,
    /// Place among the block's account writes; [`repaired::NO_WRITE`] when no source told the state.
    pub write: u32,
    /// The `SubscribeUpdate`.
    pub value: Bytes,
}

/// A record that breaks the topic's contract. The account keeps the state it had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountStateError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the key is no account's: {0}")]
    Key(#[from] ParseIdentityError),
    #[error("account {account}: {problem}")]
    Chunks {
        account: Pubkey,
        problem: ChunkError,
    },
    #[error("account {account}: a {} record in the accounts topic", .kind.as_str())]
    Kind { account: Pubkey, kind: Kind },
    #[error("an end of a transaction that cannot be decoded: {0}")]
    AsOf(String),
    #[error("partition {0} is not one of the topic's")]
    Partition(u32),
}

/// Folds the topic. Push each partition's records in order, as a `read_committed` reader gives them; several partitions
/// may be mixed. `keep` chooses the accounts to remember: it is asked at every write, so one that no longer fits goes.
#[derive(Debug)]
pub struct AccountStateReader<K> {
    keep: K,
    accounts: HashMap<Pubkey, AccountState>,
    bytes: usize,
    partitions: Vec<Partition>,
    stop_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Partition {
    as_of: Option<AsOf>,
    /// The last record pushed was an [`AsOf`].
    at_boundary: bool,
    set: Option<Set>,
    /// Past the common end.
    later: VecDeque<Pushed>,
}

type Pushed = (Bytes, Bytes, Bytes);

/// A chunked state that is being read.
#[derive(Debug)]
struct Set {
    account: Pubkey,
    header: CanonicalHeader,
    pieces: Vec<Piece>,
}

impl<K: FnMut(&Pubkey, &AccountState) -> bool> AccountStateReader<K> {
    pub fn new(partitions: u32, keep: K) -> Self {
        Self {
            keep,
            accounts: HashMap::new(),
            bytes: 0,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            stop_at: None,
        }
    }

    /// The next record of a partition. After an error the reader goes on with the next record.
    pub fn push(
        &mut self,
        partition: u32,
        (key, header, value): (Bytes, Bytes, Bytes),
    ) -> Result<(), AccountStateError> {
        let at = partition as usize;
        let Some(part) = self.partitions.get_mut(at) else {
            return Err(AccountStateError::Partition(partition));
        };
        if part.is_stopped(self.stop_at) {
            part.later.push_back((key, header, value));
            return Ok(());
        }
        self.fold(at, &key, &header, &value)
    }

    /// To be called when every partition was read to its end. From then on each stops at the end of the newest
    /// transaction that any of them has shown. Call again for a later one. `false`: there is none yet.
    pub fn stop_at_newest(&mut self) -> bool {
        let newest = self.partitions.iter().filter_map(Partition::sequence).max();
        self.stop_at = newest;
        newest.is_some()
    }

    /// The state's end, when every partition has stopped there: what [`Self::accounts`] has is exactly the state as of
    /// this block.
    pub fn as_of(&self) -> Option<&AsOf> {
        let all = self.partitions.iter();
        let stopped =
            self.stop_at.is_some() && all.clone().all(|part| part.is_stopped(self.stop_at));
        stopped.then(|| self.partitions.first()?.as_of.as_ref())?
    }

    /// Goes on with what came after the common end.
    pub fn release(&mut self) -> Result<(), AccountStateError> {
        self.stop_at = None;
        for at in 0..self.partitions.len() {
            for (key, header, value) in std::mem::take(&mut self.partitions[at].later) {
                self.fold(at, &key, &header, &value)?;
            }
        }
        Ok(())
    }

    pub fn accounts(&self) -> &HashMap<Pubkey, AccountState> {
        &self.accounts
    }

    pub fn into_accounts(self) -> HashMap<Pubkey, AccountState> {
        self.accounts
    }

    /// Of the values held, those of unfinished chunked states included.
    pub fn bytes(&self) -> usize {
        let sets = self.partitions.iter().filter_map(|part| part.set.as_ref());
        let pieces = sets.flat_map(|set| &set.pieces);
        self.bytes + pieces.map(|piece| piece.data.len()).sum::<usize>()
    }

    /// Continues the state, once it has stopped at its end, with a *confirmed* block of the canonical topic. A block that the
    /// state covers is left alone, and an account that a later block wrote stays, so blocks may come in the order in which they are confirmed.
    pub fn fold_block(&mut self, block: &SlotBlock) {
        if self.as_of().is_none_or(|as_of| as_of.covers(block.slot)) {
            return;
        }
        for (write, account) in (0..).zip(&block.accounts) {
            let Some(info) = &account.account else {
                continue;
            };
            let Ok(key) = Pubkey::try_from(info.pubkey.as_slice()) else {
                continue;
            };
            let newer = self.accounts.get(&key);
            if newer.is_some_and(|newer| newer.slot > block.slot) {
                continue;
            }
            let update = SubscribeUpdate {
                update_oneof: Some(UpdateOneof::Account(account.clone())),
                ..SubscribeUpdate::default()
            };
            let state = AccountState {
                slot: block.slot,
                blockhash: block.blockhash,
                write,
                value: update.encode_to_vec().into(),
            };
            self.set(key, state);
        }
    }

    fn fold(
        &mut self,
        at: usize,
        key: &Bytes,
        header: &[u8],
        value: &Bytes,
    ) -> Result<(), AccountStateError> {
        let part = &mut self.partitions[at];
        part.at_boundary = false;
        if key.as_ref() == AS_OF_KEY {
            let as_of = AsOf::decode(value.clone())
                .map_err(|error| AccountStateError::AsOf(error.to_string()))?;
            part.as_of = Some(as_of);
            part.at_boundary = true;
            part.set = None;
            return Ok(());
        }
        let (address, chunk) = key.split_at(key.len().min(Pubkey::LENGTH));
        let account = Pubkey::try_from(address)?;
        if !chunk.is_empty() {
            // A tombstone of a chunk says nothing: which chunks a state has, its first one tells.
            if value.is_empty() {
                return Ok(());
            }
            return self.continue_set(at, account, header, value);
        }
        part.set = None;
        if value.is_empty() {
            self.remove(&account);
            return Ok(());
        }
        let header = CanonicalHeader::decode(header)?;
        match header.kind {
            Kind::Account => {
                self.set(account, state_of(&header, value.clone()));
                Ok(())
            }
            Kind::Chunk => {
                let problem = |problem| AccountStateError::Chunks { account, problem };
                let piece = Piece::read(value).map_err(problem)?;
                self.partitions[at].set = Some(Set {
                    account,
                    header,
                    pieces: vec![piece],
                });
                self.finish_set(at)
            }
            kind => Err(AccountStateError::Kind { account, kind }),
        }
    }

    fn continue_set(
        &mut self,
        at: usize,
        account: Pubkey,
        header: &[u8],
        value: &Bytes,
    ) -> Result<(), AccountStateError> {
        let header = CanonicalHeader::decode(header)?;
        let problem = |problem| AccountStateError::Chunks { account, problem };
        let piece = Piece::read(value).map_err(problem)?;
        let set = &mut self.partitions[at].set;
        let continues = set.as_ref().is_some_and(|set| {
            set.account == account
                && set.header == header
                && piece.index as usize == set.pieces.len()
                && set.pieces.first().is_some_and(|first| first.fits(&piece))
        });
        if !continues {
            // Left over by compaction.
            *set = None;
            return Ok(());
        }
        if let Some(set) = set {
            set.pieces.push(piece);
        }
        self.finish_set(at)
    }

    fn finish_set(&mut self, at: usize) -> Result<(), AccountStateError> {
        let set = &mut self.partitions[at].set;
        let finished = set.as_ref().is_some_and(|set| {
            let first = set.pieces.first();
            first.is_some_and(|first| set.pieces.len() as u32 == first.count)
        });
        if !finished {
            return Ok(());
        }
        let Some(set) = set.take() else {
            return Ok(());
        };
        let account = set.account;
        let value = chunk::join(&set.pieces)
            .map_err(|problem| AccountStateError::Chunks { account, problem })?;
        self.set(account, state_of(&set.header, value));
        Ok(())
    }

    fn set(&mut self, account: Pubkey, state: AccountState) {
        if !(self.keep)(&account, &state) {
            return self.remove(&account);
        }
        self.bytes += state.value.len();
        if let Some(before) = self.accounts.insert(account, state) {
            self.bytes -= before.value.len();
        }
    }

    fn remove(&mut self, account: &Pubkey) {
        if let Some(before) = self.accounts.remove(account) {
            self.bytes -= before.value.len();
        }
    }
}

impl Partition {
    fn sequence(&self) -> Option<u64> {
        self.as_of.as_ref().map(|as_of| as_of.sequence)
    }

    fn is_stopped(&self, stop_at: Option<u64>) -> bool {
        let reached = |stop_at| self.sequence().is_some_and(|sequence| sequence >= stop_at);
        self.at_boundary && stop_at.is_some_and(reached)
    }
}

fn state_of(header: &CanonicalHeader, value: Bytes) -> AccountState {
    AccountState {
        slot: header.slot,
        blockhash: header.blockhash,
        write: header.index,
        value,
    }
}

#[cfg(test)]
mod tests;
