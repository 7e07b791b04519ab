//! Pure: who asks for what. A block costs by what is in it, not by how many listen.

use std::collections::HashMap;

use event_schema::proto::geyser::SubscribeUpdateTransactionInfo;
use solana_pubkey::Pubkey;

use super::SubscriptionId;
use crate::subscription::{Level, LogsOf, Subscription};

/// Every subscription is in exactly one list.
#[derive(Debug, Default)]
pub struct Index {
    levels: [LevelIndex; 3],
    pub slots: Vec<SubscriptionId>,
    pub roots: Vec<SubscriptionId>,
}

/// Who asks for what, at one level.
#[derive(Debug, Default)]
pub struct LevelIndex {
    pub accounts: HashMap<Pubkey, Vec<SubscriptionId>>,
    pub programs: HashMap<Pubkey, Vec<SubscriptionId>>,
    pub signatures: HashMap<[u8; 64], Vec<SubscriptionId>>,
    pub mentions: HashMap<Pubkey, Vec<SubscriptionId>>,
    pub logs: Vec<SubscriptionId>,
    pub logs_with_votes: Vec<SubscriptionId>,
}

impl Index {
    pub fn at(&self, level: Level) -> &LevelIndex {
        &self.levels[level as usize]
    }

    pub fn insert(&mut self, id: SubscriptionId, subscription: &Subscription) {
        self.listed_under(subscription).push(id);
    }

    pub fn remove(&mut self, id: SubscriptionId, subscription: &Subscription) {
        self.listed_under(subscription).retain(|other| *other != id);
        self.drop_empty_list(subscription);
    }

    /// The one list this subscription is in, made if need be.
    fn listed_under(&mut self, subscription: &Subscription) -> &mut Vec<SubscriptionId> {
        match subscription {
            Subscription::Account { pubkey, level, .. } => self.levels[*level as usize]
                .accounts
                .entry(*pubkey)
                .or_default(),
            Subscription::Program { program, level, .. } => self.levels[*level as usize]
                .programs
                .entry(*program)
                .or_default(),
            Subscription::Signature {
                signature, level, ..
            } => self.levels[*level as usize]
                .signatures
                .entry(*signature)
                .or_default(),
            Subscription::Logs { of, level } => {
                let index = &mut self.levels[*level as usize];
                match of {
                    LogsOf::All => &mut index.logs,
                    LogsOf::AllWithVotes => &mut index.logs_with_votes,
                    LogsOf::Mentions(key) => index.mentions.entry(*key).or_default(),
                }
            }
            Subscription::Slot => &mut self.slots,
            Subscription::Root => &mut self.roots,
        }
    }

    fn drop_empty_list(&mut self, subscription: &Subscription) {
        match subscription {
            Subscription::Account { pubkey, level, .. } => {
                drop_if_empty(&mut self.levels[*level as usize].accounts, pubkey);
            }
            Subscription::Program { program, level, .. } => {
                drop_if_empty(&mut self.levels[*level as usize].programs, program);
            }
            Subscription::Signature {
                signature, level, ..
            } => drop_if_empty(&mut self.levels[*level as usize].signatures, signature),
            Subscription::Logs {
                of: LogsOf::Mentions(key),
                level,
            } => drop_if_empty(&mut self.levels[*level as usize].mentions, key),
            _ => {}
        }
    }
}

impl LevelIndex {
    /// Who asked for logs that mention one of the transaction's addresses.
    pub fn mentioned(&self, transaction: &SubscribeUpdateTransactionInfo) -> Vec<SubscriptionId> {
        let message = transaction
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref());
        let fixed = message
            .into_iter()
            .flat_map(|message| message.account_keys.iter());
        let loaded = transaction.meta.iter().flat_map(|meta| {
            meta.loaded_writable_addresses
                .iter()
                .chain(&meta.loaded_readonly_addresses)
        });
        let mut ids: Vec<SubscriptionId> = fixed
            .chain(loaded)
            .filter_map(|key| Pubkey::try_from(key.as_slice()).ok())
            .filter_map(|key| self.mentions.get(&key))
            .flatten()
            .copied()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

fn drop_if_empty<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, Vec<SubscriptionId>>, key: &K) {
    if lists.get(key).is_some_and(Vec::is_empty) {
        lists.remove(key);
    }
}
