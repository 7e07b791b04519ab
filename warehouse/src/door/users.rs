//! Who may do what at the door. The embedded engine has no users of its own, so all of it is decided here. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    error::{Kind, ServerError},
    statement,
};

/// What a user is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, within the limits of `[limits.reader]`, and no table function that leaves the engine.
    #[default]
    Reader,
    /// Everything but files of the door's machine and other machines.
    Writer,
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
    pub role: Role,
}

impl User {
    pub fn has_password(&self) -> bool {
        !self.password.is_empty() || !self.password_sha256.is_empty()
    }

    fn admits(&self, password: &str) -> bool {
        if !self.has_password() {
            return password.is_empty();
        }
        let given: [u8; 32] = Sha256::digest(password.as_bytes()).into();
        let expected = if self.password_sha256.is_empty() {
            Sha256::digest(self.password.as_bytes()).to_vec()
        } else {
            hex::decode(&self.password_sha256).unwrap_or_default()
        };
        given.as_slice().ct_eq(expected.as_slice()).into()
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

/// Finds the user, or says no without telling whether the name or the password was wrong.
pub fn authenticate<'u>(users: &'u [User], given: &Credentials) -> Result<&'u User, ServerError> {
    let name = given
        .user
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let password = given.password.as_deref().unwrap_or_default();
    users.iter().find(|user| user.name == name && user.admits(password)).ok_or_else(|| {
        ServerError::new(
            Kind::AuthenticationFailed,
            format!("{name}: Authentication failed: password is incorrect, or there is no user with such name. Users are listed in [[users]] of the door's configuration"),
        )
    })
}

/// Functions that read files, call programs or open connections. Refused to everyone: the door's users are not the
/// users of the machine it runs on.
const LEAVES_THE_ENGINE: &[&str] = &[
    "file",
    "filecluster",
    "url",
    "urlcluster",
    "s3",
    "s3cluster",
    "s3queue",
    "gcs",
    "oss",
    "cosn",
    "remote",
    "remotesecure",
    "cluster",
    "clusterallreplicas",
    "executable",
    "executablepool",
    "mysql",
    "postgresql",
    "mongodb",
    "redis",
    "sqlite",
    "odbc",
    "jdbc",
    "hdfs",
    "hdfscluster",
    "azureblobstorage",
    "azureblobstoragecluster",
    "iceberg",
    "icebergs3",
    "icebergazure",
    "iceberghdfs",
    "iceberglocal",
    "icebergcluster",
    "icebergs3cluster",
    "icebergazurecluster",
    "iceberghdfscluster",
    "deltalake",
    "deltalakes3",
    "deltalakeazure",
    "deltalakelocal",
    "deltalakecluster",
    "deltalakes3cluster",
    "deltalakeazurecluster",
    "hudi",
    "hudicluster",
    "paimon",
    "paimons3",
    "paimonazure",
    "paimonhdfs",
    "paimonlocal",
    "paimoncluster",
    "paimons3cluster",
    "paimonazurecluster",
    "paimonhdfscluster",
    "ytsaurus",
    "hive",
    "python",
    "arrowstream",
    "arrowflight",
    "prometheusquery",
    "prometheusqueryrange",
    "prometheus_query",
    "prometheus_query_range",
    "timeseriesdata",
    "catboostevaluate",
    "aiembed",
    "aigenerate",
    "ai_generate",
    "natsqueue",
    "kafka",
    "rabbitmq",
    "embeddedrocksdb",
    "sys_exec",
    "load_file",
];

/// Refuses what a statement may not do here. `role` decides about writing through the engine's own `readonly` besides.
pub fn permit(text: &[u8], role: Role) -> Result<(), ServerError> {
    if statement::touches_files(text) {
        return Err(ServerError::new(
            Kind::OutfileNotAllowed,
            "INTO OUTFILE and FROM INFILE are not allowed: they name files of the door's machine. Send rows in the request's body, or save the answer",
        ));
    }
    // An engine clause is spelled like a call too, so tables on foreign engines are refused by the same list.
    if let Some(name) = statement::calls(text, |name| LEAVES_THE_ENGINE.contains(&name)) {
        return Err(ServerError::new(
            Kind::AccessDenied,
            format!(
                "Not enough privileges: function or engine {name} reaches outside the warehouse and is refused"
            ),
        ));
    }
    let word = statement::first_word(text);
    if role == Role::Reader
        && matches!(
            word.as_str(),
            "KILL" | "SYSTEM" | "BACKUP" | "RESTORE" | "ATTACH" | "SET"
        )
    {
        return Err(ServerError::new(
            Kind::Readonly,
            format!("Cannot execute query in readonly mode: {word}"),
        ));
    }
    if matches!(word.as_str(), "BACKUP" | "RESTORE") {
        return Err(ServerError::new(
            Kind::AccessDenied,
            format!("{word} is not offered over HTTP; stop the door and copy data_dir"),
        ));
    }
    Ok(())
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
        "cancel_http_readonly_queries_on_close",
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
            authenticate(&users, &Credentials::default()).unwrap().name,
            "default"
        );
        assert_eq!(
            authenticate(&users, &given("ann", "pässword"))
                .unwrap()
                .name,
            "ann"
        );
        assert_eq!(
            authenticate(&users, &given("bob", "b")).unwrap().name,
            "bob"
        );
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

    #[test]
    fn nothing_leaves_the_engine() {
        for text in [
            "SELECT * FROM file('/etc/passwd')",
            "SELECT * FROM `URL`('http://x')",
            "SELECT file('/etc/hostname')",
            "INSERT INTO FUNCTION s3('x') SELECT 1",
            "CREATE TABLE t (a Int8) ENGINE = MySQL('a','b','c','d','e')",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
        ] {
            assert!(permit(text.as_bytes(), Role::Writer).is_err(), "{text}");
        }
        for text in [
            "SELECT file FROM t",
            "SELECT * FROM numbers(3)",
            "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a",
        ] {
            assert!(permit(text.as_bytes(), Role::Writer).is_ok(), "{text}");
        }
        assert!(permit(b"KILL QUERY WHERE 1", Role::Reader).is_err());
    }
}
