//! How the tests' routers use the log: their topics, and the model's records as the log takes them.

use event_log::NewRecord;
use event_schema::Topics;
use stream_router::{
    account_state::AccountsTopicConfig, config::TopicsConfig, publication::Settings, router::Limits,
};

use crate::chain::PARTITIONS;
use crate::source::Written;

pub fn settings() -> Settings {
    Settings {
        topics: Topics::new("t"),
        partitions: TopicsConfig {
            accounts: PARTITIONS,
            transactions: PARTITIONS,
            slots: 1,
            canonical: 2,
            replication: 1,
        },
        accounts_topic: AccountsTopicConfig::default(),
        repaired_accounts_max: 0,
        transactional_id: "t-router".to_owned(),
        limits: Limits {
            gap_after_ms: 1_000,
            settle_ms: 100,
            ..Limits::default()
        },
    }
}

pub fn new_record(topics: &Topics, record: &Written) -> NewRecord {
    NewRecord {
        topic: topics.observed(record.lane.topic).clone(),
        partition: record.lane.partition,
        key: record.key.clone(),
        header: record.header.clone(),
        value: record.value.clone(),
    }
}
