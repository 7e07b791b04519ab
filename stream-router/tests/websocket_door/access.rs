//! Who may come in, and how much they get.

use std::time::Instant;

use serde_json::json;

use crate::rig::{Rig, token};

#[tokio::test]
async fn tokens_open_the_door_wherever_clients_put_them() {
    let rig = Rig::with(|_, grpc| {
        grpc.anonymous.allowed = false;
        grpc.x_tokens = vec![token("desk", "let me in"), token("other", "sesame")];
    })
    .await;
    for (request, word) in [
        (rig.request("/"), "no token"),
        (rig.request("/?token=let"), "not known"),
    ] {
        let (status, text) = rig.enter(request).await.err().expect("refused");
        assert_eq!(status, 401);
        assert!(text.contains(word), "{text}");
    }
    for reason in ["token_missing", "token_unknown"] {
        let labels = [("reason", reason)];
        assert_eq!(rig.metric("router_websocket_refused_total", &labels), 1.0);
    }
    let mut by_header = rig.request("/");
    let value = "let me in".parse().unwrap();
    by_header.headers_mut().insert("x-token", value);
    let mut bearer = rig.request("/any/path");
    let value = "Bearer sesame".parse().unwrap();
    bearer.headers_mut().insert("authorization", value);
    let by_parameter = rig.request("/?token=let%20me%20in");
    let mut clients = Vec::new();
    for request in [by_header, bearer, by_parameter] {
        let mut client = rig.enter(request).await.expect("comes in");
        assert_eq!(client.ask("slotSubscribe", json!([])).await["id"], 1);
        clients.push(client);
    }
    rig.slot(7).await;
    let mut sent = 0;
    for client in &mut clients {
        sent += client.next().await.to_string().len();
    }
    assert!(sent > 0);
    // Two of three have the same key; what operators see is what went out.
    let visitors = rig.door.roster().who();
    let keys: Vec<&str> = visitors
        .iter()
        .map(|visitor| visitor.key.as_str())
        .collect();
    assert_eq!(keys, ["desk", "other", "desk"]);
    assert!(visitors.iter().all(|visitor| visitor.subscriptions == 1));
    for key in rig.gate.views() {
        let of_key = visitors.iter().filter(|visitor| visitor.key == key.name);
        let bytes: u64 = of_key.clone().map(|visitor| visitor.bytes_sent).sum();
        assert_eq!(
            (key.connections, key.websocket_bytes_sent),
            (of_key.count(), bytes)
        );
        let labels = [("key", key.name.as_str())];
        assert_eq!(
            rig.metric("router_websocket_bytes_sent_total", &labels),
            bytes as f64
        );
    }
    drop(clients);
    rig.metric_becomes("router_subscribers", &[], 0.0).await;
    assert!(rig.door.roster().who().is_empty());
}

#[tokio::test]
async fn a_door_may_ask_for_no_token() {
    let rig = Rig::with(|websocket, grpc| {
        websocket.x_tokens = false;
        grpc.anonymous.allowed = false;
        grpc.x_tokens = vec![token("desk", "let me in")];
    })
    .await;
    let _client = rig.client().await;
    rig.metric_becomes("router_subscribers", &[], 1.0).await;
    assert_eq!(rig.door.roster().who()[0].key, "anonymous");
}

#[tokio::test]
async fn a_key_has_so_many_connections_subscriptions_and_addresses() {
    let rig = Rig::with(|_, grpc| {
        let mut desk = token("desk", "in");
        desk.connections_max = 2;
        desk.filters_max = 2;
        desk.accounts_max = 3;
        grpc.x_tokens = vec![desk];
    })
    .await;
    let desk = || rig.request("/?token=in");
    let mut first = rig.enter(desk()).await.expect("the first");
    let second = rig.enter(desk()).await.expect("the second");
    let (status, text) = rig.enter(desk()).await.err().expect("one too many");
    assert_eq!(status, 429);
    assert!(text.contains("key desk has 2"), "{text}");
    // Others have places of their own, and no such limits.
    let mut anonymous = rig.client().await;
    for client in [&mut first, &mut anonymous] {
        assert!(client.ask("slotSubscribe", json!([])).await["result"].is_u64());
    }
    let addresses: Vec<String> = (1u8..=4)
        .map(|byte| bs58::encode([byte; 32]).into_string())
        .collect();
    let wide = json!([{"accountInclude": addresses}, {"transactionDetails": "none"}]);
    let answer = first.ask("transactionSubscribe", wide.clone()).await;
    assert_eq!(
        answer["error"]["message"],
        "Internal Error: Subscription refused. key desk may have 3 addresses on one connection"
    );
    assert!(anonymous.ask("transactionSubscribe", wide).await["result"].is_u64());
    // What was refused takes no place, and what is given back makes one.
    let narrow = json!([addresses[0]]);
    let account = first.ask("accountSubscribe", narrow.clone()).await["result"].clone();
    let answer = first.ask("accountSubscribe", narrow.clone()).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert_eq!(
        answer["error"]["message"],
        "Internal Error: Subscription refused. key desk may have 2 subscriptions on one connection"
    );
    assert_eq!(
        first.ask("accountUnsubscribe", json!([account])).await["result"],
        true
    );
    assert!(first.ask("accountSubscribe", narrow).await["result"].is_u64());
    drop(second);
    let again = async {
        while rig.enter(desk()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::rig::LONG, again)
        .await
        .expect("a place");
}

#[tokio::test]
async fn a_paced_key_slows_only_itself() {
    const SLOTS: u64 = 100;
    let rig = Rig::with(|_, grpc| {
        let mut slow = token("slow", "slow");
        slow.bytes_per_second = 5_000;
        grpc.x_tokens = vec![slow];
    })
    .await;
    let mut paced = rig.enter(rig.request("/?token=slow")).await.expect("in");
    let mut free = rig.client().await;
    let mut bytes = 0;
    for client in [&mut paced, &mut free] {
        client.ask("slotSubscribe", json!([])).await;
    }
    let begun = Instant::now();
    for slot in 1..=SLOTS {
        rig.slot(slot).await;
    }
    for slot in 1..=SLOTS {
        let told = free.next().await;
        bytes += told.to_string().len() as u64;
        assert_eq!(told["params"]["result"]["slot"], slot);
    }
    let free_took = begun.elapsed();
    for slot in 1..=SLOTS {
        assert_eq!(paced.next().await["params"]["result"]["slot"], slot);
    }
    let paced_took = begun.elapsed().as_secs_f64();
    // The first second's worth is free.
    let least = (bytes as f64 - 5_000.0) / 5_000.0 * 0.8;
    assert!(
        paced_took >= least,
        "{paced_took} s, at least {least} s for {bytes} bytes"
    );
    assert!(free_took.as_secs_f64() < least / 2.0, "{free_took:?}");
}
