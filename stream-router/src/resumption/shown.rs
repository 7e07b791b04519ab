//! Pure: an update of the engine as the notification's `result`. What the subscription did not ask for is `None`.

use std::sync::Arc;

use event_schema::{
    Blockhash, Slot,
    proto::geyser::{
        SlotStatus, SubscribeUpdate, SubscribeUpdateAccountInfo, SubscribeUpdateBlock,
        SubscribeUpdateBlockMeta, SubscribeUpdateSlot, SubscribeUpdateTransactionInfo,
        subscribe_update::UpdateOneof,
    },
};
use serde_json::json;
use solana_pubkey::Pubkey;

use crate::{
    encoding::{
        BankAccount, Mints, ShownTransaction, block_update, in_context, keyed_account, logs_value,
        ui_account,
    },
    observation::MetaView,
    slot_tree::BlockId,
    subscription::{Subscription, TransactionFacts, TransactionView, passes},
};

pub fn shown(subscription: &Subscription, update: SubscribeUpdate) -> Option<String> {
    match update.update_oneof? {
        UpdateOneof::Account(update) => account(subscription, Slot(update.slot), &update.account?),
        UpdateOneof::Transaction(update) => {
            transaction(subscription, Slot(update.slot), update.transaction?)
        }
        UpdateOneof::Block(block) => match subscription {
            Subscription::Block { mentions, view, .. } => {
                shown_block(block, mentions.as_ref(), *view)
            }
            _ => None,
        },
        UpdateOneof::Slot(update) => {
            matches!(subscription, Subscription::Slot).then(|| slot(&update).to_string())
        }
        _ => None,
    }
}

fn account(
    subscription: &Subscription,
    slot: Slot,
    update: &SubscribeUpdateAccountInfo,
) -> Option<String> {
    let account = BankAccount::new(update)?;
    // Nothing is shown parsed: see `subscription::resumption`.
    let mints = Mints::default();
    match subscription {
        Subscription::Account { pubkey, view, .. } if account.pubkey == *pubkey => {
            Some(in_context(slot, json!(ui_account(&account, *view, &mints))))
        }
        Subscription::Program {
            program,
            filters,
            view,
            ..
        } if account.account.owner == *program && passes(filters, &account.account.data) => {
            keyed_account(&account, *view, &mints).map(|value| in_context(slot, value))
        }
        _ => None,
    }
}

fn transaction(
    subscription: &Subscription,
    slot: Slot,
    update: SubscribeUpdateTransactionInfo,
) -> Option<String> {
    match subscription {
        Subscription::Logs { .. } => logs_value(&update).map(|value| in_context(slot, value)),
        Subscription::Transaction { filter, view, .. } => {
            let facts = TransactionFacts::new(&update);
            if !filter.matches(&facts) || !view.reads(facts.version) {
                return None;
            }
            Some(ShownTransaction::new(slot, &update.into()).notification(*view))
        }
        _ => None,
    }
}

/// A subscriber of an address hears nothing of blocks that do not mention it.
fn shown_block(
    block: SubscribeUpdateBlock,
    mentions: Option<&Pubkey>,
    view: TransactionView,
) -> Option<String> {
    let slot = Slot(block.slot);
    let hash = |text: &str| text.parse::<Blockhash>().ok();
    let meta = MetaView {
        block: BlockId::new(slot, hash(&block.blockhash)?),
        parent: BlockId::new(Slot(block.parent_slot), hash(&block.parent_blockhash)?),
        transactions: block.executed_transaction_count,
        entries: block.entries_count,
        meta: SubscribeUpdateBlockMeta {
            slot: block.slot,
            blockhash: block.blockhash,
            rewards: block.rewards,
            block_time: block.block_time,
            block_height: block.block_height,
            parent_slot: block.parent_slot,
            parent_blockhash: block.parent_blockhash,
            executed_transaction_count: block.executed_transaction_count,
            entries_count: block.entries_count,
        },
    };
    let mentioning = |info: &SubscribeUpdateTransactionInfo| {
        mentions.is_none_or(|key| TransactionFacts::new(info).mentions(key))
    };
    let chosen: Vec<Arc<ShownTransaction>> = block
        .transactions
        .into_iter()
        .filter(mentioning)
        .map(|info| Arc::new(ShownTransaction::new(slot, &info.into())))
        .collect();
    if mentions.is_some() && chosen.is_empty() {
        return None;
    }
    Some(in_context(slot, block_update(&meta, &chosen, view)))
}

fn slot(update: &SubscribeUpdateSlot) -> serde_json::Value {
    let commitment = match update.status() {
        SlotStatus::SlotConfirmed => "confirmed",
        SlotStatus::SlotFinalized => "finalized",
        _ => "processed",
    };
    json!({ "slot": update.slot, "parent": update.parent, "commitment": commitment })
}
