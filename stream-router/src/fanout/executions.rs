//! Tells subscribers of signatures, of logs and of transactions what a block executed.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;

use super::{
    Fanout, SubscriptionId, Told,
    index::{Interest, Topic},
};
use crate::{
    encoding::{ShownTransaction, in_context, logs_value, ui_error},
    live::LiveBlock,
    subscription::{Level, Subscription, TransactionFacts, TransactionView},
};

impl Fanout {
    /// Subscribers that asked for it learn that their transaction arrived, before it reaches their level.
    pub(super) fn tell_received(&mut self, block: &LiveBlock) {
        let waited_for = |level: &Level| self.index.any(Interest::Signatures, *level);
        if !Level::ALL.iter().any(waited_for) {
            return;
        }
        for transaction in &block.transactions {
            let Ok(signature) = <[u8; 64]>::try_from(transaction.signature.as_slice()) else {
                continue;
            };
            for level in Level::ALL {
                for id in self
                    .index
                    .under(Topic::Signature(level, signature))
                    .to_vec()
                {
                    let Some(subscriber) = self.subscribers.get_mut(&id) else {
                        continue;
                    };
                    let asked = matches!(
                        *subscriber.subscription,
                        Subscription::Signature { received: true, .. }
                    );
                    if asked && !subscriber.received_told {
                        subscriber.received_told = true;
                        let value = in_context(block.id.slot, json!("receivedSignature")).into();
                        self.notify(id, &value);
                    }
                }
            }
        }
    }

    /// A signature is told once; then its subscription has ended.
    pub(super) fn tell_signatures(&mut self, block: &LiveBlock, level: Level) {
        if !self.index.any(Interest::Signatures, level) {
            return;
        }
        for transaction in &block.transactions {
            let Ok(signature) = <[u8; 64]>::try_from(transaction.signature.as_slice()) else {
                continue;
            };
            let waiting = self
                .index
                .under(Topic::Signature(level, signature))
                .to_vec();
            if waiting.is_empty() {
                continue;
            }
            let err = ui_error(transaction.meta.as_ref());
            let value = in_context(block.id.slot, json!({ "err": err })).into();
            for id in waiting {
                self.notify(id, &value);
                self.unsubscribe(id);
            }
        }
    }

    pub(super) fn tell_logs(
        &mut self,
        block: &LiveBlock,
        level: Level,
        facts: &[TransactionFacts],
    ) {
        if !self.index.any(Interest::Logs, level) {
            return;
        }
        for (transaction, facts) in block.transactions.iter().zip(facts) {
            let mut ids: Vec<SubscriptionId> =
                self.index.under(Topic::LogsWithVotes(level)).to_vec();
            if !transaction.is_vote {
                ids.extend_from_slice(self.index.under(Topic::Logs(level)));
            }
            ids.extend(self.index.logs_of(facts, level));
            if ids.is_empty() {
                continue;
            }
            let Some(value) = logs_value(transaction) else {
                continue;
            };
            let value = in_context(block.id.slot, value).into();
            for id in ids {
                self.notify(id, &value);
            }
        }
    }

    pub(super) fn tell_transactions(
        &mut self,
        transactions: &[Arc<ShownTransaction>],
        level: Level,
        facts: &[TransactionFacts],
    ) {
        if !self.index.any(Interest::Transactions, level) {
            return;
        }
        for (transaction, facts) in transactions.iter().zip(facts) {
            let mut told: HashMap<TransactionView, Told> = HashMap::new();
            for id in self.index.transaction_candidates(facts, level) {
                let Some(subscriber) = self.subscribers.get(&id) else {
                    continue;
                };
                let Subscription::Transaction { filter, view, .. } = &*subscriber.subscription
                else {
                    continue;
                };
                // A version the subscriber cannot read is left out, which is what it asked for.
                if !filter.matches(facts) || !view.reads(facts.version) {
                    continue;
                }
                let view = *view;
                let value = told
                    .entry(view)
                    .or_insert_with(|| {
                        let transaction = Arc::clone(transaction);
                        let bytes = transaction.bytes();
                        Told::later(&self.writers, bytes, move || transaction.notification(view))
                    })
                    .clone();
                self.notify(id, &value);
            }
        }
    }
}
