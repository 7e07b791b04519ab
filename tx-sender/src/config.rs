//! The sender's knobs, with their arithmetic.

use std::net::SocketAddr;

use event_log::KafkaConfig;
use event_schema::Topics;
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

/// Where a sender without stored positions begins to read the canonical stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamStart {
    /// All that the topic still holds: every blockhash and landing of before is known.
    Earliest,
    /// What comes from now on; what only older blocks could prove, the validator is asked for.
    #[default]
    Latest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: String,
    pub database_url: String,
    /// Of each 8, about one serves the engine; the rest accept in parallel and share the disk's flushes.
    pub database_connections: u32,
    pub rpc_url: String,
    pub topic_prefix: String,
    pub stream_start: StreamStart,
    pub kafka: KafkaConfig,
    pub quic: QuicConfig,
    pub leaders: LeadersConfig,
    /// 100 000 open transactions of 4096 bytes are 400 MB.
    pub open_transactions_max: usize,
}

/// Connections to leaders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuicConfig {
    pub bind: SocketAddr,
    pub identity_keypair: String,
    /// Half a leader's window at 200 ms a slot, so that a repeat still meets the same leader; several round trips of any
    /// place on earth.
    pub ack_timeout_ms: u64,
    pub queue_depth: usize,
}

/// Whom to send to, and how fresh that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeadersConfig {
    pub fanout: usize,
    pub warm: usize,
    /// A quarter of a leader's window at 200 ms a slot.
    pub slot_poll_ms: u64,
    pub schedule_refresh_ms: u64,
    /// Five slots of 400 ms: a pause in the slots, not a slow one.
    pub fallback_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8930".into(),
            database_url: "postgres://postgres@127.0.0.1:5433/heliograph".into(),
            database_connections: 8,
            rpc_url: "http://127.0.0.1:8899".into(),
            topic_prefix: Topics::DEFAULT_PREFIX.into(),
            stream_start: StreamStart::default(),
            kafka: KafkaConfig::default(),
            quic: QuicConfig::default(),
            leaders: LeadersConfig::default(),
            open_transactions_max: 100_000,
        }
    }
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], 0)),
            identity_keypair: String::new(),
            ack_timeout_ms: 400,
            queue_depth: 1024,
        }
    }
}

impl Default for LeadersConfig {
    fn default() -> Self {
        Self {
            fanout: 2,
            warm: 4,
            slot_poll_ms: 200,
            schedule_refresh_ms: 5_000,
            fallback_ms: 2_000,
        }
    }
}

/// What each key means, for `--print-config`.
pub const DOCS: &[(&str, &str)] = &[
    (
        "database_connections",
        "PostgreSQL connections, at least 2.",
    ),
    (
        "stream_start",
        "Without a stored position read the canonical stream from \"latest\" or \"earliest\".",
    ),
    (
        "open_transactions_max",
        "Transactions that may be open at once; further ones are answered with error -32005.",
    ),
    ("quic", "Connections to leaders."),
    ("quic.bind", "UDP address the connections leave from."),
    (
        "quic.identity_keypair",
        "Keypair file (solana-keygen format) whose stake leaders see; empty for a new key at each start.",
    ),
    (
        "quic.ack_timeout_ms",
        "An attempt not acknowledged by then is sent again, milliseconds.",
    ),
    (
        "quic.queue_depth",
        "Transactions that may wait per leader; further ones wait for the next leader's window.",
    ),
    ("leaders", "Whom to send to."),
    (
        "leaders.fanout",
        "Leaders each transaction is sent to per window: the current one and those after it.",
    ),
    (
        "leaders.warm",
        "Leaders ahead that a connection is kept to.",
    ),
    (
        "leaders.slot_poll_ms",
        "Time between two getSlot calls, milliseconds.",
    ),
    (
        "leaders.schedule_refresh_ms",
        "Time between two fetches of the schedule and the addresses, milliseconds.",
    ),
    (
        "leaders.fallback_ms",
        "Without a new slot for this long, send again to the last known leaders, milliseconds.",
    ),
];

impl Config {
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong =
            |field: &str, problem: String, fix: &str| Err(ConfigError::new(field, problem, fix));
        if !self.rpc_url.starts_with("http://") && !self.rpc_url.starts_with("https://") {
            let problem = format!("\"{}\" is not an HTTP address", self.rpc_url);
            return wrong(
                "rpc_url",
                problem,
                "Write http://host:port of a validator's JSON-RPC",
            );
        }
        if !self.database_url.starts_with("postgres://")
            && !self.database_url.starts_with("postgresql://")
        {
            let problem = format!("\"{}\" is not a PostgreSQL address", self.database_url);
            return wrong(
                "database_url",
                problem,
                "Write postgres://user@host:port/database",
            );
        }
        if self.topic_prefix.is_empty() {
            return wrong(
                "topic_prefix",
                "is empty".into(),
                "Write the prefix that the router uses, by default \"heliograph\"",
            );
        }
        if let Err(error) = self.kafka.check() {
            return wrong("kafka", error.to_string(), "Correct the [kafka] table");
        }
        let at_least: [(&str, u64, u64); 9] = [
            ("database_connections", self.database_connections.into(), 2),
            (
                "open_transactions_max",
                self.open_transactions_max as u64,
                1,
            ),
            ("quic.ack_timeout_ms", self.quic.ack_timeout_ms, 10),
            ("quic.queue_depth", self.quic.queue_depth as u64, 1),
            ("leaders.fanout", self.leaders.fanout as u64, 1),
            ("leaders.warm", self.leaders.warm as u64, 1),
            ("leaders.slot_poll_ms", self.leaders.slot_poll_ms, 10),
            (
                "leaders.schedule_refresh_ms",
                self.leaders.schedule_refresh_ms,
                100,
            ),
            ("leaders.fallback_ms", self.leaders.fallback_ms, 100),
        ];
        for (field, value, least) in at_least {
            if value < least {
                return wrong(
                    field,
                    format!("{value} is too small"),
                    &format!("Write {least} or more"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_fine() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn each_refusal_names_the_key() {
        let broken: [(&str, fn(&mut Config)); 5] = [
            ("rpc_url", |c| c.rpc_url = "localhost:8899".into()),
            ("database_url", |c| c.database_url = "mysql://x".into()),
            ("topic_prefix", |c| c.topic_prefix.clear()),
            ("leaders.fanout", |c| c.leaders.fanout = 0),
            ("quic.ack_timeout_ms", |c| c.quic.ack_timeout_ms = 0),
        ];
        for (field, spoil) in broken {
            let mut config = Config::default();
            spoil(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }
}
