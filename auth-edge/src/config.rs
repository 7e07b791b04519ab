//! The edge's knobs.

use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: String,
    pub public_origin: String,
    pub rp_id: String,
    pub database_url: String,
    pub database_connections_max: u32,
    pub rpc_url: String,
    pub sender_url: String,
    pub ledger_url: String,
    pub policy_file: String,
    pub client_address_header: String,
    pub custody: CustodyConfig,
    pub session: SessionConfig,
    pub limits: LimitsConfig,
    pub faucet: FaucetConfig,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CustodyConfig {
    pub key_file: String,
    pub create: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    pub idle_seconds: u32,
    pub absolute_seconds: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub daily_lamports: u64,
    pub approval_seconds: u32,
    pub ceremony_seconds: u32,
    pub client_requests_per_minute: u32,
    pub account_sends_per_minute: u32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaucetConfig {
    pub lamports: u64,
}

/// What each key means, for `--print-config`.
pub const DOCS: &[(&str, &str)] = &[
    (
        "listen",
        "where the page and the API are served, plain HTTP; put TLS in front of it",
    ),
    (
        "public_origin",
        "the address in the user's browser, without a path; passkeys are bound to it",
    ),
    (
        "rp_id",
        "the passkeys' domain; empty: the host of public_origin",
    ),
    (
        "database_connections_max",
        "size of the PostgreSQL connection pool",
    ),
    ("sender_url", "JSON-RPC of tx-sender"),
    (
        "ledger_url",
        "where the page's links to ledger entries point",
    ),
    (
        "policy_file",
        "Cedar policies; empty: the built-in ones (auth-edge/src/policy/default.cedar)",
    ),
    (
        "client_address_header",
        "header in which a trusted proxy names the client, for rate limits; empty: the TCP peer",
    ),
    (
        "custody.key_file",
        "the master secret of all wallets, readable by its owner only; back it up",
    ),
    (
        "custody.create",
        "make a new master secret when the file is absent; for a local network",
    ),
    (
        "session.idle_seconds",
        "a session ends this long after its last request",
    ),
    (
        "session.absolute_seconds",
        "a session ends this long after the login, whatever happens",
    ),
    (
        "limits.daily_lamports",
        "what one user may send in any 24 hours, fees included",
    ),
    (
        "limits.approval_seconds",
        "how long a transaction waits for its passkey; its blockhash lives about 60 s",
    ),
    (
        "limits.ceremony_seconds",
        "how long a registration or login waits for its passkey",
    ),
    (
        "limits.client_requests_per_minute",
        "POST requests per client address",
    ),
    ("limits.account_sends_per_minute", "new sends per account"),
    (
        "faucet.lamports",
        "offer a button that asks the RPC node's faucet for this much; 0: none, as on a real network",
    ),
];

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8940".into(),
            public_origin: "http://localhost:8940".into(),
            rp_id: String::new(),
            database_url: "postgres://postgres@127.0.0.1:5433/heliograph".into(),
            database_connections_max: 8,
            rpc_url: "http://127.0.0.1:8899".into(),
            sender_url: "http://127.0.0.1:8930".into(),
            ledger_url: "http://127.0.0.1:8920".into(),
            policy_file: String::new(),
            client_address_header: String::new(),
            custody: CustodyConfig::default(),
            session: SessionConfig::default(),
            limits: LimitsConfig::default(),
            faucet: FaucetConfig::default(),
        }
    }
}

impl Default for CustodyConfig {
    fn default() -> Self {
        Self {
            key_file: "custody.key".into(),
            create: false,
        }
    }
}

impl Default for SessionConfig {
    /// The figures of NIST SP 800-63B for two-factor sessions, the stricter ones where revisions differ.
    fn default() -> Self {
        Self {
            idle_seconds: 15 * 60,
            absolute_seconds: 12 * 3600,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            daily_lamports: 20_000_000_000,
            approval_seconds: 45,
            ceremony_seconds: 300,
            client_requests_per_minute: 120,
            account_sends_per_minute: 30,
        }
    }
}

impl LimitsConfig {
    /// The limits that an approval is given under, as text that is hashed into the policy version.
    pub fn canonical(&self) -> String {
        format!("daily_lamports={}", self.daily_lamports)
    }
}

impl Config {
    /// The passkeys' domain.
    pub fn relying_party(&self) -> String {
        match self.rp_id.as_str() {
            "" => reqwest::Url::parse(&self.public_origin)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned))
                .unwrap_or_default(),
            id => id.to_owned(),
        }
    }

    pub fn is_https(&self) -> bool {
        self.public_origin.starts_with("https://")
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_origin()?;
        for (field, url, schemes) in [
            (
                "database_url",
                &self.database_url,
                &["postgres", "postgresql"][..],
            ),
            ("rpc_url", &self.rpc_url, &["http", "https"]),
            ("sender_url", &self.sender_url, &["http", "https"]),
            ("ledger_url", &self.ledger_url, &["http", "https"]),
        ] {
            let scheme = reqwest::Url::parse(url).map(|url| url.scheme().to_owned());
            if !scheme.is_ok_and(|scheme| schemes.contains(&scheme.as_str())) {
                return Err(ConfigError::new(
                    field,
                    format!("{url:?} is not an address"),
                    format!("Write {}://host:port", schemes[0]),
                ));
            }
        }
        if let Err(error) = Policy::load(&self.policy_file, &self.limits.canonical()) {
            return Err(ConfigError::new(
                "policy_file",
                error.to_string(),
                "Correct the file, or leave the key empty for the built-in policies",
            ));
        }
        if self.custody.key_file.is_empty() {
            return Err(ConfigError::new(
                "custody.key_file",
                "it is empty",
                "Name the file with the master secret",
            ));
        }
        let positive = [
            (
                "database_connections_max",
                u64::from(self.database_connections_max),
            ),
            ("session.idle_seconds", u64::from(self.session.idle_seconds)),
            (
                "session.absolute_seconds",
                u64::from(self.session.absolute_seconds),
            ),
            ("limits.daily_lamports", self.limits.daily_lamports),
            (
                "limits.approval_seconds",
                u64::from(self.limits.approval_seconds),
            ),
            (
                "limits.ceremony_seconds",
                u64::from(self.limits.ceremony_seconds),
            ),
            (
                "limits.client_requests_per_minute",
                u64::from(self.limits.client_requests_per_minute),
            ),
            (
                "limits.account_sends_per_minute",
                u64::from(self.limits.account_sends_per_minute),
            ),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(ConfigError::new(field, "it is 0", "Write at least 1"));
            }
        }
        if self.limits.daily_lamports > i64::MAX as u64 {
            return Err(ConfigError::new(
                "limits.daily_lamports",
                "it is above 9223372036854775807",
                "Write a smaller limit",
            ));
        }
        Ok(())
    }

    fn check_origin(&self) -> Result<(), ConfigError> {
        let refuse = |problem: &str| {
            Err(ConfigError::new(
                "public_origin",
                problem,
                "Write it as browsers do, such as https://pay.example",
            ))
        };
        let Ok(url) = reqwest::Url::parse(&self.public_origin) else {
            return refuse("it is not an address");
        };
        if url.origin().ascii_serialization() != self.public_origin {
            return refuse(
                "it is not a plain origin: scheme, host and port only, no path, no default port",
            );
        }
        let host = url.host_str().unwrap_or_default();
        if url.scheme() != "https" && host != "localhost" {
            return refuse("browsers offer passkeys on https, or on http://localhost, only");
        }
        let rp_id = self.relying_party();
        if host != rp_id && !host.ends_with(&format!(".{rp_id}")) {
            return Err(ConfigError::new(
                "rp_id",
                format!("{rp_id:?} is not the host of public_origin or a parent of it"),
                "Leave it empty",
            ));
        }
        if rp_id.parse::<std::net::IpAddr>().is_ok() {
            return refuse("passkeys need a host name, not an IP address");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config.check().err().map(|error| error.field)
    }

    #[test]
    fn the_default_works_and_nonsense_names_its_key() {
        assert_eq!(problem(|_| {}), None);
        assert_eq!(
            problem(|c| c.public_origin = "https://pay.example".into()),
            None
        );
        for origin in [
            "",
            "localhost:8940",
            "http://pay.example",
            "https://pay.example/",
            "https://pay.example:443",
            "https://10.0.0.1",
        ] {
            assert_eq!(
                problem(|c| c.public_origin = origin.into()).as_deref(),
                Some("public_origin"),
                "{origin}"
            );
        }
        assert_eq!(
            problem(|c| c.rp_id = "example.org".into()).as_deref(),
            Some("rp_id")
        );
        assert_eq!(
            problem(|c| c.rpc_url = "ftp://x".into()).as_deref(),
            Some("rpc_url")
        );
        assert_eq!(
            problem(|c| c.database_url = "mysql://x".into()).as_deref(),
            Some("database_url")
        );
        assert_eq!(
            problem(|c| c.limits.daily_lamports = 0).as_deref(),
            Some("limits.daily_lamports")
        );
        assert_eq!(
            problem(|c| c.limits.daily_lamports = u64::MAX).as_deref(),
            Some("limits.daily_lamports")
        );
        assert_eq!(
            problem(|c| c.session.idle_seconds = 0).as_deref(),
            Some("session.idle_seconds")
        );
    }

    #[test]
    fn a_parent_domain_can_own_the_passkeys() {
        assert_eq!(
            problem(|c| {
                c.public_origin = "https://pay.example.org".into();
                c.rp_id = "example.org".into();
            }),
            None
        );
        assert_eq!(
            problem(|c| {
                c.public_origin = "https://badexample.org".into();
                c.rp_id = "example.org".into();
            })
            .as_deref(),
            Some("rp_id")
        );
    }
}
