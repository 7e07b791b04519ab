//! What an event costs does not depend on how many listen for something else: none of their filters is looked at.

use event_schema::proto::{confirmed_block::TransactionStatusMeta, geyser::*};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_lamports::Cmp;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::{
    super::{FilterIndex, TransactionFacts},
    matching::{accounts, compiled, info},
    universe::{key, text},
};
use crate::subscription::Level;

const SUBSCRIBERS: u64 = 200;

/// A key of the subscriber's own.
fn own(id: u64) -> [u8; 32] {
    let mut own = [200; 32];
    own[..8].copy_from_slice(&id.to_le_bytes());
    own
}

fn own_text(id: u64) -> String {
    bs58::encode(own(id)).into_string()
}

/// How many filters are looked at for account 0 of owner 1, whose data is 165 ones, and for a transaction with account 0.
fn looked_at(request: impl Fn(u64) -> SubscribeRequest) -> (usize, usize) {
    let mut index = FilterIndex::default();
    for id in 0..SUBSCRIBERS {
        index.insert(id, compiled(&request(id)));
    }
    let transaction = SubscribeUpdateTransactionInfo {
        meta: Some(TransactionStatusMeta {
            loaded_writable_addresses: vec![key(0).to_vec()],
            ..TransactionStatusMeta::default()
        }),
        ..SubscribeUpdateTransactionInfo::default()
    };
    let facts = TransactionFacts::new(&transaction);
    index.looked_at(Level::Processed, &info(0, 1, &[1; 165]), &facts)
}

fn account_filters(filter: impl Fn(u64) -> SubscribeRequestFilterAccounts) -> usize {
    looked_at(|id| accounts([("a", filter(id))])).0
}

fn transaction_filters(filter: impl Fn(u64) -> SubscribeRequestFilterTransactions) -> usize {
    let request = |id| SubscribeRequest {
        transactions: [("t".into(), filter(id))].into(),
        ..SubscribeRequest::default()
    };
    looked_at(request).1
}

fn states(all: Vec<Filter>) -> Vec<SubscribeRequestFilterAccountsFilter> {
    let state = |filter| SubscribeRequestFilterAccountsFilter {
        filter: Some(filter),
    };
    all.into_iter().map(state).collect()
}

fn memcmp(offset: u64, bytes: &[u8]) -> Filter {
    Filter::Memcmp(SubscribeRequestFilterAccountsFilterMemcmp {
        offset,
        data: Some(Data::Bytes(bytes.to_vec())),
    })
}

fn lamports(cmp: Cmp) -> Filter {
    Filter::Lamports(SubscribeRequestFilterAccountsFilterLamports { cmp: Some(cmp) })
}

#[test]
fn accounts_that_others_ask_for_are_not_looked_at() {
    let named = |id| SubscribeRequestFilterAccounts {
        account: vec![own_text(id), own_text(id + 1)],
        owner: vec![text(1)],
        ..Default::default()
    };
    let owned = |id| SubscribeRequestFilterAccounts {
        owner: vec![own_text(id)],
        ..Default::default()
    };
    // All token accounts of one mint: the common owner and size do not bring them up, nor does the byte all share.
    let of_mint = |id| SubscribeRequestFilterAccounts {
        owner: vec![text(1)],
        filters: states(vec![
            Filter::Datasize(165),
            memcmp(100, &[1]),
            memcmp(0, &own(id)),
            Filter::TokenAccountState(true),
        ]),
        ..Default::default()
    };
    assert_eq!(account_filters(named), 0);
    assert_eq!(account_filters(owned), 0);
    assert_eq!(account_filters(of_mint), 0);
    let by_state: [fn(u64) -> Filter; 5] = [
        |id| memcmp(3, &own(id)),
        |id| Filter::Datasize(1_000 + id),
        |id| lamports(Cmp::Eq(1_000 + id)),
        |id| lamports(Cmp::Gt(1_000 + id)),
        |_| lamports(Cmp::Lt(5)),
    ];
    for state in by_state {
        let any_owner = |id| SubscribeRequestFilterAccounts {
            filters: states(vec![state(id)]),
            ..Default::default()
        };
        assert_eq!(account_filters(any_owner), 0);
    }
    let signed = |_| SubscribeRequestFilterAccounts {
        nonempty_txn_signature: Some(true),
        ..Default::default()
    };
    assert_eq!(account_filters(signed), 0);
    // The count is not always nothing.
    let all = |_| SubscribeRequestFilterAccounts::default();
    assert_eq!(account_filters(all), SUBSCRIBERS as usize);
}

#[test]
fn transactions_that_others_ask_for_are_not_looked_at() {
    let included = |id| SubscribeRequestFilterTransactions {
        vote: Some(false),
        account_include: vec![own_text(id), own_text(id + 1)],
        ..Default::default()
    };
    let signature = |id: u64| SubscribeRequestFilterTransactions {
        signature: Some(bs58::encode([id as u8 + 1; 64]).into_string()),
        account_include: vec![text(0)],
        ..Default::default()
    };
    let votes = |_| SubscribeRequestFilterTransactions {
        vote: Some(true),
        ..Default::default()
    };
    let failed = |_| SubscribeRequestFilterTransactions {
        failed: Some(true),
        account_exclude: vec![text(5)],
        ..Default::default()
    };
    assert_eq!(transaction_filters(included), 0);
    assert_eq!(transaction_filters(signature), 0);
    assert_eq!(transaction_filters(votes), 0);
    assert_eq!(transaction_filters(failed), 0);
}

/// A required account that many ask for is not where the next one is listed, if it has a rarer one.
#[test]
fn many_who_require_a_common_account_are_not_all_looked_at() {
    let both_required = |id| SubscribeRequestFilterTransactions {
        account_required: vec![text(0), own_text(id)],
        ..Default::default()
    };
    let one_included = |id| SubscribeRequestFilterTransactions {
        account_required: vec![text(0)],
        account_include: vec![own_text(id)],
        ..Default::default()
    };
    assert!(transaction_filters(both_required) <= 1);
    assert!(transaction_filters(one_included) <= 1);
}
