//! Pure: a `getBlock` reply → the block a router publishes, its transactions and metadata as a plugin would have written them.
//!
//! A node tells no account updates and no entries, and does not count entries either: the metadata says 0, which readers take
//! for "not counted", as of the blocks a validator leads itself.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use event_schema::{
    Blockhash, Kind, Slot,
    proto::{
        Message as _, confirmed_block as proto,
        geyser::{
            SubscribeUpdate, SubscribeUpdateBlockMeta, SubscribeUpdateTransaction,
            SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
        },
    },
};
use solana_storage_proto::convert::generated;
use solana_transaction_status::{EncodedTransaction, TransactionBinaryEncoding};

use super::{
    meta,
    reply::{RpcBlock, RpcTransaction},
};
use crate::{
    assembly::Block,
    encoding,
    observation::{self, Body, Content},
    router::RPC_NODE,
};

/// The vote program's address.
const VOTE_PROGRAM: &str = "Vote111111111111111111111111111111111111111";

/// Why a reply is not believed.
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

/// `host`: of the node, to be told to canonical readers.
pub fn block(slot: Slot, host: &Arc<str>, reply: RpcBlock) -> Result<Block, Disbelief> {
    // As canonical readers parse them.
    let hash = |field: &'static str, text: &str| {
        text.parse::<Blockhash>().map_err(|error| Disbelief::Field {
            field,
            problem: error.to_string(),
        })
    };
    hash("blockhash", &reply.blockhash)?;
    hash("previousBlockhash", &reply.previous_blockhash)?;
    if reply.parent_slot >= slot.0 {
        return Err(Disbelief::Field {
            field: "parentSlot",
            problem: format!("{} is not below {slot}", reply.parent_slot),
        });
    }
    let transactions = reply.transactions.len() as u64;
    let rewards = meta::rewards(reply.rewards);
    if transactions == 0 {
        let is_fee = |reward: &&proto::Reward| reward.reward_type == proto::RewardType::Fee as i32;
        let fees: i64 = rewards.iter().filter(is_fee).map(|fee| fee.lamports).sum();
        if fees > 0 {
            return Err(Disbelief::NoTransactions(fees));
        }
    }
    let vote_program = bs58::decode(VOTE_PROGRAM).into_vec().unwrap_or_default();
    let mut contents = Vec::with_capacity(reply.transactions.len() + 1);
    let mut seen = HashSet::with_capacity(reply.transactions.len());
    for (index, given) in reply.transactions.into_iter().enumerate() {
        let wrong = |problem| Disbelief::Transaction { index, problem };
        let info = transaction(index, given, &vote_program).map_err(wrong)?;
        if !seen.insert(info.signature.clone()) {
            return Err(Disbelief::Twice(index));
        }
        let update = UpdateOneof::Transaction(SubscribeUpdateTransaction {
            slot: slot.0,
            transaction: Some(info),
        });
        contents.push(content(Kind::Transaction, slot, update).map_err(wrong)?);
    }
    let update = UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot: slot.0,
        blockhash: reply.blockhash,
        rewards: Some(proto::Rewards {
            rewards,
            num_partitions: reply
                .num_reward_partitions
                .map(|num_partitions| proto::NumPartitions { num_partitions }),
        }),
        block_time: reply
            .block_time
            .map(|timestamp| proto::UnixTimestamp { timestamp }),
        block_height: reply
            .block_height
            .map(|block_height| proto::BlockHeight { block_height }),
        parent_slot: reply.parent_slot,
        parent_blockhash: reply.previous_blockhash,
        executed_transaction_count: transactions,
        entries_count: 0,
    });
    let in_meta = |problem| Disbelief::Field {
        field: "result",
        problem,
    };
    let last = content(Kind::BlockMeta, slot, update).map_err(in_meta)?;
    let Body::BlockMeta(view) = &last.body else {
        return Err(in_meta("no block metadata".to_owned()));
    };
    let view = Arc::clone(view);
    contents.push(last);
    Ok(Block {
        id: view.block,
        parent: view.parent,
        contents,
        accounts: 0,
        transactions,
        entries: 0,
        meta: view,
        source: RPC_NODE,
        repaired_from: Vec::new(),
        fetched_from: Some(Arc::clone(host)),
    })
}

fn content(kind: Kind, slot: Slot, update: UpdateOneof) -> Result<Content, String> {
    let value = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    observation::read_canonical(kind, slot, &Bytes::from(value.encode_to_vec()))
}

fn transaction(
    index: usize,
    given: RpcTransaction,
    vote_program: &[u8],
) -> Result<SubscribeUpdateTransactionInfo, String> {
    let (data, encoding) = given.transaction;
    if encoding != "base64" {
        return Err(format!(
            "it is written in {encoding:?}, asked was for base64"
        ));
    }
    let native = EncodedTransaction::Binary(data, TransactionBinaryEncoding::Base64)
        .decode()
        .ok_or("its bytes are not a transaction")?;
    let meta = given.meta.ok_or("the node did not keep its metadata")?;
    let meta = meta::status_meta(meta)?;
    // The storage's message and the stream's are one schema, compiled twice.
    let stored = generated::Transaction::from(native).encode_to_vec();
    let transaction = proto::Transaction::decode(stored.as_slice()).map_err(|e| e.to_string())?;
    let signature = transaction.signatures.first().ok_or("it is not signed")?;
    let info = SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: is_vote(&transaction, vote_program),
        transaction: Some(transaction),
        meta: Some(meta),
        index: index as u64,
    };
    // Indexes within, so that no reader meets one that is out of bounds.
    encoding::native_transaction(&info).map_err(|error| error.to_string())?;
    Ok(info)
}

/// As the validator marks votes for its plugins: a legacy message whose only instruction is the vote program's, with at most
/// two signatures.
fn is_vote(transaction: &proto::Transaction, vote_program: &[u8]) -> bool {
    let Some(message) = &transaction.message else {
        return false;
    };
    let [instruction] = message.instructions.as_slice() else {
        return false;
    };
    let program = message
        .account_keys
        .get(instruction.program_id_index as usize);
    transaction.signatures.len() < 3
        && !message.versioned
        && program.is_some_and(|program| program == vote_program)
}
