//! Forged registrations and logins, and sessions that should have ended.

use serde_json::{Value, json};

use crate::{
    assertion_lies,
    world::{
        World,
        authenticator::{self, Lie, USER_VERIFIED},
    },
};

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
    let raw: String = authenticator::bytes(&json!(cookie))
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
