//! One transfer, from a new passkey to finality, and what a page needs on the way.

mod world;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use world::authenticator::Lie;
use world::{SOMEBODY, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_transfer_reaches_the_network_exactly_as_shown() {
    let world = World::configured(|config| config.faucet.lamports = 1_000_000_000).await;
    let mut ann = world.browser();
    let registered = ann.register(" Ann ").await.ok();
    assert_eq!(registered["user_name"], "ann");
    assert_eq!(
        ann.get("/v1/me").await.refused(),
        "no_session",
        "registering does not log in"
    );
    assert_eq!(ann.log_in().await.ok()["user_name"], "ann");

    let me = ann.get("/v1/me").await.ok();
    assert_eq!(me["wallet"]["address"], registered["wallet_address"]);
    assert_eq!(me["wallet"]["balance_lamports"], "1000000000000");
    assert_eq!(me["limits"]["spent_lamports"], "0");
    assert_eq!(
        ann.post("/v1/faucet", &json!({})).await.ok()["lamports"],
        "1000000000"
    );
    assert_eq!(
        ann.get("/v1/me").await.ok()["wallet"]["balance_lamports"],
        "1001000000000"
    );

    let begun = ann.begin_send(SOMEBODY, 1_500_000_000).await.ok();
    let summary = begun["summary"]["text"].as_str().unwrap();
    assert!(
        summary.contains(&format!("to: {SOMEBODY}")) && summary.contains("amount: 1.5 SOL"),
        "{summary}"
    );
    assert_eq!(begun["summary"]["total_lamports"], "1500005000");
    assert_eq!(begun["publicKey"]["userVerification"], "required");
    assert_eq!(
        begun["publicKey"]["allowCredentials"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let send = ann.finish_send(&begun, &Lie::default()).await.ok();
    assert_eq!(send["state"], "handed", "{send}");
    let (id, signature) = (
        send["id"].as_str().unwrap(),
        send["signature"].as_str().unwrap(),
    );
    let handed = world
        .network
        .with(|inner| inner.handed.get(signature).cloned())
        .expect("the sender has it");
    assert_eq!(handed.idempotency_key, id);
    assert_eq!(
        STANDARD.encode(&handed.wire[65..]),
        begun["message"],
        "the signed bytes are the shown ones"
    );
    assert_eq!(
        bs58::encode(&handed.wire[70..102]).into_string(),
        registered["wallet_address"],
        "paid by the user's wallet"
    );

    world.network.set_status(
        signature,
        json!({"state": "landed", "slot": 77, "commitment": "confirmed"}),
    );
    let landed = ann.until(id, "landed").await;
    assert_eq!(
        (&landed["slot"], &landed["commitment"]),
        (&json!(77), &json!("confirmed"))
    );
    assert_eq!(
        landed["ledger_url"],
        format!("http://127.0.0.1:8920/v1/transactions/{signature}")
    );
    world.network.set_status(
        signature,
        json!({"state": "landed", "slot": 77, "commitment": "finalized"}),
    );
    for _ in 0..100 {
        if ann.get(&format!("/v1/sends/{id}")).await.ok()["commitment"] == "finalized" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let sends = ann.get("/v1/sends").await.ok();
    assert_eq!(sends["sends"][0]["commitment"], "finalized", "{sends}");
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "1500005000"
    );

    // Final is final, even if the sender should change its mind.
    world
        .network
        .set_status(signature, json!({"state": "expired"}));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(
        ann.get(&format!("/v1/sends/{id}")).await.ok()["state"],
        "landed"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), 1);

    let events = world
        .text("SELECT string_agg(event, ' ' ORDER BY seq) FROM audit")
        .await;
    assert_eq!(
        events,
        "user.registered session.opened approval.created approval.asserted policy.allowed approval.reserved approval.signed \
         approval.handed approval.landed approval.landed"
    );
    assert_eq!(world.audit_is_intact().await, 10);

    assert_eq!(
        ann.post("/v1/logout", &json!({})).await.status.as_u16(),
        204
    );
    assert_eq!(ann.get("/v1/me").await.refused(), "no_session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_names_the_field_and_the_fix() {
    let world = World::start().await;
    let mut ann = world.user("ann").await;
    let mut refused = async |to: &str, lamports: &str, field: serde_json::Value| {
        let answer = ann
            .post("/v1/send/begin", &json!({"to": to, "lamports": lamports}))
            .await;
        assert_eq!(
            answer.body["error"]["field"], field,
            "{to} {lamports} {}",
            answer.body
        );
        answer.refused()
    };
    assert_eq!(refused("nonsense", "5", json!("to")).await, "invalid_field");
    assert_eq!(refused("", "5", json!("to")).await, "invalid_field");
    for lamports in [
        "",
        "0",
        "-1",
        "1.5",
        "1e9",
        "9223372036854775808",
        "99999999999999999999999999",
    ] {
        assert_eq!(
            refused(SOMEBODY, lamports, json!("lamports")).await,
            "invalid_field",
            "{lamports}"
        );
    }
    assert_eq!(
        refused(SOMEBODY, "10000000001", json!(null)).await,
        "policy_denied"
    );
    assert_eq!(
        refused(SOMEBODY, "9223372036854775807", json!(null)).await,
        "policy_denied"
    );
    world.network.with(|inner| inner.balance = 5_004);
    assert_eq!(
        refused(SOMEBODY, "5", json!("lamports")).await,
        "insufficient_funds"
    );
    world.network.with(|inner| {
        inner.balance = 5_000_000_000;
        inner.simulation_error = json!({"InsufficientFundsForRent": {"account_index": 1}});
    });
    assert_eq!(
        refused(SOMEBODY, "5", json!(null)).await,
        "simulation_failed"
    );
    world.network.with(|inner| inner.fee = json!(null));
    assert_eq!(
        refused(SOMEBODY, "5", json!(null)).await,
        "upstream_unavailable"
    );
    let own = world.text("SELECT wallet FROM users").await;
    world.network.with(|inner| {
        inner.fee = json!(5000);
        inner.simulation_error = json!(null);
    });
    assert_eq!(refused(&own, "5", json!(null)).await, "policy_denied");

    let mut codes = Vec::new();
    for (path, body) in [
        ("/v1/send/begin", json!({"to": SOMEBODY})),
        ("/v1/send/begin", json!({"to": SOMEBODY, "lamports": 5})),
        (
            "/v1/send/begin",
            json!({"to": SOMEBODY, "lamports": "5", "from": "x"}),
        ),
        ("/v1/register/begin", json!({"user_name": "<b>"})),
        ("/v1/login/begin", json!({"user_name": "a b"})),
        ("/v1/nothing", json!({})),
        ("/v1/faucet", json!({})),
    ] {
        codes.push(ann.post(path, &body).await.refused());
    }
    assert_eq!(
        codes,
        [
            "invalid_body",
            "invalid_body",
            "invalid_body",
            "invalid_field",
            "invalid_field",
            "not_found",
            "no_faucet"
        ]
    );
    let request = ann
        .raw_post("/v1/send/begin")
        .header("origin", world::authenticator::ORIGIN)
        .body("{");
    assert_eq!(ann.send(request).await.refused(), "not_json");
    assert_eq!(ann.get("/v1/sends/nonsense").await.refused(), "not_found");
    assert_eq!(
        world.count("SELECT count(*) FROM approvals").await,
        0,
        "nothing was begun"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_tell_browsers_to_be_strict() {
    let world = World::configured(|config| config.limits.client_requests_per_minute = 10).await;
    let mut visitor = world.browser();
    let page = visitor.get("/").await;
    let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").contains("default-src 'none'; script-src 'self'"));
    assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("cross-origin-opener-policy"), "same-origin");
    let text = page.body.as_str().unwrap();
    for id in [
        "register-name",
        "register",
        "login",
        "login-name",
        "logout",
        "user-name",
        "wallet-address",
        "wallet-balance",
        "send-to",
        "send-sol",
        "send-review",
        "send-approve",
        "send-cancel",
        "send-status",
        "send-status-text",
        "send-ledger",
        "summary-text",
        "sends",
        "message",
        "faucet",
    ] {
        assert!(
            text.contains(&format!("id=\"{id}\"")),
            "the page promises the id {id}"
        );
    }
    assert!(
        !text.contains("<script>") && !text.contains(" style=") && !text.contains("onclick"),
        "nothing inline"
    );
    for file in [
        "app.js",
        "api.js",
        "passkeys.js",
        "sol.js",
        "style.css",
        "icon.svg",
    ] {
        assert_eq!(
            visitor.get(&format!("/{file}")).await.status.as_u16(),
            200,
            "{file}"
        );
    }
    assert_eq!(
        visitor.get("/v1/me").await.headers["cache-control"],
        "no-store"
    );

    let foreign = visitor
        .raw_post("/v1/login/begin")
        .header("origin", "https://evil.example")
        .json(&json!({}));
    assert_eq!(visitor.send(foreign).await.refused(), "wrong_origin");
    let silent = visitor.raw_post("/v1/login/begin").json(&json!({}));
    assert_eq!(visitor.send(silent).await.refused(), "wrong_origin");

    let mut codes = Vec::new();
    for _ in 0..15 {
        codes.push(
            visitor
                .post("/v1/login/begin", &json!({}))
                .await
                .status
                .as_u16(),
        );
    }
    assert!(
        codes.starts_with(&[200; 9]) && codes.ends_with(&[429; 3]),
        "{codes:?}"
    );
}
