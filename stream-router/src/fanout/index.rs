//! Pure: who asks for what. A block costs by what is in it, not by how many listen.

use std::collections::HashMap;

use solana_pubkey::Pubkey;

use super::SubscriptionId;
use crate::subscription::{Level, LogsOf, Subscription, TransactionFacts, TransactionFilter};

/// Under what a subscription is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    Account(Level, Pubkey),
    Program(Level, Pubkey),
    Logs(Level),
    LogsWithVotes(Level),
    LogsOf(Level, Pubkey),
    Signature(Level, [u8; 64]),
    /// Transaction filters that ask for a signature; those that ask for an address; the others.
    TransactionSigned(Level, [u8; 64]),
    TransactionOf(Level, Pubkey),
    Transactions(Level),
    Blocks(Level),
    BlocksOf(Level, Pubkey),
    Votes,
    Slots,
    SlotsUpdates,
    Roots,
    Gaps,
}

/// Kinds of topics that take work to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interest {
    Accounts,
    Logs,
    Signatures,
    Transactions,
    Blocks,
}

/// Subscriptions by topic. One subscription may be under several topics of the same interest.
#[derive(Debug, Default)]
pub struct Index {
    lists: HashMap<Topic, Vec<SubscriptionId>>,
    /// How many lists each interest has at each level.
    interests: HashMap<(Interest, Level), usize>,
}

impl Topic {
    fn interest(&self) -> Option<(Interest, Level)> {
        let (interest, level) = match self {
            Self::Account(level, _) | Self::Program(level, _) => (Interest::Accounts, level),
            Self::Logs(level) | Self::LogsWithVotes(level) | Self::LogsOf(level, _) => {
                (Interest::Logs, level)
            }
            Self::Signature(level, _) => (Interest::Signatures, level),
            Self::TransactionSigned(level, _)
            | Self::TransactionOf(level, _)
            | Self::Transactions(level) => (Interest::Transactions, level),
            Self::Blocks(level) | Self::BlocksOf(level, _) => (Interest::Blocks, level),
            Self::Votes | Self::Slots | Self::SlotsUpdates | Self::Roots | Self::Gaps => {
                return None;
            }
        };
        Some((interest, *level))
    }
}

fn topics(subscription: &Subscription) -> Vec<Topic> {
    match subscription {
        Subscription::Account { pubkey, level, .. } => vec![Topic::Account(*level, *pubkey)],
        Subscription::Program { program, level, .. } => vec![Topic::Program(*level, *program)],
        Subscription::Logs { of, level } => vec![match of {
            LogsOf::All => Topic::Logs(*level),
            LogsOf::AllWithVotes => Topic::LogsWithVotes(*level),
            LogsOf::Mentions(key) => Topic::LogsOf(*level, *key),
        }],
        Subscription::Signature {
            signature, level, ..
        } => vec![Topic::Signature(*level, *signature)],
        Subscription::Transaction { filter, level, .. } => transaction_topics(filter, *level),
        Subscription::Block {
            mentions, level, ..
        } => vec![match mentions {
            None => Topic::Blocks(*level),
            Some(key) => Topic::BlocksOf(*level, *key),
        }],
        Subscription::Vote => vec![Topic::Votes],
        Subscription::Slot => vec![Topic::Slots],
        Subscription::SlotsUpdates => vec![Topic::SlotsUpdates],
        Subscription::Root => vec![Topic::Roots],
        Subscription::Gap => vec![Topic::Gaps],
    }
}

/// The narrowest part of the filter; the rest of it is asked when a transaction has come this far.
fn transaction_topics(filter: &TransactionFilter, level: Level) -> Vec<Topic> {
    if let Some(signature) = filter.signature {
        return vec![Topic::TransactionSigned(level, signature)];
    }
    if let Some(key) = filter.required.first() {
        return vec![Topic::TransactionOf(level, *key)];
    }
    if filter.include.is_empty() {
        return vec![Topic::Transactions(level)];
    }
    let include = filter.include.iter();
    include
        .map(|key| Topic::TransactionOf(level, *key))
        .collect()
}

impl Index {
    pub fn insert(&mut self, id: SubscriptionId, subscription: &Subscription) {
        for topic in topics(subscription) {
            let list = self.lists.entry(topic).or_default();
            if list.is_empty()
                && let Some(interest) = topic.interest()
            {
                *self.interests.entry(interest).or_default() += 1;
            }
            list.push(id);
        }
    }

    pub fn remove(&mut self, id: SubscriptionId, subscription: &Subscription) {
        for topic in topics(subscription) {
            let Some(list) = self.lists.get_mut(&topic) else {
                continue;
            };
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.lists.remove(&topic);
                if let Some(lists) = topic
                    .interest()
                    .and_then(|interest| self.interests.get_mut(&interest))
                {
                    *lists -= 1;
                }
            }
        }
    }

    pub fn under(&self, topic: Topic) -> &[SubscriptionId] {
        self.lists.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// Whether anybody has this interest at this level.
    pub fn any(&self, interest: Interest, level: Level) -> bool {
        self.interests
            .get(&(interest, level))
            .is_some_and(|lists| *lists > 0)
    }

    /// Who asked for logs that mention one of the transaction's addresses, each once.
    pub fn logs_of(&self, facts: &TransactionFacts, level: Level) -> Vec<SubscriptionId> {
        let keys = facts.keys.iter();
        let mut ids: Vec<SubscriptionId> = keys
            .flat_map(|key| self.under(Topic::LogsOf(level, *key)))
            .copied()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whose transaction filter may match; each once.
    pub fn transaction_candidates(
        &self,
        facts: &TransactionFacts,
        level: Level,
    ) -> Vec<SubscriptionId> {
        let mut ids = self.under(Topic::Transactions(level)).to_vec();
        if let Some(signature) = facts.signature {
            ids.extend_from_slice(self.under(Topic::TransactionSigned(level, signature)));
        }
        for key in &facts.keys {
            ids.extend_from_slice(self.under(Topic::TransactionOf(level, *key)));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::{Ask, ask};
    use proptest::prelude::*;
    use serde_json::json;

    fn subscription(method: &str, params: serde_json::Value) -> Subscription {
        match ask(method, params).expect("accepted") {
            Ask::Subscribe(subscription) => *subscription,
            Ask::Resume(_) | Ask::Unsubscribe(_) => panic!("a subscription"),
        }
    }

    #[test]
    fn what_was_inserted_can_be_removed_without_a_trace() {
        let key = Pubkey::from([1; 32]).to_string();
        let other = Pubkey::from([2; 32]).to_string();
        let signature = event_schema::Signature([1; 64]).to_string();
        let version = json!({"maxSupportedTransactionVersion": 0});
        let all = [
            subscription("accountSubscribe", json!([key])),
            subscription("programSubscribe", json!([key])),
            subscription("logsSubscribe", json!(["all"])),
            subscription("logsSubscribe", json!(["allWithVotes"])),
            subscription("logsSubscribe", json!([{"mentions": [key]}])),
            subscription("signatureSubscribe", json!([signature])),
            subscription("transactionSubscribe", json!([{}, version])),
            subscription(
                "transactionSubscribe",
                json!([{"signature": signature}, version]),
            ),
            subscription(
                "transactionSubscribe",
                json!([{"accountInclude": [key, other]}, version]),
            ),
            subscription(
                "transactionSubscribe",
                json!([{"accountRequired": [key]}, version]),
            ),
            subscription("blockSubscribe", json!(["all"])),
            subscription("blockSubscribe", json!([{"mentionsAccountOrProgram": key}])),
            subscription("voteSubscribe", json!([])),
            subscription("slotSubscribe", json!([])),
            subscription("slotsUpdatesSubscribe", json!([])),
            subscription("rootSubscribe", json!([])),
        ];
        let mut index = Index::default();
        for (id, subscription) in all.iter().enumerate() {
            index.insert(id as u64, subscription);
        }
        assert!(index.any(Interest::Blocks, Level::Finalized));
        assert!(!index.any(Interest::Blocks, Level::Confirmed));
        assert!(index.any(Interest::Transactions, Level::Processed));
        for (id, subscription) in all.iter().enumerate() {
            index.remove(id as u64, subscription);
        }
        assert!(index.lists.is_empty());
        assert!(index.interests.values().all(|lists| *lists == 0));
    }

    fn keys() -> impl Strategy<Value = Vec<Pubkey>> {
        proptest::collection::btree_set(0u8..6, 0..3).prop_map(|keys| {
            keys.into_iter()
                .map(|key| Pubkey::from([key; 32]))
                .collect()
        })
    }

    prop_compose! {
        fn filters()(
            vote: Option<bool>,
            failed: Option<bool>,
            signature in proptest::option::weighted(0.2, 0u8..3),
            include in keys(),
            exclude in keys(),
            required in keys(),
        ) -> TransactionFilter {
            TransactionFilter { vote, failed, signature: signature.map(|byte| [byte; 64]), include, exclude, required }
        }
    }

    proptest! {
        /// The index is a shortcut: asking every filter finds the same.
        #[test]
        fn no_match_is_missed(
            filters in proptest::collection::vec(filters(), 0..20),
            is_vote: bool,
            failed: bool,
            signature in 0u8..3,
            keys in keys(),
        ) {
            let facts = TransactionFacts { is_vote, failed, signature: Some([signature; 64]), version: None, keys };
            let mut index = Index::default();
            for (id, filter) in filters.iter().enumerate() {
                let subscription = match subscription(
                    "transactionSubscribe",
                    json!([{}, {"transactionDetails": "none"}]),
                ) {
                    Subscription::Transaction { view, level, .. } => Subscription::Transaction {
                        filter: filter.clone(),
                        view,
                        level,
                    },
                    other => other,
                };
                index.insert(id as u64, &subscription);
            }
            let found: Vec<u64> = index
                .transaction_candidates(&facts, Level::Processed)
                .into_iter()
                .filter(|id| filters[*id as usize].matches(&facts))
                .collect();
            let plain: Vec<u64> = (0..filters.len() as u64)
                .filter(|id| filters[*id as usize].matches(&facts))
                .collect();
            prop_assert_eq!(found, plain);
        }
    }
}
