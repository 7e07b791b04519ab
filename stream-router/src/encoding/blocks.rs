//! Transactions and blocks as `blockSubscribe` and `transactionSubscribe` show them.
//!
//! Agave's encoder shows one transaction at a time; each is shown once per view, whoever asks: a block's text is made of
//! the texts of its transactions, all of them or those that mention an address.

use std::{collections::HashMap, sync::Arc};

use event_schema::proto::{Message as _, geyser::SubscribeUpdateBlockMeta};
use serde_json::json;
use solana_rpc_client_types::{
    config::{TransactionDetails, UiTransactionEncoding},
    response::RpcBlockUpdateError,
};
use solana_storage_proto::convert::generated;
use solana_transaction_status::{
    BlockEncodingOptions, ConfirmedBlock, EncodeError, RewardsAndNumPartitions,
    TransactionWithStatusMeta, VersionedTransactionWithStatusMeta,
};

use super::native_transaction;
use crate::{live::LiveBlock, slot_tree::BlockId, subscription::TransactionView};

#[cfg(test)]
mod tests;

/// What of a block was shown so far, at one level.
#[derive(Debug)]
pub struct ShownBlock<'a> {
    block: &'a LiveBlock,
    /// By index in the block, once somebody asked.
    natives: Vec<Option<Result<VersionedTransactionWithStatusMeta, RpcBlockUpdateError>>>,
    transactions: HashMap<(usize, TransactionView), Result<Arc<str>, RpcBlockUpdateError>>,
    frames: HashMap<bool, Result<String, RpcBlockUpdateError>>,
}

impl<'a> ShownBlock<'a> {
    pub fn new(block: &'a LiveBlock) -> Self {
        Self {
            natives: vec![None; block.transactions.len()],
            block,
            transactions: HashMap::new(),
            frames: HashMap::new(),
        }
    }

    /// `{"transaction", "meta", "version"}` of the transaction at this index, which must exist. The view's details must be
    /// full or accounts.
    pub fn transaction(
        &mut self,
        at: usize,
        view: TransactionView,
    ) -> Result<Arc<str>, RpcBlockUpdateError> {
        let view = decisive(view);
        if let Some(shown) = self.transactions.get(&(at, view)) {
            return shown.clone();
        }
        let block = self.block;
        let native = self.natives[at].get_or_insert_with(|| {
            native_transaction(&block.transactions[at]).map_err(|problem| {
                tracing::error!(slot = block.id.slot.0, index = at, %problem, "a transaction cannot be shown");
                RpcBlockUpdateError::BlockStoreError
            })
        });
        let shown = native
            .clone()
            .and_then(|native| show_transaction(native, view));
        self.transactions.insert((at, view), shown.clone());
        shown
    }

    /// What `blockNotification` carries: the block with the transactions at these indexes, or why it cannot be shown.
    pub fn update(&mut self, chosen: &[usize], view: TransactionView) -> String {
        let slot = self.block.id.slot;
        match self.block_text(chosen, view) {
            Ok(block) => format!(r#"{{"slot":{slot},"block":{block},"err":null}}"#),
            Err(error) => format!(r#"{{"slot":{slot},"block":null,"err":{}}}"#, json!(error)),
        }
    }

    fn block_text(
        &mut self,
        chosen: &[usize],
        view: TransactionView,
    ) -> Result<String, RpcBlockUpdateError> {
        let content = match view.details {
            TransactionDetails::Full | TransactionDetails::Accounts => {
                let texts: Vec<Arc<str>> = chosen
                    .iter()
                    .map(|at| self.transaction(*at, view))
                    .collect::<Result<_, _>>()?;
                Some(format!(r#""transactions":[{}]"#, texts.join(",")))
            }
            TransactionDetails::Signatures => {
                let signatures: Vec<String> = chosen
                    .iter()
                    .map(|at| bs58::encode(&self.block.transactions[*at].signature).into_string())
                    .collect();
                Some(format!(r#""signatures":{}"#, json!(signatures)))
            }
            TransactionDetails::None => None,
        };
        let (id, meta) = (self.block.id, &self.block.meta.meta);
        let frame = self
            .frames
            .entry(view.rewards)
            .or_insert_with(|| show_frame(id, meta, view.rewards))
            .clone()?;
        // The frame is an object with members.
        Ok(match (content, frame.strip_suffix('}')) {
            (Some(content), Some(open)) => format!("{open},{content}}}"),
            _ => frame,
        })
    }
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

fn show_transaction(
    native: VersionedTransactionWithStatusMeta,
    view: TransactionView,
) -> Result<Arc<str>, RpcBlockUpdateError> {
    let one = ConfirmedBlock {
        transactions: vec![TransactionWithStatusMeta::Complete(native)],
        ..empty_block()
    };
    let options = BlockEncodingOptions {
        transaction_details: view.details,
        show_rewards: view.rewards,
        max_supported_transaction_version: view.version_max,
    };
    let shown = one.encode_with_options(view.encoding, options).map_err(
        |EncodeError::UnsupportedTransactionVersion(version)| {
            RpcBlockUpdateError::UnsupportedTransactionVersion(version)
        },
    )?;
    shown
        .transactions
        .and_then(|mut transactions| transactions.pop())
        .and_then(|transaction| serde_json::to_string(&transaction).ok())
        .map(Arc::from)
        .ok_or(RpcBlockUpdateError::BlockStoreError)
}

/// The block without its transactions.
fn show_frame(
    id: BlockId,
    meta: &SubscribeUpdateBlockMeta,
    rewards: bool,
) -> Result<String, RpcBlockUpdateError> {
    let unreadable = |problem: &dyn std::fmt::Display| {
        tracing::error!(slot = id.slot.0, %problem, "a block's rewards cannot be shown");
        RpcBlockUpdateError::BlockStoreError
    };
    let paid = meta
        .rewards
        .as_ref()
        .map(|rewards| rewards.encode_to_vec())
        .unwrap_or_default();
    let paid: RewardsAndNumPartitions = generated::Rewards::decode(paid.as_slice())
        .map_err(|error| unreadable(&error))?
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
    let options = BlockEncodingOptions {
        transaction_details: TransactionDetails::None,
        show_rewards: rewards,
        max_supported_transaction_version: None,
    };
    let shown = block
        .encode_with_options(UiTransactionEncoding::Json, options)
        .map_err(|EncodeError::UnsupportedTransactionVersion(version)| {
            RpcBlockUpdateError::UnsupportedTransactionVersion(version)
        })?;
    serde_json::to_string(&shown).map_err(|error| unreadable(&error))
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
