//! Tells subscribers of blocks. A block is shown once per view and choice of transactions, and shared.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use solana_pubkey::Pubkey;

use super::{
    Fanout, SubscriptionId, in_context,
    index::{Interest, Topic},
};
use crate::{
    encoding::ShownBlock,
    live::LiveBlock,
    subscription::{Level, Subscription, TransactionFacts, TransactionView},
};

impl Fanout {
    pub(super) fn tell_blocks(
        &mut self,
        block: &LiveBlock,
        level: Level,
        facts: &[TransactionFacts],
        shown: &mut ShownBlock<'_>,
    ) {
        if !self.index.any(Interest::Blocks, level) {
            return;
        }
        let whole = self.index.under(Topic::Blocks(level)).to_vec();
        let all: Vec<usize> = (0..facts.len()).collect();
        self.tell_choice(block, &all, &whole, shown);

        // A subscriber of an address hears nothing of blocks that do not mention it.
        let mut mentioning: BTreeMap<Pubkey, Vec<usize>> = BTreeMap::new();
        for (at, facts) in facts.iter().enumerate() {
            for key in &facts.keys {
                if !self.index.under(Topic::BlocksOf(level, *key)).is_empty() {
                    mentioning.entry(*key).or_default().push(at);
                }
            }
        }
        for (key, chosen) in mentioning {
            let ids = self.index.under(Topic::BlocksOf(level, key)).to_vec();
            self.tell_choice(block, &chosen, &ids, shown);
        }
    }

    fn tell_choice(
        &mut self,
        block: &LiveBlock,
        chosen: &[usize],
        ids: &[SubscriptionId],
        shown: &mut ShownBlock<'_>,
    ) {
        let mut told: HashMap<TransactionView, Arc<str>> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get(id) else {
                continue;
            };
            let Subscription::Block { view, .. } = *subscriber.subscription else {
                continue;
            };
            let value = told
                .entry(view)
                .or_insert_with(|| in_context(block, shown.update(chosen, view)))
                .clone();
            self.notify(*id, &value);
        }
    }
}
