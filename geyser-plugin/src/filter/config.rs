//! One output's filters as the configuration writes them. What is left out filters nothing; [`super::reference::KEYS`]
//! says what each key means.
//!
//! Only the form is checked here: [`super::Filter::compile`] checks the values.

use event_schema::Pubkey;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{FilterError, reference};

/// The object at `filters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// `Self`: the derived code becomes plain functions, which the traits below call with an eye on the path.
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct FilterConfig {
    pub accounts: AccountsConfig,
    pub transactions: TransactionsConfig,
    pub entries: bool,
    pub block_meta: bool,
    pub slots: bool,
    pub deshred: bool,
    pub contact_info: bool,
    pub accounts_data_slice: Vec<DataSliceConfig>,
}

/// All conditions must hold; in a list, one entry must, except for `memcmp` and `lamports`, whose entries all must.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    pub enabled: bool,
    pub accounts: Vec<Pubkey>,
    pub owners: Vec<Pubkey>,
    pub exclude_accounts: Vec<Pubkey>,
    pub exclude_owners: Vec<Pubkey>,
    pub memcmp: Vec<MemcmpConfig>,
    /// In bytes.
    pub datasize: Option<u64>,
    pub token_account_state: bool,
    pub lamports: Vec<LamportsConfig>,
    pub nonempty_txn_signature: Option<bool>,
}

/// Bytes that an account's data must have, in one of three notations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemcmpConfig {
    /// In bytes.
    pub offset: u64,
    pub base58: Option<String>,
    pub base64: Option<String>,
    pub bytes: Option<Vec<u8>>,
}

/// What an account's balance is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LamportsConfig {
    Eq(u64),
    Ne(u64),
    Lt(u64),
    Gt(u64),
}

/// All conditions must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransactionsConfig {
    pub enabled: bool,
    pub vote: Option<bool>,
    pub failed: Option<bool>,
    pub account_include: Vec<Pubkey>,
    pub account_exclude: Vec<Pubkey>,
    pub account_required: Vec<Pubkey>,
}

/// A piece of an account's data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSliceConfig {
    pub offset: u64,
    pub length: u64,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            accounts: AccountsConfig::default(),
            transactions: TransactionsConfig::default(),
            entries: true,
            block_meta: true,
            slots: true,
            deshred: true,
            contact_info: true,
            accounts_data_slice: Vec::new(),
        }
    }
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            accounts: Vec::new(),
            owners: Vec::new(),
            exclude_accounts: Vec::new(),
            exclude_owners: Vec::new(),
            memcmp: Vec::new(),
            datasize: None,
            token_account_state: false,
            lamports: Vec::new(),
            nonempty_txn_signature: None,
        }
    }
}

impl Default for TransactionsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            vote: None,
            failed: None,
            account_include: Vec::new(),
            account_exclude: Vec::new(),
            account_required: Vec::new(),
        }
    }
}

impl FilterConfig {
    /// Reads the object at `filters`; serde alone would say what is wrong, but not where.
    pub fn read(value: Value) -> Result<Self, FilterError> {
        require_objects(&value, String::new())?;
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        Self::deserialize(tracked).map_err(|error| {
            let key = track.path().to_string();
            // The crate writes the root as a dot.
            let key = if key == "." { String::new() } else { key };
            FilterError {
                problem: error.to_string(),
                fix: reference::form_of(&key),
                key,
            }
        })
    }
}

/// serde would take a list for an object too: its entries for the values, in the order of the keys.
fn require_objects(value: &Value, key: String) -> Result<(), FilterError> {
    if !reference::leads_to_objects(&key) {
        return Ok(());
    }
    match value {
        Value::Array(_) if reference::is_object(&key) => Err(FilterError {
            problem: "is a list".to_owned(),
            fix: reference::form_of(&key),
            key,
        }),
        Value::Array(entries) => entries
            .iter()
            .enumerate()
            .try_for_each(|(index, entry)| require_objects(entry, format!("{key}[{index}]"))),
        Value::Object(inner) => inner.iter().try_for_each(|(name, value)| {
            let dot = if key.is_empty() { "" } else { "." };
            require_objects(value, format!("{key}{dot}{name}"))
        }),
        // Any other form serde refuses.
        _ => Ok(()),
    }
}

impl<'de> Deserialize<'de> for FilterConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(value).map_err(D::Error::custom)
    }
}

impl Serialize for FilterConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests;
