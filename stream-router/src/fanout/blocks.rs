//! Tells subscribers of blocks. A block is shown once per view and choice of transactions, and shared.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use solana_pubkey::Pubkey;

use super::{
    Fanout, SubscriptionId, Told,
    index::{Interest, Topic},
};
use crate::{
    encoding::{ShownTransaction, block_update, in_context},
    live::LiveBlock,
    subscription::{Level, Subscription, TransactionFacts, TransactionView},
};

impl Fanout {
    pub(super) fn tell_blocks(
        &mut self,
        block: &LiveBlock,
        level: Level,
        facts: &[TransactionFacts],
        shown: &[Arc<ShownTransaction>],
    ) {
        if !self.index.any(Interest::Blocks, level) {
            return;
        }
        let whole = self.index.under(Topic::Blocks(level)).to_vec();
        self.tell_choice(block, &whole, shown);

        // A subscriber of an address hears nothing of blocks that do not mention it.
        let mut mentioning: BTreeMap<Pubkey, Vec<Arc<ShownTransaction>>> = BTreeMap::new();
        for (transaction, facts) in shown.iter().zip(facts) {
            for key in &facts.keys {
                if !self.index.under(Topic::BlocksOf(level, *key)).is_empty() {
                    let chosen = mentioning.entry(*key).or_default();
                    chosen.push(Arc::clone(transaction));
                }
            }
        }
        for (key, chosen) in mentioning {
            let ids = self.index.under(Topic::BlocksOf(level, key)).to_vec();
            self.tell_choice(block, &ids, &chosen);
        }
    }

    fn tell_choice(
        &mut self,
        block: &LiveBlock,
        ids: &[SubscriptionId],
        chosen: &[Arc<ShownTransaction>],
    ) {
        let mut told: HashMap<TransactionView, Told> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get(id) else {
                continue;
            };
            let Subscription::Block { view, .. } = *subscriber.subscription else {
                continue;
            };
            let value = told.entry(view).or_insert_with(|| {
                let (meta, chosen) = (Arc::clone(&block.meta), chosen.to_vec());
                let bytes: usize = chosen.iter().map(|transaction| transaction.bytes()).sum();
                Told::later(&self.writers, bytes, move || {
                    in_context(meta.block.slot, block_update(&meta, &chosen, view))
                })
            });
            let value = value.clone();
            self.notify(*id, &value);
        }
    }
}
