//! Attacks on ceremonies and approvals. Each must end in a typed refusal, leave an audit row and change nothing.

mod world;

use serde_json::{Value, json};
use world::authenticator::{Authenticator, Lie, USER_VERIFIED};
use world::{Browser, SOMEBODY, World};

/// Lies about an assertion, and the code each must be refused with.
fn assertion_lies() -> Vec<(&'static str, Lie, &'static str)> {
    let lie = Lie::default;
    vec![
        ("type of a registration", Lie { kind: Some("webauthn.create"), ..lie() }, "passkey_wrong_ceremony"),
        ("another challenge", Lie { challenge: Some(vec![7; 32]), ..lie() }, "passkey_other_challenge"),
        ("an empty challenge", Lie { challenge: Some(vec![]), ..lie() }, "passkey_other_challenge"),
        ("another port", Lie { origin: Some("http://localhost:8941"), ..lie() }, "passkey_wrong_origin"),
        ("https instead of http", Lie { origin: Some("https://localhost:8940"), ..lie() }, "passkey_wrong_origin"),
        ("a host that ends alike", Lie { origin: Some("http://badlocalhost:8940"), ..lie() }, "passkey_wrong_origin"),
        ("a host that begins alike", Lie { origin: Some("http://localhost:8940.evil.example"), ..lie() }, "passkey_wrong_origin"),
        ("an opaque origin", Lie { origin: Some("null"), ..lie() }, "passkey_wrong_origin"),
        ("an app's origin", Lie { origin: Some("android:apk-key-hash:AAAA"), ..lie() }, "passkey_wrong_origin"),
        ("a frame of another site", Lie { cross_origin: Some(json!(true)), ..lie() }, "passkey_cross_origin"),
        ("another top page", Lie { top_origin: Some("https://evil.example"), ..lie() }, "passkey_cross_origin"),
        ("another site's rp id", Lie { rp_id: Some("evil.example"), ..lie() }, "passkey_refused"),
        ("nobody present", Lie { flags: Some(USER_VERIFIED), ..lie() }, "passkey_user_not_verified"),
        ("user not verified", Lie { flags: Some(1), ..lie() }, "passkey_user_not_verified"),
        ("backup eligibility changed", Lie { flags: Some(1 | USER_VERIFIED | 8), ..lie() }, "passkey_refused"),
        ("backed up without eligibility", Lie { flags: Some(1 | USER_VERIFIED | 16), ..lie() }, "passkey_refused"),
        ("a zeroed signature", Lie { signature: Some(vec![0; 70]), ..lie() }, "passkey_bad_signature"),
        ("an empty signature", Lie { signature: Some(vec![]), ..lie() }, "passkey_bad_signature"),
        ("a huge signature", Lie { signature: Some(vec![0; 2000]), ..lie() }, "passkey_malformed"),
        ("id and rawId differ", Lie { id_text: Some("AAAA"), ..lie() }, "passkey_malformed"),
        ("trailing authenticator data", Lie { trailing_authenticator_data: vec![0], ..lie() }, "passkey_malformed"),
        ("another user's handle", Lie { user_handle: Some(json!("AAAAAAAAAAAAAAAAAAAAAA")), ..lie() }, "passkey_other_user"),
        (
            "duplicate members",
            Lie {
                swap_client_data_after_signing: Some(
                    br#"{"type":"webauthn.get","type":"webauthn.get","challenge":"AA","origin":"http://localhost:8940"}"#.to_vec(),
                ),
                ..lie()
            },
            "passkey_malformed",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_registrations_and_logins_are_refused() {
    let world = World::start().await;
    let lie = Lie::default;
    let registrations = [
        (
            "type of an assertion",
            Lie {
                kind: Some("webauthn.get"),
                ..lie()
            },
            "passkey_wrong_ceremony",
        ),
        (
            "another challenge",
            Lie {
                challenge: Some(vec![7; 32]),
                ..lie()
            },
            "passkey_other_challenge",
        ),
        (
            "another origin",
            Lie {
                origin: Some("https://evil.example"),
                ..lie()
            },
            "passkey_wrong_origin",
        ),
        (
            "a frame",
            Lie {
                cross_origin: Some(json!(true)),
                ..lie()
            },
            "passkey_cross_origin",
        ),
        (
            "another top page",
            Lie {
                top_origin: Some("https://evil.example"),
                ..lie()
            },
            "passkey_cross_origin",
        ),
        (
            "another rp id",
            Lie {
                rp_id: Some("evil.example"),
                ..lie()
            },
            "passkey_refused",
        ),
        (
            "user not verified",
            Lie {
                flags: Some(1),
                ..lie()
            },
            "passkey_user_not_verified",
        ),
        (
            "nobody present",
            Lie {
                flags: Some(USER_VERIFIED),
                ..lie()
            },
            "passkey_user_not_verified",
        ),
        (
            "backed up without eligibility",
            Lie {
                flags: Some(1 | USER_VERIFIED | 16),
                ..lie()
            },
            "passkey_refused",
        ),
        (
            "a credential id above the limit",
            Lie {
                id: Some(vec![1; 1024]),
                ..lie()
            },
            "passkey_malformed",
        ),
        (
            "id and rawId differ",
            Lie {
                id_text: Some("AAAA"),
                ..lie()
            },
            "passkey_malformed",
        ),
    ];
    for (name, lie, code) in &registrations {
        assert_eq!(
            world.browser().register_lying("ann", lie).await.refused(),
            *code,
            "{name}"
        );
    }
    assert_eq!(world.count("SELECT count(*) FROM users").await, 0);
    assert_eq!(
        world
            .count("SELECT count(*) FROM audit WHERE event = 'registration.refused'")
            .await,
        registrations.len() as i64
    );

    // A credential id of the greatest allowed length works.
    let mut ann = world.browser();
    ann.register_lying(
        "ann",
        &Lie {
            id: Some(vec![1; 1023]),
            ..lie()
        },
    )
    .await
    .ok();
    assert_eq!(
        world.browser().register("ann").await.refused(),
        "name_taken"
    );
    let mut thief = world.browser();
    assert_eq!(
        thief
            .register_lying(
                "thief",
                &Lie {
                    id: Some(vec![1; 1023]),
                    ..lie()
                }
            )
            .await
            .refused(),
        "passkey_taken"
    );

    // The same answer twice, and the answer from another browser.
    let mut bob = world.browser();
    let begun = bob
        .post("/v1/register/begin", &json!({"user_name": "bob"}))
        .await
        .ok();
    let finish = json!({"ceremony_id": begun["ceremony_id"], "credential": bob.passkey.create(&begun["publicKey"], &lie())});
    assert_eq!(
        world
            .browser()
            .post("/v1/register/finish", &finish)
            .await
            .refused(),
        "no_ceremony",
        "no browser cookie"
    );
    let mut other = world.browser();
    other
        .post("/v1/register/begin", &json!({"user_name": "eve"}))
        .await
        .ok();
    assert_eq!(
        other.post("/v1/register/finish", &finish).await.refused(),
        "no_ceremony",
        "another browser's cookie"
    );
    let options = json!({"challenge": begun["publicKey"]["challenge"], "rpId": "localhost"});
    let login = json!({"ceremony_id": begun["ceremony_id"], "credential": bob.passkey.get(&options, &lie())});
    assert_eq!(
        bob.post("/v1/login/finish", &login).await.refused(),
        "no_ceremony",
        "a registration is no login"
    );
    bob.post("/v1/register/finish", &finish).await.ok();
    assert_eq!(
        bob.post("/v1/register/finish", &finish).await.refused(),
        "no_ceremony",
        "answered twice"
    );

    // Logins.
    for (name, lie, code) in assertion_lies() {
        let answer = bob.log_in_lying(&lie).await;
        assert_eq!(answer.refused(), code, "{name}");
        assert!(bob.get("/v1/me").await.status == 401, "{name}");
    }
    let nameless = Lie {
        user_handle: Some(Value::Null),
        ..lie()
    };
    assert_eq!(
        bob.log_in_lying(&nameless).await.refused(),
        "passkey_malformed",
        "no user handle"
    );
    assert_eq!(
        world.browser().log_in().await.refused(),
        "passkey_unknown",
        "an unregistered passkey"
    );
    let begun = bob
        .post("/v1/login/begin", &json!({"user_name": "ann"}))
        .await
        .ok();
    let finish = json!({"ceremony_id": begun["ceremony_id"], "credential": bob.passkey.get(&begun["publicKey"], &lie())});
    assert_eq!(
        bob.post("/v1/login/finish", &finish).await.refused(),
        "passkey_unknown",
        "another account's passkey"
    );
    let known = bob
        .post("/v1/login/begin", &json!({"user_name": "ann"}))
        .await
        .ok();
    let unknown = bob
        .post("/v1/login/begin", &json!({"user_name": "nobody"}))
        .await
        .ok();
    let shape = |begun: &Value| {
        begun["publicKey"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key != "challenge")
            .map(|(key, value)| format!("{key}{value}"))
            .collect::<String>()
    };
    assert_eq!(
        shape(&known),
        shape(&unknown),
        "nobody learns which names exist"
    );

    // A login answer works once, in time, and a slow one never.
    let begun = bob.post("/v1/login/begin", &json!({})).await.ok();
    let finish = json!({"ceremony_id": begun["ceremony_id"], "credential": bob.passkey.get(&begun["publicKey"], &lie())});
    bob.post("/v1/login/finish", &finish).await.ok();
    let before = bob.cookies.clone();
    assert_eq!(
        bob.post("/v1/login/finish", &finish).await.refused(),
        "no_ceremony",
        "replayed"
    );
    assert_eq!(bob.cookies, before);
    let begun = bob.post("/v1/login/begin", &json!({})).await.ok();
    world.sql("UPDATE ceremonies SET expires_unix = 1").await;
    let finish = json!({"ceremony_id": begun["ceremony_id"], "credential": bob.passkey.get(&begun["publicKey"], &lie())});
    assert_eq!(
        bob.post("/v1/login/finish", &finish).await.refused(),
        "no_ceremony",
        "expired"
    );

    // A counter that goes back freezes the passkey, for the honest owner too: nobody can tell the two apart.
    let clone = Lie {
        counter: Some(1),
        ..lie()
    };
    assert_eq!(bob.log_in_lying(&clone).await.refused(), "passkey_cloned");
    assert_eq!(bob.log_in().await.refused(), "passkey_unknown");
    assert_eq!(
        world
            .count("SELECT count(*) FROM audit WHERE event = 'passkey.frozen'")
            .await,
        1
    );
    world.audit_is_intact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_when_they_should() {
    let world = World::start().await;
    let mut ann = world.user("ann").await;
    let cookie = ann.cookies["heliograph_session"].clone();
    let raw: String = world::authenticator::bytes(&json!(cookie))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let stored = |what: &str| format!("SELECT count(*) FROM sessions WHERE token_hash = {what}");
    assert_eq!(
        world.count(&stored(&format!("sha256('\\x{raw}')"))).await,
        1
    );
    assert_eq!(
        world.count(&stored(&format!("'\\x{raw}'"))).await,
        0,
        "the token itself is nowhere"
    );
    let mut thief = world.browser();
    for wrong in [
        &cookie[1..],
        &format!("{cookie}A"),
        &cookie.to_uppercase(),
        "",
    ] {
        thief
            .cookies
            .insert("heliograph_session".into(), wrong.to_owned());
        assert_eq!(thief.get("/v1/me").await.refused(), "no_session", "{wrong}");
    }
    let old = cookie;
    ann.log_in().await.ok();
    assert_ne!(
        ann.cookies["heliograph_session"], old,
        "a login draws a new token"
    );

    world
        .sql("UPDATE sessions SET last_seen_at = now() - interval '16 minutes'")
        .await;
    assert_eq!(ann.get("/v1/me").await.refused(), "no_session", "idle");
    ann.log_in().await.ok();
    world
        .sql("UPDATE sessions SET absolute_expiry = now() - interval '1 second'")
        .await;
    assert_eq!(ann.get("/v1/me").await.refused(), "no_session", "absolute");
    ann.log_in().await.ok();
    world.sql("UPDATE users SET disabled_at = now()").await;
    assert_eq!(ann.get("/v1/me").await.refused(), "no_session", "disabled");
    assert_eq!(ann.log_in().await.refused(), "passkey_unknown");
}

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
