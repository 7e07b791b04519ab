//! What a publication needs to know, and the topics that follow from it.

use std::sync::Arc;

use event_log::{EventLog, TopicSpec};
use event_schema::{ObservedTopic, Topics};

use crate::{account_state::AccountsTopicConfig, config::TopicsConfig, router::Limits};

/// What a publication needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    pub topics: Topics,
    pub partitions: TopicsConfig,
    pub accounts_topic: AccountsTopicConfig,
    /// Accounts to be asked of RPC nodes at once; 0 when there are none.
    pub repaired_accounts_max: usize,
    pub transactional_id: String,
    pub limits: Limits,
}

impl Settings {
    pub fn partitions_of(&self, topic: ObservedTopic) -> u32 {
        match topic {
            ObservedTopic::Accounts => self.partitions.accounts,
            ObservedTopic::Transactions => self.partitions.transactions,
            ObservedTopic::Slots => self.partitions.slots,
        }
    }

    fn specs(&self) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, partitions, compacted| TopicSpec {
            name: name.to_string(),
            partitions,
            compacted,
            config: Vec::new(),
            replication: self.partitions.replication,
        };
        let mut specs: Vec<TopicSpec> = ObservedTopic::ALL
            .into_iter()
            .map(|topic| {
                spec(
                    self.topics.observed(topic),
                    self.partitions_of(topic),
                    false,
                )
            })
            .collect();
        specs.push(spec(
            &self.topics.canonical,
            self.partitions.canonical,
            false,
        ));
        specs.push(spec(&self.topics.router_state, 1, true));
        specs.push(spec(&self.topics.dead_letters, 1, false));
        let mut leadership = spec(&self.topics.leadership, 1, true);
        // A few beats a second, read from the beginning by every router that starts: they must not pile up.
        let soon = [
            ("segment.ms", "300000"),
            ("min.cleanable.dirty.ratio", "0.1"),
        ];
        leadership.config = soon.map(|(key, value)| (key.into(), value.into())).into();
        specs.push(leadership);
        if self.accounts_topic.enabled {
            let replication = self.partitions.replication;
            specs.push(self.accounts_topic.spec(&self.topics, replication));
        }
        specs
    }

    /// Creates what is missing.
    pub async fn make_topics(&self, log: &dyn EventLog) -> event_log::Result<()> {
        log.ensure_topics(&self.specs()).await
    }
}
