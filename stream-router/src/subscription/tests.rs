use event_schema::{
    Signature,
    proto::{confirmed_block, geyser::SubscribeUpdateTransactionInfo},
};
use serde_json::json;
use solana_rpc_client_types::config::{
    TransactionDetails, UiAccountEncoding, UiTransactionEncoding,
};

use super::*;

const KEY: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

fn refusal(method: &str, params: Value) -> (i64, String) {
    let error = ask(method, params).expect_err("must be refused");
    (error.code, error.message)
}

fn accepted(method: &str, params: Value) -> Subscription {
    match ask(method, params).expect("accepted") {
        Ask::Subscribe(subscription) => *subscription,
        Ask::Resume(_) | Ask::Unsubscribe(_) => panic!("a subscription"),
    }
}

#[test]
fn defaults_are_those_of_the_validator() {
    assert_eq!(
        accepted("accountSubscribe", json!([KEY])),
        Subscription::Account {
            pubkey: KEY.parse().unwrap(),
            view: View {
                encoding: UiAccountEncoding::Binary,
                slice: None
            },
            level: Level::Finalized,
        }
    );
    let view = TransactionView {
        encoding: UiTransactionEncoding::Base64,
        details: TransactionDetails::Full,
        rewards: false,
        version_max: None,
    };
    assert_eq!(
        accepted("blockSubscribe", json!(["all"])),
        Subscription::Block {
            mentions: None,
            view,
            level: Level::Finalized
        }
    );
    for (method, subscription) in [
        ("slotSubscribe", Subscription::Slot),
        ("slotsUpdatesSubscribe", Subscription::SlotsUpdates),
        ("rootSubscribe", Subscription::Root),
        ("voteSubscribe", Subscription::Vote),
    ] {
        assert_eq!(accepted(method, Value::Null), subscription);
        assert_eq!(accepted(method, json!([])), subscription);
    }
}

#[test]
fn every_filter_form_is_understood() {
    let params = json!([KEY, {
        "encoding": "base64+zstd", "commitment": "processed", "dataSlice": {"offset": 1, "length": 2},
        "filters": [{"dataSize": 165}, {"memcmp": {"offset": 0, "bytes": "3Mc6vR"}},
            {"memcmp": {"offset": 4, "bytes": "AQI=", "encoding": "base64"}}, "tokenAccountState"]
    }]);
    let Subscription::Program { filters, level, .. } = accepted("programSubscribe", params) else {
        panic!("a program subscription");
    };
    assert_eq!((filters.len(), level), (4, Level::Processed));
    let raw = json!([KEY, {"filters": [{"memcmp": {"offset": 1, "bytes": [1, 2]}}]}]);
    let Subscription::Program { filters, .. } = accepted("programSubscribe", raw) else {
        panic!("a program subscription");
    };
    assert!(passes(&filters, &[0, 1, 2]));
    assert!(!passes(&filters, &[1, 2]));
}

#[test]
fn every_block_form_is_understood() {
    let params = json!([{"mentionsAccountOrProgram": KEY}, {
        "commitment": "confirmed", "encoding": "jsonParsed", "transactionDetails": "accounts",
        "showRewards": true, "maxSupportedTransactionVersion": 1
    }]);
    assert_eq!(
        accepted("blockSubscribe", params),
        Subscription::Block {
            mentions: Some(KEY.parse().unwrap()),
            view: TransactionView {
                encoding: UiTransactionEncoding::JsonParsed,
                details: TransactionDetails::Accounts,
                rewards: true,
                version_max: Some(1),
            },
            level: Level::Confirmed,
        }
    );
}

#[test]
fn transactions_are_asked_for_as_at_managed_providers() {
    let signature = Signature([9; 64]).to_string();
    let params = json!([
        {"vote": false, "failed": true, "signature": signature, "accountInclude": [KEY, KEY],
            "accountExclude": null, "accountRequired": [KEY]},
        {"maxSupportedTransactionVersion": 0}
    ]);
    let Subscription::Transaction {
        filter,
        view,
        level,
    } = accepted("transactionSubscribe", params)
    else {
        panic!("a transaction subscription");
    };
    let key: Pubkey = KEY.parse().unwrap();
    let expected = TransactionFilter {
        vote: Some(false),
        failed: Some(true),
        signature: Some([9; 64]),
        include: vec![key],
        exclude: vec![],
        required: vec![key],
    };
    assert_eq!((filter, level), (expected, Level::Processed));
    assert_eq!(
        (view.encoding, view.details, view.rewards),
        (
            UiTransactionEncoding::Base64,
            TransactionDetails::Full,
            false
        )
    );
    let bare = accepted(
        "transactionSubscribe",
        json!([{}, {"transactionDetails": "signatures", "commitment": "finalized"}]),
    );
    assert!(matches!(
        bare,
        Subscription::Transaction {
            level: Level::Finalized,
            ..
        }
    ));
}

#[test]
fn refusals_say_what_the_validator_says() {
    assert_eq!(
        refusal("getSlot", json!([])),
        (-32601, "Method not found".into())
    );
    assert_eq!(
        refusal("accountSubscribe", json!(["nonsense"])),
        (-32602, "Invalid Request: Invalid pubkey provided".into())
    );
    assert_eq!(
        refusal("accountSubscribe", Value::Null).1,
        "`params` should have at least 1 argument(s)"
    );
    assert_eq!(
        refusal("accountSubscribe", json!({"pubkey": KEY})).1,
        "`params` should be an array"
    );
    assert_eq!(
        refusal("logsSubscribe", json!([{"mentions": [KEY, KEY]}])).1,
        "Invalid Request: Only 1 address supported"
    );
    assert_eq!(
        refusal("signatureSubscribe", json!([KEY])).1,
        "Invalid Request: Invalid signature provided"
    );
    assert_eq!(
        refusal("accountSubscribe", json!([true])).1,
        "Invalid params: invalid type: boolean `true`, expected a string."
    );
    for method in [
        "slotSubscribe",
        "slotsUpdatesSubscribe",
        "rootSubscribe",
        "voteSubscribe",
    ] {
        assert_eq!(
            refusal(method, json!([1])).1,
            "Invalid parameters: No parameters were expected"
        );
        for (params, data) in [
            (json!([1, "x"]), r#"Array([Number(1), String("x")])"#),
            (json!({"a": true}), r#"Map({"a": Bool(true)})"#),
        ] {
            let error = ask(method, params).expect_err("refused");
            assert_eq!(error.data, Some(json!(data)));
        }
    }
    let five = json!([KEY, {"filters": [{"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}, {"dataSize": 1}]}]);
    assert_eq!(
        refusal("programSubscribe", five).1,
        "Invalid params: Too many filters provided; max 4"
    );
    let long = json!([KEY, {"filters": [{"memcmp": {"offset": 0, "bytes": vec![0; 129]}}]}]);
    assert_eq!(
        refusal("programSubscribe", long).1,
        "Invalid params: Invalid param: DataTooLarge"
    );
}

#[test]
fn refusals_of_blocks_say_what_the_validator_says() {
    let processed = json!(["all", {"commitment": "processed"}]);
    assert_eq!(
        refusal("blockSubscribe", processed),
        (
            -32602,
            "Method does not support commitment below `confirmed`".into()
        )
    );
    assert_eq!(
        refusal("blockSubscribe", json!([{"mentionsAccountOrProgram": "x"}])),
        (
            -32602,
            "Invalid Request: Invalid mentions_account_or_program provided".into()
        )
    );
    assert_eq!(
        refusal("blockSubscribe", json!(["some"])).1,
        "Invalid params: unknown variant `some`, expected `all` or `mentionsAccountOrProgram`."
    );
    assert_eq!(
        refusal("blockSubscribe", json!(["all", {"encoding": "base65"}])).1,
        "Invalid params: unknown variant `base65`, expected one of `binary`, `base64`, `base58`, `json`, `jsonParsed`."
    );
    assert_eq!(
        refusal(
            "blockSubscribe",
            json!(["all", {"maxSupportedTransactionVersion": 256}])
        )
        .1,
        "Invalid params: invalid value: integer `256`, expected u8."
    );
    assert_eq!(
        refusal("blockSubscribe", Value::Null).1,
        "`params` should have at least 1 argument(s)"
    );
}

#[test]
fn refusals_of_transactions_name_the_field_and_the_fix() {
    let transaction =
        |filter: Value, options: Value| refusal("transactionSubscribe", json!([filter, options])).1;
    let version = json!({"maxSupportedTransactionVersion": 0});
    assert!(
        transaction(json!({}), json!({})).contains("maxSupportedTransactionVersion is required")
    );
    assert!(
        transaction(json!({"accountsInclude": [KEY]}), version.clone())
            .contains("unknown field `accountsInclude`")
    );
    assert!(
        transaction(json!({"accountRequired": [KEY, "x"]}), version.clone())
            .contains("accountRequired[1] is not an address")
    );
    let many = vec![KEY; ADDRESSES_MAX + 1];
    assert_eq!(
        transaction(json!({"accountExclude": many}), version.clone()),
        "Invalid params: accountExclude has 50001 addresses, at most 50000 are allowed: use several subscriptions"
    );
    assert_eq!(
        transaction(json!({"signature": "x"}), version),
        "Invalid Request: Invalid signature provided"
    );
}

#[test]
fn a_transaction_must_satisfy_every_part_of_the_filter() {
    let key = |byte: u8| Pubkey::from([byte; 32]);
    let info = SubscribeUpdateTransactionInfo {
        signature: vec![1; 64],
        is_vote: false,
        transaction: Some(confirmed_block::Transaction {
            message: Some(confirmed_block::Message {
                account_keys: vec![vec![5; 32], vec![3; 32]],
                ..Default::default()
            }),
            ..Default::default()
        }),
        meta: Some(confirmed_block::TransactionStatusMeta {
            loaded_readonly_addresses: vec![vec![8; 32]],
            ..Default::default()
        }),
        index: 0,
    };
    let facts = TransactionFacts::new(&info);
    let empty = TransactionFilter::default;
    for (filter, expected) in [
        (empty(), true),
        (
            TransactionFilter {
                vote: Some(true),
                ..empty()
            },
            false,
        ),
        (
            TransactionFilter {
                failed: Some(false),
                ..empty()
            },
            true,
        ),
        (
            TransactionFilter {
                failed: Some(true),
                ..empty()
            },
            false,
        ),
        (
            TransactionFilter {
                signature: Some([2; 64]),
                ..empty()
            },
            false,
        ),
        (
            TransactionFilter {
                include: vec![key(1), key(8)],
                ..empty()
            },
            true,
        ),
        (
            TransactionFilter {
                include: vec![key(1)],
                ..empty()
            },
            false,
        ),
        (
            TransactionFilter {
                required: vec![key(3), key(8)],
                ..empty()
            },
            true,
        ),
        (
            TransactionFilter {
                required: vec![key(3), key(9)],
                ..empty()
            },
            false,
        ),
        (
            TransactionFilter {
                include: vec![key(3)],
                exclude: vec![key(8)],
                ..empty()
            },
            false,
        ),
    ] {
        assert_eq!(filter.matches(&facts), expected, "{filter:?}");
    }
}

fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-zA-Z0-9]{0,50}".prop_map(Value::from),
        Just(json!("all")),
        Just(json!("processed")),
        Just(json!(KEY)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let name = prop_oneof![
            "[a-zA-Z]{0,12}",
            proptest::sample::select(vec![
                "mentions",
                "filters",
                "memcmp",
                "offset",
                "bytes",
                "encoding",
                "commitment",
                "dataSlice",
                "mentionsAccountOrProgram",
                "transactionDetails",
                "showRewards",
                "maxSupportedTransactionVersion",
                "accountInclude",
                "accountExclude",
                "accountRequired",
                "signature",
                "vote",
                "failed",
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_parameters_panic(
        method in "(account|program|logs|signature|slot|slotsUpdates|root|block|vote|transaction)(Subscribe|Unsubscribe)",
        params in any_json(),
    ) {
        for params in [params.clone(), json!([params]), json!([KEY, params]), json!(["all", params]), json!([{}, params])] {
            let _ = ask(&method, params);
        }
    }
}
