//! What a request may ask for. Named as in Yellowstone's `filter_limits`, so that an operator's limits carry over.

use std::collections::BTreeSet;

use event_schema::Pubkey;
use serde::{Deserialize, Serialize};

/// Counts are limits when present; absent means as many as the client likes. By default all is allowed, as in Yellowstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterLimits {
    /// Length of a filter's name, bytes.
    pub name_bytes_max: usize,
    pub accounts: AccountLimits,
    pub slots: CountLimits,
    pub transactions: TransactionLimits,
    pub transactions_status: TransactionLimits,
    pub blocks: BlockLimits,
    pub blocks_meta: CountLimits,
    pub entries: CountLimits,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self {
            name_bytes_max: 128,
            accounts: AccountLimits::default(),
            slots: CountLimits::default(),
            transactions: TransactionLimits::default(),
            transactions_status: TransactionLimits::default(),
            blocks: BlockLimits::default(),
            blocks_meta: CountLimits::default(),
            entries: CountLimits::default(),
        }
    }
}

/// Of kinds that have nothing to filter by but their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountLimits {
    /// Filters per request.
    pub max: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountLimits {
    /// Filters per request.
    pub max: Option<usize>,
    /// Whether a filter may name neither accounts nor owners.
    pub any: bool,
    /// Accounts per filter.
    pub account_max: Option<usize>,
    pub account_reject: BTreeSet<Pubkey>,
    /// Owners per filter.
    pub owner_max: Option<usize>,
    pub owner_reject: BTreeSet<Pubkey>,
    /// Conditions on an account's state (`filters`) per filter.
    pub state_filters_max: usize,
    /// Length of what a memcmp compares with, bytes.
    pub memcmp_bytes_max: usize,
    pub data_slice_max: Option<usize>,
    /// Length of a cuckoo set, bytes.
    pub cuckoo_max_size: Option<usize>,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max: None,
            any: true,
            account_max: None,
            account_reject: BTreeSet::new(),
            owner_max: None,
            owner_reject: BTreeSet::new(),
            state_filters_max: 4,
            memcmp_bytes_max: 128,
            data_slice_max: None,
            cuckoo_max_size: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransactionLimits {
    /// Filters per request.
    pub max: Option<usize>,
    /// Whether a filter may ask for every transaction.
    pub any: bool,
    /// Accounts per list of a filter.
    pub account_include_max: Option<usize>,
    pub account_include_reject: BTreeSet<Pubkey>,
    pub account_exclude_max: Option<usize>,
    pub account_required_max: Option<usize>,
    /// Length of a cuckoo set, bytes.
    pub cuckoo_max_size: Option<usize>,
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self {
            max: None,
            any: true,
            account_include_max: None,
            account_include_reject: BTreeSet::new(),
            account_exclude_max: None,
            account_required_max: None,
            cuckoo_max_size: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockLimits {
    /// Filters per request.
    pub max: Option<usize>,
    /// Accounts per filter.
    pub account_include_max: Option<usize>,
    /// Whether a filter may ask for whole blocks.
    pub account_include_any: bool,
    pub account_include_reject: BTreeSet<Pubkey>,
    pub include_transactions: bool,
    pub include_accounts: bool,
    pub include_entries: bool,
    /// Length of a cuckoo set, bytes.
    pub cuckoo_max_size: Option<usize>,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self {
            max: None,
            account_include_max: None,
            account_include_any: true,
            account_include_reject: BTreeSet::new(),
            include_transactions: true,
            include_accounts: true,
            include_entries: true,
            cuckoo_max_size: None,
        }
    }
}
