//! All subscribers' filters in one place.

use std::collections::BTreeMap;

use bytes::Bytes;
use event_schema::proto::geyser::{SlotStatus, SubscribeUpdateAccountInfo};
use foldhash::HashMap;

use super::{
    SubscriberId,
    account_index::AccountIndex,
    compile::Filters,
    error::FilterError,
    keys::Key,
    matches::{BlockMatch, Match},
    postings::At,
    transaction_index::TransactionIndex,
    transactions::TransactionFacts,
};
use crate::subscription::Level;

/// Statuses a slot can have: the numbers of [`SlotStatus`].
const SLOT_STATUSES: [SlotStatus; 7] = [
    SlotStatus::SlotProcessed,
    SlotStatus::SlotConfirmed,
    SlotStatus::SlotFinalized,
    SlotStatus::SlotFirstShredReceived,
    SlotStatus::SlotCompleted,
    SlotStatus::SlotCreatedBank,
    SlotStatus::SlotDead,
];

/// Who asks for what: of all subscribers, or of one whose history is replayed.
#[derive(Debug, Default)]
pub struct FilterIndex {
    subscribers: HashMap<SubscriberId, Subscriber>,
    levels: [LevelIndex; Level::ALL.len()],
    /// By status: what a slot's new status is told as does not depend on anything else.
    slots: [BTreeMap<SubscriberId, Bytes>; SLOT_STATUSES.len()],
}

/// Where a subscriber's filters are listed, in the order in which they are in `filters`.
#[derive(Debug)]
struct Subscriber {
    filters: Filters,
    accounts: Vec<At>,
    transactions: Vec<At>,
    statuses: Vec<At>,
}

#[derive(Debug, Default)]
struct LevelIndex {
    accounts: AccountIndex,
    transactions: TransactionIndex,
    statuses: TransactionIndex,
    entries: BTreeMap<SubscriberId, Bytes>,
    block_meta: BTreeMap<SubscriberId, Bytes>,
    blocks: BTreeMap<SubscriberId, Vec<BlockMatch>>,
}

/// Which kinds anyone asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    pub accounts: bool,
    pub transactions: bool,
    pub statuses: bool,
    pub entries: bool,
    pub block_meta: bool,
    pub blocks: bool,
    /// At any level: slots are told by status.
    pub slots: bool,
}

impl FilterIndex {
    /// Replaces what the subscriber had.
    pub fn insert(&mut self, id: SubscriberId, filters: Filters) {
        self.remove(id);
        let level = &mut self.levels[filters.level as usize];
        let accounts = filters
            .accounts
            .iter()
            .map(|filter| {
                let only_one = filters.accounts.len() == 1;
                let slices = filters.slices.clone();
                level.accounts.insert(id, filter, slices, only_one)
            })
            .collect();
        let list = |index: &mut TransactionIndex, list: &[_]| {
            list.iter()
                .map(|filter| index.insert(id, filter, list.len() == 1))
                .collect()
        };
        let transactions = list(&mut level.transactions, &filters.transactions);
        let statuses = list(&mut level.statuses, &filters.statuses);
        if !filters.entries.is_empty() {
            level.entries.insert(id, filters.entries.clone());
        }
        if !filters.block_meta.is_empty() {
            level.block_meta.insert(id, filters.block_meta.clone());
        }
        if !filters.blocks.is_empty() {
            let blocks = filters.blocks.iter().map(|(head, filter)| BlockMatch {
                subscriber: id,
                head: head.clone(),
                filter: filter.clone(),
            });
            level.blocks.insert(id, blocks.collect());
        }
        for status in SLOT_STATUSES {
            let names: Vec<u8> = filters
                .slots
                .iter()
                .filter(|filter| filter.wants(status, filters.level))
                .flat_map(|filter| &filter.head)
                .copied()
                .collect();
            if !names.is_empty() {
                self.slots[status as usize].insert(id, names.into());
            }
        }
        self.subscribers.insert(
            id,
            Subscriber {
                filters,
                accounts,
                transactions,
                statuses,
            },
        );
    }

    pub fn subscribers(&self) -> impl Iterator<Item = SubscriberId> {
        self.subscribers.keys().copied()
    }

    pub fn remove(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(&id) else {
            return;
        };
        let level = &mut self.levels[subscriber.filters.level as usize];
        for (at, filter) in subscriber.accounts.iter().zip(&subscriber.filters.accounts) {
            level.accounts.remove(*at, filter);
        }
        for at in subscriber.transactions {
            level.transactions.remove(at);
        }
        for at in subscriber.statuses {
            level.statuses.remove(at);
        }
        level.entries.remove(&id);
        level.block_meta.remove(&id);
        level.blocks.remove(&id);
        for slots in &mut self.slots {
            slots.remove(&id);
        }
    }

    /// As they are now: with changes since they were inserted.
    pub fn filters(&self, id: SubscriberId) -> Option<&Filters> {
        Some(&self.subscribers.get(&id)?.filters)
    }

    /// Changes which accounts the accounts filter `filter` names, at the cost of what changes: all or nothing. A key that is
    /// both added and removed is in it afterwards. A filter whose last account is taken away passes nothing.
    pub fn change_accounts(
        &mut self,
        id: SubscriberId,
        filter: &str,
        add: &[Key],
        remove: &[Key],
    ) -> Result<(), FilterError> {
        let subscriber = self.subscribers.get_mut(&id).ok_or_else(|| {
            FilterError::new(
                "accounts_change",
                "nothing is subscribed to",
                "send a request first",
            )
        })?;
        let (place, change) = subscriber.filters.change_accounts(filter, add, remove)?;
        self.levels[subscriber.filters.level as usize]
            .accounts
            .change_keys(subscriber.accounts[place], &change);
        Ok(())
    }

    pub fn account(&self, level: Level, info: &SubscribeUpdateAccountInfo, out: &mut Vec<Match>) {
        self.levels[level as usize].accounts.matches(info, out);
    }

    pub fn transaction(&self, level: Level, facts: &TransactionFacts<'_>, out: &mut Vec<Match>) {
        self.levels[level as usize].transactions.matches(facts, out);
    }

    pub fn transaction_status(
        &self,
        level: Level,
        facts: &TransactionFacts<'_>,
        out: &mut Vec<Match>,
    ) {
        self.levels[level as usize].statuses.matches(facts, out);
    }

    pub fn entry(&self, level: Level, out: &mut Vec<Match>) {
        tell_all(&self.levels[level as usize].entries, out);
    }

    pub fn block_meta(&self, level: Level, out: &mut Vec<Match>) {
        tell_all(&self.levels[level as usize].block_meta, out);
    }

    pub fn slot(&self, status: SlotStatus, out: &mut Vec<Match>) {
        tell_all(&self.slots[status as usize], out);
    }

    /// One match per filter: each makes its own message of a block.
    pub fn blocks(&self, level: Level, out: &mut Vec<BlockMatch>) {
        let blocks = self.levels[level as usize].blocks.values();
        out.extend(blocks.flatten().cloned());
    }

    pub fn wants(&self, level: Level) -> Wants {
        let index = &self.levels[level as usize];
        Wants {
            accounts: index.accounts.wanted(),
            transactions: index.transactions.wanted(),
            statuses: index.statuses.wanted(),
            entries: !index.entries.is_empty(),
            block_meta: !index.block_meta.is_empty(),
            blocks: !index.blocks.is_empty(),
            slots: self.slots.iter().any(|slots| !slots.is_empty()),
        }
    }

    /// How many filters are looked at for an account, and for a transaction.
    #[cfg(test)]
    pub(super) fn looked_at(
        &self,
        level: Level,
        account: &SubscribeUpdateAccountInfo,
        facts: &TransactionFacts<'_>,
    ) -> (usize, usize) {
        let index = &self.levels[level as usize];
        (
            index.accounts.looked_at(account),
            index.transactions.looked_at(facts),
        )
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.subscribers.is_empty()
            && Level::ALL
                .iter()
                .all(|level| self.wants(*level) == Wants::default())
            && self.levels.iter().all(|level| {
                level.accounts.holds_nothing()
                    && level.transactions.holds_nothing()
                    && level.statuses.holds_nothing()
            })
    }
}

fn tell_all(subscribers: &BTreeMap<SubscriberId, Bytes>, out: &mut Vec<Match>) {
    out.extend(subscribers.iter().map(|(subscriber, head)| Match {
        subscriber: *subscriber,
        head: head.clone(),
        slices: None,
    }));
}
