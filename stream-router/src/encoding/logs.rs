//! Logs as `logsSubscribe` shows them.

use event_schema::proto::geyser::SubscribeUpdateTransactionInfo;
use serde_json::{Value, json};

use super::ui_error;

/// `None`: a transaction that only paid its fee was not executed and has no logs.
pub fn logs_value(transaction: &SubscribeUpdateTransactionInfo) -> Option<Value> {
    let meta = transaction
        .meta
        .as_ref()
        .filter(|meta| !meta.log_messages_none)?;
    Some(json!({
        "signature": bs58::encode(&transaction.signature).into_string(),
        "err": ui_error(Some(meta)),
        "logs": meta.log_messages,
    }))
}
