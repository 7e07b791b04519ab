//! A notification with a cursor has the `result` of one without: the same block, told by the fan-out and by the engine.

use event_schema::proto::{Message as _, geyser::SubscribeUpdate};
use stream_router::{
    resumption::{shown, wanted},
    subscription::{Ask, Level, ask},
    yellowstone::{
        engine::{Had, Item, Reached, Scratch, What, telling},
        filter::{FilterIndex, Filters},
    },
};

use super::*;

fn told_block() -> Block {
    block(10, small_block::contents(10))
}

fn with_cursors(method: &str, mut params: Value) -> Vec<Value> {
    let config = params.as_array_mut().and_then(|params| params.last_mut());
    config.expect("a configuration")["cursor"] = json!("");
    let Ok(Ask::Resume(resumption)) = ask(method, params) else {
        panic!("{method}: not with a cursor");
    };
    let request = wanted(&resumption.subscription, resumption.level);
    let mut index = FilterIndex::default();
    let filters = Filters::compile(&request, &Default::default()).expect("good filters");
    index.insert(1, filters);
    let block = told_block();
    let item = Item {
        number: 1,
        what: What::Reached(Reached {
            level: Level::Confirmed,
            block: block.id,
            parent: block.parent.slot,
            offset: None,
            not_before: 0,
        }),
    };
    let deliveries = telling(
        &index,
        resumption.level,
        &item,
        Some(&block),
        0,
        &Had::default(),
        &mut Scratch::default(),
    );
    let updates = deliveries.into_iter().map(|delivery| {
        SubscribeUpdate::decode([delivery.head, delivery.body].concat().as_slice()).expect("ours")
    });
    updates
        .filter_map(|update| shown(&resumption.subscription, update))
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

async fn without(method: &str, params: Value) -> Vec<Value> {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let answer = hall.ask(&mut client, method, params).await;
    assert!(answer["result"].is_u64(), "{answer}");
    let id = hall.publish(told_block());
    hall.judge(id, Standing::Confirmed);
    let mut results = Vec::new();
    while let Some(result) = client.result().await {
        results.push(result);
    }
    results
}

#[tokio::test]
async fn a_cursor_changes_nothing_else() {
    let confirmed = json!({"commitment": "confirmed"});
    let base64 = json!({"commitment": "confirmed", "encoding": "base64"});
    let system = Pubkey([0; 32]).to_string();
    let filters =
        json!({"commitment": "confirmed", "encoding": "base64+zstd", "filters": [{"dataSize": 2}]});
    let view = |details: &str| {
        json!({"commitment": "confirmed", "encoding": "base64", "transactionDetails": details,
            "maxSupportedTransactionVersion": 0, "showRewards": true})
    };
    let cases = [
        ("accountSubscribe", json!([key(5), base64]), 1),
        ("accountSubscribe", json!([key(7), base64]), 1),
        ("accountSubscribe", json!([key(9), base64]), 0),
        ("programSubscribe", json!([key(9), base64]), 2),
        ("programSubscribe", json!([key(9), filters]), 1),
        ("programSubscribe", json!([system, base64]), 2),
        ("logsSubscribe", json!(["all", confirmed]), 2),
        ("logsSubscribe", json!(["allWithVotes", confirmed]), 3),
        (
            "logsSubscribe",
            json!([{"mentions": [key(4)]}, confirmed]),
            2,
        ),
        ("transactionSubscribe", json!([{}, view("full")]), 3),
        (
            "transactionSubscribe",
            json!([{"vote": false, "failed": true}, view("signatures")]),
            1,
        ),
        (
            "transactionSubscribe",
            json!([{"accountInclude": [key(4)], "accountExclude": [key(7)]}, view("accounts")]),
            1,
        ),
        (
            "transactionSubscribe",
            json!([{"accountRequired": [key(4), key(200)]}, view("none")]),
            2,
        ),
        ("blockSubscribe", json!(["all", view("full")]), 1),
        ("blockSubscribe", json!(["all", view("none")]), 1),
        (
            "blockSubscribe",
            json!([{"mentionsAccountOrProgram": key(6)}, view("signatures")]),
            1,
        ),
        (
            "blockSubscribe",
            json!([{"mentionsAccountOrProgram": key(99)}, view("full")]),
            0,
        ),
    ];
    for (method, params, count) in cases {
        let plain = without(method, params.clone()).await;
        assert_eq!(plain.len(), count, "{method} {params}: {plain:?}");
        assert_eq!(
            with_cursors(method, params.clone()),
            plain,
            "{method} {params}"
        );
    }
}
