//! Which of the validator's reports an output takes, decided in the callback.
//!
//! A filter is compiled once, when the configuration is read; all that can be wrong with it is said then. Matching is a
//! pure function of the borrowed Replica structs: it allocates nothing, takes no lock and cannot panic.
//!
//! ```text
//! config (JSON5) ──▶ Filter ──▶ Switch ──▶ callback: does this output take it? which pieces of its data?
//! ```
//!
//! Reading order: [`config`] (the keys), [`reference`] (what they mean), this file, `account` and `transaction` (the
//! rules), `key_set`, [`slice`], [`switch`] (exchanging filters while callbacks run).
//!
//! The rules and their names are those of yellowstone-grpc's subscriptions, so that a filter moves here unchanged; added
//! are `exclude_accounts` and `exclude_owners`. What it deliberately does not do: look into instructions, expand token
//! owners, or follow commitment. Those belong to readers.

mod account;
pub mod config;
mod key_set;
pub mod reference;
pub mod slice;
pub mod switch;
#[cfg(test)]
mod tests;
mod transaction;

use std::fmt;

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaDeshredTransactionInfoV2, ReplicaTransactionInfoV3,
};

use self::{account::AccountFilter, transaction::TransactionFilter};
pub use self::{
    config::FilterConfig,
    reference::KEYS,
    slice::DataSlices,
    switch::{Generation, ReplaceError, Switch},
};

/// What one output takes. See the module.
#[derive(Debug)]
pub struct Filter {
    accounts: AccountFilter,
    transactions: TransactionFilter,
    entries: bool,
    block_meta: bool,
    slots: bool,
    deshred: bool,
    contact_info: bool,
    data_slices: DataSlices,
}

impl Filter {
    pub fn compile(config: &FilterConfig) -> Result<Self, FilterError> {
        Ok(Self {
            accounts: AccountFilter::compile(&config.accounts)?,
            transactions: TransactionFilter::compile(&config.transactions)?,
            entries: config.entries,
            block_meta: config.block_meta,
            slots: config.slots,
            deshred: config.deshred,
            contact_info: config.contact_info,
            data_slices: DataSlices::compile(&config.accounts_data_slice)?,
        })
    }

    /// Takes all there is, whole: what an empty configuration compiles to.
    pub fn everything() -> Self {
        Self {
            accounts: AccountFilter::everything(),
            transactions: TransactionFilter::everything(),
            entries: true,
            block_meta: true,
            slots: true,
            deshred: true,
            contact_info: true,
            data_slices: DataSlices::default(),
        }
    }

    /// A key that is not 32 bytes long is in no list.
    pub fn account(&self, account: &ReplicaAccountInfoV3<'_>) -> bool {
        self.accounts.takes(account)
    }

    pub fn transaction(&self, transaction: &ReplicaTransactionInfoV3<'_>) -> bool {
        self.transactions.takes(transaction)
    }

    /// By the same conditions, but for what is known only afterwards.
    pub fn deshred(&self, transaction: &ReplicaDeshredTransactionInfoV2<'_>) -> bool {
        self.deshred && self.transactions.takes_deshred(transaction)
    }

    pub fn contact_info(&self) -> bool {
        self.contact_info
    }

    /// False: no account is ever taken.
    pub fn accounts(&self) -> bool {
        self.accounts.is_enabled()
    }

    /// False: no transaction is ever taken.
    pub fn transactions(&self) -> bool {
        self.transactions.is_enabled()
    }

    pub fn entries(&self) -> bool {
        self.entries
    }

    pub fn block_meta(&self) -> bool {
        self.block_meta
    }

    pub fn slots(&self) -> bool {
        self.slots
    }

    /// Which pieces of an account's data are sent.
    pub fn data_slices(&self) -> &DataSlices {
        &self.data_slices
    }

    /// Memory it holds, in bytes: its lists of keys and little else.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.accounts.held_bytes() + self.transactions.held_bytes()
    }
}

/// Names a key under `filters`, what is wrong with it, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// Path under `filters`, such as `accounts.memcmp[2].base58`; empty for `filters` itself.
    pub key: String,
    pub problem: String,
    pub fix: String,
}

impl FilterError {
    fn new(key: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// The whole path, from the output that holds the filter.
    pub fn path(&self) -> String {
        let dot = if self.key.is_empty() { "" } else { "." };
        format!("filters{dot}{}", self.key)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; {}", self.path(), self.problem, self.fix)
    }
}
