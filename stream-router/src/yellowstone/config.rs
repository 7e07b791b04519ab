//! The Yellowstone door's knobs: table `[grpc]`.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use service_host::ConfigError;

use super::{engine, filter::FilterLimits, outbox::OutboxLimits};

/// The name of those who come without a token, in metrics and on the admin page.
pub const ANONYMOUS: &str = "anonymous";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    pub enabled: bool,
    /// Where Yellowstone clients connect.
    pub listen: SocketAddr,
    /// PEM file of the certificate chain. Together with `tls_key`, connections are TLS; without, plain HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Connections served at a time. Those beyond are told so and closed.
    pub connections_max: usize,
    /// Streams and calls at a time on one connection (HTTP/2 concurrent streams).
    pub streams_per_connection_max: u32,
    /// Longest message accepted, bytes, before and after decompression. 16 MiB holds 300,000 public keys in base58.
    pub request_bytes_max: usize,
    /// Longest list of headers accepted, bytes.
    pub header_bytes_max: u32,
    /// A connection without a call, and a `Subscribe` without a message, is closed after this long.
    pub first_request_seconds: u64,
    /// HTTP/2 ping after this long; no answer within `keepalive_timeout_seconds` closes the connection.
    pub keepalive_seconds: u64,
    pub keepalive_timeout_seconds: u64,
    /// A `ping` update after this long without another update.
    pub ping_seconds: u64,
    /// Accept compressed requests and compress for clients that ask for it.
    pub gzip: bool,
    pub zstd: bool,
    /// Updates not yet handed to the network, per subscriber.
    pub queue_bytes: usize,
    pub queue_frames: usize,
    /// What becomes of a subscriber whose queue is full.
    pub when_slow: WhenSlow,
    /// A subscriber that takes nothing of what waits for it is let go after this long, and its queue freed. More than the
    /// longest pause a healthy client makes.
    pub stalled_seconds_max: u64,
    /// Those who come without a token.
    pub anonymous: AnonymousConfig,
    /// What filters may ask for.
    pub filters: FilterLimits,
    /// Static keys, sent as metadata `x-token`. They hold for WebSocket, too: see `websocket.x_tokens`.
    pub x_tokens: Vec<XToken>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 10_000)),
            tls_cert: None,
            tls_key: None,
            connections_max: 2_000,
            streams_per_connection_max: 256,
            request_bytes_max: 16 << 20,
            header_bytes_max: 16 << 10,
            first_request_seconds: 30,
            keepalive_seconds: 30,
            keepalive_timeout_seconds: 20,
            ping_seconds: 10,
            gzip: true,
            zstd: true,
            queue_bytes: 32 << 20,
            queue_frames: 65_536,
            when_slow: WhenSlow::default(),
            stalled_seconds_max: 900,
            anonymous: AnonymousConfig::default(),
            filters: FilterLimits::default(),
            x_tokens: Vec::new(),
        }
    }
}

/// The policy for subscribers that read too slowly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenSlow {
    /// It is fed from the log at its own pace, until it has caught up.
    #[default]
    CatchUp,
    /// Its stream ends with `DATA_LOSS`; it may come back with the cursor of its last update.
    Disconnect,
}

impl From<WhenSlow> for engine::WhenSlow {
    fn from(policy: WhenSlow) -> Self {
        match policy {
            WhenSlow::CatchUp => Self::CatchUp,
            WhenSlow::Disconnect => Self::Disconnect,
        }
    }
}

/// Limits of one key. 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct KeyLimits {
    /// `Subscribe` streams and WebSocket connections open at a time.
    pub connections_max: usize,
    /// Filters of one stream, subscriptions of one WebSocket connection.
    pub filters_max: usize,
    /// Keys named one by one in those filters or subscriptions.
    pub accounts_max: usize,
    /// Bytes sent per second, before compression, all streams and connections of the key together.
    pub bytes_per_second: u64,
}

/// One who comes with a token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XToken {
    /// Shown in metrics and on the admin page: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// SHA-256 of the token, in hex: `printf %s TOKEN | sha256sum`. The token itself is nowhere kept.
    pub sha256: String,
    /// `Subscribe` streams and WebSocket connections open at a time; 0: no limit.
    pub connections_max: usize,
    /// Filters of one stream, subscriptions of one WebSocket connection; 0: no limit.
    pub filters_max: usize,
    /// Keys named one by one in those filters or subscriptions; 0: no limit.
    pub accounts_max: usize,
    /// Bytes sent per second, before compression, all streams and connections of the key together; 0: no limit.
    pub bytes_per_second: u64,
}

impl XToken {
    pub fn limits(&self) -> KeyLimits {
        KeyLimits {
            connections_max: self.connections_max,
            filters_max: self.filters_max,
            accounts_max: self.accounts_max,
            bytes_per_second: self.bytes_per_second,
        }
    }

    /// `None`: not 64 hex digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut digest).ok()?;
        Some(digest)
    }
}

/// Those who come without a token, all together as one key.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnonymousConfig {
    pub allowed: bool,
    /// As in `x_tokens`; 0: no limit.
    pub connections_max: usize,
    pub filters_max: usize,
    pub accounts_max: usize,
    pub bytes_per_second: u64,
}

impl Default for AnonymousConfig {
    fn default() -> Self {
        Self {
            allowed: true,
            connections_max: 0,
            filters_max: 0,
            accounts_max: 0,
            bytes_per_second: 0,
        }
    }
}

impl AnonymousConfig {
    pub fn limits(&self) -> KeyLimits {
        KeyLimits {
            connections_max: self.connections_max,
            filters_max: self.filters_max,
            accounts_max: self.accounts_max,
            bytes_per_second: self.bytes_per_second,
        }
    }
}

impl GrpcConfig {
    /// Per subscriber.
    pub fn outbox(&self) -> OutboxLimits {
        OutboxLimits {
            bytes_max: self.queue_bytes,
            frames_max: self.queue_frames,
        }
    }

    /// Names the field within `grpc` and the fix.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let missing = if self.tls_cert.is_some() {
                "tls_key"
            } else {
                "tls_cert"
            };
            return refuse(
                missing,
                "is missing",
                "give both tls_cert and tls_key, or neither",
            );
        }
        for (field, value) in [
            ("connections_max", self.connections_max),
            (
                "streams_per_connection_max",
                self.streams_per_connection_max as usize,
            ),
            ("queue_bytes", self.queue_bytes),
            ("queue_frames", self.queue_frames),
        ] {
            if value == 0 {
                return refuse(field, "is 0", "write a positive number");
            }
        }
        if !(1_024..=1 << 30).contains(&self.request_bytes_max) {
            let fix = "write bytes; 16777216 holds 300,000 keys";
            return refuse(
                "request_bytes_max",
                "is not between 1024 and 1073741824",
                fix,
            );
        }
        if !(1_024..=1 << 20).contains(&self.header_bytes_max) {
            let fix = "write bytes; 16384 is ample";
            return refuse("header_bytes_max", "is not between 1024 and 1048576", fix);
        }
        for (field, seconds) in [
            ("first_request_seconds", self.first_request_seconds),
            ("keepalive_seconds", self.keepalive_seconds),
            ("keepalive_timeout_seconds", self.keepalive_timeout_seconds),
            ("ping_seconds", self.ping_seconds),
            ("stalled_seconds_max", self.stalled_seconds_max),
        ] {
            if !(1..=86_400).contains(&seconds) {
                return refuse(field, "is not between 1 and 86400", "write seconds");
            }
        }
        self.check_keys()
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::from([ANONYMOUS]);
        let mut digests = HashSet::new();
        for (at, token) in self.x_tokens.iter().enumerate() {
            let field = |name: &str| format!("x_tokens[{at}].{name}");
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=64).contains(&token.name.len()) || !token.name.bytes().all(letters) {
                let fix = "write 1 to 64 letters, digits, `-`, `_` or `.`";
                return refuse(&field("name"), "is not a name", fix);
            }
            if !names.insert(&token.name) {
                return refuse(
                    &field("name"),
                    "is taken",
                    "give every key a name of its own",
                );
            }
            let Some(digest) = token.digest() else {
                let fix = "write the output of `printf %s TOKEN | sha256sum`";
                return refuse(&field("sha256"), "is not 64 hex digits", fix);
            };
            if !digests.insert(digest) {
                return refuse(
                    &field("sha256"),
                    "is there twice",
                    "give every key a token of its own",
                );
            }
        }
        if !self.anonymous.allowed && self.x_tokens.is_empty() {
            let fix = "add x_tokens, or allow anonymous";
            return refuse(
                "anonymous.allowed",
                "is false while there are no x_tokens: nobody could come in",
                fix,
            );
        }
        Ok(())
    }
}

fn refuse(field: &str, problem: &str, fix: &str) -> Result<(), ConfigError> {
    Err(ConfigError {
        field: format!("grpc.{field}"),
        problem: problem.to_owned(),
        fix: fix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut GrpcConfig)) -> String {
        let mut config = GrpcConfig::default();
        change(&mut config);
        config.check().unwrap_err().field
    }

    fn token(name: &str, digit: char) -> XToken {
        XToken {
            name: name.into(),
            sha256: digit.to_string().repeat(64),
            ..XToken::default()
        }
    }

    #[test]
    fn the_defaults_are_good() {
        GrpcConfig::default().check().unwrap();
    }

    #[test]
    fn a_bad_value_is_named() {
        assert_eq!(
            refused(|c| c.tls_cert = Some("c.pem".into())),
            "grpc.tls_key"
        );
        assert_eq!(refused(|c| c.queue_frames = 0), "grpc.queue_frames");
        assert_eq!(refused(|c| c.ping_seconds = 0), "grpc.ping_seconds");
        assert_eq!(
            refused(|c| c.request_bytes_max = 1),
            "grpc.request_bytes_max"
        );
        assert_eq!(
            refused(|c| c.anonymous.allowed = false),
            "grpc.anonymous.allowed"
        );
        assert_eq!(
            refused(|c| c.x_tokens = vec![token("a b", 'a')]),
            "grpc.x_tokens[0].name"
        );
        assert_eq!(
            refused(|c| c.x_tokens = vec![token(ANONYMOUS, 'a')]),
            "grpc.x_tokens[0].name"
        );
        assert_eq!(
            refused(|c| c.x_tokens = vec![token("a", 'g')]),
            "grpc.x_tokens[0].sha256"
        );
        let twice = |c: &mut GrpcConfig| c.x_tokens = vec![token("a", 'a'), token("b", 'A')];
        assert_eq!(refused(twice), "grpc.x_tokens[1].sha256");
    }

    #[test]
    fn a_file_says_it_like_this() {
        let text = serde_json::json!({
            "when_slow": "disconnect",
            "anonymous": { "allowed": false },
            "x_tokens": [{ "name": "desk", "sha256": "0f".repeat(32), "bytes_per_second": 5 }],
        });
        let config: GrpcConfig = serde_json::from_value(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.when_slow, WhenSlow::Disconnect);
        assert_eq!(config.x_tokens[0].digest(), Some([0x0f; 32]));
        assert_eq!(config.x_tokens[0].limits().bytes_per_second, 5);
        serde_json::from_value::<GrpcConfig>(serde_json::json!({ "ping_secs": 1 })).unwrap_err();
    }
}
