//! The steps of a slot's life, as `slotsUpdatesSubscribe` shows them.

use std::collections::BTreeMap;

use event_schema::{
    Slot,
    proto::{
        Message as _,
        geyser::{SlotStatus, SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};
use solana_rpc_client_types::response::{SlotTransactionStats, SlotUpdate as Shown};

use crate::{
    assembly::Block,
    observation::{Body, Content},
    router::SlotUpdate,
};

/// Every report but the one that a bank is frozen, which is shown with the block's figures: see [`FrozenSlots`].
pub fn slot_update(update: &SlotUpdate) -> Option<String> {
    let (slot, timestamp) = (update.slot.0, milliseconds(update.at_ms));
    let shown = match update.status {
        SlotStatus::SlotFirstShredReceived => Shown::FirstShredReceived { slot, timestamp },
        SlotStatus::SlotCompleted => Shown::Completed { slot, timestamp },
        SlotStatus::SlotCreatedBank => Shown::CreatedBank {
            slot,
            parent: update.parent?.0,
            timestamp,
        },
        SlotStatus::SlotDead => Shown::Dead {
            slot,
            timestamp,
            err: update.dead_error.clone().unwrap_or_default(),
        },
        SlotStatus::SlotConfirmed => Shown::OptimisticConfirmation { slot, timestamp },
        SlotStatus::SlotFinalized => Shown::Root { slot, timestamp },
        SlotStatus::SlotProcessed => return None,
    };
    Some(text(&shown))
}

fn milliseconds(at: i64) -> u64 {
    u64::try_from(at).unwrap_or_default()
}

fn text(shown: &Shown) -> String {
    serde_json::json!(shown).to_string()
}

/// A frozen bank is told when both are known: that a validator processed it, and the block with its figures.
#[derive(Debug, Default)]
pub struct FrozenSlots {
    processed_ms: BTreeMap<Slot, i64>,
    figures: BTreeMap<Slot, SlotTransactionStats>,
}

impl FrozenSlots {
    /// Slots remembered of each kind. A block follows its report within seconds.
    const SLOTS_MAX: usize = 512;

    /// Of the reports those count that cannot come before the bank is frozen. A slot may be begun anew, with another block.
    pub fn reported(&mut self, update: &SlotUpdate) -> Option<String> {
        if update.status == SlotStatus::SlotCreatedBank {
            self.processed_ms.remove(&update.slot);
            self.figures.remove(&update.slot);
            return None;
        }
        let implies_frozen = matches!(
            update.status,
            SlotStatus::SlotProcessed | SlotStatus::SlotFinalized
        );
        if !implies_frozen {
            return None;
        }
        let at_ms = *self.processed_ms.entry(update.slot).or_insert(update.at_ms);
        keep_newest(&mut self.processed_ms, Self::SLOTS_MAX);
        let stats = self.figures.remove(&update.slot)?;
        Some(shown(update.slot, at_ms, stats))
    }

    pub fn published(&mut self, block: &Block) -> Option<String> {
        let slot = block.id.slot;
        let stats = figures(block);
        if let Some(at_ms) = self.processed_ms.get(&slot) {
            return Some(shown(slot, *at_ms, stats));
        }
        self.figures.insert(slot, stats);
        keep_newest(&mut self.figures, Self::SLOTS_MAX);
        None
    }
}

fn keep_newest<V>(by_slot: &mut BTreeMap<Slot, V>, max: usize) {
    while by_slot.len() > max {
        by_slot.pop_first();
    }
}

fn shown(slot: Slot, at_ms: i64, stats: SlotTransactionStats) -> String {
    text(&Shown::Frozen {
        slot: slot.0,
        timestamp: milliseconds(at_ms),
        stats,
    })
}

/// What the validator counts while it executes. By its count "successful" are all transactions that paid a fee, failed ones
/// included. Its "entries" are the batches it committed: those with transactions are the block's entries with transactions;
/// zero where the stream carries no entries.
fn figures(block: &Block) -> SlotTransactionStats {
    let mut stats = SlotTransactionStats {
        num_transaction_entries: 0,
        num_successful_transactions: 0,
        num_failed_transactions: 0,
        max_transactions_per_entry: 0,
    };
    for content in &block.contents {
        match &content.body {
            Body::Transaction(transaction) => {
                stats.num_successful_transactions += 1;
                let failed = transaction
                    .meta
                    .as_ref()
                    .is_some_and(|meta| meta.err.is_some());
                stats.num_failed_transactions += u64::from(failed);
            }
            Body::Entry => {
                let transactions = transactions_of(content);
                stats.num_transaction_entries += u64::from(transactions > 0);
                stats.max_transactions_per_entry =
                    stats.max_transactions_per_entry.max(transactions);
            }
            Body::Account(_) | Body::BlockMeta(_) => {}
        }
    }
    stats
}

fn transactions_of(entry: &Content) -> u64 {
    match SubscribeUpdate::decode(entry.bytes.as_ref()).map(|update| update.update_oneof) {
        Ok(Some(UpdateOneof::Entry(entry))) => entry.executed_transaction_count,
        _ => 0,
    }
}
