//! One blocks filter: what of a block goes into its message.

use std::sync::Arc;

use event_schema::proto::geyser::{SubscribeRequestFilterBlocks, SubscribeUpdateAccountInfo};

use super::{
    cuckoo::{Cuckoo, Probe},
    error::{FilterError, Place},
    keys::{KeySet, intersects, key, key_set},
    limits::BlockLimits,
    slices::DataSlice,
    transactions::{Expansion, TransactionFacts},
};

#[derive(Debug, PartialEq, Eq)]
pub struct BlockFilter {
    pub include_transactions: bool,
    pub include_accounts: bool,
    pub include_entries: bool,
    /// Which parts of the accounts' data; none: all of it.
    pub slices: Option<Arc<[DataSlice]>>,
    include: KeySet,
    cuckoo: Option<Cuckoo>,
}

impl BlockFilter {
    pub(super) fn compile(
        name: &str,
        sent: &SubscribeRequestFilterBlocks,
        slices: Option<Arc<[DataSlice]>>,
        limits: &BlockLimits,
    ) -> Result<Self, FilterError> {
        let place = Place {
            kind: "blocks",
            name,
        };
        if !limits.account_include_any
            && sent.account_include.is_empty()
            && sent.cuckoo_account_include.is_none()
        {
            return Err(place.error(
                "account_include",
                "whole blocks may not be asked for here",
                "name the accounts that matter",
            ));
        }
        let wanted =
            |field, sent: Option<bool>, default, allowed: bool| match sent.unwrap_or(default) {
                true if !allowed => Err(place.error(field, "it is not allowed here", "send false")),
                wanted => Ok(wanted),
            };
        Ok(Self {
            include_transactions: wanted(
                "include_transactions",
                sent.include_transactions,
                true,
                limits.include_transactions,
            )?,
            include_accounts: wanted(
                "include_accounts",
                sent.include_accounts,
                false,
                limits.include_accounts,
            )?,
            include_entries: wanted(
                "include_entries",
                sent.include_entries,
                false,
                limits.include_entries,
            )?,
            slices,
            include: key_set(
                place,
                "account_include",
                &sent.account_include,
                limits.account_include_max,
                &limits.account_include_reject,
            )?,
            cuckoo: match &sent.cuckoo_account_include {
                Some(sent) => Some(Cuckoo::compile(
                    place,
                    "cuckoo_account_include",
                    sent,
                    limits.cuckoo_max_size,
                )?),
                None => None,
            },
        })
    }

    /// Whether all accounts and transactions of a block are wanted, as far as their kind is. Then filters with the same
    /// `include_*` and slices make the same message.
    pub fn is_whole(&self) -> bool {
        self.include.is_empty() && self.cuckoo.is_none()
    }

    pub fn wants_transaction(&self, facts: &TransactionFacts<'_>) -> bool {
        let keys = facts.keys(Expansion::Accounts);
        self.include_transactions
            && (self.is_whole()
                || intersects(&self.include, keys)
                || self
                    .cuckoo
                    .as_ref()
                    .is_some_and(|cuckoo| cuckoo.contains_any(keys)))
    }

    pub fn wants_account(&self, info: &SubscribeUpdateAccountInfo) -> bool {
        let named = || {
            key(&info.pubkey).is_some_and(|key| {
                self.include.contains(key)
                    || self
                        .cuckoo
                        .as_ref()
                        .is_some_and(|cuckoo| cuckoo.contains(&Probe::new(cuckoo.seed, key)))
            })
        };
        self.include_accounts && (self.is_whole() || named())
    }
}
