//! Pure: a `getBlock` reply → a block, its transactions and metadata as a plugin would have written them.

use event_schema::{
    Slot,
    proto::{Message as _, confirmed_block as proto, geyser::SubscribeUpdateTransactionInfo},
};
use solana_storage_proto::convert::generated;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{EncodedTransaction, TransactionBinaryEncoding};

use crate::{
    block::{ChainBlock, Disbelief, Head, assemble},
    file::proof::VOTE_PROGRAM,
    json_meta::status_meta,
    rpc::reply::{RpcBlock, RpcTransaction},
    stored,
};

/// The block of a reply to `getBlock` with encoding base64.
pub fn block(slot: Slot, reply: RpcBlock) -> Result<ChainBlock, Disbelief> {
    if reply.previous_blockhash.is_empty() {
        return Err(Disbelief::Field {
            field: "previousBlockhash",
            problem: "is empty".to_owned(),
        });
    }
    let mut transactions = Vec::with_capacity(reply.transactions.len());
    for (index, given) in reply.transactions.into_iter().enumerate() {
        let info = transaction(index, given)
            .map_err(|problem| Disbelief::Transaction { index, problem })?;
        transactions.push(info);
    }
    let head = Head {
        blockhash: reply.blockhash,
        parent_blockhash: reply.previous_blockhash,
        parent_slot: reply.parent_slot,
        block_time: reply.block_time,
        block_height: reply.block_height,
        rewards: stored::native_rewards(reply.rewards),
        reward_partitions: reply.num_reward_partitions,
    };
    assemble(slot, head, transactions)
}

fn transaction(
    index: usize,
    given: RpcTransaction,
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
    let meta = stored::native_meta(status_meta(meta)?)?;
    info(index, message(native)?, Some(meta))
}

/// The storage's message and the stream's are one schema, compiled twice.
pub fn message(native: VersionedTransaction) -> Result<proto::Transaction, String> {
    let stored = generated::Transaction::from(native).encode_to_vec();
    proto::Transaction::decode(stored.as_slice()).map_err(|error| error.to_string())
}

pub fn info(
    index: usize,
    transaction: proto::Transaction,
    meta: Option<proto::TransactionStatusMeta>,
) -> Result<SubscribeUpdateTransactionInfo, String> {
    let signature = transaction.signatures.first().ok_or("it is not signed")?;
    if signature.len() != 64 {
        return Err(format!(
            "its signature has {} bytes instead of 64",
            signature.len()
        ));
    }
    Ok(SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: is_vote(&transaction),
        transaction: Some(transaction),
        meta,
        index: index as u64,
    })
}

/// As the validator marks votes for its plugins: a legacy message whose only instruction is the vote program's, with at most
/// two signatures.
pub fn is_vote(transaction: &proto::Transaction) -> bool {
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
        && program.is_some_and(|program| program.as_slice() == VOTE_PROGRAM.as_array())
}
