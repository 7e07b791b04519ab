//! Does an output take this account update?

use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaAccountInfoV3;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use spl_generic_token::{token::GenericTokenAccount as _, token_2022};

use super::{
    FilterError,
    config::{AccountsConfig, LamportsConfig, MemcmpConfig},
    key_set::KeySet,
};

/// The runtime's bound on an account's data.
pub(super) const DATA_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// As Solana's RPC and yellowstone have it.
const MEMCMP_MAX: usize = 4;
const MEMCMP_BYTES_MAX: usize = 128;
const LAMPORTS_MAX: usize = 4;
/// No 128 bytes need a longer text, in base58 or base64; decoding base58 takes quadratic time.
const MEMCMP_TEXT_MAX: usize = 175;

#[derive(Debug)]
pub(super) struct AccountFilter {
    enabled: bool,
    /// No condition: the common case, decided at once.
    takes_all: bool,
    accounts: KeySet,
    owners: KeySet,
    exclude_accounts: KeySet,
    exclude_owners: KeySet,
    memcmp: Box<[Memcmp]>,
    data_size: Option<usize>,
    token_account_state: bool,
    lamports: Box<[LamportsConfig]>,
    nonempty_txn_signature: Option<bool>,
}

#[derive(Debug)]
struct Memcmp {
    start: usize,
    end: usize,
    bytes: Box<[u8]>,
}

impl AccountFilter {
    pub fn everything() -> Self {
        Self {
            enabled: true,
            takes_all: true,
            accounts: KeySet::empty(),
            owners: KeySet::empty(),
            exclude_accounts: KeySet::empty(),
            exclude_owners: KeySet::empty(),
            memcmp: Box::default(),
            data_size: None,
            token_account_state: false,
            lamports: Box::default(),
            nonempty_txn_signature: None,
        }
    }

    pub fn compile(config: &AccountsConfig) -> Result<Self, FilterError> {
        let unconditional = AccountsConfig {
            enabled: config.enabled,
            ..AccountsConfig::default()
        };
        Ok(Self {
            enabled: config.enabled,
            takes_all: *config == unconditional,
            accounts: KeySet::compile("accounts.accounts", &config.accounts)?,
            owners: KeySet::compile("accounts.owners", &config.owners)?,
            exclude_accounts: KeySet::compile(
                "accounts.exclude_accounts",
                &config.exclude_accounts,
            )?,
            exclude_owners: KeySet::compile("accounts.exclude_owners", &config.exclude_owners)?,
            data_size: data_size(config.datasize)?,
            memcmp: every_memcmp(&config.memcmp, config.datasize)?,
            token_account_state: config.token_account_state,
            lamports: lamports(&config.lamports)?,
            nonempty_txn_signature: config.nonempty_txn_signature,
        })
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn takes(&self, account: &ReplicaAccountInfoV3<'_>) -> bool {
        self.enabled && (self.takes_all || self.conditions_hold(account))
    }

    /// What costs least is asked first.
    fn conditions_hold(&self, account: &ReplicaAccountInfoV3<'_>) -> bool {
        let data = account.data;
        self.nonempty_txn_signature
            .is_none_or(|wanted| wanted == account.txn.is_some())
            && self.data_size.is_none_or(|size| size == data.len())
            && self
                .lamports
                .iter()
                .all(|comparison| balance_passes(*comparison, account.lamports))
            && listed(&self.owners, &self.exclude_owners, account.owner)
            && listed(&self.accounts, &self.exclude_accounts, account.pubkey)
            && self
                .memcmp
                .iter()
                .all(|memcmp| data.get(memcmp.start..memcmp.end) == Some(&*memcmp.bytes))
            && (!self.token_account_state || token_2022::Account::valid_account_data(data))
    }

    pub fn held_bytes(&self) -> usize {
        [
            &self.accounts,
            &self.owners,
            &self.exclude_accounts,
            &self.exclude_owners,
        ]
        .map(KeySet::held_bytes)
        .iter()
        .sum()
    }
}

fn listed(include: &KeySet, exclude: &KeySet, key: &[u8]) -> bool {
    let key: Option<&[u8; 32]> = key.try_into().ok();
    let is_in = |set: &KeySet| key.is_some_and(|key| set.contains(key));
    (include.is_empty() || is_in(include)) && !is_in(exclude)
}

fn balance_passes(comparison: LamportsConfig, balance: u64) -> bool {
    match comparison {
        LamportsConfig::Eq(lamports) => balance == lamports,
        LamportsConfig::Ne(lamports) => balance != lamports,
        LamportsConfig::Lt(lamports) => balance < lamports,
        LamportsConfig::Gt(lamports) => balance > lamports,
    }
}

fn data_size(written: Option<u64>) -> Result<Option<usize>, FilterError> {
    match written {
        Some(size) if size > DATA_BYTES_MAX => Err(FilterError::new(
            "accounts.datasize",
            format!("is {size}, and no account is that large"),
            format!("write at most {DATA_BYTES_MAX}, or null for any size"),
        )),
        // At most 10 MiB.
        size => Ok(size.map(|size| size as usize)),
    }
}

fn lamports(written: &[LamportsConfig]) -> Result<Box<[LamportsConfig]>, FilterError> {
    if written.len() > LAMPORTS_MAX {
        return Err(FilterError::new(
            "accounts.lamports",
            format!("has {} entries", written.len()),
            format!("write at most {LAMPORTS_MAX}"),
        ));
    }
    Ok(written.into())
}

fn every_memcmp(
    written: &[MemcmpConfig],
    data_size: Option<u64>,
) -> Result<Box<[Memcmp]>, FilterError> {
    if written.len() > MEMCMP_MAX {
        return Err(FilterError::new(
            "accounts.memcmp",
            format!("has {} entries", written.len()),
            format!("write at most {MEMCMP_MAX}; neighbouring bytes fit into one entry"),
        ));
    }
    written
        .iter()
        .enumerate()
        .map(|(index, memcmp)| one_memcmp(&format!("accounts.memcmp[{index}]"), memcmp, data_size))
        .collect()
}

fn one_memcmp(
    key: &str,
    memcmp: &MemcmpConfig,
    data_size: Option<u64>,
) -> Result<Memcmp, FilterError> {
    let (notation, bytes) = match (&memcmp.base58, &memcmp.base64, &memcmp.bytes) {
        (Some(text), None, None) => ("base58", base58(text)),
        (None, Some(text), None) => ("base64", base64(text)),
        (None, None, Some(bytes)) => ("bytes", Ok(bytes.clone())),
        (None, None, None) => {
            return Err(FilterError::new(
                key,
                "says no bytes to compare with",
                "add one of `base58`, `base64` and `bytes`",
            ));
        }
        _ => {
            return Err(FilterError::new(
                key,
                "says its bytes more than once",
                "keep one of `base58`, `base64` and `bytes`",
            ));
        }
    };
    let key_of_bytes = format!("{key}.{notation}");
    let bytes = bytes.map_err(|problem| {
        FilterError::new(
            &key_of_bytes,
            problem,
            format!("write 1 to {MEMCMP_BYTES_MAX} bytes in {notation}"),
        )
    })?;
    if bytes.is_empty() || bytes.len() > MEMCMP_BYTES_MAX {
        return Err(FilterError::new(
            &key_of_bytes,
            format!("has {} bytes", bytes.len()),
            format!("write 1 to {MEMCMP_BYTES_MAX}"),
        ));
    }
    let end = memcmp.offset.saturating_add(bytes.len() as u64);
    let most = data_size.unwrap_or(DATA_BYTES_MAX);
    if end > most {
        let whose = if data_size.is_some() {
            "`accounts.datasize`"
        } else {
            "the largest account"
        };
        return Err(FilterError::new(
            format!("{key}.offset"),
            format!("compares up to byte {end}, and {whose} ends at {most}"),
            "write a smaller offset",
        ));
    }
    // Both are at most 10 MiB.
    Ok(Memcmp {
        start: memcmp.offset as usize,
        end: end as usize,
        bytes: bytes.into(),
    })
}

fn base58(text: &str) -> Result<Vec<u8>, String> {
    bounded(text)?;
    bs58::decode(text)
        .into_vec()
        .map_err(|error| format!("is not base58: {error}"))
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    bounded(text)?;
    BASE64_STANDARD
        .decode(text)
        .map_err(|error| format!("is not base64: {error}"))
}

fn bounded(text: &str) -> Result<(), String> {
    if text.len() > MEMCMP_TEXT_MAX {
        return Err(format!("has {} characters", text.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
