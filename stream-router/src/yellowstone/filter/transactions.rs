//! One transactions filter, and what a transaction is in its eyes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use event_schema::{
    Signature,
    proto::{
        confirmed_block::TokenBalance,
        geyser::{
            SubscribeRequestFilterTransactions, SubscribeUpdateTransactionInfo,
            TokenAccountExpansionControlFlag,
        },
    },
};

use super::{
    cuckoo::Cuckoo,
    error::{FilterError, Place, quoted},
    head,
    keys::{Key, KeySet, intersects, is_subset, key, key_from_text, key_set},
    limits::TransactionLimits,
};

/// Which keys a transaction has for a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expansion {
    /// Its own: static and loaded.
    Accounts,
    /// And the owners of its token accounts.
    TokenOwners,
    /// And the owners of token accounts whose balance it changed.
    ChangedTokenOwners,
}

impl Expansion {
    pub const ALL: [Self; 3] = [Self::Accounts, Self::TokenOwners, Self::ChangedTokenOwners];
}

#[derive(Debug)]
pub struct TransactionFilter {
    pub head: Bytes,
    pub vote: Option<bool>,
    pub failed: Option<bool>,
    pub signature: Option<[u8; 64]>,
    /// Any of these or of the cuckoo set; when there is neither, any transaction.
    pub include: KeySet,
    pub cuckoo: Option<Arc<Cuckoo>>,
    /// None of these.
    pub exclude: KeySet,
    /// All of these.
    pub required: KeySet,
    pub expansion: Expansion,
}

impl TransactionFilter {
    pub fn compile(
        kind: &'static str,
        name: &String,
        sent: &SubscribeRequestFilterTransactions,
        limits: &TransactionLimits,
    ) -> Result<Self, FilterError> {
        let place = Place { kind, name };
        if !limits.any && sent == &SubscribeRequestFilterTransactions::default() {
            return Err(place.whole(
                "all transactions may not be asked for here",
                "set one of vote, failed, signature, account_include, account_exclude, account_required",
            ));
        }
        let none = Default::default();
        let set = |field, texts, max, reject| key_set(place, field, texts, max, reject);
        Ok(Self {
            head: head(name),
            vote: sent.vote,
            failed: sent.failed,
            signature: match &sent.signature {
                Some(text) => Some(read_signature(place, text)?),
                None => None,
            },
            include: set(
                "account_include",
                &sent.account_include,
                limits.account_include_max,
                &limits.account_include_reject,
            )?,
            cuckoo: match &sent.cuckoo_account_include {
                Some(sent) => Some(Arc::new(Cuckoo::compile(
                    place,
                    "cuckoo_account_include",
                    sent,
                    limits.cuckoo_max_size,
                )?)),
                None => None,
            },
            exclude: set(
                "account_exclude",
                &sent.account_exclude,
                limits.account_exclude_max,
                &none,
            )?,
            required: set(
                "account_required",
                &sent.account_required,
                limits.account_required_max,
                &none,
            )?,
            expansion: match sent.token_accounts {
                None => Expansion::Accounts,
                Some(flag) => match TokenAccountExpansionControlFlag::try_from(flag) {
                    Ok(TokenAccountExpansionControlFlag::All) => Expansion::TokenOwners,
                    Ok(TokenAccountExpansionControlFlag::BalanceChanged) => {
                        Expansion::ChangedTokenOwners
                    }
                    Err(_) => {
                        return Err(place.error(
                            "token_accounts",
                            format!("{flag} is unknown"),
                            "send ALL (0) or BALANCE_CHANGED (1), or leave it out",
                        ));
                    }
                },
            },
        })
    }

    /// Whether accounts must be among given ones.
    pub fn includes(&self) -> bool {
        !self.include.is_empty() || self.cuckoo.is_some()
    }

    pub fn include_passes(&self, keys: &[Key]) -> bool {
        !self.includes()
            || intersects(&self.include, keys)
            || self
                .cuckoo
                .as_ref()
                .is_some_and(|cuckoo| cuckoo.contains_any(keys))
    }

    /// Everything but [`TransactionFilter::include_passes`], and but the signature: by it alone a filter that has one is found.
    pub fn rest_passes(&self, facts: &TransactionFacts<'_>) -> bool {
        let keys = facts.keys(self.expansion);
        self.vote.is_none_or(|vote| vote == facts.vote())
            && self.failed.is_none_or(|failed| failed == facts.failed())
            && is_subset(&self.required, keys)
            && !intersects(&self.exclude, keys)
    }
}

fn read_signature(place: Place<'_>, text: &str) -> Result<[u8; 64], FilterError> {
    // 64 bytes are at most 88 characters; decoding takes the square of the length.
    let signature = (text.len() <= 88)
        .then(|| text.parse::<Signature>().ok())
        .flatten();
    signature.map(|signature| signature.0).ok_or_else(|| {
        place.error(
            "signature",
            format!("{} is not a signature", quoted(text)),
            "send its 64 bytes in base58",
        )
    })
}

/// A transaction as filters see it: its keys sorted once, its token accounts' owners read when first asked for.
#[derive(Debug)]
pub struct TransactionFacts<'a> {
    info: &'a SubscribeUpdateTransactionInfo,
    /// Static and loaded ones: sorted, distinct.
    accounts: Vec<Key>,
    /// With the owners.
    token_owners: OnceLock<Vec<Key>>,
    changed_token_owners: OnceLock<Vec<Key>>,
}

impl<'a> TransactionFacts<'a> {
    pub fn new(info: &'a SubscribeUpdateTransactionInfo) -> Self {
        let message = info
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref());
        let fixed = message.map_or(&[][..], |message| &message.account_keys);
        let (writable, readonly) = info.meta.as_ref().map_or((&[][..], &[][..]), |meta| {
            (
                &meta.loaded_writable_addresses[..],
                &meta.loaded_readonly_addresses[..],
            )
        });
        let mut accounts = Vec::with_capacity(fixed.len() + writable.len() + readonly.len());
        accounts.extend(
            fixed
                .iter()
                .chain(writable)
                .chain(readonly)
                .filter_map(|bytes| key(bytes)),
        );
        Self {
            info,
            accounts: sorted(accounts),
            token_owners: OnceLock::new(),
            changed_token_owners: OnceLock::new(),
        }
    }

    pub(super) fn vote(&self) -> bool {
        self.info.is_vote
    }

    pub(super) fn failed(&self) -> bool {
        self.info
            .meta
            .as_ref()
            .is_some_and(|meta| meta.err.is_some())
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.info.signature
    }

    /// Sorted and distinct.
    pub(super) fn keys(&self, expansion: Expansion) -> &[Key] {
        match expansion {
            Expansion::Accounts => &self.accounts,
            Expansion::TokenOwners => self.token_owners.get_or_init(|| {
                let (before, after) = self.token_balances();
                self.with(before.iter().chain(after).filter_map(owner))
            }),
            Expansion::ChangedTokenOwners => self.changed_token_owners.get_or_init(|| {
                let (before, after) = self.token_balances();
                self.with(changed_owners(before, after))
            }),
        }
    }

    fn with(&self, owners: impl Iterator<Item = Key>) -> Vec<Key> {
        sorted(self.accounts.iter().copied().chain(owners).collect())
    }

    fn token_balances(&self) -> (&'a [TokenBalance], &'a [TokenBalance]) {
        self.info.meta.as_ref().map_or((&[], &[]), |meta| {
            (&meta.pre_token_balances, &meta.post_token_balances)
        })
    }
}

fn sorted(mut keys: Vec<Key>) -> Vec<Key> {
    // The order of bytes, told by the first eight of them as one number: keys are random, so that they nearly always do.
    let first = |key: &Key| u64::from_be_bytes(*key.first_chunk().unwrap_or(&[0; 8]));
    keys.sort_unstable_by(|a, b| first(a).cmp(&first(b)).then_with(|| a.cmp(b)));
    keys.dedup();
    keys
}

fn owner(balance: &TokenBalance) -> Option<Key> {
    key_from_text(&balance.owner)
}

/// The raw amount, as text: equal amounts have equal texts.
fn amount(balance: &TokenBalance) -> Option<&str> {
    balance
        .ui_token_amount
        .as_ref()
        .map(|amount| amount.amount.as_str())
}

/// Owners of token accounts that were opened, closed, or hold another amount than before. Balances whose owner cannot be
/// read do not count. An account has one balance before and one after.
fn changed_owners<'a>(
    before: &'a [TokenBalance],
    after: &'a [TokenBalance],
) -> impl Iterator<Item = Key> + 'a {
    let of = |balances: &'a [TokenBalance], index: u32| {
        balances
            .iter()
            .filter(move |balance| balance.account_index == index)
            .find_map(|balance| owner(balance).map(|owner| (owner, amount(balance))))
    };
    let opened_or_changed = after.iter().filter_map(move |balance| {
        let owner = owner(balance)?;
        let unchanged =
            of(before, balance.account_index).is_some_and(|(_, before)| before == amount(balance));
        (!unchanged).then_some(owner)
    });
    let closed = before.iter().filter_map(move |balance| {
        let owner = owner(balance)?;
        of(after, balance.account_index).is_none().then_some(owner)
    });
    opened_or_changed.chain(closed)
}
