//! A block of the stream as ledger entries. Pure.
//!
//! Computed when the block arrives, held until it is confirmed: postings are a fraction of the block's size.

use event_schema::proto::Message;
use event_schema::proto::geyser::{
    SubscribeUpdate, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
    subscribe_update::UpdateOneof,
};
use event_schema::{Blockhash, Signature, Slot, SlotBlock};

use crate::chain::{self, ChainTransaction};
use crate::identity::{self, LamportsUnknown, TokensUnknown, Verdict};
use crate::postings::{self, Posting};
use crate::token_instructions::{self, KnownKeys};

/// A block ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockEntry {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub parent_slot: Slot,
    /// Unix seconds.
    pub block_time: Option<i64>,
    pub first_offset: i64,
    pub transactions: Vec<TransactionEntry>,
    /// What the block credits outside its transactions.
    pub rewards: Vec<Posting>,
    pub rewards_broken: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TransactionEntry {
    pub index: u64,
    /// `None` when the update carried none; such a transaction is broken.
    pub signature: Option<Signature>,
    pub is_vote: bool,
    pub success: bool,
    /// Lamports.
    pub fee: u64,
    pub lamports: Verdict<LamportsUnknown>,
    pub tokens: Verdict<TokensUnknown>,
    pub postings: Vec<Posting>,
    /// The update as bytes, kept only of a broken transaction, for its dead letter.
    pub original: Option<Vec<u8>>,
}

impl TransactionEntry {
    /// Why the transaction was not posted.
    pub fn broken(&self) -> Option<&str> {
        match (&self.lamports, &self.tokens) {
            (Verdict::Broken(why), _) | (_, Verdict::Broken(why)) => Some(why),
            _ => None,
        }
    }
}

pub fn block_entry(block: &SlotBlock, known: &KnownKeys) -> BlockEntry {
    let rewards = block
        .meta
        .rewards
        .as_ref()
        .map_or(&[][..], |rewards| &rewards.rewards);
    let (rewards, rewards_broken) = match postings::rewards(rewards) {
        Ok(postings) => (postings, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    BlockEntry {
        slot: block.slot,
        blockhash: block.blockhash,
        parent_slot: Slot(block.meta.parent_slot),
        block_time: block.meta.block_time.as_ref().map(|time| time.timestamp),
        first_offset: block.first_offset,
        transactions: block
            .transactions
            .iter()
            .map(|update| transaction_entry(block.slot, update, known))
            .collect(),
        rewards,
        rewards_broken,
    }
}

pub fn transaction_entry(
    slot: Slot,
    update: &SubscribeUpdateTransactionInfo,
    known: &KnownKeys,
) -> TransactionEntry {
    let mut entry = TransactionEntry {
        index: update.index,
        signature: chain::signature(update).ok(),
        is_vote: update.is_vote,
        success: update.meta.as_ref().is_some_and(|meta| meta.err.is_none()),
        fee: update.meta.as_ref().map_or(0, |meta| meta.fee),
        lamports: Verdict::Unknown(LamportsUnknown::OutcomeNotRecorded),
        tokens: Verdict::Unknown(TokensUnknown::OutcomeNotRecorded),
        postings: Vec::new(),
        original: None,
    };
    match chain::signature(update).and_then(|_| ChainTransaction::read(update)) {
        Ok(None) => {}
        Ok(Some(transaction)) => post(&mut entry, &transaction, known),
        Err(unreadable) => {
            entry.lamports = Verdict::Broken(unreadable.to_string());
            entry.tokens = Verdict::Broken(unreadable.to_string());
        }
    }
    if entry.broken().is_some() {
        entry.original = Some(original(slot, update));
    }
    entry
}

/// Checks first; a transaction that breaks either identity is not posted at all.
fn post(entry: &mut TransactionEntry, transaction: &ChainTransaction<'_>, known: &KnownKeys) {
    let effects = token_instructions::effects(transaction, known);
    let tokens = identity::tokens(transaction, &effects, known);
    entry.lamports = identity::lamports(transaction);
    entry.tokens = tokens.verdict;
    if entry.broken().is_some() {
        return;
    }
    entry.postings = postings::lamports(transaction);
    for (mint, flow) in &tokens.mints {
        entry
            .postings
            .extend(postings::tokens(transaction, *mint, flow));
    }
}

fn original(slot: Slot, update: &SubscribeUpdateTransactionInfo) -> Vec<u8> {
    let transaction = SubscribeUpdateTransaction {
        transaction: Some(update.clone()),
        slot: slot.0,
    };
    let update = UpdateOneof::Transaction(transaction);
    SubscribeUpdate {
        filters: Vec::new(),
        update_oneof: Some(update),
        created_at: None,
    }
    .encode_to_vec()
}
