//! Transactions and blocks as `blockSubscribe` and `transactionSubscribe` show them.
//!
//! Agave's encoder shows one transaction at a time; each is shown once per view, whoever asks: a block's text is made of
//! the texts of its transactions, all of them or those that mention an address.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use event_schema::{
    Slot,
    proto::{Message as _, geyser::SubscribeUpdateTransactionInfo},
};
use serde_json::json;
use solana_rpc_client_types::{
    config::{TransactionDetails, UiTransactionEncoding},
    response::RpcBlockUpdateError,
};
use solana_storage_proto::convert::generated;
use solana_transaction_status::{
    BlockEncodingOptions, ConfirmedBlock, EncodeError, RewardsAndNumPartitions,
    TransactionWithStatusMeta, UiConfirmedBlock,
};

use super::native_transaction;
use crate::{lazy::Lazy, observation::MetaView, subscription::TransactionView};

#[cfg(test)]
mod tests;

type Shown = Result<Arc<str>, RpcBlockUpdateError>;

/// A transaction, and its texts as far as somebody has asked for them.
#[derive(Debug)]
pub struct ShownTransaction {
    slot: Slot,
    info: Lazy<SubscribeUpdateTransactionInfo>,
    texts: Mutex<HashMap<TransactionView, Arc<OnceLock<Shown>>>>,
}

impl ShownTransaction {
    pub fn new(slot: Slot, info: &Lazy<SubscribeUpdateTransactionInfo>) -> Self {
        Self {
            slot,
            info: info.clone(),
            texts: Mutex::default(),
        }
    }

    /// About the length of a text. JSON of a transaction has one and a half to four times the bytes of its message.
    pub fn bytes(&self) -> usize {
        self.info.encoded_len() * 3
    }

    /// `{"transaction", "meta", "version"}`. The view's details must be full or accounts.
    fn text(&self, view: TransactionView) -> Shown {
        let view = decisive(view);
        let text = {
            // A writer that panicked left no text, and nothing else is in here.
            let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(texts.entry(view).or_default())
        };
        text.get_or_init(|| self.show(view)).clone()
    }

    fn show(&self, view: TransactionView) -> Shown {
        let native = native_transaction(&self.info).map_err(|problem| {
            let (slot, index) = (self.slot.0, self.info.index);
            tracing::error!(slot, index, %problem, "a transaction cannot be shown");
            RpcBlockUpdateError::BlockStoreError
        })?;
        let one = ConfirmedBlock {
            transactions: vec![TransactionWithStatusMeta::Complete(native)],
            ..empty_block()
        };
        encode(one, view)?
            .transactions
            .and_then(|mut transactions| transactions.pop())
            .and_then(|transaction| serde_json::to_string(&transaction).ok())
            .map(Arc::from)
            .ok_or(RpcBlockUpdateError::BlockStoreError)
    }

    fn signature(&self) -> String {
        bs58::encode(&self.info.signature).into_string()
    }

    /// What `transactionNotification` carries, as managed providers write it. A transaction that cannot be shown is told with
    /// the reason.
    pub fn notification(&self, view: TransactionView) -> String {
        let place = format!(
            r#""signature":"{}","slot":{},"transactionIndex":{}"#,
            self.signature(),
            self.slot,
            self.info.index
        );
        match view.details {
            TransactionDetails::Signatures | TransactionDetails::None => format!("{{{place}}}"),
            TransactionDetails::Full | TransactionDetails::Accounts => match self.text(view) {
                Ok(content) => format!(r#"{{"transaction":{content},{place}}}"#),
                Err(error) => {
                    format!(r#"{{"transaction":null,"err":{},{place}}}"#, json!(error))
                }
            },
        }
    }
}

/// What `blockNotification` carries: the block with these transactions of it, or why it cannot be shown.
pub fn block_update(
    meta: &MetaView,
    chosen: &[Arc<ShownTransaction>],
    view: TransactionView,
) -> String {
    let slot = meta.block.slot;
    match block_text(meta, chosen, view) {
        Ok(block) => format!(r#"{{"slot":{slot},"block":{block},"err":null}}"#),
        Err(error) => format!(r#"{{"slot":{slot},"block":null,"err":{}}}"#, json!(error)),
    }
}

fn block_text(
    meta: &MetaView,
    chosen: &[Arc<ShownTransaction>],
    view: TransactionView,
) -> Result<String, RpcBlockUpdateError> {
    let content = match view.details {
        TransactionDetails::Full | TransactionDetails::Accounts => {
            let texts: Vec<Arc<str>> = chosen
                .iter()
                .map(|transaction| transaction.text(view))
                .collect::<Result<_, _>>()?;
            Some(format!(r#""transactions":[{}]"#, texts.join(",")))
        }
        TransactionDetails::Signatures => {
            let signatures: Vec<String> = chosen.iter().map(|it| it.signature()).collect();
            Some(format!(r#""signatures":{}"#, json!(signatures)))
        }
        TransactionDetails::None => None,
    };
    let frame = frame(meta, view)?;
    // The frame is an object with members.
    Ok(match (content, frame.strip_suffix('}')) {
        (Some(content), Some(open)) => format!("{open},{content}}}"),
        _ => frame,
    })
}

/// The block without its transactions.
fn frame(meta: &MetaView, view: TransactionView) -> Result<String, RpcBlockUpdateError> {
    let slot = meta.block.slot.0;
    let meta = &meta.meta;
    let paid = meta
        .rewards
        .as_ref()
        .map(|rewards| rewards.encode_to_vec())
        .unwrap_or_default();
    let paid: RewardsAndNumPartitions = generated::Rewards::decode(paid.as_slice())
        .map_err(|problem| {
            tracing::error!(slot, %problem, "a block's rewards cannot be shown");
            RpcBlockUpdateError::BlockStoreError
        })?
        .into();
    let block = ConfirmedBlock {
        previous_blockhash: meta.parent_blockhash.clone(),
        blockhash: meta.blockhash.clone(),
        parent_slot: meta.parent_slot,
        rewards: paid.rewards,
        num_partitions: paid.num_partitions,
        block_time: meta.block_time.map(|time| time.timestamp),
        block_height: meta.block_height.map(|height| height.block_height),
        ..empty_block()
    };
    let bare = TransactionView {
        details: TransactionDetails::None,
        ..view
    };
    let shown = encode(block, bare)?;
    serde_json::to_string(&shown).map_err(|_| RpcBlockUpdateError::BlockStoreError)
}

fn encode(
    block: ConfirmedBlock,
    view: TransactionView,
) -> Result<UiConfirmedBlock, RpcBlockUpdateError> {
    let options = BlockEncodingOptions {
        transaction_details: view.details,
        show_rewards: view.rewards,
        max_supported_transaction_version: view.version_max,
    };
    block.encode_with_options(view.encoding, options).map_err(
        |EncodeError::UnsupportedTransactionVersion(version)| {
            RpcBlockUpdateError::UnsupportedTransactionVersion(version)
        },
    )
}

/// Lists of accounts look the same in every encoding.
fn decisive(view: TransactionView) -> TransactionView {
    match view.details {
        TransactionDetails::Accounts => TransactionView {
            encoding: UiTransactionEncoding::Json,
            ..view
        },
        _ => view,
    }
}

fn empty_block() -> ConfirmedBlock {
    ConfirmedBlock {
        previous_blockhash: String::new(),
        blockhash: String::new(),
        parent_slot: 0,
        transactions: Vec::new(),
        rewards: Vec::new(),
        num_partitions: None,
        block_time: None,
        block_height: None,
    }
}
