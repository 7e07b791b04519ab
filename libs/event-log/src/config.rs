//! How to reach Kafka.

use std::collections::BTreeMap;

use rdkafka::config::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The `[kafka]` table of every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port[,host:port…]`.
    pub brokers: String,
    /// Further librdkafka client settings, such as `"security.protocol" = "ssl"`. Settings on which the delivery
    /// guarantees rest cannot be changed here.
    pub options: BTreeMap<String, String>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// The promises of this crate rest on these, so a configuration file cannot alter them.
const FIXED: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "transactional.id",
    "isolation.level",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "group.id",
];

impl KafkaConfig {
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            options: BTreeMap::new(),
        }
    }

    /// Refuses empty brokers and options that would break the log's promises. Needs no broker.
    pub fn check(&self) -> Result<()> {
        if self.brokers.trim().is_empty() {
            return Err(Error::Config {
                option: "brokers".into(),
                reason: "is empty; write host:port of at least one broker".into(),
            });
        }
        for option in self.options.keys() {
            if FIXED.contains(&option.as_str()) {
                return Err(Error::Config {
                    option: option.clone(),
                    reason: "cannot be changed, delivery guarantees rest on it; remove it".into(),
                });
            }
        }
        Ok(())
    }

    /// Defaults, then the user's options, then what must not change.
    fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
        self.check()?;
        let mut client = ClientConfig::new();
        client
            .set("client.id", "heliograph")
            .set("socket.keepalive.enable", "true");
        client
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000");
        for (key, value) in defaults {
            client.set(*key, *value);
        }
        for (key, value) in &self.options {
            client.set(key, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        for (key, value) in fixed {
            client.set(*key, *value);
        }
        Ok(client)
    }

    /// Answers metadata and watermark questions; a `read_committed` view, so that `high` is the last stable offset.
    pub(crate) fn metadata_client(&self) -> Result<ClientConfig> {
        self.client(
            &[],
            &[
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    pub(crate) fn consumer(&self, read_committed: bool) -> Result<ClientConfig> {
        // What the client reads ahead: 16 MiB hold several mainnet blocks.
        self.reading(read_committed, "16384", "4194304")
    }

    /// For looking up single things: what is read ahead is mostly thrown away.
    pub(crate) fn lookup_consumer(&self, read_committed: bool) -> Result<ClientConfig> {
        self.reading(read_committed, "1024", "1048576")
    }

    fn reading(
        &self,
        read_committed: bool,
        queued_kibibytes: &str,
        fetched_bytes: &str,
    ) -> Result<ClientConfig> {
        // A question for the next records waits at the broker until there are some: the longer, the less an idle reader costs.
        // A seek waits for it, though. Readers of committed records seek to see past the markers at the end.
        let (isolation, wait_ms) = if read_committed {
            ("read_committed", "100")
        } else {
            ("read_uncommitted", "500")
        };
        self.client(
            &[
                // Answer as soon as there is a byte: a slot should not wait.
                ("fetch.min.bytes", "1"),
                ("fetch.wait.max.ms", wait_ms),
                ("fetch.error.backoff.ms", "50"),
                ("fetch.queue.backoff.ms", "20"),
                // Bounds the client's own read-ahead per reader.
                ("queued.max.messages.kbytes", queued_kibibytes),
                ("fetch.message.max.bytes", fetched_bytes),
            ],
            &[
                // `assign` wants a name for its group; nothing is ever committed under it.
                ("group.id", "heliograph-explicit-positions"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                // A position that is gone is an error to be seen, not a reason to jump.
                ("auto.offset.reset", "error"),
                ("enable.partition.eof", "true"),
                ("isolation.level", isolation),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    pub(crate) fn producer(&self) -> Result<ClientConfig> {
        self.client(
            PRODUCER_DEFAULTS,
            &[("enable.idempotence", "true"), ("acks", "all")],
        )
    }

    pub(crate) fn transactional_producer(&self, transactional_id: &str) -> Result<ClientConfig> {
        let mut client = self.producer()?;
        client.set("transactional.id", transactional_id);
        // Long enough for the largest batch, short enough that readers are not held up for long behind a writer that
        // died. A record cannot be tried for longer than its transaction may last.
        let timeout = self
            .options
            .get("transaction.timeout.ms")
            .map_or("20000", String::as_str);
        client.set("transaction.timeout.ms", timeout);
        client.set("delivery.timeout.ms", timeout);
        Ok(client)
    }
}

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // Five milliseconds of patience turn thousands of small records into a few requests.
    ("linger.ms", "5"),
    ("compression.type", "lz4"),
    ("message.max.bytes", "16777216"),
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "200000"),
    ("delivery.timeout.ms", "120000"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_options_that_break_the_promises() {
        let mut config = KafkaConfig::default();
        config.options.insert("acks".into(), "1".into());
        let error = config.check().unwrap_err();
        assert!(error.to_string().contains("`acks`"), "{error}");
    }

    #[test]
    fn refuses_empty_brokers() {
        assert!(KafkaConfig::new(" ").check().is_err());
    }

    #[test]
    fn user_options_win_over_defaults() {
        let mut config = KafkaConfig::default();
        config.options.insert("linger.ms".into(), "0".into());
        assert_eq!(config.producer().unwrap().get("linger.ms"), Some("0"));
        assert_eq!(config.producer().unwrap().get("acks"), Some("all"));
    }
}
