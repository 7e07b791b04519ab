//! What is refused, and how it is said.

use event_schema::proto::geyser::*;
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_lamports::Cmp;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::{
    super::{FilterLimits, Filters},
    universe::{cuckoo, text, texts},
};
use crate::subscription::Level;

fn refusal(request: &SubscribeRequest) -> String {
    refusal_within(request, &FilterLimits::default())
}

fn refusal_within(request: &SubscribeRequest, limits: &FilterLimits) -> String {
    let refused = Filters::compile(request, limits);
    refused.expect_err("it must be refused").to_string()
}

fn account_filter(filter: SubscribeRequestFilterAccounts) -> SubscribeRequest {
    SubscribeRequest {
        accounts: [("usdc".into(), filter)].into(),
        ..SubscribeRequest::default()
    }
}

fn state(filters: impl IntoIterator<Item = Option<Filter>>) -> SubscribeRequest {
    let filters = filters
        .into_iter()
        .map(|filter| SubscribeRequestFilterAccountsFilter { filter });
    account_filter(SubscribeRequestFilterAccounts {
        filters: filters.collect(),
        ..Default::default()
    })
}

pub fn memcmp(data: Option<Data>) -> Option<Filter> {
    Some(Filter::Memcmp(SubscribeRequestFilterAccountsFilterMemcmp {
        offset: 0,
        data,
    }))
}

fn transaction_filter(filter: SubscribeRequestFilterTransactions) -> SubscribeRequest {
    SubscribeRequest {
        transactions: [("t".into(), filter)].into(),
        ..SubscribeRequest::default()
    }
}

pub fn slices(parts: &[(u64, u64)]) -> SubscribeRequest {
    let slice = |(offset, length): &(u64, u64)| SubscribeRequestAccountsDataSlice {
        offset: *offset,
        length: *length,
    };
    SubscribeRequest {
        accounts_data_slice: parts.iter().map(slice).collect(),
        ..SubscribeRequest::default()
    }
}

#[test]
fn refusals_name_the_filter_the_field_and_the_fix() {
    let bad_key = account_filter(SubscribeRequestFilterAccounts {
        account: vec![text(0), "0xdeadbeef".into()],
        ..Default::default()
    });
    assert_eq!(
        refusal(&bad_key),
        r#"accounts["usdc"].account[1]: "0xdeadbeef" is not a public key; send its 32 bytes in base58"#
    );
    let bad_signature = transaction_filter(SubscribeRequestFilterTransactions {
        signature: Some(text(0)),
        ..Default::default()
    });
    assert!(refusal(&bad_signature).starts_with(r#"transactions["t"].signature: "#));
    let bad_status = SubscribeRequest {
        transactions_status: [(
            "s".into(),
            SubscribeRequestFilterTransactions {
                token_accounts: Some(2),
                ..Default::default()
            },
        )]
        .into(),
        ..SubscribeRequest::default()
    };
    assert_eq!(
        refusal(&bad_status),
        r#"transactions_status["s"].token_accounts: 2 is unknown; send ALL (0) or BALANCE_CHANGED (1), or leave it out"#
    );
    let bad_commitment = SubscribeRequest {
        commitment: Some(3),
        ..Default::default()
    };
    assert_eq!(
        refusal(&bad_commitment),
        "commitment: 3 is unknown; send PROCESSED (0), CONFIRMED (1) or FINALIZED (2)"
    );
    let long_name = SubscribeRequest {
        entry: [("n".repeat(129), SubscribeRequestFilterEntry {})].into(),
        ..SubscribeRequest::default()
    };
    let refused = refusal(&long_name);
    assert!(
        refused.starts_with("entry[\"nnn")
            && refused.ends_with("the name has 129 bytes; give it one of at most 128")
    );
    assert!(refused.len() < 200, "texts of clients are cut: {refused}");
}

#[test]
fn conditions_on_state_are_checked() {
    let size = || Some(Filter::Datasize(1));
    let lamports = |cmp| {
        Some(Filter::Lamports(
            SubscribeRequestFilterAccountsFilterLamports { cmp },
        ))
    };
    let cases = [
        (state([None]), "filters[0]: it is empty; send one of"),
        (
            state([size(), size()]),
            "filters[1].datasize: it is asked for twice",
        ),
        (
            state([Some(Filter::TokenAccountState(false))]),
            ".token_account_state: false is not a filter",
        ),
        (
            state([lamports(None)]),
            ".lamports: there is nothing to compare with",
        ),
        (
            state([memcmp(None)]),
            ".memcmp: there is nothing to compare with",
        ),
        (
            state([memcmp(Some(Data::Base58("0OIl".into())))]),
            "it is not base58",
        ),
        (
            state([memcmp(Some(Data::Base64("*".into())))]),
            "it is not base64",
        ),
        (
            state([memcmp(Some(Data::Bytes(vec![0; 129])))]),
            "it is too long; send at most 128 bytes",
        ),
        (
            state([memcmp(Some(Data::Base58("1".repeat(129))))]),
            "it is too long",
        ),
        (
            state([memcmp(Some(Data::Base58("z".repeat(1 << 20))))]),
            "it is too long",
        ),
        (
            state(vec![lamports(Some(Cmp::Eq(1))); 5]),
            ".filters: 5 are asked for; at most 4",
        ),
    ];
    for (request, problem) in cases {
        let refused = refusal(&request);
        assert!(
            refused.starts_with(r#"accounts["usdc"].filters"#),
            "{refused}"
        );
        assert!(
            refused.contains(problem),
            "{refused} does not say {problem}"
        );
    }
    let most = state(vec![
        memcmp(Some(Data::Base58(
            bs58::encode([255; 128]).into_string()
        )));
        4
    ]);
    assert!(Filters::compile(&most, &FilterLimits::default()).is_ok());
}

#[test]
fn slices_are_sorted_and_apart() {
    assert!(refusal(&slices(&[(5, 1), (4, 1)])).contains("[1]: it begins before the slice at 5"));
    assert!(
        refusal(&slices(&[(4, 2), (5, 1)])).contains("[1]: it begins in the slice that ends at 6")
    );
    assert!(refusal(&slices(&[(1, u64::MAX)])).contains("[0]: offset 1 + length"));
    for fine in [&[(0, 4), (4, 0), (4, 2)][..], &[(3, 0), (3, 1)], &[]] {
        assert!(Filters::compile(&slices(fine), &FilterLimits::default()).is_ok());
    }
}

#[test]
fn cuckoo_sets_that_cannot_be_read_are_refused() {
    let good = cuckoo(0b11, 7);
    let cases = [
        (
            CuckooFilter {
                hash_algorithm: 1,
                ..good.clone()
            },
            "hash_algorithm 1 is unknown",
        ),
        (
            CuckooFilter {
                fingerprint_bits: 8,
                ..good.clone()
            },
            "4 entries per bucket of 8 bits",
        ),
        (
            CuckooFilter {
                entries_per_bucket: 2,
                ..good.clone()
            },
            "2 entries per bucket",
        ),
        (
            CuckooFilter {
                bucket_count: 4,
                ..good.clone()
            },
            "64 bytes for 4 buckets",
        ),
        (
            CuckooFilter {
                bucket_count: 0,
                ..good.clone()
            },
            "64 bytes for 0 buckets",
        ),
        (
            CuckooFilter {
                bucket_count: 3,
                data: vec![0; 24],
                ..good
            },
            "24 bytes for 3 buckets",
        ),
    ];
    for (set, problem) in cases {
        let of_accounts = refusal(&account_filter(SubscribeRequestFilterAccounts {
            cuckoo_accounts_filter: Some(set.clone()),
            ..Default::default()
        }));
        assert!(
            of_accounts.contains("cuckoo_accounts_filter: "),
            "{of_accounts}"
        );
        let of_transactions = refusal(&transaction_filter(SubscribeRequestFilterTransactions {
            cuckoo_account_include: Some(set.clone()),
            ..Default::default()
        }));
        let of_blocks = refusal(&SubscribeRequest {
            blocks: [(
                "b".into(),
                SubscribeRequestFilterBlocks {
                    cuckoo_account_include: Some(set),
                    ..Default::default()
                },
            )]
            .into(),
            ..SubscribeRequest::default()
        });
        for refused in [of_accounts, of_transactions, of_blocks] {
            assert!(
                refused.contains(problem),
                "{refused} does not say {problem}"
            );
        }
    }
}

fn limits(json: &str) -> FilterLimits {
    serde_json::from_str(json).unwrap()
}

#[test]
fn operators_limit_what_may_be_asked_for() {
    let all = account_filter(Default::default());
    let some = account_filter(SubscribeRequestFilterAccounts {
        account: texts(&[0, 1]),
        owner: texts(&[2, 3]),
        cuckoo_accounts_filter: Some(cuckoo(1, 7)),
        ..Default::default()
    });
    let transactions = transaction_filter(SubscribeRequestFilterTransactions {
        account_include: texts(&[0, 1]),
        account_exclude: texts(&[2, 3]),
        account_required: texts(&[4, 5]),
        cuckoo_account_include: Some(cuckoo(1, 7)),
        ..Default::default()
    });
    let blocks = |filter| SubscribeRequest {
        blocks: [("b".into(), filter)].into(),
        ..SubscribeRequest::default()
    };
    let whole = blocks(SubscribeRequestFilterBlocks {
        include_accounts: Some(true),
        include_entries: Some(true),
        ..Default::default()
    });
    let two_slots = SubscribeRequest {
        slots: [
            ("a".into(), Default::default()),
            ("b".into(), Default::default()),
        ]
        .into(),
        ..SubscribeRequest::default()
    };
    let rejected = text(0);
    let cases = [
        (
            &all,
            r#"{"accounts":{"any":false}}"#.to_owned(),
            r#"accounts["usdc"]: all accounts may not"#,
        ),
        (
            &all,
            r#"{"accounts":{"max":0}}"#.to_owned(),
            "accounts: 1 filters are sent; at most 0",
        ),
        (
            &some,
            r#"{"accounts":{"account_max":1}}"#.to_owned(),
            ".account: 2 are asked for",
        ),
        (
            &some,
            r#"{"accounts":{"owner_max":1}}"#.to_owned(),
            ".owner: 2 are asked for",
        ),
        (
            &some,
            r#"{"accounts":{"cuckoo_max_size":63}}"#.to_owned(),
            ".cuckoo_accounts_filter: 64 are",
        ),
        (
            &some,
            format!(r#"{{"accounts":{{"account_reject":["{rejected}"]}}}}"#),
            "may not be asked for here",
        ),
        (
            &transactions,
            r#"{"transactions":{"account_include_max":1}}"#.to_owned(),
            ".account_include: 2",
        ),
        (
            &transactions,
            r#"{"transactions":{"account_exclude_max":1}}"#.to_owned(),
            ".account_exclude: 2",
        ),
        (
            &transactions,
            r#"{"transactions":{"account_required_max":1}}"#.to_owned(),
            ".account_required: 2",
        ),
        (
            &transactions,
            r#"{"transactions":{"cuckoo_max_size":1}}"#.to_owned(),
            ".cuckoo_account_include: 64",
        ),
        (
            &whole,
            r#"{"blocks":{"account_include_any":false}}"#.to_owned(),
            r#"blocks["b"].account_include: whole"#,
        ),
        (
            &whole,
            r#"{"blocks":{"include_transactions":false}}"#.to_owned(),
            ".include_transactions: it is not",
        ),
        (
            &whole,
            r#"{"blocks":{"include_accounts":false}}"#.to_owned(),
            ".include_accounts: it is not",
        ),
        (
            &whole,
            r#"{"blocks":{"include_entries":false}}"#.to_owned(),
            ".include_entries: it is not",
        ),
        (
            &two_slots,
            r#"{"slots":{"max":1}}"#.to_owned(),
            "slots: 2 filters are sent; at most 1",
        ),
        (
            &two_slots,
            r#"{"name_bytes_max":0}"#.to_owned(),
            "the name has 1 bytes",
        ),
    ];
    for (request, limits_json, problem) in cases {
        assert!(Filters::compile(request, &FilterLimits::default()).is_ok());
        let refused = refusal_within(request, &limits(&limits_json));
        assert!(
            refused.contains(problem),
            "{refused} does not say {problem}"
        );
    }
    let any_transaction = transaction_filter(Default::default());
    let none = limits(r#"{"transactions":{"any":false}}"#);
    assert!(refusal_within(&any_transaction, &none).contains("all transactions may not"));
    let slices = refusal_within(
        &slices(&[(0, 1), (1, 1)]),
        &limits(r#"{"accounts":{"data_slice_max":1}}"#),
    );
    assert_eq!(
        slices,
        "accounts_data_slice: 2 are asked for; at most 1 are allowed"
    );
}

#[test]
fn limits_are_read_as_they_are_written() {
    let default = FilterLimits::default();
    assert_eq!(limits(&serde_json::to_string(&default).unwrap()), default);
    assert_eq!(limits("{}"), default);
    assert!(serde_json::from_str::<FilterLimits>(r#"{"accounts":{"account_maximum":1}}"#).is_err());
}

#[test]
fn nothing_asked_is_nothing_compiled() {
    let ping = SubscribeRequest {
        ping: Some(SubscribeRequestPing { id: 1 }),
        from_slot: Some(3),
        accounts_data_slice: vec![Default::default()],
        ..SubscribeRequest::default()
    };
    let filters = Filters::compile(&ping, &FilterLimits::default()).unwrap();
    assert!(filters.is_empty());
    assert_eq!(filters.level(), Level::Processed);
    let entry = SubscribeRequest {
        entry: [("e".into(), SubscribeRequestFilterEntry {})].into(),
        commitment: Some(2),
        ..SubscribeRequest::default()
    };
    let filters = Filters::compile(&entry, &FilterLimits::default()).unwrap();
    assert!(!filters.is_empty());
    assert_eq!(filters.level(), Level::Finalized);
}
