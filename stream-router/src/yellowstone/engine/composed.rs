//! Pure: whole blocks as one message, made once per kind of request.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::proto::{
    Message,
    geyser::{
        SubscribeUpdate, SubscribeUpdateAccountInfo, SubscribeUpdateBlock, SubscribeUpdateEntry,
        subscribe_update::UpdateOneof,
    },
};
use foldhash::HashSet;

use super::emission::outdated;
use crate::{
    assembly::Block,
    dedup::EventId,
    observation::{Body, Content},
    yellowstone::filter::{BlockFilter, TransactionFacts, cut},
};

/// The block in the forms that were asked for so far.
pub struct ComposedBlocks<'a> {
    block: &'a Block,
    outdated: Option<HashSet<EventId>>,
    forms: Vec<(Arc<BlockFilter>, Bytes)>,
}

impl<'a> ComposedBlocks<'a> {
    pub fn new(block: &'a Block) -> Self {
        Self {
            block,
            outdated: None,
            forms: Vec::new(),
        }
    }

    pub fn body(&mut self, filter: &Arc<BlockFilter>) -> Bytes {
        if let Some((_, body)) = self.forms.iter().find(|(known, _)| known == filter) {
            return body.clone();
        }
        let body = self.compose(filter);
        self.forms.push((Arc::clone(filter), body.clone()));
        body
    }

    fn compose(&mut self, filter: &BlockFilter) -> Bytes {
        let block = self.block;
        let outdated = self.outdated.get_or_insert_with(|| outdated(block));
        let meta = &block.meta.meta;
        let mut update = SubscribeUpdateBlock {
            slot: meta.slot,
            blockhash: meta.blockhash.clone(),
            rewards: meta.rewards.clone(),
            block_time: meta.block_time,
            block_height: meta.block_height,
            parent_slot: meta.parent_slot,
            parent_blockhash: meta.parent_blockhash.clone(),
            executed_transaction_count: meta.executed_transaction_count,
            entries_count: meta.entries_count,
            ..SubscribeUpdateBlock::default()
        };
        for content in &block.contents {
            match &content.body {
                Body::Account(account) if !outdated.contains(&content.id) => {
                    update.updated_account_count += 1;
                    if filter.include_accounts && filter.wants_account(account) {
                        update.accounts.push(shown(account, filter));
                    }
                }
                Body::Transaction(transaction) if filter.include_transactions => {
                    if filter.wants_transaction(&TransactionFacts::new(transaction)) {
                        update.transactions.push((**transaction).clone());
                    }
                }
                Body::Entry if filter.include_entries => update.entries.extend(entry(content)),
                _ => {}
            }
        }
        let update = SubscribeUpdate {
            update_oneof: Some(UpdateOneof::Block(update)),
            ..SubscribeUpdate::default()
        };
        update.encode_to_vec().into()
    }
}

/// Cut to the parts that were asked for.
fn shown(account: &SubscribeUpdateAccountInfo, filter: &BlockFilter) -> SubscribeUpdateAccountInfo {
    let Some(slices) = &filter.slices else {
        return account.clone();
    };
    SubscribeUpdateAccountInfo {
        data: cut(&account.data, slices),
        pubkey: account.pubkey.clone(),
        owner: account.owner.clone(),
        txn_signature: account.txn_signature.clone(),
        ..*account
    }
}

/// Entries are decoded where they are shown: nobody else looks into them.
fn entry(content: &Content) -> Option<SubscribeUpdateEntry> {
    let update = SubscribeUpdate::decode(content.bytes.clone()).ok()?;
    match update.update_oneof {
        Some(UpdateOneof::Entry(entry)) => Some(entry),
        _ => None,
    }
}
