//! Attacks on ceremonies and approvals. Each must end in a typed refusal, leave an audit row and change nothing.

mod on_approvals;
mod on_logins;
#[path = "../world/mod.rs"]
mod world;

use serde_json::json;
use world::authenticator::{Lie, USER_VERIFIED};

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
