//! `blockSubscribe`. Always served; a validator serves it only when told to.

use solana_rpc_client_types::config::{
    RpcBlockSubscribeConfig, RpcBlockSubscribeFilter, TransactionDetails, UiTransactionEncoding,
};

use super::{Level, RpcError, Subscription, arguments::key};

/// How transactions are shown, alone or in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionView {
    pub encoding: UiTransactionEncoding,
    pub details: TransactionDetails,
    pub rewards: bool,
    /// The highest version the client can read; `None`: legacy transactions only.
    pub version_max: Option<u8>,
}

impl TransactionView {
    /// Whether transactions of this version are asked for; `None` is the legacy one.
    pub fn reads(&self, version: Option<u8>) -> bool {
        match (version, self.version_max) {
            (Some(version), Some(max)) => version <= max,
            _ => true,
        }
    }
}

pub(super) fn block(
    (filter, config): (RpcBlockSubscribeFilter, Option<RpcBlockSubscribeConfig>),
) -> Result<Subscription, RpcError> {
    let config = config.unwrap_or_default();
    let level = Level::asked(config.commitment);
    if level == Level::Processed {
        return Err(RpcError::invalid_params(
            "Method does not support commitment below `confirmed`",
        ));
    }
    let mentions = match filter {
        RpcBlockSubscribeFilter::All => None,
        RpcBlockSubscribeFilter::MentionsAccountOrProgram(address) => {
            Some(key(&address, "mentions_account_or_program")?)
        }
    };
    Ok(Subscription::Block {
        mentions,
        view: TransactionView {
            encoding: config.encoding.unwrap_or(UiTransactionEncoding::Base64),
            details: config.transaction_details.unwrap_or_default(),
            rewards: config.show_rewards.unwrap_or_default(),
            version_max: config.max_supported_transaction_version,
        },
        level,
    })
}
