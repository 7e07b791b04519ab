//! Whatever is asked, and whatever is told then.

use event_schema::proto::geyser::SlotStatus;
use proptest::prelude::*;
use stream_router::router::SlotUpdate;

use super::{small_block::METHODS, *};

/// What somebody may write as first parameter: right, nearly right, wrong.
fn subject() -> impl Strategy<Value = Value> {
    let lists = proptest::collection::vec(4u8..8, 0..3)
        .prop_map(|keys| keys.into_iter().map(key).collect::<Vec<_>>());
    prop_oneof![
        Just(json!("all")),
        Just(json!(key(5))),
        Just(json!(Signature([2; 64]).to_string())),
        Just(json!({"mentions": [key(5)]})),
        Just(json!({"mentionsAccountOrProgram": key(5)})),
        (lists.clone(), lists, any::<Option<bool>>()).prop_map(|(include, exclude, vote)| {
            json!({"accountInclude": include, "accountExclude": exclude, "vote": vote})
        }),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ]
}

fn options() -> impl Strategy<Value = Value> {
    let encoding = proptest::sample::select(vec![
        "json",
        "jsonParsed",
        "base58",
        "base64",
        "base64+zstd",
        "binary",
        "?",
    ]);
    let details = proptest::sample::select(vec!["full", "accounts", "signatures", "none", "?"]);
    let commitment = proptest::sample::select(vec!["processed", "confirmed", "finalized", "?"]);
    let version = proptest::option::of(0u16..300);
    (encoding, details, commitment, version).prop_map(|(encoding, details, commitment, version)| {
        json!({"encoding": encoding, "transactionDetails": details, "commitment": commitment,
            "maxSupportedTransactionVersion": version, "enableReceivedNotification": true})
    })
}

fn request() -> impl Strategy<Value = Value> {
    let method = proptest::sample::select(&METHODS[..]);
    let verb = prop_oneof![9 => Just("Subscribe"), 1 => Just("Unsubscribe")];
    let params = prop_oneof![
        1 => Just(json!([])),
        1 => Just(json!([0])),
        2 => subject().prop_map(|subject| json!([subject])),
        6 => (subject(), options()).prop_map(|(subject, options)| json!([subject, options])),
    ];
    (method, verb, params).prop_map(|(method, verb, params)| {
        json!({"jsonrpc": "2.0", "id": 1, "method": format!("{method}{verb}"), "params": params})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_message_is_json_and_nothing_panics(requests in proptest::collection::vec(request(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut hall = Hall::new(WebSocketConfig::default());
            let mut client = hall.enter(1);
            for request in &requests {
                let text = request.to_string();
                hall.fanout.command(Command::Request(client.id, Request::read(&text)));
            }
            let error = vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
            let id = hall.publish(block(10, vec![
                account(5, 9, 1, b"a", 1),
                transaction(0, true, &[4], None),
                transaction(1, false, &[4, 5], Some(error)),
                transaction(2, false, &[6], None),
            ]));
            for status in [SlotStatus::SlotCreatedBank, SlotStatus::SlotProcessed, SlotStatus::SlotDead, SlotStatus::SlotFinalized] {
                hall.fanout.effect(&Effect::SlotUpdate(SlotUpdate {
                    slot: Slot(10), parent: None, status, dead_error: None, at_ms: -1, again: false,
                }));
            }
            hall.judge(id, Standing::Confirmed);
            hall.judge(id, Standing::Finalized);
            hall.fanout.effect(&Effect::Rooted(Slot(10)));
            hall.fanout.command(Command::Disconnect(client.id));
            // Reads them all as JSON.
            let mut answers = 0;
            while let Some(message) = client.next().await {
                answers += usize::from(message.get("id").is_some());
            }
            assert_eq!(answers, requests.len(), "each request has its answer");
        });
    }
}
