//! The door: what is accepted, what is refused and how, and that accepted means stored.

mod bed;

use bed::{World, base64, chain::hash, eventually, transfer, wire};
use serde_json::{Value, json};

fn error(answer: &Value) -> (i64, String, String) {
    let error = &answer["error"];
    (
        error["code"]
            .as_i64()
            .unwrap_or_else(|| panic!("no error: {answer}")),
        error["message"].as_str().unwrap_or_default().to_owned(),
        error["data"]["fix"].as_str().unwrap_or_default().to_owned(),
    )
}

fn total(sender: &bed::Running) -> usize {
    sender.get("/v1/transactions?limit=500").1["transactions"]
        .as_array()
        .map_or(0, Vec::len)
}

#[test]
fn bad_requests_are_named_and_nothing_is_stored() {
    let world = World::new(1);
    let sender = world.start();
    let mut forged = transfer(1, hash(1));
    let mut signature: [u8; 64] = forged.signatures[0].into();
    signature[0] ^= 1;
    forged.signatures[0] = signature.into();

    let (code, message, fix) = error(&sender.send_with(&forged, json!({})));
    assert_eq!(code, -32003);
    assert!(
        message.contains("Transaction signature verification failure"),
        "{message}"
    );
    assert!(fix.contains("sign the message again"), "{fix}");

    let (code, message, _) = error(&sender.call("getBalance", json!([])));
    assert_eq!(code, -32601);
    assert!(message.contains("getBalance"), "{message}");

    let (code, message, _) = error(&sender.call("sendTransaction", json!(["not base58!"])));
    assert_eq!(code, -32602);
    assert!(message.contains("base58"), "{message}");

    let (code, message, fix) = error(&sender.call("getSendStatus", json!(["xyz"])));
    assert_eq!(code, -32602);
    assert!(message.contains("xyz") && !fix.is_empty(), "{message}");

    assert_eq!(sender.status(&bs58_signature(7)), Value::Null);
    assert_eq!(
        sender
            .get(&format!("/v1/transactions/{}", bs58_signature(7)))
            .0,
        404
    );
    assert_eq!(sender.get("/v1/transactions/xyz").0, 400);
    assert_eq!(sender.get("/v1/transactions?state=flying").0, 400);
    assert_eq!(total(&sender), 0);
}

fn bs58_signature(n: u8) -> String {
    event_schema::Signature([n; 64]).to_string()
}

#[test]
fn the_same_transaction_is_one_however_often_it_comes() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "sendTransaction",
        "params": [base64(&transaction), {"encoding": "base64", "idempotencyKey": "one"}]});
    let answers = sender.post_concurrently(&vec![request; 20]);
    let expected = transaction.signatures[0].to_string();
    for answer in answers {
        assert_eq!(answer["result"], expected, "{answer}");
    }
    assert_eq!(total(&sender), 1);
    eventually("the leader has it", || {
        world.leaders[0].count(&wire(&transaction)) >= 1
    });
    assert_eq!(
        world.leaders[0].count(&wire(&transaction)),
        1,
        "once per window"
    );
}

#[test]
fn a_key_stands_for_one_transaction() {
    let world = World::new(1);
    let sender = world.start();
    let (first, second) = (transfer(1, hash(1)), transfer(2, hash(1)));
    let keyed =
        |transaction, key: &str| sender.send_with(transaction, json!({"idempotencyKey": key}));
    assert!(keyed(&first, "k")["result"].is_string());
    assert!(keyed(&first, "k")["result"].is_string());
    let (code, message, fix) = error(&keyed(&second, "k"));
    assert_eq!(code, -32090);
    assert!(
        message.contains(&first.signatures[0].to_string()),
        "{message}"
    );
    assert!(fix.contains("new key"), "{fix}");
    assert_eq!(total(&sender), 1, "the second one was not stored");
    // A second key for the same transaction is bound to it as well.
    assert!(keyed(&first, "l")["result"].is_string());
    assert_eq!(error(&keyed(&second, "l")).0, -32090);
    assert!(keyed(&second, "m")["result"].is_string());

    // Two transactions race for one key: exactly one gets it.
    let racers: Vec<Value> = (10..30)
        .map(|n| {
            json!({"jsonrpc": "2.0", "id": n, "method": "sendTransaction",
                "params": [base64(&transfer(n, hash(1))), {"encoding": "base64", "idempotencyKey": "race"}]})
        })
        .collect();
    let answers = sender.post_concurrently(&racers);
    let won = answers
        .iter()
        .filter(|answer| answer["result"].is_string())
        .count();
    assert_eq!(won, 1, "{answers:?}");
    assert_eq!(total(&sender), 3);
}

#[test]
fn batches_are_answered_in_order() {
    let world = World::new(1);
    let sender = world.start();
    let call = |id: u64, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let transaction = transfer(1, hash(1));
    let answers = sender.post(&json!([
        call(
            1,
            "sendTransaction",
            json!([base64(&transaction), {"encoding": "base64"}])
        ),
        call(2, "nonsense", json!([])),
        7,
        call(3, "getSendStatus", json!([bs58_signature(1)])),
    ]));
    assert_eq!(answers[0]["result"], transaction.signatures[0].to_string());
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["error"]["code"], -32600);
    assert_eq!(
        (&answers[3]["id"], &answers[3]["result"]),
        (&json!(3), &Value::Null)
    );
}

#[test]
fn lists_are_paged_and_filtered() {
    let world = World::new(1);
    let sender = world.start();
    for n in 1..=5 {
        sender.send(&transfer(n, hash(1)));
    }
    let mut seen = Vec::new();
    let mut path = "/v1/transactions?limit=2".to_owned();
    loop {
        let (code, page) = sender.get(&path);
        assert_eq!(code, 200, "{page}");
        seen.extend(
            page["transactions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["id"].to_string()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/transactions?limit=2&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_eq!(
        sender.get("/v1/transactions?state=expired").1["transactions"],
        json!([])
    );
}

#[test]
fn a_full_sender_says_so() {
    let mut world = World::new(1);
    world.config.open_transactions_max = 1;
    let sender = world.start();
    sender.send(&transfer(1, hash(1)));
    eventually("the second one is refused", || {
        let answer = sender.send_with(&transfer(2, hash(1)), json!({}));
        answer["error"]["code"] == -32005
    });
}
