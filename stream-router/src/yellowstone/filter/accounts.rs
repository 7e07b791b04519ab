//! One accounts filter: what an account must be to pass.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::proto::geyser::{
    SubscribeRequestFilterAccounts, SubscribeRequestFilterAccountsFilter,
    SubscribeUpdateAccountInfo, subscribe_request_filter_accounts_filter::Filter,
    subscribe_request_filter_accounts_filter_lamports::Cmp,
    subscribe_request_filter_accounts_filter_memcmp::Data,
};
use spl_generic_token::{token::GenericTokenAccount, token_2022};

use super::{
    cuckoo::Cuckoo,
    error::{FilterError, Place},
    head,
    keys::{Key, KeySet, key, key_set, refuse_rejected},
    limits::AccountLimits,
};

/// The account is one of `keys` or of `cuckoo` (either, when both were sent), and passes `test`.
#[derive(Debug, Clone)]
pub struct AccountFilter {
    pub name: String,
    pub head: Bytes,
    /// Present when the request named accounts. If all are taken away later, none passes.
    pub keys: Option<Arc<KeySet>>,
    pub cuckoo: Option<Arc<Cuckoo>>,
    pub test: Arc<AccountTest>,
}

/// All that does not depend on which account it is.
#[derive(Debug, Default)]
pub struct AccountTest {
    /// Empty: of any owner.
    pub owners: KeySet,
    pub signed: Option<bool>,
    pub datasize: Option<usize>,
    pub token_account: bool,
    pub lamports: Vec<Lamports>,
    pub memcmp: Vec<Memcmp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lamports {
    Equal(u64),
    Not(u64),
    Below(u64),
    Above(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memcmp {
    pub offset: usize,
    pub bytes: Box<[u8]>,
}

impl Memcmp {
    /// `length` bytes at `offset`, when the data has them.
    pub fn part(data: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
        data.get(offset..offset.checked_add(length)?)
    }
}

impl AccountTest {
    pub fn owner_passes(&self, owner: &[u8]) -> bool {
        self.owners.is_empty() || key(owner).is_some_and(|owner| self.owners.contains(owner))
    }

    /// Everything but the owner.
    pub fn state_passes(&self, info: &SubscribeUpdateAccountInfo) -> bool {
        let data = &info.data;
        self.signed
            .is_none_or(|signed| signed == info.txn_signature.is_some())
            && self.datasize.is_none_or(|size| size == data.len())
            && self.lamports.iter().all(|lamports| match *lamports {
                Lamports::Equal(amount) => info.lamports == amount,
                Lamports::Not(amount) => info.lamports != amount,
                Lamports::Below(amount) => info.lamports < amount,
                Lamports::Above(amount) => info.lamports > amount,
            })
            && self.memcmp.iter().all(|Memcmp { offset, bytes }| {
                Memcmp::part(data, *offset, bytes.len()) == Some(&**bytes)
            })
            && (!self.token_account || token_2022::Account::valid_account_data(data))
    }
}

/// What a change of a filter's accounts comes to: keys that were in it, and keys that were not.
#[derive(Debug, Default)]
pub struct KeyChange {
    pub gone: KeySet,
    pub new: KeySet,
}

impl AccountFilter {
    pub fn compile(
        name: &String,
        sent: &SubscribeRequestFilterAccounts,
        limits: &AccountLimits,
    ) -> Result<Self, FilterError> {
        let place = Place {
            kind: "accounts",
            name,
        };
        if !limits.any
            && sent.account.is_empty()
            && sent.owner.is_empty()
            && sent.cuckoo_accounts_filter.is_none()
        {
            return Err(place.whole(
                "all accounts may not be asked for here",
                "name accounts in `account` or programs in `owner`",
            ));
        }
        let accounts = key_set(
            place,
            "account",
            &sent.account,
            limits.account_max,
            &limits.account_reject,
        )?;
        let owners = key_set(
            place,
            "owner",
            &sent.owner,
            limits.owner_max,
            &limits.owner_reject,
        )?;
        let cuckoo = match &sent.cuckoo_accounts_filter {
            Some(sent) => Some(Arc::new(Cuckoo::compile(
                place,
                "cuckoo_accounts_filter",
                sent,
                limits.cuckoo_max_size,
            )?)),
            None => None,
        };
        let mut test = AccountTest {
            owners,
            signed: sent.nonempty_txn_signature,
            ..AccountTest::default()
        };
        test.read_state(place, &sent.filters, limits)?;
        Ok(Self {
            name: name.clone(),
            head: head(name),
            keys: (!accounts.is_empty()).then(|| Arc::new(accounts)),
            cuckoo,
            test: Arc::new(test),
        })
    }

    /// What of `add` and `remove` makes a difference. A key in both is in the filter afterwards.
    pub fn change(
        &self,
        add: &[Key],
        remove: &[Key],
        limits: &AccountLimits,
    ) -> Result<KeyChange, FilterError> {
        let place = Place {
            kind: "accounts",
            name: &self.name,
        };
        let none = KeySet::default();
        let keys = match (&self.keys, &self.cuckoo) {
            (Some(keys), _) => keys.as_ref(),
            (None, Some(_)) => &none,
            (None, None) => {
                return Err(place.error(
                    "account",
                    "the filter names no accounts, so its list cannot be changed",
                    "send the whole request with the accounts in it",
                ));
            }
        };
        let add: KeySet = add.iter().copied().collect();
        for key in &add {
            refuse_rejected(place, "account", key, &limits.account_reject)?;
        }
        let change = KeyChange {
            gone: remove
                .iter()
                .filter(|key| keys.contains(*key) && !add.contains(*key))
                .copied()
                .collect(),
            new: add.into_iter().filter(|key| !keys.contains(key)).collect(),
        };
        let len = keys.len() - change.gone.len() + change.new.len();
        place.at_most("account", len, limits.account_max)?;
        Ok(change)
    }
}

impl AccountTest {
    fn read_state(
        &mut self,
        place: Place<'_>,
        sent: &[SubscribeRequestFilterAccountsFilter],
        limits: &AccountLimits,
    ) -> Result<(), FilterError> {
        place.at_most("filters", sent.len(), Some(limits.state_filters_max))?;
        for (index, filter) in sent.iter().enumerate() {
            let refuse = |what: &str, problem: String, fix: &str| {
                Err(place.error(format_args!("filters[{index}]{what}"), problem, fix))
            };
            match &filter.filter {
                Some(Filter::Memcmp(memcmp)) => {
                    let bytes = match read_memcmp(&memcmp.data, limits.memcmp_bytes_max) {
                        Ok(bytes) => bytes,
                        Err(problem) => {
                            return refuse(
                                ".memcmp",
                                problem,
                                &format!(
                                    "send at most {} bytes, as bytes, base58 or base64",
                                    limits.memcmp_bytes_max
                                ),
                            );
                        }
                    };
                    self.memcmp.push(Memcmp {
                        // No account reaches an offset that is too large for this machine either.
                        offset: usize::try_from(memcmp.offset).unwrap_or(usize::MAX),
                        bytes,
                    });
                }
                Some(Filter::Datasize(size)) => {
                    let size = usize::try_from(*size).unwrap_or(usize::MAX);
                    if self.datasize.replace(size).is_some() {
                        return refuse(
                            ".datasize",
                            "it is asked for twice".into(),
                            "send one size per filter",
                        );
                    }
                }
                Some(Filter::TokenAccountState(true)) => self.token_account = true,
                Some(Filter::TokenAccountState(false)) => {
                    return refuse(
                        ".token_account_state",
                        "false is not a filter".into(),
                        "send true, or leave it out",
                    );
                }
                Some(Filter::Lamports(lamports)) => {
                    self.lamports.push(match lamports.cmp {
                        Some(Cmp::Eq(amount)) => Lamports::Equal(amount),
                        Some(Cmp::Ne(amount)) => Lamports::Not(amount),
                        Some(Cmp::Lt(amount)) => Lamports::Below(amount),
                        Some(Cmp::Gt(amount)) => Lamports::Above(amount),
                        None => {
                            return refuse(
                                ".lamports",
                                "there is nothing to compare with".into(),
                                "send one of eq, ne, lt, gt",
                            );
                        }
                    });
                }
                None => {
                    return refuse(
                        "",
                        "it is empty".into(),
                        "send one of memcmp, datasize, token_account_state, lamports",
                    );
                }
            }
        }
        Ok(())
    }
}

fn read_memcmp(sent: &Option<Data>, bytes_max: usize) -> Result<Box<[u8]>, String> {
    // Decoding base58 takes the square of its length, so a text that must be too long is not decoded.
    let too_long = |text: &String| text.len() > bytes_max.saturating_mul(2);
    let bytes = match sent {
        Some(Data::Bytes(bytes)) if bytes.len() > bytes_max => None,
        Some(Data::Bytes(bytes)) => Some(bytes.clone()),
        Some(Data::Base58(text) | Data::Base64(text)) if too_long(text) => None,
        Some(Data::Base58(text)) => Some(
            bs58::decode(text)
                .into_vec()
                .map_err(|error| format!("it is not base58 ({error})"))?,
        ),
        Some(Data::Base64(text)) => Some(
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
                .map_err(|error| format!("it is not base64 ({error})"))?,
        ),
        None => return Err("there is nothing to compare with".into()),
    };
    match bytes {
        Some(bytes) if bytes.len() <= bytes_max => Ok(bytes.into()),
        _ => Err("it is too long".into()),
    }
}
