//! `logsSubscribe`, `signatureSubscribe` and `transactionSubscribe`.
//!
//! The last is unknown to validators. It is read as users of managed providers know it: a filter whose parts must all
//! hold, and what to show. Here a misspelt field is refused instead of ignored, because ignoring a filter means sending
//! everything.

use event_schema::{Signature, proto::geyser::SubscribeUpdateTransactionInfo};
use serde::Deserialize;
use solana_pubkey::Pubkey;
use solana_rpc_client_types::config::{
    CommitmentConfig, CommitmentLevel, RpcSignatureSubscribeConfig, RpcTransactionLogsConfig,
    RpcTransactionLogsFilter, TransactionDetails, UiTransactionEncoding,
};

use super::{
    Level, RpcError, Subscription, TransactionView,
    arguments::{invalid, key},
};

/// Each list of a transaction filter may have this many addresses.
pub const ADDRESSES_MAX: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsOf {
    All,
    AllWithVotes,
    Mentions(Pubkey),
}

pub(super) fn logs(
    (filter, config): (RpcTransactionLogsFilter, Option<RpcTransactionLogsConfig>),
) -> Result<Subscription, RpcError> {
    let of = match filter {
        RpcTransactionLogsFilter::All => LogsOf::All,
        RpcTransactionLogsFilter::AllWithVotes => LogsOf::AllWithVotes,
        RpcTransactionLogsFilter::Mentions(keys) => match keys.as_slice() {
            [one] => LogsOf::Mentions(key(one, "mentions")?),
            _ => {
                return Err(RpcError::invalid_params(
                    "Invalid Request: Only 1 address supported",
                ));
            }
        },
    };
    Ok(Subscription::Logs {
        of,
        level: Level::asked(config.and_then(|config| config.commitment)),
    })
}

pub(super) fn signature(
    (signature, config): (String, Option<RpcSignatureSubscribeConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    let signature: Signature = signature.parse().map_err(|_| invalid("signature"))?;
    Ok(Subscription::Signature {
        signature: signature.0,
        received: config.enable_received_notification.unwrap_or_default(),
        level: Level::asked(config.commitment),
    })
}

/// What `transactionSubscribe` filters by, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Filter {
    vote: Option<bool>,
    failed: Option<bool>,
    signature: Option<String>,
    account_include: Option<Vec<String>>,
    account_exclude: Option<Vec<String>>,
    account_required: Option<Vec<String>>,
}

/// What `transactionSubscribe` shows, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    commitment: Option<CommitmentLevel>,
    encoding: Option<UiTransactionEncoding>,
    transaction_details: Option<TransactionDetails>,
    show_rewards: Option<bool>,
    max_supported_transaction_version: Option<u8>,
}

/// All parts must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Votes only, or all but votes.
    pub vote: Option<bool>,
    /// Failed ones only, or all but failed ones.
    pub failed: Option<bool>,
    pub signature: Option<[u8; 64]>,
    /// At least one of them, if there are any. Sorted, as the others are.
    pub include: Vec<Pubkey>,
    pub exclude: Vec<Pubkey>,
    pub required: Vec<Pubkey>,
}

pub(super) fn transaction(
    (filter, options): (Filter, Option<Options>),
) -> Result<Subscription, RpcError> {
    let options = options.unwrap_or_default();
    let details = options.transaction_details.unwrap_or_default();
    let shows_content = matches!(
        details,
        TransactionDetails::Full | TransactionDetails::Accounts
    );
    if shows_content && options.max_supported_transaction_version.is_none() {
        return Err(RpcError::invalid_params(
            "Invalid params: maxSupportedTransactionVersion is required when transactionDetails is \"full\" or \
             \"accounts\": write the highest version you can read; 0 means legacy and version 0. Newer ones are left out",
        ));
    }
    let signature = filter
        .signature
        .map(|text| text.parse::<Signature>().map_err(|_| invalid("signature")))
        .transpose()?;
    let level = options.commitment.map_or(Level::Processed, |commitment| {
        Level::asked(Some(CommitmentConfig { commitment }))
    });
    Ok(Subscription::Transaction {
        filter: TransactionFilter {
            vote: filter.vote,
            failed: filter.failed,
            signature: signature.map(|signature| signature.0),
            include: addresses("accountInclude", filter.account_include)?,
            exclude: addresses("accountExclude", filter.account_exclude)?,
            required: addresses("accountRequired", filter.account_required)?,
        },
        view: TransactionView {
            encoding: options.encoding.unwrap_or(UiTransactionEncoding::Base64),
            details,
            rewards: options.show_rewards.unwrap_or_default(),
            version_max: options.max_supported_transaction_version,
        },
        level,
    })
}

fn addresses(field: &str, texts: Option<Vec<String>>) -> Result<Vec<Pubkey>, RpcError> {
    let texts = texts.unwrap_or_default();
    if texts.len() > ADDRESSES_MAX {
        return Err(RpcError::invalid_params(format!(
            "Invalid params: {field} has {} addresses, at most {ADDRESSES_MAX} are allowed: use several subscriptions",
            texts.len()
        )));
    }
    let mut keys = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        keys.push(text.parse().map_err(|_| {
            RpcError::invalid_params(format!(
                "Invalid params: {field}[{at}] is not an address: write the base58 text of 32 bytes"
            ))
        })?);
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// What filters ask about a transaction.
#[derive(Debug)]
pub struct TransactionFacts {
    pub is_vote: bool,
    pub failed: bool,
    pub signature: Option<[u8; 64]>,
    /// `None`: legacy.
    pub version: Option<u8>,
    /// Its addresses, those of lookup tables included; sorted, each once.
    pub keys: Vec<Pubkey>,
}

impl TransactionFacts {
    pub fn new(info: &SubscribeUpdateTransactionInfo) -> Self {
        let message = info
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref());
        let fixed = message
            .into_iter()
            .flat_map(|message| &message.account_keys);
        let loaded = info.meta.iter().flat_map(|meta| {
            meta.loaded_writable_addresses
                .iter()
                .chain(&meta.loaded_readonly_addresses)
        });
        let mut keys: Vec<Pubkey> = fixed
            .chain(loaded)
            .filter_map(|key| Pubkey::try_from(key.as_slice()).ok())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        Self {
            is_vote: info.is_vote,
            failed: info.meta.as_ref().is_some_and(|meta| meta.err.is_some()),
            signature: info.signature.as_slice().try_into().ok(),
            version: message
                .filter(|message| message.versioned || message.config.is_some())
                .map(|message| u8::from(message.config.is_some())),
            keys,
        }
    }

    pub fn mentions(&self, key: &Pubkey) -> bool {
        self.keys.binary_search(key).is_ok()
    }
}

impl TransactionFilter {
    pub fn matches(&self, facts: &TransactionFacts) -> bool {
        // A transaction has few keys and a list may have many: the search is in the list.
        let any = |list: &[Pubkey]| facts.keys.iter().any(|key| list.binary_search(key).is_ok());
        self.vote.is_none_or(|vote| vote == facts.is_vote)
            && self.failed.is_none_or(|failed| failed == facts.failed)
            && (self.signature.is_none() || self.signature == facts.signature)
            && (self.include.is_empty() || any(&self.include))
            && self.required.len() <= facts.keys.len()
            && self.required.iter().all(|key| facts.mentions(key))
            && !any(&self.exclude)
    }
}
