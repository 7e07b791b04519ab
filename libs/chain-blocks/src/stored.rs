//! Pure: what Agave keeps of transactions, as the messages a plugin writes. The storage's messages and the stream's are one
//! schema, compiled twice.

use event_schema::{
    Slot,
    proto::{Message as _, confirmed_block as proto},
};
use solana_storage_proto::{
    StoredExtendedRewards, StoredTransactionStatusMeta, convert::generated,
};
use solana_transaction_status::{Reward, TransactionStatusMeta};

use crate::{
    block::{ChainBlock, Disbelief, Head, assemble},
    convert::{info, message},
    file,
};

impl TryFrom<file::Block> for ChainBlock {
    type Error = Disbelief;

    fn try_from(recorded: file::Block) -> Result<Self, Disbelief> {
        let mut transactions = Vec::with_capacity(recorded.transactions.len());
        for (index, transaction) in recorded.transactions.into_iter().enumerate() {
            let converted = message(transaction.transaction)
                .and_then(|body| info(index, body, Some(native_meta(transaction.meta)?)))
                .map_err(|problem| Disbelief::Transaction { index, problem })?;
            transactions.push(converted);
        }
        let head = Head {
            blockhash: recorded.blockhash.to_string(),
            parent_blockhash: recorded.parent_blockhash.to_string(),
            parent_slot: recorded.parent_slot,
            block_time: recorded.block_time,
            block_height: recorded.block_height,
            rewards: native_rewards(recorded.rewards.rewards),
            reward_partitions: recorded.rewards.num_partitions,
        };
        assemble(Slot(recorded.slot), head, transactions)
    }
}

pub fn native_meta(meta: TransactionStatusMeta) -> Result<proto::TransactionStatusMeta, String> {
    let stored = generated::TransactionStatusMeta::from(meta).encode_to_vec();
    proto::TransactionStatusMeta::decode(stored.as_slice()).map_err(|error| error.to_string())
}

pub fn native_rewards(rewards: Vec<Reward>) -> Vec<proto::Reward> {
    let stored = rewards.into_iter().map(generated::Reward::from);
    stored
        .map(|reward| proto::Reward {
            pubkey: reward.pubkey,
            lamports: reward.lamports,
            post_balance: reward.post_balance,
            reward_type: reward.reward_type,
            commission: reward.commission,
            commission_bps: reward.commission_bps,
        })
        .collect()
}

/// A status as the ledger keeps it: protobuf, or bincode where an old validator wrote it.
pub fn status_meta(bytes: &[u8]) -> Result<proto::TransactionStatusMeta, String> {
    match proto::TransactionStatusMeta::decode(bytes) {
        Ok(meta) => Ok(meta),
        Err(protobuf) => {
            let stored: StoredTransactionStatusMeta =
                bincode::deserialize(bytes).map_err(|bincode| {
                    format!("neither protobuf ({protobuf}) nor bincode ({bincode})")
                })?;
            let meta = TransactionStatusMeta::try_from(stored).map_err(|e| e.to_string())?;
            native_meta(meta)
        }
    }
}

/// Rewards as the ledger keeps them, and the number of partitions of an epoch's.
pub fn rewards(bytes: &[u8]) -> Result<(Vec<proto::Reward>, Option<u64>), String> {
    match proto::Rewards::decode(bytes) {
        Ok(rewards) => Ok((
            rewards.rewards,
            rewards
                .num_partitions
                .map(|partitions| partitions.num_partitions),
        )),
        Err(protobuf) => {
            let stored: StoredExtendedRewards = bincode::deserialize(bytes).map_err(|bincode| {
                format!("neither protobuf ({protobuf}) nor bincode ({bincode})")
            })?;
            let rewards = stored.into_iter().map(Into::into).collect();
            Ok((native_rewards(rewards), None))
        }
    }
}
