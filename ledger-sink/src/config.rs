//! The ledger's knobs.

use event_log::KafkaConfig;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub topic_prefix: String,
    pub database_url: String,
    /// Address of the HTTP API.
    pub listen: String,
    /// At most this many records per database transaction. 20,000 records are a handful of mainnet blocks and commit in
    /// well under a second.
    pub batch_records_max: usize,
    /// How long to wait for records before looking at the clock, in milliseconds.
    pub poll_wait_ms: u64,
    /// Blocks held per partition until they are confirmed; beyond it the oldest are read again when their turn comes.
    pub held_blocks_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: KafkaConfig::default(),
            topic_prefix: "heliograph".into(),
            database_url: "postgres://postgres@127.0.0.1:5433/heliograph".into(),
            listen: "127.0.0.1:8920".into(),
            batch_records_max: 20_000,
            poll_wait_ms: 100,
            held_blocks_max: 256,
        }
    }
}
