//! A recorded transaction as a validator hands it to a plugin.

use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaTransactionInfoV3;

use crate::block_file::RecordedTransaction;

/// `None`: it has no signature, which no transaction that passed `sanitize` lacks.
pub fn transaction(
    recorded: &RecordedTransaction,
    index: usize,
) -> Option<ReplicaTransactionInfoV3<'_>> {
    Some(ReplicaTransactionInfoV3 {
        signature: recorded.transaction.signatures.first()?,
        message_hash: &recorded.message_hash,
        is_vote: recorded.is_vote,
        transaction: &recorded.transaction,
        transaction_status_meta: &recorded.meta,
        index,
    })
}
