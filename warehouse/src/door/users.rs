//! Who may do what at the door. The embedded engine has no users of its own, so all of it is decided here. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::{Kind, ServerError};

/// What a user is for. Each may do what the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, within the limits of `[limits.reader]`, and no table function that leaves the engine.
    #[default]
    Reader,
    /// Writes and changes tables, and sets what it likes; no files of the door's machine, no other machines.
    Writer,
    /// Also sees everyone's queries, ends them, and makes backups.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        })
    }
}

/// A user of the door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    pub name: String,
    /// Plain text; empty means none. Prefer `password_sha256`.
    pub password: String,
    /// Hexadecimal SHA-256 of the password.
    pub password_sha256: String,
    /// Keys besides the password, so that each program has its own, counted for itself and taken away alone.
    pub keys: Vec<Key>,
    pub role: Role,
    /// Name of a template in `[[quotas]]`; empty: none.
    pub quota: String,
}

/// A key of a user, used as a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// What it is called in the query log.
    pub name: String,
    /// Hexadecimal SHA-256 of the key.
    pub sha256: String,
}

impl User {
    pub fn has_password(&self) -> bool {
        !self.password.is_empty() || !self.password_sha256.is_empty() || !self.keys.is_empty()
    }

    /// The key that the password is; empty for the password itself. `None`: neither.
    fn key_of(&self, password: &str) -> Option<&str> {
        if !self.has_password() {
            return password.is_empty().then_some("");
        }
        let given: [u8; 32] = Sha256::digest(password.as_bytes()).into();
        let is = |sha256: &[u8]| bool::from(given.as_slice().ct_eq(sha256));
        let by_password = if !self.password_sha256.is_empty() {
            is(&hex::decode(&self.password_sha256).unwrap_or_default())
        } else {
            !self.password.is_empty() && is(&Sha256::digest(self.password.as_bytes()))
        };
        if by_password {
            return Some("");
        }
        let mut found = None;
        // All are compared, so that the time tells nothing.
        for key in &self.keys {
            if is(&hex::decode(&key.sha256).unwrap_or_default()) {
                found = Some(key.name.as_str());
            }
        }
        found
    }
}

/// What a request says about its user, from the first of: headers, `Authorization`, the query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Credentials {
    /// `Authorization: Basic …`; `Bearer` carries `user:password` or a bare password of the only user with one.
    pub fn of_authorization(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        let pair = if scheme.eq_ignore_ascii_case("basic") {
            String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?
        } else if scheme.eq_ignore_ascii_case("bearer") {
            rest.trim().to_owned()
        } else {
            return None;
        };
        Some(match pair.split_once(':') {
            Some((user, password)) => Self {
                user: Some(user.to_owned()),
                password: Some(password.to_owned()),
            },
            None => Self {
                user: None,
                password: Some(pair),
            },
        })
    }
}

/// Finds the user and the name of the key, or says no without telling whether the name or the password was wrong.
pub fn authenticate<'u>(
    users: &'u [User],
    given: &Credentials,
) -> Result<(&'u User, &'u str), ServerError> {
    let name = given
        .user
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let password = given.password.as_deref().unwrap_or_default();
    users
        .iter()
        .filter(|user| user.name == name)
        .find_map(|user| Some((user, user.key_of(password)?)))
        .ok_or_else(|| {
            ServerError::new(
                Kind::AuthenticationFailed,
                format!("{name}: Authentication failed: password is incorrect, or there is no user with such name. Users are listed in [[users]] of the door's configuration"),
            )
        })
}

/// Settings a reader may send: the shape of answers, never limits or permissions.
pub fn reader_may_set(name: &str) -> bool {
    const PREFIXES: &[&str] = &["output_format_", "input_format_", "format_", "date_time_"];
    const NAMES: &[&str] = &[
        "session_timezone",
        "max_block_size",
        "extremes",
        "limit",
        "offset",
        "max_result_rows",
        "result_overflow_mode",
        "join_use_nulls",
        "use_uncompressed_cache",
        "log_queries",
        "http_wait_end_of_query",
        "cancel_http_readonly_queries_on_client_close",
        "final",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<User> {
        vec![
            User {
                name: "default".into(),
                role: Role::Writer,
                ..User::default()
            },
            User {
                name: "ann".into(),
                password: "pässword".into(),
                ..User::default()
            },
            User {
                name: "bob".into(),
                password_sha256: hex::encode(Sha256::digest(b"b")),
                keys: vec![Key {
                    name: "notebook".into(),
                    sha256: hex::encode(Sha256::digest(b"k")),
                }],
                ..User::default()
            },
        ]
    }

    fn given(user: &str, password: &str) -> Credentials {
        Credentials {
            user: Some(user.into()),
            password: Some(password.into()),
        }
    }

    #[test]
    fn admits_and_refuses() {
        let users = users();
        assert_eq!(
            authenticate(&users, &Credentials::default())
                .unwrap()
                .0
                .name,
            "default"
        );
        assert_eq!(
            authenticate(&users, &given("ann", "pässword"))
                .unwrap()
                .0
                .name,
            "ann"
        );
        assert_eq!(
            authenticate(&users, &given("bob", "b")).unwrap().0.name,
            "bob"
        );
        let (user, key) = authenticate(&users, &given("bob", "k")).unwrap();
        assert_eq!((user.name.as_str(), key), ("bob", "notebook"));
        for (user, password) in [
            ("ann", ""),
            ("ann", "x"),
            ("default", "x"),
            ("nobody", ""),
            ("bob", ""),
        ] {
            let error = authenticate(&users, &given(user, password)).unwrap_err();
            assert_eq!(error.code, 516, "{user}");
        }
    }

    #[test]
    fn reads_authorization() {
        let basic = format!("Basic {}", STANDARD.encode("ann:p:w"));
        assert_eq!(
            Credentials::of_authorization(&basic),
            Some(given("ann", "p:w"))
        );
        assert_eq!(
            Credentials::of_authorization("Bearer ann:x"),
            Some(given("ann", "x"))
        );
        assert_eq!(Credentials::of_authorization("Basic !!!"), None);
    }
}
