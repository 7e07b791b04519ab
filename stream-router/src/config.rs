//! The router's knobs.

use std::net::SocketAddr;

use event_log::KafkaConfig;
use event_schema::Topics;
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

use crate::{
    account_state::AccountsTopicConfig, leadership::LeadershipConfig, publication::Settings,
    repair::RepairConfig, router::Limits, yellowstone::config::GrpcConfig,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where subscribers connect (WebSocket and HTTP).
    pub listen: SocketAddr,
    pub topic_prefix: String,
    /// Of the routers with the same id one publishes, and the others stand by. Empty: `PREFIX-router`.
    pub transactional_id: String,
    pub kafka: KafkaConfig,
    pub topics: TopicsConfig,
    pub limits: LimitsConfig,
    pub websocket: WebSocketConfig,
    pub grpc: GrpcConfig,
    pub repair: RepairConfig,
    pub leadership: LeadershipConfig,
    pub accounts_topic: AccountsTopicConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8910)),
            topic_prefix: Topics::DEFAULT_PREFIX.to_owned(),
            transactional_id: String::new(),
            kafka: KafkaConfig::default(),
            topics: TopicsConfig::default(),
            limits: LimitsConfig::default(),
            websocket: WebSocketConfig::default(),
            grpc: GrpcConfig::default(),
            repair: RepairConfig::default(),
            leadership: LeadershipConfig::default(),
            accounts_topic: AccountsTopicConfig::default(),
        }
    }
}

/// Partition counts, used when a topic is created and checked when it exists.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    pub accounts: u32,
    pub transactions: u32,
    pub slots: u32,
    pub canonical: u32,
    pub replication: i16,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            accounts: 4,
            transactions: 4,
            slots: 1,
            canonical: 4,
            replication: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// An incomplete slot without news for this long, in the log's time, becomes a gap. Longer than any source's spill
    /// takes to drain in normal operation.
    pub gap_after_ms: u64,
    /// A complete slot nobody reported as processed is published after this long.
    pub settle_ms: u64,
    /// An unsealed slot becomes a gap only this far below the root: 32 slots is the depth of a root in a healthy cluster.
    pub unsealed_slots: u64,
    /// Slots between two finalized blocks of which nothing was seen become a gap, if they are not more than this: an epoch is
    /// two days. After a longer hole coverage begins anew.
    pub gap_slots: u64,
    /// Published blocks remembered against copies. 432,000 is two days of 400 ms slots, about 65 MB.
    pub published_memory: usize,
    /// Records of incomplete slots held at most. A mainnet block is 10–50 MB here: room for 20 and more. From half of it
    /// on, a topic that is far ahead of the others is not read.
    pub open_mebibytes: usize,
    /// How far ahead of the others a topic is read while memory is tight.
    pub skew_ms: u64,
    /// Blocks that Yellowstone subscribers may be told again, from the log: about 350 bytes each. 50,000 are 5 hours.
    pub replay_blocks: usize,
    /// Memory for published blocks until they are finalized, for Yellowstone subscribers at confirmed and finalized. A block
    /// that finds no room is read from the log when it is due.
    pub recent_mebibytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            gap_after_ms: 10_000,
            settle_ms: 2_000,
            unsealed_slots: 32,
            gap_slots: 432_000,
            published_memory: 432_000,
            open_mebibytes: 1024,
            skew_ms: 2_000,
            replay_blocks: 50_000,
            recent_mebibytes: 512,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketConfig {
    /// The keys of `grpc.x_tokens`, their limits, and `grpc.anonymous` hold here, too. Otherwise everyone may come in.
    pub x_tokens: bool,
    /// Connections served at a time. Those beyond are told so and closed.
    pub connections_max: usize,
    /// A connection that has not sent its first request after this long is closed.
    pub first_request_seconds: u64,
    pub subscriptions_per_connection_max: usize,
    /// Subscriptions with a cursor; each may hold its share of `queue_bytes_max` besides the connection's queue.
    pub cursors_per_connection_max: usize,
    /// A request may have this many bytes. Agave allows 4,096; 50,000 addresses in one filter are 2.4 MB.
    pub request_bytes_max: usize,
    /// A subscriber whose unsent notifications exceed either bound is disconnected with the reason.
    pub queue_items_max: usize,
    pub queue_bytes_max: usize,
    /// A ping after this much silence; no answer within as much again ends the connection.
    pub ping_seconds: u64,
    /// Blocks kept for notifications at confirmed and finalized: a root is about 32 slots old.
    pub live_blocks_max: usize,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            x_tokens: true,
            connections_max: 2_000,
            first_request_seconds: 30,
            subscriptions_per_connection_max: 10_000,
            cursors_per_connection_max: 64,
            request_bytes_max: 4 << 20,
            queue_items_max: 65_536,
            queue_bytes_max: 32 << 20,
            ping_seconds: 20,
            live_blocks_max: 512,
        }
    }
}

impl Config {
    pub fn settings(&self) -> Settings {
        let limits = &self.limits;
        Settings {
            topics: Topics::new(&self.topic_prefix),
            partitions: self.topics,
            accounts_topic: self.accounts_topic,
            repaired_accounts_max: self.repair.accounts(),
            transactional_id: if self.transactional_id.is_empty() {
                format!("{}-router", self.topic_prefix)
            } else {
                self.transactional_id.clone()
            },
            limits: Limits {
                gap_after_ms: limits.gap_after_ms as i64,
                settle_ms: limits.settle_ms as i64,
                unsealed_slots: limits.unsealed_slots,
                published_memory: limits.published_memory,
                open_bytes: limits.open_mebibytes << 20,
                gap_slots: limits.gap_slots,
                ..Limits::default()
            },
        }
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field: &str, problem: &str, fix: &str| {
            Err(ConfigError {
                field: field.to_owned(),
                problem: problem.to_owned(),
                fix: fix.to_owned(),
            })
        };
        if self.topic_prefix.is_empty() {
            return refuse(
                "topic_prefix",
                "is empty",
                "write a prefix such as heliograph",
            );
        }
        if let Err(error) = self.kafka.check() {
            return refuse("kafka", &error.to_string(), "see the message");
        }
        let topics = &self.topics;
        for (field, count) in [
            ("topics.accounts", topics.accounts),
            ("topics.transactions", topics.transactions),
            ("topics.slots", topics.slots),
            ("topics.canonical", topics.canonical),
        ] {
            if !(1..=1024).contains(&count) {
                return refuse(
                    field,
                    "is not between 1 and 1024",
                    "write the topic's partition count",
                );
            }
        }
        if topics.replication < 1 {
            return refuse(
                "topics.replication",
                "is below 1",
                "write 1, or 3 on a cluster",
            );
        }
        let limits = &self.limits;
        for (field, value) in [
            ("limits.gap_after_ms", limits.gap_after_ms),
            ("limits.skew_ms", limits.skew_ms),
            ("limits.settle_ms", limits.settle_ms),
        ] {
            if value > 86_400_000 {
                return refuse(field, "is more than a day", "write milliseconds");
            }
        }
        if limits.gap_after_ms < limits.settle_ms {
            return refuse(
                "limits.gap_after_ms",
                "is shorter than limits.settle_ms",
                "make it several times as long",
            );
        }
        if !(1..=1 << 20).contains(&limits.open_mebibytes) {
            return refuse(
                "limits.open_mebibytes",
                "is not between 1 and 1048576",
                "write mebibytes",
            );
        }
        let websocket = &self.websocket;
        for (field, value) in [
            ("limits.published_memory", limits.published_memory),
            ("limits.replay_blocks", limits.replay_blocks),
            ("websocket.connections_max", websocket.connections_max),
            (
                "websocket.subscriptions_per_connection_max",
                websocket.subscriptions_per_connection_max,
            ),
            (
                "websocket.cursors_per_connection_max",
                websocket.cursors_per_connection_max,
            ),
            ("websocket.request_bytes_max", websocket.request_bytes_max),
            ("websocket.queue_items_max", websocket.queue_items_max),
            ("websocket.queue_bytes_max", websocket.queue_bytes_max),
            ("websocket.live_blocks_max", websocket.live_blocks_max),
            ("websocket.ping_seconds", websocket.ping_seconds as usize),
            (
                "websocket.first_request_seconds",
                websocket.first_request_seconds as usize,
            ),
        ] {
            if value == 0 {
                return refuse(field, "is 0", "write a positive number");
            }
        }
        self.repair.check()?;
        self.leadership.check()?;
        self.accounts_topic.check()?;
        self.grpc.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        Config::default().check().expect("defaults");
    }

    #[test]
    fn a_bad_value_is_named() {
        let mut config = Config::default();
        config.topics.slots = 0;
        assert_eq!(config.check().unwrap_err().field, "topics.slots");
        let mut config = Config::default();
        config.limits.gap_after_ms = 1;
        assert_eq!(config.check().unwrap_err().field, "limits.gap_after_ms");
    }
}
