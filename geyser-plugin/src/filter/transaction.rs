//! Does an output take this transaction?

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaDeshredTransactionInfoV2, ReplicaTransactionInfoV3,
};
use solana_message::{VersionedMessage, v0::LoadedAddresses};

use super::{FilterError, config::TransactionsConfig, key_set::KeySet};

/// An instruction names an account by one byte: no transaction has more accounts.
const ACCOUNTS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct TransactionFilter {
    enabled: bool,
    vote: Option<bool>,
    failed: Option<bool>,
    include: KeySet,
    exclude: KeySet,
    required: KeySet,
}

impl TransactionFilter {
    pub fn everything() -> Self {
        Self {
            enabled: true,
            vote: None,
            failed: None,
            include: KeySet::empty(),
            exclude: KeySet::empty(),
            required: KeySet::empty(),
        }
    }

    pub fn compile(config: &TransactionsConfig) -> Result<Self, FilterError> {
        let filter = Self {
            enabled: config.enabled,
            vote: config.vote,
            failed: config.failed,
            include: KeySet::compile("transactions.account_include", &config.account_include)?,
            exclude: KeySet::compile("transactions.account_exclude", &config.account_exclude)?,
            required: KeySet::compile("transactions.account_required", &config.account_required)?,
        };
        if filter.required.len() > ACCOUNTS_MAX {
            return Err(FilterError::new(
                "transactions.account_required",
                format!(
                    "has {} addresses, and no transaction names more than {ACCOUNTS_MAX}",
                    filter.required.len()
                ),
                "write fewer; a transaction that names any one of a list is `account_include`",
            ));
        }
        let impossible = config
            .account_required
            .iter()
            .position(|key| filter.exclude.contains(&key.0));
        if let Some(index) = impossible {
            return Err(FilterError::new(
                format!("transactions.account_required[{index}]"),
                "is in `account_exclude` too: no transaction would match",
                "remove it from one of the two",
            ));
        }
        Ok(filter)
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn takes(&self, transaction: &ReplicaTransactionInfoV3<'_>) -> bool {
        let meta = transaction.transaction_status_meta;
        self.failed
            .is_none_or(|wanted| wanted == meta.status.is_err())
            && self.takes_before_execution(Unexecuted {
                is_vote: transaction.is_vote,
                message: &transaction.transaction.message,
                loaded: Some(&meta.loaded_addresses),
            })
    }

    /// Whether it will fail is not known yet: that condition is left out. What lookup tables load is known if the validator
    /// was asked for it.
    pub fn takes_deshred(&self, transaction: &ReplicaDeshredTransactionInfoV2<'_>) -> bool {
        self.takes_before_execution(Unexecuted {
            is_vote: transaction.is_vote,
            message: &transaction.transaction.message,
            loaded: transaction.loaded_addresses,
        })
    }

    #[inline]
    fn takes_before_execution(&self, transaction: Unexecuted<'_>) -> bool {
        self.enabled
            && self.vote.is_none_or(|wanted| wanted == transaction.is_vote)
            && (self.include.is_empty() || transaction.keys().any(|key| self.include.contains(key)))
            && (self.exclude.is_empty()
                || !transaction.keys().any(|key| self.exclude.contains(key)))
            && (self.required.is_empty() || self.names_all_required(transaction))
    }

    /// One pass with a bit per required key: a key that comes twice counts once.
    fn names_all_required(&self, transaction: Unexecuted<'_>) -> bool {
        let mut seen = [0_u64; ACCOUNTS_MAX / 64];
        let mut missing = self.required.len();
        for position in transaction
            .keys()
            .filter_map(|key| self.required.position(key))
        {
            let bit = 1 << (position % 64);
            // A position is below the set's length, and that is at most 256.
            if let Some(word) = seen.get_mut(position as usize / 64)
                && *word & bit == 0
            {
                *word |= bit;
                missing -= 1;
                if missing == 0 {
                    return true;
                }
            }
        }
        false
    }

    pub fn held_bytes(&self) -> usize {
        self.include.held_bytes() + self.exclude.held_bytes() + self.required.held_bytes()
    }
}

/// What is known of a transaction before it is executed.
#[derive(Clone, Copy)]
struct Unexecuted<'a> {
    is_vote: bool,
    message: &'a VersionedMessage,
    loaded: Option<&'a LoadedAddresses>,
}

impl<'a> Unexecuted<'a> {
    /// In the message, then those that its lookup tables loaded. The tables' own addresses are not among them.
    fn keys(self) -> impl Iterator<Item = &'a [u8; 32]> {
        let (writable, readonly) = self.loaded.map_or((&[][..], &[][..]), |loaded| {
            (&loaded.writable, &loaded.readonly)
        });
        self.message
            .static_account_keys()
            .iter()
            .chain(writable)
            .chain(readonly)
            .map(|key| key.as_array())
    }
}

#[cfg(test)]
mod tests;
