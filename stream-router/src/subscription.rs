//! Pure: what a subscriber asks for. Parameters are read with the types of Agave's own client crate, so that what it
//! accepts and how it refuses is what Solana clients know. `transactionSubscribe` is not Agave's: it is read as users of
//! managed providers know it. `gapSubscribe` is ours.

use serde_json::Value;
use solana_pubkey::Pubkey;
use solana_rpc_client_types::{config::CommitmentConfig, filter::RpcFilterType};

use crate::commitment::Standing;

mod accounts;
mod arguments;
mod blocks;
mod refusal;
mod resumption;
#[cfg(test)]
mod tests;
mod transactions;

pub use accounts::{View, passes};
pub use blocks::TransactionView;
pub use refusal::RpcError;
pub use resumption::{Resumption, cursor_text};
pub use transactions::{ADDRESSES_MAX, LogsOf, TransactionFacts, TransactionFilter};

use arguments::{arguments, no_arguments, read};

/// When a subscriber wants to know. The order is that of certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Processed,
    Confirmed,
    Finalized,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Processed, Self::Confirmed, Self::Finalized];

    /// The level a block has reached; abandoned blocks reach none.
    pub fn reached(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Processed => Some(Self::Processed),
            Standing::Confirmed => Some(Self::Confirmed),
            Standing::Finalized => Some(Self::Finalized),
            Standing::Abandoned => None,
        }
    }

    /// Finalized unless asked otherwise, as everywhere in Solana's RPC.
    fn asked(config: Option<CommitmentConfig>) -> Self {
        let config = config.unwrap_or_default();
        if config.is_processed() {
            Self::Processed
        } else if config.is_confirmed() {
            Self::Confirmed
        } else {
            Self::Finalized
        }
    }
}

/// A validated subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Subscription {
    Account {
        pubkey: Pubkey,
        view: View,
        level: Level,
    },
    Program {
        program: Pubkey,
        filters: Vec<RpcFilterType>,
        view: View,
        level: Level,
    },
    Logs {
        of: LogsOf,
        level: Level,
    },
    Signature {
        signature: [u8; 64],
        received: bool,
        level: Level,
    },
    Transaction {
        filter: TransactionFilter,
        view: TransactionView,
        level: Level,
    },
    /// Whole blocks, or of each block only the transactions that mention an address.
    Block {
        mentions: Option<Pubkey>,
        view: TransactionView,
        level: Level,
    },
    Vote,
    Slot,
    SlotsUpdates,
    Root,
    /// What is missing in the stream. Not Agave's.
    Gap,
}

impl Subscription {
    /// Addresses it names one by one.
    pub fn addresses(&self) -> usize {
        match self {
            Self::Account { .. } | Self::Program { .. } => 1,
            Self::Logs { of, .. } => usize::from(matches!(of, LogsOf::Mentions(_))),
            Self::Block { mentions, .. } => mentions.iter().count(),
            Self::Transaction { filter, .. } => {
                filter.include.len() + filter.exclude.len() + filter.required.len()
            }
            _ => 0,
        }
    }

    /// The method of its notifications.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Account { .. } => "accountNotification",
            Self::Program { .. } => "programNotification",
            Self::Logs { .. } => "logsNotification",
            Self::Signature { .. } => "signatureNotification",
            Self::Transaction { .. } => "transactionNotification",
            Self::Block { .. } => "blockNotification",
            Self::Vote => "voteNotification",
            Self::Slot => "slotNotification",
            Self::SlotsUpdates => "slotsUpdatesNotification",
            Self::Root => "rootNotification",
            Self::Gap => "gapNotification",
        }
    }
}

/// What a method asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Subscribe(Box<Subscription>),
    /// With a cursor.
    Resume(Box<Resumption>),
    Unsubscribe(u64),
}

/// Reads one call. `params` is `Value::Null` when the request had none.
pub fn ask(method: &str, mut params: Value) -> Result<Ask, RpcError> {
    if let Some(resumption) = resumption::resumption(method, &mut params) {
        return resumption;
    }
    let plain = |params: Value, subscription: Subscription| {
        no_arguments(params)?;
        Ok::<_, RpcError>(subscription)
    };
    let subscription = match method {
        "accountSubscribe" => accounts::account(arguments(params)?)?,
        "programSubscribe" => accounts::program(arguments(params)?)?,
        "logsSubscribe" => transactions::logs(arguments(params)?)?,
        "signatureSubscribe" => transactions::signature(arguments(params)?)?,
        "transactionSubscribe" => transactions::transaction(arguments(params)?)?,
        "blockSubscribe" => blocks::block(arguments(params)?)?,
        "voteSubscribe" => plain(params, Subscription::Vote)?,
        "slotSubscribe" => plain(params, Subscription::Slot)?,
        "slotsUpdatesSubscribe" => plain(params, Subscription::SlotsUpdates)?,
        "rootSubscribe" => plain(params, Subscription::Root)?,
        "gapSubscribe" => plain(params, Subscription::Gap)?,
        "accountUnsubscribe"
        | "programUnsubscribe"
        | "logsUnsubscribe"
        | "signatureUnsubscribe"
        | "transactionUnsubscribe"
        | "blockUnsubscribe"
        | "voteUnsubscribe"
        | "slotUnsubscribe"
        | "slotsUpdatesUnsubscribe"
        | "rootUnsubscribe"
        | "gapUnsubscribe" => {
            let (id,) = read::<(u64,)>(params)?;
            return Ok(Ask::Unsubscribe(id));
        }
        _ => return Err(RpcError::method_not_found()),
    };
    Ok(Ask::Subscribe(Box::new(subscription)))
}
