//! What a validator guarantees about every transaction it reports, checked before a plugin may rely on it.

use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};
use solana_hash::Hash;
use solana_message::VersionedMessage;
use solana_pubkey::{Pubkey, pubkey};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::TransactionStatusMeta;

use super::RecordedTransaction;

pub(crate) const VOTE_PROGRAM: Pubkey = pubkey!("Vote111111111111111111111111111111111111111");

/// The transaction with its proof, or the sentence that says what does not hold.
pub(super) fn proven(
    transaction: VersionedTransaction,
    meta: TransactionStatusMeta,
) -> Result<RecordedTransaction, String> {
    let message = signed_message(&transaction)?;
    let keys = transaction.message.static_account_keys();
    let accounts =
        keys.len() + meta.loaded_addresses.writable.len() + meta.loaded_addresses.readonly.len();
    for (field, balances) in [
        ("preBalances", &meta.pre_balances),
        ("postBalances", &meta.post_balances),
    ] {
        if balances.len() != accounts {
            return Err(format!(
                "meta.{field} has {} values for {accounts} accounts",
                balances.len()
            ));
        }
    }
    Ok(RecordedTransaction {
        message_hash: message_hash(&message),
        is_vote: is_simple_vote(&transaction),
        transaction,
        meta,
    })
}

/// The bytes that every signature of the transaction verifies over, or the sentence that says which does not.
pub(crate) fn signed_message(transaction: &VersionedTransaction) -> Result<Vec<u8>, String> {
    transaction
        .sanitize()
        .map_err(|e| format!("the message is not well formed: {e}"))?;
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys();
    for (index, signature) in transaction.signatures.iter().enumerate() {
        let signer = keys
            .get(index)
            .ok_or_else(|| format!("signatures[{index}] has no account key"))?;
        let signed = VerifyingKey::from_bytes(&signer.to_bytes()).is_ok_and(|key| {
            key.verify_strict(
                &message,
                &Ed25519Signature::from_bytes(signature.as_array()),
            )
            .is_ok()
        });
        if !signed {
            return Err(format!(
                "signatures[{index}] of {signer} does not verify over the message"
            ));
        }
    }
    Ok(message)
}

/// The identity under which a validator's status cache knows a message.
fn message_hash(message: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"solana-tx-message-v1");
    hasher.update(message);
    Hash::new_from_array(*hasher.finalize().as_bytes())
}

/// The validator's rule: legacy, fewer than three signatures, one instruction, of the vote program.
fn is_simple_vote(transaction: &VersionedTransaction) -> bool {
    let VersionedMessage::Legacy(message) = &transaction.message else {
        return false;
    };
    let [instruction] = message.instructions.as_slice() else {
        return false;
    };
    transaction.signatures.len() < 3
        && message
            .account_keys
            .get(usize::from(instruction.program_id_index))
            == Some(&VOTE_PROGRAM)
}
