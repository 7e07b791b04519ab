//! Why a transaction failed.

use event_schema::proto::confirmed_block::{
    TransactionError as EncodedError, TransactionStatusMeta,
};
use serde_json::{Value, json};
use solana_transaction_error::TransactionError;
use solana_transaction_status_client_types::UiTransactionError;

/// The `err` of a transaction: `null`, or the user-interface form of its error. Bytes that cannot be read are shown as
/// the error they certainly were: some failure.
pub fn ui_error(meta: Option<&TransactionStatusMeta>) -> Value {
    let Some(EncodedError { err }) = meta.and_then(|meta| meta.err.as_ref()) else {
        return Value::Null;
    };
    match bincode::deserialize::<TransactionError>(err) {
        Ok(error) => json!(UiTransactionError::from(error)),
        Err(_) => json!({ "Unreadable": bs58::encode(err).into_string() }),
    }
}
