//! Votes that landed, as `voteSubscribe` shows them.
//!
//! A validator tells votes when it first hears of them, mostly by gossip: also such as never land in a block. The stream
//! holds blocks, so votes are told when a block with them is published, if they succeeded. The notification is the same;
//! like the validator's, it comes once for each voter, last voted slot and hash.
//!
//! The instruction is read here and not by Agave's parser, because a block has a vote of every validator and the parser
//! makes JSON of each first. That both read the same is a test.

use std::collections::{BTreeMap, HashSet};

use event_schema::{Slot, proto::geyser::SubscribeUpdateTransactionInfo};
use solana_pubkey::{Pubkey, pubkey};
use solana_rpc_client_types::response::RpcVote;

#[cfg(test)]
mod tests;

const VOTE_PROGRAM: Pubkey = pubkey!("Vote111111111111111111111111111111111111111");
/// No vote is longer than a packet; Agave reads no further either.
const INSTRUCTION_BYTES_MAX: usize = 1232;

/// A vote that a block holds and that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandedVote {
    pub voter: Pubkey,
    /// Never empty; the newest comes last.
    pub slots: Vec<u64>,
    pub hash: [u8; 32],
    pub timestamp: Option<i64>,
    pub signature: Vec<u8>,
}

impl LandedVote {
    /// `None`: no vote, or one that failed.
    pub fn new(info: &SubscribeUpdateTransactionInfo) -> Option<Self> {
        if info.meta.as_ref()?.err.is_some() {
            return None;
        }
        let message = info.transaction.as_ref()?.message.as_ref()?;
        let instruction = message.instructions.first()?;
        let key = |index: usize| Pubkey::try_from(message.account_keys.get(index)?.as_slice()).ok();
        if key(instruction.program_id_index as usize)? != VOTE_PROGRAM {
            return None;
        }
        let voter = key(usize::from(*instruction.accounts.first()?))?;
        let body = read_vote(&instruction.data)?;
        if body.slots.is_empty() {
            return None;
        }
        Some(Self {
            voter,
            slots: body.slots,
            hash: body.hash,
            timestamp: body.timestamp,
            signature: info.signature.clone(),
        })
    }

    pub fn shown(&self) -> String {
        let vote = RpcVote {
            vote_pubkey: self.voter.to_string(),
            slots: self.slots.clone(),
            hash: bs58::encode(self.hash).into_string(),
            timestamp: self.timestamp,
            signature: bs58::encode(&self.signature).into_string(),
        };
        serde_json::json!(vote).to_string()
    }
}

/// Which votes were told: copies on other forks and votes sent again are not news.
#[derive(Debug, Default)]
pub struct ToldVotes {
    by_slot: BTreeMap<Slot, HashSet<(Pubkey, [u8; 32])>>,
    root: Slot,
}

impl ToldVotes {
    /// Voted slots remembered. Roots follow some 32 slots behind; this is for when they do not.
    const SLOTS_MAX: usize = 512;

    pub fn is_news(&mut self, vote: &LandedVote) -> bool {
        let Some(last) = vote.slots.last().copied().map(Slot) else {
            return false;
        };
        if last <= self.root {
            return false;
        }
        let is_news = self
            .by_slot
            .entry(last)
            .or_default()
            .insert((vote.voter, vote.hash));
        if self.by_slot.len() > Self::SLOTS_MAX {
            self.by_slot.pop_first();
        }
        is_news
    }

    /// Votes for slots up to the root say nothing any more.
    pub fn rooted(&mut self, root: Slot) {
        self.root = self.root.max(root);
        while self
            .by_slot
            .first_key_value()
            .is_some_and(|(slot, _)| *slot <= self.root)
        {
            self.by_slot.pop_first();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct VoteBody {
    pub(super) slots: Vec<u64>,
    pub(super) hash: [u8; 32],
    pub(super) timestamp: Option<i64>,
}

/// Of the vote program's instructions those that vote; `None` for the others and for what cannot be read.
pub(super) fn read_vote(instruction: &[u8]) -> Option<VoteBody> {
    let mut rest = Bytes(instruction.get(..instruction.len().min(INSTRUCTION_BYTES_MAX))?);
    let variant = rest.u32()?;
    let (slots, is_switch, is_tower_sync) = match variant {
        2 | 6 => (rest.slots()?, variant == 6, false),
        8 | 9 => (rest.lockouts()?, variant == 9, false),
        12 | 13 => (rest.compact_lockouts()?, variant == 13, false),
        14 | 15 => (rest.compact_lockouts()?, variant == 15, true),
        _ => return None,
    };
    let body = VoteBody {
        slots,
        hash: rest.hash()?,
        timestamp: rest.option(Bytes::u64)?.map(u64::cast_signed),
    };
    // The block's id and the proof for switching forks: read, so that a vote without them is none.
    for _ in 0..u8::from(is_tower_sync) + u8::from(is_switch) {
        rest.hash()?;
    }
    Some(body)
}

/// What is left to read of a bincode value.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn hash(&mut self) -> Option<[u8; 32]> {
        self.array()
    }

    /// The outer option is about readability.
    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn slots(&mut self) -> Option<Vec<u64>> {
        let count = self.u64()?;
        (0..count).map(|_| self.u64()).collect()
    }

    /// Slots with their confirmation counts, and the root.
    fn lockouts(&mut self) -> Option<Vec<u64>> {
        let count = self.u64()?;
        let slots = (0..count)
            .map(|_| {
                let slot = self.u64()?;
                self.u32()?;
                Some(slot)
            })
            .collect::<Option<_>>()?;
        self.option(Self::u64)?;
        Some(slots)
    }

    /// The root, then each slot's distance from the one before.
    fn compact_lockouts(&mut self) -> Option<Vec<u64>> {
        let root = self.u64()?;
        let mut slot = if root == u64::MAX { 0 } else { root };
        let count = self.short_length()?;
        (0..count)
            .map(|_| {
                slot = slot.checked_add(self.varint()?)?;
                self.byte()?;
                Some(slot)
            })
            .collect()
    }

    /// A length in one to three bytes of seven bits, in its shortest form.
    fn short_length(&mut self) -> Option<u16> {
        let mut value = 0u32;
        for at in 0..3 {
            let byte = self.byte()?;
            if byte == 0 && at > 0 {
                return None;
            }
            value |= u32::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return u16::try_from(value).ok();
            }
        }
        None
    }

    /// A number in one to ten bytes of seven bits, in its shortest form.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for at in 0..10 {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * at);
            if shifted >> (7 * at) != bits {
                return None;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return (byte != 0 || at == 0).then_some(value);
            }
        }
        None
    }
}
