//! Pure: what a WebSocket subscription asks the engine for. It may be more than is shown: `shown` has the last word.

use std::collections::HashMap;

use event_schema::proto::geyser::{
    CommitmentLevel, SubscribeRequest, SubscribeRequestFilterAccounts,
    SubscribeRequestFilterAccountsFilter, SubscribeRequestFilterAccountsFilterLamports,
    SubscribeRequestFilterBlocks, SubscribeRequestFilterSlots, SubscribeRequestFilterTransactions,
    subscribe_request_filter_accounts_filter::Filter,
    subscribe_request_filter_accounts_filter_lamports::Cmp,
};
use solana_pubkey::Pubkey;
use solana_rpc_client_types::config::TransactionDetails;

use crate::subscription::{Level, LogsOf, Subscription, TransactionFilter};

pub fn wanted(subscription: &Subscription, level: Level) -> SubscribeRequest {
    let commitment = match level {
        Level::Processed => CommitmentLevel::Processed,
        Level::Confirmed => CommitmentLevel::Confirmed,
        Level::Finalized => CommitmentLevel::Finalized,
    };
    let mut request = SubscribeRequest {
        commitment: Some(commitment as i32),
        ..SubscribeRequest::default()
    };
    match subscription {
        Subscription::Account { pubkey, .. } => {
            let filter = SubscribeRequestFilterAccounts {
                account: vec![pubkey.to_string()],
                ..SubscribeRequestFilterAccounts::default()
            };
            request.accounts = one(filter);
        }
        Subscription::Program { program, .. } => {
            let filter = SubscribeRequestFilterAccounts {
                owner: vec![program.to_string()],
                ..SubscribeRequestFilterAccounts::default()
            };
            request.accounts = one(filter);
            // An account that is gone is the system program's, whoever owned it last.
            if *program == Pubkey::default() {
                request.accounts.insert("1".to_owned(), gone());
            }
        }
        Subscription::Logs { of, .. } => {
            let filter = SubscribeRequestFilterTransactions {
                vote: matches!(of, LogsOf::All).then_some(false),
                account_include: match of {
                    LogsOf::Mentions(key) => vec![key.to_string()],
                    LogsOf::All | LogsOf::AllWithVotes => Vec::new(),
                },
                ..SubscribeRequestFilterTransactions::default()
            };
            request.transactions = one(filter);
        }
        Subscription::Transaction { filter, .. } => {
            request.transactions = one(transactions(filter))
        }
        Subscription::Block { mentions, view, .. } => {
            let shows = view.details != TransactionDetails::None;
            let filter = SubscribeRequestFilterBlocks {
                account_include: mentions.iter().map(Pubkey::to_string).collect(),
                include_transactions: Some(shows || mentions.is_some()),
                include_accounts: Some(false),
                include_entries: Some(false),
                ..SubscribeRequestFilterBlocks::default()
            };
            request.blocks = one(filter);
        }
        Subscription::Slot => {
            let filter = SubscribeRequestFilterSlots {
                filter_by_commitment: Some(true),
                ..SubscribeRequestFilterSlots::default()
            };
            request.slots = one(filter);
        }
        // Gaps are told to everyone; the others have no order to resume in.
        Subscription::Gap
        | Subscription::Signature { .. }
        | Subscription::Vote
        | Subscription::SlotsUpdates
        | Subscription::Root => {}
    }
    request
}

fn one<T>(filter: T) -> HashMap<String, T> {
    HashMap::from([("0".to_owned(), filter)])
}

fn gone() -> SubscribeRequestFilterAccounts {
    let none = SubscribeRequestFilterAccountsFilterLamports {
        cmp: Some(Cmp::Eq(0)),
    };
    SubscribeRequestFilterAccounts {
        filters: vec![SubscribeRequestFilterAccountsFilter {
            filter: Some(Filter::Lamports(none)),
        }],
        ..SubscribeRequestFilterAccounts::default()
    }
}

fn transactions(filter: &TransactionFilter) -> SubscribeRequestFilterTransactions {
    let texts = |keys: &[Pubkey]| keys.iter().map(Pubkey::to_string).collect();
    SubscribeRequestFilterTransactions {
        vote: filter.vote,
        failed: filter.failed,
        signature: filter
            .signature
            .map(|signature| bs58::encode(signature).into_string()),
        account_include: texts(&filter.include),
        account_exclude: texts(&filter.exclude),
        account_required: texts(&filter.required),
        ..SubscribeRequestFilterTransactions::default()
    }
}
