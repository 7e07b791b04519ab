//! A block, wherever it came from.

use std::collections::HashSet;

use event_schema::{
    Blockhash, Slot,
    proto::{
        confirmed_block as proto,
        geyser::{SubscribeUpdateBlockMeta, SubscribeUpdateTransactionInfo},
    },
};

/// A finalized block without account updates and entries.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainBlock {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub parent_slot: Slot,
    /// `None`: the source does not say.
    pub parent_blockhash: Option<Blockhash>,
    /// In the order of the block; each is signed, and none is there twice.
    pub transactions: Vec<SubscribeUpdateTransactionInfo>,
    /// As a plugin writes it. Its count of entries is 0, which readers take for "not counted", as of the blocks a validator
    /// leads itself.
    pub meta: SubscribeUpdateBlockMeta,
}

/// Why a block is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    #[error("{field}: {problem}")]
    Field {
        field: &'static str,
        problem: String,
    },
    #[error("transaction {index}: {problem}")]
    Transaction { index: usize, problem: String },
    #[error("transaction {0} is there twice")]
    Twice(usize),
    #[error("it has no transactions, but its leader was paid fees of {0} lamports")]
    NoTransactions(i64),
}

/// What every source says of a block beside its transactions.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub blockhash: String,
    /// Empty: the source does not say.
    pub parent_blockhash: String,
    pub parent_slot: u64,
    pub block_time: Option<i64>,
    pub block_height: Option<u64>,
    pub rewards: Vec<proto::Reward>,
    pub reward_partitions: Option<u64>,
}

/// Checks what a block says of itself.
pub fn assemble(
    slot: Slot,
    head: Head,
    transactions: Vec<SubscribeUpdateTransactionInfo>,
) -> Result<ChainBlock, Disbelief> {
    // As canonical readers parse them.
    let hash = |field: &'static str, text: &str| {
        text.parse::<Blockhash>().map_err(|error| Disbelief::Field {
            field,
            problem: error.to_string(),
        })
    };
    let blockhash = hash("blockhash", &head.blockhash)?;
    let parent_blockhash = match head.parent_blockhash.as_str() {
        "" => None,
        text => Some(hash("previousBlockhash", text)?),
    };
    // The genesis block is its own parent.
    if head.parent_slot >= slot.0 && slot.0 != 0 {
        return Err(Disbelief::Field {
            field: "parentSlot",
            problem: format!("{} is not below {slot}", head.parent_slot),
        });
    }
    if transactions.is_empty() {
        let is_fee = |reward: &&proto::Reward| reward.reward_type == proto::RewardType::Fee as i32;
        let fees: i64 = head
            .rewards
            .iter()
            .filter(is_fee)
            .fold(0, |sum, fee| sum.saturating_add(fee.lamports));
        if fees > 0 {
            return Err(Disbelief::NoTransactions(fees));
        }
    }
    let mut seen = HashSet::with_capacity(transactions.len());
    for (index, transaction) in transactions.iter().enumerate() {
        if !seen.insert(transaction.signature.as_slice()) {
            return Err(Disbelief::Twice(index));
        }
    }
    let meta = SubscribeUpdateBlockMeta {
        slot: slot.0,
        blockhash: head.blockhash,
        rewards: Some(proto::Rewards {
            rewards: head.rewards,
            num_partitions: head
                .reward_partitions
                .map(|num_partitions| proto::NumPartitions { num_partitions }),
        }),
        block_time: head
            .block_time
            .map(|timestamp| proto::UnixTimestamp { timestamp }),
        block_height: head
            .block_height
            .map(|block_height| proto::BlockHeight { block_height }),
        parent_slot: head.parent_slot,
        parent_blockhash: head.parent_blockhash,
        executed_transaction_count: transactions.len() as u64,
        entries_count: 0,
    };
    Ok(ChainBlock {
        slot,
        blockhash,
        parent_slot: Slot(head.parent_slot),
        parent_blockhash,
        transactions,
        meta,
    })
}
