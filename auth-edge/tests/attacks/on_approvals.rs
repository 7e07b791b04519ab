//! Forged, late and borrowed approvals.

use serde_json::{Value, json};

use crate::{
    assertion_lies,
    world::{
        Browser, SOMEBODY, World,
        authenticator::{Authenticator, Lie},
    },
};

/// Tries an approval with a lie, and checks that it changed nothing.
async fn refuse(
    world: &World,
    user: &mut Browser,
    begun: &Value,
    body: &Value,
    code: &str,
    name: &str,
) {
    let audited = world.audit_is_intact().await;
    assert_eq!(
        user.post("/v1/send/finish", body).await.refused(),
        code,
        "{name}"
    );
    let id = begun["approval_id"].as_str().unwrap();
    assert_eq!(
        world
            .text(&format!("SELECT state FROM approvals WHERE id = '{id}'"))
            .await,
        "created",
        "{name}"
    );
    assert_eq!(
        world.count("SELECT count(*) FROM reservations").await,
        0,
        "{name}"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), 0, "{name}");
    if code.starts_with("passkey") {
        assert!(
            world.audit_is_intact().await > audited,
            "{name}: refused without an audit row"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_approvals_move_nothing() {
    let world = World::start().await;
    let mut ann = world.user("ann").await;
    let mut bob = world.user("bob").await;
    let begun = ann.begin_send(SOMEBODY, 1_000_000_000).await.ok();
    let honest = Lie::default();

    for (name, lie, code) in assertion_lies() {
        let body = ann.approval(&begun, &lie);
        refuse(&world, &mut ann, &begun, &body, code, name).await;
    }

    // Somebody else's passkey, account, session.
    let body = json!({"approval_id": begun["approval_id"], "credential": bob.passkey.get(&begun["publicKey"], &honest)});
    refuse(
        &world,
        &mut ann,
        &begun,
        &body,
        "passkey_other_user",
        "bob's passkey in ann's session",
    )
    .await;
    let stranger = Authenticator::new().get(&begun["publicKey"], &honest);
    let body = json!({"approval_id": begun["approval_id"], "credential": stranger});
    refuse(
        &world,
        &mut ann,
        &begun,
        &body,
        "passkey_other_user",
        "an unregistered passkey",
    )
    .await;
    let claimed = bob.passkey.get(
        &begun["publicKey"],
        &Lie {
            id: Some(ann.passkey.id.clone()),
            user_handle: Some(Value::Null),
            ..Lie::default()
        },
    );
    let body = json!({"approval_id": begun["approval_id"], "credential": claimed});
    refuse(
        &world,
        &mut ann,
        &begun,
        &body,
        "passkey_bad_signature",
        "bob signs under ann's credential id",
    )
    .await;
    let body = ann.approval(&begun, &honest);
    refuse(
        &world,
        &mut bob,
        &begun,
        &body,
        "not_found",
        "ann's approval in bob's session",
    )
    .await;
    let mut second = ann.clone();
    second.cookies.clear();
    second.log_in().await.ok();
    ann.passkey.counter = second.passkey.counter;
    let body = ann.approval(&begun, &honest);
    refuse(
        &world,
        &mut second,
        &begun,
        &body,
        "not_found",
        "another session of ann",
    )
    .await;

    // Answers to other questions.
    let login = ann.post("/v1/login/begin", &json!({})).await.ok();
    let body = json!({"approval_id": begun["approval_id"], "credential": ann.passkey.get(&login["publicKey"], &honest)});
    refuse(
        &world,
        &mut ann,
        &begun,
        &body,
        "passkey_other_challenge",
        "a login's answer",
    )
    .await;
    let twin = ann.begin_send(SOMEBODY, 1_000_000_000).await.ok();
    assert_ne!(
        twin["publicKey"]["challenge"],
        begun["publicKey"]["challenge"]
    );
    let body = json!({"approval_id": begun["approval_id"], "credential": ann.passkey.get(&twin["publicKey"], &honest)});
    refuse(
        &world,
        &mut ann,
        &begun,
        &body,
        "passkey_other_challenge",
        "the answer for an identical transfer",
    )
    .await;
    let body = json!({"ceremony_id": login["ceremony_id"], "credential": ann.passkey.get(&begun["publicKey"], &honest)});
    assert_eq!(
        ann.post("/v1/login/finish", &body).await.refused(),
        "passkey_other_challenge",
        "an approval is no login"
    );

    // The database changed behind the edge's back: its triggers refuse; without them, the challenge does not fit any more.
    let id = begun["approval_id"].as_str().unwrap();
    for change in [
        "message = set_byte(message, 110, get_byte(message, 110) # 1)",
        "intent = replace(intent, 'amount: 1 SOL', 'amount: 9 SOL')",
        "nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)",
        "expires_unix = expires_unix + 3600",
        "genesis = set_byte(genesis, 0, get_byte(genesis, 0) # 1)",
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE approvals SET {change} WHERE id = '{id}'"
        )))
        .execute(&world.edge.store)
        .await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("cannot be changed"),
            "{change}"
        );
        world
            .sql("ALTER TABLE approvals DISABLE TRIGGER approval_step")
            .await;
        assert_eq!(
            world
                .sql(&format!(
                    "CREATE TABLE before AS SELECT * FROM approvals WHERE id = '{id}'"
                ))
                .await,
            1
        );
        assert_eq!(
            world
                .sql(&format!("UPDATE approvals SET {change} WHERE id = '{id}'"))
                .await,
            1
        );
        let body = ann.approval(&begun, &honest);
        refuse(
            &world,
            &mut ann,
            &begun,
            &body,
            "passkey_other_challenge",
            change,
        )
        .await;
        world.sql("UPDATE approvals a SET message = b.message, intent = b.intent, nonce = b.nonce, expires_unix = b.expires_unix, genesis = b.genesis FROM before b WHERE a.id = b.id").await;
        world.sql("DROP TABLE before").await;
        world
            .sql("ALTER TABLE approvals ENABLE TRIGGER approval_step")
            .await;
    }
    for step in ["reserved", "signed", "landed"] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE approvals SET state = '{step}' WHERE id = '{id}'"
        )))
        .execute(&world.edge.store)
        .await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("no step from created"),
            "{step}"
        );
    }

    // After all this the honest answer still works, once.
    let body = ann.approval(&begun, &honest);
    assert_eq!(
        ann.post("/v1/send/finish", &body).await.ok()["state"],
        "handed"
    );
    assert_eq!(
        ann.post("/v1/send/finish", &body).await.refused(),
        "approval_used",
        "replayed"
    );
    let fresh = ann.approval(&begun, &honest);
    assert_eq!(
        ann.post("/v1/send/finish", &fresh).await.refused(),
        "approval_used",
        "a fresh answer to a used approval"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), 1);

    // A cloned passkey approves nothing, then or later.
    let body = ann.approval(
        &twin,
        &Lie {
            counter: Some(2),
            ..Lie::default()
        },
    );
    assert_eq!(
        ann.post("/v1/send/finish", &body).await.refused(),
        "passkey_cloned"
    );
    let body = ann.approval(&twin, &honest);
    assert_eq!(
        ann.post("/v1/send/finish", &body).await.refused(),
        "passkey_other_user"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), 1);
    world.audit_is_intact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_approvals_and_changed_rules_move_nothing() {
    let world = World::configured(|config| config.limits.approval_seconds = 1).await;
    let mut ann = world.user("ann").await;
    let begun = ann.begin_send(SOMEBODY, 5_000_000).await.ok();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert_eq!(
        ann.finish_send(&begun, &Lie::default()).await.refused(),
        "approval_expired"
    );
    let id = begun["approval_id"].as_str().unwrap();
    ann.until(id, "expired").await;
    assert_eq!(
        ann.finish_send(&begun, &Lie::default()).await.refused(),
        "approval_expired"
    );

    let begun = ann.begin_send(SOMEBODY, 5_000_000).await.ok();
    world
        .sql("ALTER TABLE approvals DISABLE TRIGGER approval_step")
        .await;
    world.sql("UPDATE approvals SET policy_version = set_byte(policy_version, 0, get_byte(policy_version, 0) # 1)").await;
    world
        .sql("ALTER TABLE approvals ENABLE TRIGGER approval_step")
        .await;
    assert_eq!(
        ann.finish_send(&begun, &Lie::default()).await.refused(),
        "policy_changed"
    );
    assert_eq!(world.network.with(|inner| inner.send_calls), 0);

    // The audit names the row that was tampered with.
    for (change, row) in [
        ("UPDATE audit SET actor = 'x' WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 3", 4),
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(change))
            .execute(&world.edge.store)
            .await;
        assert!(
            refused.unwrap_err().to_string().contains("append-only"),
            "{change}"
        );
        world.sql("CREATE TABLE kept AS SELECT * FROM audit").await;
        world.sql("ALTER TABLE audit DISABLE TRIGGER ALL").await;
        world.sql(change).await;
        let fault = auth_edge::audit::verify(&world.edge.store)
            .await
            .unwrap_err()
            .to_string();
        assert!(fault.starts_with(&format!("audit row {row}:")), "{fault}");
        world.sql("DELETE FROM audit").await;
        world.sql("INSERT INTO audit SELECT * FROM kept").await;
        world.sql("ALTER TABLE audit ENABLE TRIGGER ALL").await;
        world.sql("DROP TABLE kept").await;
        world.audit_is_intact().await;
    }
}
