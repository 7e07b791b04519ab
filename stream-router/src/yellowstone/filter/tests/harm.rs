//! Requests that are not well meant: whatever is accepted can be matched, changed and removed.

use event_schema::proto::{Message, geyser::*};
use proptest::{collection::vec, option, prelude::*};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::{
    super::{FilterIndex, FilterLimits, Filters, TransactionFacts},
    requests::{memcmp, slices},
    universe::{accounts, requests, text, transactions},
};
use crate::subscription::Level;

/// Texts, sizes and numbers that no client of good will sends.
fn wild() -> impl Strategy<Value = SubscribeRequest> {
    let keys = || vec(prop_oneof![Just(text(1)), ".{0,50}"], 0..3);
    let set = || {
        option::of(
            (
                vec(any::<u8>(), 0..70),
                any::<u32>(),
                0u32..6,
                0u32..20,
                any::<u64>(),
                -1..2,
            )
                .prop_map(
                    |(data, buckets, entries, bits, hash_seed, hash_algorithm)| CuckooFilter {
                        bucket_count: if buckets % 2 == 0 {
                            data.len() as u32 / 8
                        } else {
                            buckets
                        },
                        entries_per_bucket: entries,
                        fingerprint_bits: if bits > 6 { 16 } else { bits },
                        data,
                        hash_seed,
                        hash_algorithm,
                    },
                ),
        )
    };
    let state = prop_oneof![
        Just(None),
        any::<u64>().prop_map(|size| Some(Filter::Datasize(size))),
        any::<bool>().prop_map(|it| Some(Filter::TokenAccountState(it))),
        (any::<u64>(), option::of(".{0,200}")).prop_map(|(offset, text)| Some(Filter::Memcmp(
            SubscribeRequestFilterAccountsFilterMemcmp {
                offset,
                data: text.map(|text| if offset % 2 == 0 {
                    Data::Base58(text)
                } else {
                    Data::Base64(text)
                }),
            }
        ))),
        vec(any::<u8>(), 0..140).prop_map(|bytes| memcmp(Some(Data::Bytes(bytes)))),
    ];
    let account =
        (keys(), keys(), vec(state, 0..5), set()).prop_map(|(account, owner, states, cuckoo)| {
            let filters = states
                .into_iter()
                .map(|filter| SubscribeRequestFilterAccountsFilter { filter });
            SubscribeRequestFilterAccounts {
                account,
                owner,
                filters: filters.collect(),
                nonempty_txn_signature: None,
                cuckoo_accounts_filter: cuckoo,
            }
        });
    let transaction = (
        option::of(".{0,100}"),
        keys(),
        set(),
        option::of(any::<i32>()),
    )
        .prop_map(
            |(signature, account_include, cuckoo_account_include, token_accounts)| {
                SubscribeRequestFilterTransactions {
                    signature,
                    account_include,
                    cuckoo_account_include,
                    token_accounts,
                    ..Default::default()
                }
            },
        );
    (
        option::of((".{0,140}", account)),
        option::of((".{0,140}", transaction)),
        option::weighted(0.1, any::<i32>()),
        vec((any::<u64>(), any::<u64>()), 0..2),
    )
        .prop_map(
            |(account, transaction, commitment, parts)| SubscribeRequest {
                accounts: account.into_iter().collect(),
                transactions: transaction.into_iter().collect(),
                commitment,
                ..slices(&parts)
            },
        )
}

/// Whatever is accepted can be matched, changed and removed.
fn use_up(
    request: &SubscribeRequest,
    account: &SubscribeUpdateAccountInfo,
    transaction: &SubscribeUpdateTransactionInfo,
) {
    let Ok(filters) = Filters::compile(request, &FilterLimits::default()) else {
        return;
    };
    let mut index = FilterIndex::default();
    index.insert(1, filters);
    let facts = TransactionFacts::new(transaction);
    let mut out = Vec::new();
    for level in Level::ALL {
        index.account(level, account, &mut out);
        index.transaction(level, &facts, &mut out);
    }
    for name in request.accounts.keys() {
        let _ = index.change_accounts(1, name, &[[1; 32]], &[[2; 32]]);
    }
    index.remove(1);
    assert!(index.holds_nothing());
}

proptest! {
    #[test]
    fn no_request_does_harm(request in wild(), account in accounts(), transaction in transactions()) {
        use_up(&request, &account, &transaction);
    }

    /// Requests with bytes flipped on the way, as far as they still are protobuf.
    #[test]
    fn no_bytes_do_harm(
        request in requests(),
        flips in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        account in accounts(),
        transaction in transactions(),
    ) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            for (place, value) in flips {
                *place.get_mut(&mut bytes[..]) = value;
            }
        }
        if let Ok(request) = SubscribeRequest::decode(&bytes[..]) {
            use_up(&request, &account, &transaction);
        }
    }
}
