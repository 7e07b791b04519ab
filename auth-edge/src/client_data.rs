//! Reads the browser's `clientDataJSON` strictly: the checks that the verifier library leaves out.
//!
//! The signature covers these bytes, so two readers must never see different things in them: duplicate members, byte order
//! marks and bytes that are not UTF-8 are refused. Unknown members are allowed, as WebAuthn demands; `topOrigin` and a true
//! `crossOrigin` mean that the page ran inside somebody else's frame, and are refused.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Real client data is about 200 bytes.
const BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientDataError {
    #[error("the client data is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("the client data is not one JSON object: {0}")]
    Malformed(String),
    #[error("the ceremony was of type {0:?}")]
    WrongType(String),
    #[error("the page's origin was {0:?}")]
    WrongOrigin(String),
    #[error("the ceremony ran in a frame of another origin")]
    CrossOrigin,
}

/// A JSON object none of whose members appears twice.
struct UniqueMembers(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(serde::de::Error::custom(format_args!(
                            "member {name:?} appears twice"
                        )));
                    }
                    members.insert(name, value);
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// `kind` is `webauthn.create` or `webauthn.get`; `origin` must match to the byte.
pub fn check(bytes: &[u8], kind: &str, origin: &str) -> Result<(), ClientDataError> {
    if bytes.len() > BYTES_MAX {
        return Err(ClientDataError::TooLong);
    }
    let UniqueMembers(members) = serde_json::from_slice(bytes)
        .map_err(|error| ClientDataError::Malformed(error.to_string()))?;
    let text = |name: &str| match members.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(ClientDataError::Malformed(format!(
            "member {name:?} is missing or not a string"
        ))),
    };
    if text("type")? != kind {
        return Err(ClientDataError::WrongType(text("type")?.into()));
    }
    if text("origin")? != origin {
        return Err(ClientDataError::WrongOrigin(text("origin")?.into()));
    }
    match members.get("crossOrigin") {
        None | Some(Value::Bool(false)) => {}
        Some(_) => return Err(ClientDataError::CrossOrigin),
    }
    if members.contains_key("topOrigin") {
        return Err(ClientDataError::CrossOrigin);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGIN: &str = "http://localhost:8940";

    fn verdict(json: &str) -> Result<(), ClientDataError> {
        check(json.as_bytes(), "webauthn.get", ORIGIN)
    }

    #[test]
    fn what_browsers_send_is_accepted() {
        for json in [
            r#"{"type":"webauthn.get","challenge":"AA","origin":"http://localhost:8940","crossOrigin":false}"#,
            r#"{"type":"webauthn.get","challenge":"AA","origin":"http://localhost:8940"}"#,
            r#"{"type":"webauthn.get","challenge":"AA","origin":"http://localhost:8940","crossOrigin":false,"other_keys_can_be_added_here":"do not compare clientDataJSON against a template."}"#,
        ] {
            assert_eq!(verdict(json), Ok(()), "{json}");
        }
    }

    #[test]
    fn origins_match_to_the_byte() {
        for origin in [
            "https://localhost:8940",
            "http://localhost",
            "http://localhost:8941",
            "http://localhost:8940/",
            "http://LOCALHOST:8940",
            "http://badlocalhost:8940",
            "http://localhost:8940.evil.example",
            "http://localhost.:8940",
            "http://127.0.0.1:8940",
            "null",
            "",
            "android:apk-key-hash:AAAA",
        ] {
            let json =
                serde_json::json!({"type": "webauthn.get", "challenge": "AA", "origin": origin})
                    .to_string();
            assert_eq!(
                verdict(&json),
                Err(ClientDataError::WrongOrigin(origin.into()))
            );
        }
    }

    #[test]
    fn frames_of_other_origins_are_refused() {
        for member in [
            r#""crossOrigin":true"#,
            r#""crossOrigin":"false""#,
            r#""crossOrigin":null"#,
            r#""topOrigin":"https://a.example""#,
        ] {
            let json = format!(
                r#"{{"type":"webauthn.get","challenge":"AA","origin":"{ORIGIN}",{member}}}"#
            );
            assert_eq!(verdict(&json), Err(ClientDataError::CrossOrigin), "{json}");
        }
    }

    #[test]
    fn readers_cannot_be_made_to_disagree() {
        let malformed = |bytes: &[u8]| {
            assert!(
                matches!(
                    check(bytes, "webauthn.get", ORIGIN),
                    Err(ClientDataError::Malformed(_))
                ),
                "{bytes:?}"
            );
        };
        malformed(br#"{"type":"webauthn.get","challenge":"AA","challenge":"BB","origin":"http://localhost:8940"}"#);
        malformed(br#"{"type":"webauthn.get","origin":"http://localhost:8940","origin":"http://localhost:8940"}"#);
        malformed(b"\xef\xbb\xbf{\"type\":\"webauthn.get\",\"origin\":\"http://localhost:8940\"}");
        malformed(
            b"{\"type\":\"webauthn.get\",\"origin\":\"http://localhost:8940\",\"x\":\"\xff\"}",
        );
        malformed(br#"{"type":"webauthn.get","origin":"http://localhost:8940"} x"#);
        malformed(br#"{"type":["webauthn.get"],"origin":"http://localhost:8940"}"#);
        malformed(br#"{"origin":"http://localhost:8940"}"#);
        malformed(b"[]");
        malformed(b"");
        malformed("[".repeat(4000).as_bytes());
        assert_eq!(
            check(&[b' '; BYTES_MAX + 1], "webauthn.get", ORIGIN),
            Err(ClientDataError::TooLong)
        );
    }

    #[test]
    fn the_ceremonies_are_kept_apart() {
        let json =
            r#"{"type":"webauthn.create","challenge":"AA","origin":"http://localhost:8940"}"#;
        assert_eq!(
            verdict(json),
            Err(ClientDataError::WrongType("webauthn.create".into()))
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, "webauthn.get", ORIGIN);
        }
    }
}
