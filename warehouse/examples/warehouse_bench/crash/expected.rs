//! The oracle: a warehouse that only ever saw the final chain, by a sink that nothing happens to.

use std::{sync::Arc, time::Duration};

use event_log::{KafkaConfig, KafkaLog};
use event_schema::{Topics, proto::geyser::SlotStatus};
use local_services::{ClickHouseDoor, DoorOptions};
use service_host::Host;
use warehouse::sink::{SinkConfig, run_on};

use super::{
    audit::Door,
    contents::Contents,
    history::{Block, Event, Truth},
    publisher::Publisher,
    stage::{self, Progress, Stage},
};

/// Slots that are published at a time.
const SLOTS_AT_ONCE: usize = 20;

/// See the module.
pub struct Expected {
    pub door: Door,
    _process: ClickHouseDoor,
}

impl Expected {
    pub fn store(
        stage: &Stage,
        truth: &Truth,
        contents: &Contents,
        runtime: &tokio::runtime::Runtime,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let process = ClickHouseDoor::start(DoorOptions::default())?;
        let brokers = stage.broker.brokers();
        let topics = Topics::new("final");
        let mut publisher = runtime.block_on(Publisher::open(&brokers, &topics))?;
        let config = SinkConfig {
            topic_prefix: "final".into(),
            clickhouse_url: process.url(),
            ..SinkConfig::default()
        };
        let host = Host::detached();
        let log = Arc::new(KafkaLog::new(KafkaConfig::new(brokers))?);
        let sink = runtime.spawn(run_on(log, config, host.clone()));
        let finals: Vec<Block> = truth
            .finals
            .iter()
            .map(|(&slot, &fork)| Block { slot, fork })
            .collect();
        for blocks in finals.chunks(SLOTS_AT_ONCE) {
            stage::pause(Duration::ZERO, progress)?;
            let events = blocks.iter().flat_map(|block| {
                [
                    Event::Published(*block),
                    Event::Status(*block, SlotStatus::SlotConfirmed),
                    Event::Status(*block, SlotStatus::SlotFinalized),
                ]
            });
            let records = events.flat_map(|event| contents.records(&topics, event));
            runtime.block_on(publisher.publish(records.collect()))?;
        }
        let gaps = truth.gaps.iter().map(|&slot| Event::Gap { slot });
        let gaps = gaps.flat_map(|event| contents.records(&topics, event));
        runtime.block_on(publisher.publish(gaps.collect()))?;
        let door = Door::new(&process.url());
        let wanted = format!("{}\t{}", finals.len(), truth.gaps.len());
        let sql = "SELECT (SELECT count() FROM slot_status FINAL WHERE status = 'finalized'), (SELECT count() FROM stream_gaps)";
        while door.text(sql).ok().as_ref() != Some(&wanted) {
            stage::pause(Duration::from_millis(100), progress)?;
            if sink.is_finished() {
                runtime.block_on(sink)??;
                anyhow::bail!("the sink of the final chain ended");
            }
        }
        host.request_drain();
        runtime.block_on(sink)??;
        // Every question is to be counted from the rows.
        door.text(
            "INSERT INTO sink_batches SELECT * REPLACE (batch_id + 1 AS batch_id, 0 AS rolled_below) FROM sink_batches WHERE phase = 'done' ORDER BY batch_id DESC LIMIT 1",
        )?;
        Ok(Self {
            door,
            _process: process,
        })
    }
}
