//! The sink's configuration, with its defaults and their arithmetic.

use event_log::KafkaConfig;
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkConfig {
    pub kafka: KafkaConfig,
    /// Topics are `PREFIX.canonical` and `PREFIX.dead-letters`.
    pub topic_prefix: String,
    /// `http://host:port` of the door or of a ClickHouse server.
    pub clickhouse_url: String,
    pub clickhouse_database: String,
    pub clickhouse_user: String,
    pub clickhouse_password: String,
    pub migrations: Migrations,
    /// Batches are begun at most this often, in milliseconds; so long may a row wait for others. A slot takes 200–400 ms: a
    /// quarter second stores most blocks by themselves, at once, and keeps inserts at four batches a second.
    pub flush_ms: u64,
    /// A batch with this many transactions does not wait. About 20,000 transactions make half a million rows, 100 MB.
    pub batch_transactions: usize,
    /// Records taken from the log at a time.
    pub poll_records: usize,
    /// Folder of IDLs for programs without a decoder; empty for none.
    pub idl_folder: std::path::PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Migrations {
    /// Bring the schema up to date at the start.
    Apply,
    /// Print the statements that are still to run, and end.
    Print,
    /// Refuse to start unless the schema is up to date.
    Check,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            kafka: KafkaConfig::default(),
            topic_prefix: event_schema::Topics::DEFAULT_PREFIX.into(),
            clickhouse_url: "http://127.0.0.1:8123".into(),
            clickhouse_database: "heliograph".into(),
            clickhouse_user: String::new(),
            clickhouse_password: String::new(),
            migrations: Migrations::Apply,
            flush_ms: 250,
            batch_transactions: 20_000,
            poll_records: 5_000,
            idl_folder: std::path::PathBuf::new(),
        }
    }
}

impl SinkConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.clickhouse_url.starts_with("http://") {
            return Err(ConfigError::new(
                "clickhouse_url",
                format!("{:?} is not an http:// address", self.clickhouse_url),
                "Write http://host:8123",
            ));
        }
        let plain = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !plain(&self.clickhouse_database) {
            return Err(ConfigError::new(
                "clickhouse_database",
                format!("{:?} is not a plain name", self.clickhouse_database),
                "Use letters, digits and _",
            ));
        }
        if self.topic_prefix.is_empty() {
            return Err(ConfigError::new(
                "topic_prefix",
                "it is empty",
                "Write the prefix the router uses, heliograph by default",
            ));
        }
        if self.flush_ms == 0 || self.flush_ms > 60_000 {
            return Err(ConfigError::new(
                "flush_ms",
                format!("{} ms", self.flush_ms),
                "Set it between 1 and 60000",
            ));
        }
        if self.batch_transactions == 0 || self.poll_records == 0 {
            return Err(ConfigError::new(
                "batch_transactions, poll_records",
                "nothing could ever be taken",
                "Set both to 1 or more",
            ));
        }
        self.kafka
            .check()
            .map_err(|error| ConfigError::new("kafka", error.to_string(), "Correct that option"))
    }
}
