//! Who gets what, from the written rules, one filter after another. Keys are compared as texts.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::proto::{confirmed_block::TokenBalance, geyser::*};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_lamports::Cmp;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::universe::members;

/// A request, and which of its accounts filters name accounts: those keep doing so when the last one is taken away.
#[derive(Debug, Clone)]
pub struct Asked {
    pub request: SubscribeRequest,
    naming: BTreeSet<String>,
}

impl Asked {
    pub fn new(request: SubscribeRequest) -> Self {
        let names = |(name, filter): (&String, &SubscribeRequestFilterAccounts)| {
            (!filter.account.is_empty()).then(|| name.clone())
        };
        Self {
            naming: request.accounts.iter().filter_map(names).collect(),
            request,
        }
    }

    pub fn level(&self) -> i32 {
        self.request.commitment.unwrap_or(0)
    }

    /// Whether the change is possible; if so it is done.
    pub fn change(&mut self, name: &str, add: &[String], remove: &[String]) -> bool {
        let Some(filter) = self.request.accounts.get_mut(name) else {
            return false;
        };
        if !self.naming.contains(name) && filter.cuckoo_accounts_filter.is_none() {
            return false;
        }
        filter.account.retain(|key| !remove.contains(key));
        filter.account.extend_from_slice(add);
        self.naming.insert(name.into());
        true
    }

    pub fn account(&self, info: &SubscribeUpdateAccountInfo) -> Vec<String> {
        let key = text(&info.pubkey);
        names(&self.request.accounts, |name, filter| {
            let cuckoo = filter.cuckoo_accounts_filter.as_ref();
            let any_account = !self.naming.contains(name) && cuckoo.is_none();
            (any_account
                || filter.account.contains(&key)
                || cuckoo.is_some_and(|set| members(set).contains(&key)))
                && (filter.owner.is_empty() || filter.owner.contains(&text(&info.owner)))
                && filter
                    .nonempty_txn_signature
                    .is_none_or(|wanted| wanted == info.txn_signature.is_some())
                && filter.filters.iter().all(|state| state_passes(state, info))
        })
    }

    pub fn transaction(&self, info: &SubscribeUpdateTransactionInfo) -> Vec<String> {
        names(&self.request.transactions, |_, filter| {
            transaction_passes(filter, info)
        })
    }

    pub fn transaction_status(&self, info: &SubscribeUpdateTransactionInfo) -> Vec<String> {
        names(&self.request.transactions_status, |_, filter| {
            transaction_passes(filter, info)
        })
    }

    pub fn slot(&self, status: SlotStatus) -> Vec<String> {
        names(&self.request.slots, |_, filter| {
            let interslot = status as i32 > SlotStatus::SlotFinalized as i32;
            (!interslot || filter.interslot_updates == Some(true))
                && (filter.filter_by_commitment != Some(true) || status as i32 == self.level())
        })
    }

    pub fn block_meta(&self) -> Vec<String> {
        names(&self.request.blocks_meta, |_, _| true)
    }

    pub fn entry(&self) -> Vec<String> {
        names(&self.request.entry, |_, _| true)
    }
}

fn names<T>(
    filters: &std::collections::HashMap<String, T>,
    passes: impl Fn(&String, &T) -> bool,
) -> Vec<String> {
    let matching = filters.iter().filter(|(name, filter)| passes(name, filter));
    let names: BTreeSet<_> = matching.map(|(name, _)| name.clone()).collect();
    names.into_iter().collect()
}

fn text(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

fn state_passes(
    state: &SubscribeRequestFilterAccountsFilter,
    info: &SubscribeUpdateAccountInfo,
) -> bool {
    let data = &info.data;
    match state.filter.as_ref().unwrap() {
        Filter::Datasize(size) => data.len() as u64 == *size,
        Filter::TokenAccountState(_) => {
            let initialized = data.get(108).is_some_and(|state| *state != 0);
            let extended = data.len() > 165 && data.len() != 355 && data[165] == 2;
            initialized && (data.len() == 165 || extended)
        }
        Filter::Lamports(lamports) => match lamports.cmp.unwrap() {
            Cmp::Eq(amount) => info.lamports == amount,
            Cmp::Ne(amount) => info.lamports != amount,
            Cmp::Lt(amount) => info.lamports < amount,
            Cmp::Gt(amount) => info.lamports > amount,
        },
        Filter::Memcmp(memcmp) => {
            let bytes = match memcmp.data.as_ref().unwrap() {
                Data::Bytes(bytes) => bytes.clone(),
                Data::Base58(text) => bs58::decode(text).into_vec().unwrap(),
                Data::Base64(text) => {
                    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
                        .unwrap()
                }
            };
            memcmp.offset <= data.len() as u64 && data[memcmp.offset as usize..].starts_with(&bytes)
        }
    }
}

fn transaction_passes(
    filter: &SubscribeRequestFilterTransactions,
    info: &SubscribeUpdateTransactionInfo,
) -> bool {
    let mut keys = own_keys(info);
    keys.extend(match filter.token_accounts {
        None => BTreeSet::new(),
        Some(0) => balances(info)
            .0
            .chain(balances(info).1)
            .map(|it| it.owner.clone())
            .collect(),
        Some(_) => changed_owners(info),
    });
    let failed = info.meta.as_ref().is_some_and(|meta| meta.err.is_some());
    filter.vote.is_none_or(|vote| vote == info.is_vote)
        && filter.failed.is_none_or(|wanted| wanted == failed)
        && filter
            .signature
            .as_ref()
            .is_none_or(|signature| *signature == text(&info.signature))
        && any_of(
            &filter.account_include,
            &filter.cuckoo_account_include,
            &keys,
        )
        && !filter.account_exclude.iter().any(|key| keys.contains(key))
        && filter.account_required.iter().all(|key| keys.contains(key))
}

/// Whether the keys have one of the list or of the set; when there is neither, they do.
pub fn any_of(list: &[String], set: &Option<CuckooFilter>, keys: &BTreeSet<String>) -> bool {
    let listed = list.iter().any(|key| keys.contains(key));
    let in_set = set
        .as_ref()
        .is_some_and(|set| members(set).iter().any(|key| keys.contains(key)));
    (list.is_empty() && set.is_none()) || listed || in_set
}

pub fn own_keys(info: &SubscribeUpdateTransactionInfo) -> BTreeSet<String> {
    let message = info.transaction.as_ref().and_then(|it| it.message.as_ref());
    let fixed = message.iter().flat_map(|message| &message.account_keys);
    let loaded = info.meta.iter().flat_map(|meta| {
        meta.loaded_writable_addresses
            .iter()
            .chain(&meta.loaded_readonly_addresses)
    });
    fixed.chain(loaded).map(|key| text(key)).collect()
}

/// Before and after; balances without an owner do not count.
fn balances(
    info: &SubscribeUpdateTransactionInfo,
) -> (
    impl Iterator<Item = &TokenBalance>,
    impl Iterator<Item = &TokenBalance>,
) {
    let owned = |balance: &&TokenBalance| !balance.owner.is_empty();
    let meta = || info.meta.iter();
    (
        meta()
            .flat_map(|meta| &meta.pre_token_balances)
            .filter(owned),
        meta()
            .flat_map(|meta| &meta.post_token_balances)
            .filter(owned),
    )
}

fn changed_owners(info: &SubscribeUpdateTransactionInfo) -> BTreeSet<String> {
    let (before, after) = balances(info);
    let mut by_account: BTreeMap<u32, [Option<&TokenBalance>; 2]> = BTreeMap::new();
    before.for_each(|it| by_account.entry(it.account_index).or_default()[0] = Some(it));
    after.for_each(|it| by_account.entry(it.account_index).or_default()[1] = Some(it));
    let amount = |it: &TokenBalance| it.ui_token_amount.as_ref().map(|it| it.amount.clone());
    let changed = by_account.into_values().filter_map(|both| match both {
        [Some(before), Some(after)] => (amount(before) != amount(after)).then_some(after),
        [one, None] | [None, one] => one,
    });
    changed.map(|balance| balance.owner.clone()).collect()
}
