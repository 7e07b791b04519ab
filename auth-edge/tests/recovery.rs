//! Races and interruptions: every approval moves money at most once, and every limit holds, whatever happens when.

mod world;

use serde_json::json;
use world::authenticator::Lie;
use world::network::{LAST_VALID_HEIGHT, SenderMood};
use world::{SOMEBODY, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_finished_many_times_at_once_sends_once() {
    let world = World::start().await;
    let mut ann = world.user("ann").await;
    for round in 0..5 {
        let begun = ann.begin_send(SOMEBODY, 1_000_000).await.ok();
        let body = ann.approval(&begun, &Lie::default());
        let finishes = (0..16).map(|_| {
            let (mut browser, body) = (ann.clone(), body.clone());
            tokio::spawn(async move { browser.post("/v1/send/finish", &body).await })
        });
        let mut sent = 0;
        for finish in finishes.collect::<Vec<_>>() {
            let answer = finish.await.unwrap();
            if answer.status.is_success() {
                sent += 1;
            } else {
                assert_eq!(answer.refused(), "approval_used");
            }
        }
        assert_eq!(sent, 1, "round {round}");
        assert_eq!(world.network.with(|inner| inner.handed.len()), round + 1);
        assert_eq!(
            world.count("SELECT count(*) FROM reservations").await,
            round as i64 + 1
        );
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM audit WHERE event = 'passkey.frozen'")
            .await,
        0
    );
    world.audit_is_intact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_approvals_at_once_never_exceed_the_daily_limit() {
    const LIMIT: u64 = 10_000_000_000;
    const EACH: u64 = 1_500_000_000;
    let world = World::configured(|config| config.limits.daily_lamports = LIMIT).await;
    let mut ann = world.user("ann").await;
    // Without a signature counter, as synced passkeys are, the assertions can arrive in any order.
    let uncounted = Lie {
        counter: Some(0),
        ..Lie::default()
    };
    world.sql("UPDATE credentials SET counter = 0, credential = jsonb_set(credential, '{counter}', '0')").await;
    let mut bodies = Vec::new();
    for _ in 0..30 {
        let begun = ann.begin_send(SOMEBODY, EACH).await.ok();
        bodies.push(ann.approval(&begun, &uncounted));
    }
    let finishes: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let mut browser = ann.clone();
            tokio::spawn(async move { browser.post("/v1/send/finish", &body).await })
        })
        .collect();
    let mut sent = 0;
    for finish in finishes {
        let answer = finish.await.unwrap();
        if answer.status.is_success() {
            sent += 1;
        } else {
            assert_eq!(answer.refused(), "daily_limit");
        }
    }
    assert_eq!(
        sent,
        LIMIT / (EACH + 5000),
        "as many as fit, and not one more"
    );
    assert_eq!(world.network.with(|inner| inner.handed.len()) as u64, sent);
    assert_eq!(
        world
            .text("SELECT sum(lamports)::text FROM reservations WHERE released_at IS NULL")
            .await,
        (sent * (EACH + 5000)).to_string()
    );
    assert_eq!(
        ann.begin_send(SOMEBODY, EACH).await.refused(),
        "daily_limit"
    );

    // What was sent a day ago counts no more; another user was never concerned.
    let mut bob = world.user("bob").await;
    bob.begin_send(SOMEBODY, EACH).await.ok();
    world
        .sql("UPDATE reservations SET reserved_at = reserved_at - interval '24 hours'")
        .await;
    ann.begin_send(SOMEBODY, EACH).await.ok();
    world.audit_is_intact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_survive_an_absent_sender_and_an_interrupted_edge() {
    let world = World::start().await;
    let mut ann = world.user("ann").await;
    let honest = Lie::default();

    // The sender is away: the approval is kept, and handed over when it is back.
    world.network.with(|inner| inner.mood = SenderMood::Away);
    let begun = ann.begin_send(SOMEBODY, 1_000_000).await.ok();
    let send = ann.finish_send(&begun, &honest).await.ok();
    assert_eq!(send["state"], "signed");
    world.network.with(|inner| inner.mood = SenderMood::Accepts);
    ann.until(send["id"].as_str().unwrap(), "handed").await;

    // The sender forgot it: handed over again, under the same key.
    let signature = send["signature"].as_str().unwrap();
    world.network.with(|inner| inner.handed.clear());
    for _ in 0..100 {
        if world
            .network
            .with(|inner| inner.handed.contains_key(signature))
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(
        world
            .network
            .with(|inner| inner.handed[signature].idempotency_key.clone()),
        send["id"].as_str().unwrap()
    );

    // It landed, a fork took it back, and it failed in another block: only the final word counts.
    let id = send["id"].as_str().unwrap();
    world.network.set_status(
        signature,
        json!({"state": "landed", "slot": 5, "commitment": "processed", "settled": false}),
    );
    ann.until(id, "landed").await;
    world
        .network
        .set_status(signature, json!({"state": "sending", "settled": false}));
    assert_eq!(ann.until(id, "handed").await["slot"], json!(null));
    world.network.set_status(
        signature,
        json!({"state": "failed", "error": "maybe", "settled": false}),
    );
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(
        ann.get(&format!("/v1/sends/{id}")).await.ok()["state"],
        "handed"
    );
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "1005000"
    );

    // It failed on chain, or expired: what was reserved is free again, and the reason is told.
    world.network.set_status(
        signature,
        json!({"state": "failed", "error": "InsufficientFundsForRent"}),
    );
    let failed = ann.until(send["id"].as_str().unwrap(), "failed").await;
    assert_eq!(failed["problem"]["code"], "failed_on_chain");
    assert!(
        failed["problem"]["message"]
            .as_str()
            .unwrap()
            .contains("InsufficientFundsForRent")
    );
    let begun = ann.begin_send(SOMEBODY, 2_000_000).await.ok();
    let send = ann.finish_send(&begun, &honest).await.ok();
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "2005000"
    );
    world.network.set_status(
        send["signature"].as_str().unwrap(),
        json!({"state": "expired"}),
    );
    assert_eq!(
        ann.until(send["id"].as_str().unwrap(), "expired").await["problem"]["code"],
        "blockhash_expired"
    );
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "0"
    );

    // Refused for good by the sender.
    world
        .network
        .with(|inner| inner.mood = SenderMood::Refuses(-32003));
    let begun = ann.begin_send(SOMEBODY, 3_000_000).await.ok();
    let send = ann.finish_send(&begun, &honest).await.ok();
    assert_eq!(
        (&send["state"], &send["problem"]["code"]),
        (&json!("failed"), &json!("sender_refused"))
    );
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "0"
    );

    // The sender stays away until nothing can land any more: then, and not before, the reservation is released.
    world.network.with(|inner| inner.mood = SenderMood::Away);
    let begun = ann.begin_send(SOMEBODY, 4_000_000).await.ok();
    let send = ann.finish_send(&begun, &honest).await.ok();
    world
        .network
        .with(|inner| inner.finalized_height = LAST_VALID_HEIGHT);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "4005000",
        "it could still land"
    );
    world
        .network
        .with(|inner| inner.finalized_height = LAST_VALID_HEIGHT + 1);
    ann.until(send["id"].as_str().unwrap(), "expired").await;
    assert_eq!(
        ann.get("/v1/me").await.ok()["limits"]["spent_lamports"],
        "0"
    );
    world.network.with(|inner| {
        inner.mood = SenderMood::Accepts;
        inner.finalized_height = 1;
    });

    // The edge died between reserving and signing, and between asserting and reserving.
    let left_reserved = ann.begin_send(SOMEBODY, 6_000_000).await.ok();
    let left_asserted = ann.begin_send(SOMEBODY, 7_000_000).await.ok();
    let id = |begun: &serde_json::Value| begun["approval_id"].as_str().unwrap().to_owned();
    let (reserved, asserted) = (id(&left_reserved), id(&left_asserted));
    world.sql(&format!("UPDATE approvals SET state = 'asserted', evidence = '{{}}' WHERE id IN ('{reserved}', '{asserted}')")).await;
    world
        .sql(&format!(
            "UPDATE approvals SET state = 'reserved' WHERE id = '{reserved}'"
        ))
        .await;
    world.sql(&format!("INSERT INTO reservations (approval_id, user_id, lamports) SELECT id, user_id, 6005000 FROM approvals WHERE id = '{reserved}'")).await;
    world.sql("UPDATE approvals SET changed_at = now() - interval '1 minute' WHERE state IN ('asserted', 'reserved')").await;
    let handed = ann.until(&reserved, "handed").await;
    assert!(world.network.with(|inner| {
        inner
            .handed
            .contains_key(handed["signature"].as_str().unwrap())
    }));
    assert_eq!(
        ann.until(&asserted, "failed").await["problem"]["code"],
        "interrupted"
    );

    // A message that is not what was approved is never signed.
    let begun = ann.begin_send(SOMEBODY, 8_000_000).await.ok();
    let id = id(&begun);
    world
        .sql("ALTER TABLE approvals DISABLE TRIGGER approval_step")
        .await;
    world.sql(&format!("UPDATE approvals SET state = 'reserved', lamports = 9, changed_at = now() - interval '1 minute' WHERE id = '{id}'")).await;
    world
        .sql("ALTER TABLE approvals ENABLE TRIGGER approval_step")
        .await;
    let calls = world.network.with(|inner| inner.send_calls);
    assert_eq!(
        ann.until(&id, "failed").await["problem"]["code"],
        "message_mismatch"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), calls);
    world.audit_is_intact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_secret_is_refused() {
    let world = World::start().await;
    auth_edge::store::pin_custody(&world.edge.store, world.edge.custody.fingerprint())
        .await
        .unwrap();
    let error = auth_edge::store::pin_custody(&world.edge.store, [9; 32])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("custody.key_file"), "{error}");
}
