//! `transactionSubscribe`.

use super::*;

fn error() -> Option<Vec<u8>> {
    Some(vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0])
}

#[tokio::test]
async fn transactions_are_told_as_managed_providers_tell_them() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params = json!([{"accountInclude": [key(5)], "failed": true},
        {"encoding": "json", "maxSupportedTransactionVersion": 0}]);
    hall.ask(&mut client, "transactionSubscribe", params).await;
    hall.publish(block(
        10,
        vec![
            transaction(0, false, &[4, 5], None),
            transaction(1, false, &[4, 5], error()),
            transaction(2, false, &[4], error()),
        ],
    ));
    let told = client
        .next()
        .await
        .expect("processed, which is the default");
    assert_eq!(told["method"], "transactionNotification");
    let result = &told["params"]["result"];
    let signature = Signature([2; 64]).to_string();
    assert_eq!(
        (
            &result["signature"],
            &result["slot"],
            &result["transactionIndex"]
        ),
        (&json!(signature), &json!(10), &json!(1))
    );
    let transaction = &result["transaction"];
    assert_eq!(transaction["version"], "legacy");
    assert_eq!(transaction["transaction"]["signatures"], json!([signature]));
    assert_eq!(
        transaction["meta"]["err"],
        json!({"InstructionError": [0, {"Custom": 1}]})
    );
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn every_part_of_the_filter_counts() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let filters = [
        (json!({}), vec![0, 1, 2]),
        (json!({"vote": false}), vec![1, 2]),
        (json!({"vote": true, "failed": true}), vec![]),
        (
            json!({"signature": Signature([3; 64]).to_string()}),
            vec![2],
        ),
        (json!({"accountRequired": [key(4), key(6)]}), vec![2]),
        (json!({"accountInclude": [key(5), key(6)]}), vec![1, 2]),
        // In a lookup table.
        (
            json!({"accountInclude": [key(200)], "accountExclude": [key(6)]}),
            vec![0, 1],
        ),
    ];
    let mut expected = Vec::new();
    for (filter, indexes) in filters {
        let params = json!([filter, {"transactionDetails": "signatures"}]);
        let answer = hall.ask(&mut client, "transactionSubscribe", params).await;
        expected.push((answer["result"].clone(), indexes));
    }
    hall.publish(block(
        10,
        vec![
            transaction(0, true, &[4], None),
            transaction(1, false, &[4, 5], error()),
            transaction(2, false, &[4, 5, 6], None),
        ],
    ));
    let mut told = Vec::new();
    while let Some(message) = client.next().await {
        let params = &message["params"];
        assert_eq!(params["result"].get("transaction"), None);
        told.push((
            params["subscription"].clone(),
            params["result"]["transactionIndex"].as_u64(),
        ));
    }
    for (subscription, indexes) in expected {
        let found: Vec<u64> = told
            .iter()
            .filter(|(id, _)| *id == subscription)
            .filter_map(|(_, index)| *index)
            .collect();
        assert_eq!(found, indexes, "subscription {subscription}");
    }
}

#[tokio::test]
async fn versions_the_subscriber_cannot_read_are_left_out() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params =
        json!([{}, {"maxSupportedTransactionVersion": 0, "transactionDetails": "accounts"}]);
    hall.ask(&mut client, "transactionSubscribe", params).await;
    let mut newest = transaction(0, false, &[4], None);
    change(&mut newest, |info| {
        let message = info.transaction.as_mut().and_then(|it| it.message.as_mut());
        let message = message.expect("a message");
        message.versioned = true;
        message.config = Some(Default::default());
    });
    hall.publish(block(10, vec![newest, transaction(1, false, &[4], None)]));
    let told = client.result().await.expect("the legacy transaction");
    assert_eq!(told["transactionIndex"], 1);
    assert_eq!(
        told["transaction"]["transaction"]["accountKeys"][0]["pubkey"],
        key(4)
    );
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_read_is_told_with_the_reason() {
    let mut hall = Hall::new(WebSocketConfig::default());
    let mut client = hall.enter(1);
    let params = json!([{}, {"maxSupportedTransactionVersion": 0}]);
    hall.ask(&mut client, "transactionSubscribe", params).await;
    let mut damaged = transaction(0, false, &[4], None);
    change(&mut damaged, |info| info.transaction = None);
    hall.publish(block(10, vec![damaged]));
    let told = client.result().await.expect("told all the same");
    assert_eq!(
        (&told["transaction"], &told["err"]),
        (&Value::Null, &json!("BlockStoreError"))
    );
}

#[tokio::test]
async fn a_stalled_subscriber_of_transactions_delays_nobody() {
    let mut hall = Hall::new(WebSocketConfig {
        queue_items_max: 8,
        ..WebSocketConfig::default()
    });
    let (mut stalled, mut alive) = (hall.enter(1), hall.enter(2));
    let params = json!([{"accountRequired": [key(4)]}, {"maxSupportedTransactionVersion": 0}]);
    for client in [&mut stalled, &mut alive] {
        hall.ask(client, "transactionSubscribe", params.clone())
            .await;
    }
    for slot in 1..=20 {
        hall.publish(block(slot, vec![transaction(0, false, &[4], None)]));
        assert_eq!(alive.result().await.expect("told")["slot"], slot);
    }
    assert_eq!(
        stalled.inbox.end.try_recv(),
        Ok(GivenUp::Slow(
            "slow consumer: too many unsent notifications"
        ))
    );
}
