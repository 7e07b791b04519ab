//! `blockSubscribe`.

use super::*;

/// Of version 0, which clients must say they can read.
fn versioned(index: u64, keys: &[u8]) -> Content {
    let mut content = transaction(index, false, keys, None);
    change(&mut content, |info| {
        let transaction = info.transaction.as_mut().expect("a transaction");
        transaction.message.as_mut().expect("a message").versioned = true;
    });
    content
}

fn signature(index: u8) -> String {
    Signature([index + 1; 64]).to_string()
}

#[tokio::test]
async fn blocks_are_told_whole_at_the_level_asked_for() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params = json!(["all", {"commitment": "confirmed", "transactionDetails": "signatures", "showRewards": true}]);
    hall.ask(&mut client, "blockSubscribe", params).await;
    let params = json!(["all", {"encoding": "base64", "maxSupportedTransactionVersion": 0}]);
    hall.ask(&mut client, "blockSubscribe", params).await;
    let id = hall.publish(block(
        10,
        vec![transaction(0, true, &[4], None), versioned(1, &[5])],
    ));
    assert_eq!(client.next().await, None, "processed is too early");
    hall.judge(id, Standing::Confirmed);
    let told = client.next().await.expect("confirmed");
    assert_eq!(told["method"], "blockNotification");
    assert_eq!(
        told["params"]["result"],
        json!({"context": {"slot": 10}, "value": {"slot": 10, "err": null, "block": {
            "previousBlockhash": blockhash(9, 0).to_string(), "blockhash": blockhash(10, 0).to_string(),
            "parentSlot": 9, "signatures": [signature(0), signature(1)], "rewards": [],
            "blockTime": 77, "blockHeight": 5}}})
    );
    assert_eq!(client.next().await, None);
    hall.judge(id, Standing::Finalized);
    let told = client.result().await.expect("finalized");
    let transactions = &told["value"]["block"]["transactions"];
    assert_eq!(
        (&transactions[0]["version"], &transactions[1]["version"]),
        (&json!("legacy"), &json!(0))
    );
    assert_eq!(transactions[0]["transaction"][1], "base64");
    assert_eq!(transactions[0]["meta"]["logMessages"], json!(["log 0"]));
    assert_eq!(told["value"]["block"].get("rewards"), None);
    hall.judge(id, Standing::Finalized);
    assert_eq!(client.next().await, None, "once");
}

#[tokio::test]
async fn subscribers_of_an_address_get_the_transactions_that_mention_it() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    for mentioned in [5, 200, 99] {
        let params = json!([{"mentionsAccountOrProgram": key(mentioned)},
            {"commitment": "confirmed", "transactionDetails": "signatures"}]);
        hall.ask(&mut client, "blockSubscribe", params).await;
    }
    let contents = vec![
        transaction(0, false, &[4], None),
        transaction(1, false, &[4, 5], None),
        transaction(2, false, &[5], None),
    ];
    let id = hall.publish(block(10, contents));
    hall.judge(id, Standing::Confirmed);
    let mut told = Vec::new();
    while let Some(value) = client.result().await {
        told.push(value["value"]["block"]["signatures"].clone());
    }
    // 200 is a lookup table's address in all of them; nobody mentions 99.
    assert_eq!(
        told,
        [
            json!([signature(1), signature(2)]),
            json!([signature(0), signature(1), signature(2)])
        ]
    );
}

#[tokio::test]
async fn a_version_the_client_cannot_read_is_an_error_of_the_block() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    for params in [
        json!(["all", {"commitment": "confirmed"}]),
        json!([{"mentionsAccountOrProgram": key(4)}, {"commitment": "confirmed"}]),
    ] {
        hall.ask(&mut client, "blockSubscribe", params).await;
    }
    let contents = vec![transaction(0, false, &[4], None), versioned(1, &[5])];
    let id = hall.publish(block(10, contents));
    hall.judge(id, Standing::Confirmed);
    assert_eq!(
        client.result().await.expect("the whole block")["value"],
        json!({"slot": 10, "block": null, "err": {"UnsupportedTransactionVersion": 0}})
    );
    let mentioned = client.result().await.expect("the legacy transaction");
    assert_eq!(mentioned["value"]["err"], Value::Null);
    let transactions = mentioned["value"]["block"]["transactions"]
        .as_array()
        .map(Vec::len);
    assert_eq!(transactions, Some(1));
}

#[tokio::test]
async fn an_abandoned_block_is_told_to_nobody() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params = json!(["all", {"commitment": "confirmed", "transactionDetails": "none"}]);
    let id = hall.ask(&mut client, "blockSubscribe", params).await["result"].clone();
    let lost = hall.publish(block(10, vec![]));
    hall.judge(lost, Standing::Abandoned);
    assert_eq!(client.next().await, None);
    assert_eq!(
        hall.ask(&mut client, "blockUnsubscribe", json!([id])).await["result"],
        true
    );
    let kept = hall.publish(block(11, vec![]));
    hall.judge(kept, Standing::Confirmed);
    assert_eq!(client.next().await, None, "unsubscribed");
}

/// A block is long: the limit that ends a stalled subscriber is the one of bytes.
#[tokio::test]
async fn a_stalled_subscriber_of_blocks_delays_nobody() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_bytes_max: 10_000,
        ..WebSocketConfig::default()
    });
    let (mut stalled, mut alive) = (hall.enter(1), hall.enter(2));
    let params = json!(["all", {"commitment": "confirmed", "encoding": "json"}]);
    for client in [&mut stalled, &mut alive] {
        hall.ask(client, "blockSubscribe", params.clone()).await;
    }
    for slot in 1..=20 {
        let contents = (0..5).map(|index| transaction(index, false, &[4], None));
        let id = hall.publish(block(slot, contents.collect()));
        hall.judge(id, Standing::Confirmed);
        assert_eq!(alive.result().await.expect("told")["value"]["slot"], slot);
    }
    assert_eq!(
        stalled.inbox.end.try_recv(),
        Ok(GivenUp::Slow("slow consumer: too many unsent bytes"))
    );
}
