//! Where a slot's time went, from what the parts write down anyway: the time of each canonical record and of each step in the
//! sink's journal. Read when the run is over, so that it costs the run nothing. To the millisecond.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use bench::plugin_bench::histogram::Histogram;
use clickhouse::Client;
use event_log::{EventLog, KafkaConfig, KafkaLog, ReaderSpec, Record, Start};
use event_schema::{CanonicalEvent, CanonicalHeader, Commitment, Kind, SlotAssembler, Topics};
use serde::Deserialize;

const POLL: Duration = Duration::from_millis(500);
const RECORDS: usize = 10_000;

/// Of one slot, Unix milliseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    /// The router wrote the block's seal.
    block: i64,
    /// The router wrote that it is confirmed.
    status: i64,
    /// Where.
    position: (u32, i64),
}

/// A batch of the sink.
#[derive(Debug, Default, Clone)]
struct Step {
    planned: i64,
    done: i64,
    /// By partition, the offset after what is applied.
    applied: BTreeMap<u32, i64>,
}

#[derive(Deserialize)]
struct Extent {
    applied_to: i64,
}

/// What each stage took, in the order of the flow.
#[derive(Debug, Default)]
pub struct Timeline {
    pub stages: Vec<(&'static str, Histogram)>,
    /// Plan to done.
    pub batches: Histogram,
}

/// What the driver and the client know of a slot: told *confirmed*, seen whole, Unix milliseconds.
pub type Ends = BTreeMap<u64, (i64, i64)>;

impl Timeline {
    pub async fn read(
        brokers: &str,
        prefix: &str,
        client: &Client,
        ends: &Ends,
    ) -> anyhow::Result<Self> {
        let moments = canonical(brokers, prefix).await?;
        let steps = journal(client).await?;
        let mut stages = [
            "confirmed callback -> block written by router",
            "-> confirmation written by router",
            "-> batch planned by sink",
            "-> rows seen by client",
        ]
        .map(|name| (name, Histogram::default()));
        for (slot, (confirmed, seen)) in ends {
            let Some(of) = moments.get(slot) else {
                continue;
            };
            let (partition, offset) = of.position;
            let takes = |step: &&Step| step.applied.get(&partition).is_some_and(|to| *to > offset);
            let Some(step) = steps.values().find(takes) else {
                continue;
            };
            let times = [*confirmed, of.block, of.status, step.planned, *seen];
            for (stage, pair) in stages.iter_mut().zip(times.windows(2)) {
                let took = (pair[1] - pair[0]).max(0) as u64;
                stage.1.record(took * 1_000_000);
            }
        }
        let mut batches = Histogram::default();
        for step in steps.values().filter(|step| step.done > 0) {
            batches.record((step.done - step.planned).max(0) as u64 * 1_000_000);
        }
        Ok(Self {
            stages: stages.into(),
            batches,
        })
    }
}

/// By slot.
async fn canonical(brokers: &str, prefix: &str) -> anyhow::Result<BTreeMap<u64, Moments>> {
    let topic = Topics::new(prefix).canonical;
    let log = KafkaLog::new(KafkaConfig::new(brokers))?;
    let partitions = log.partitions(&topic).await?;
    let spec = ReaderSpec {
        partitions: (0..partitions)
            .map(|partition| (topic.clone(), partition, Start::Earliest))
            .collect(),
        read_committed: true,
    };
    let mut reader = log.reader(spec).await?;
    let mut moments: BTreeMap<u64, Moments> = BTreeMap::new();
    loop {
        let records = reader.poll(RECORDS, POLL).await?;
        if records.is_empty() && reader.lag().await? == 0 {
            return Ok(moments);
        }
        for record in &records {
            note(record, &mut moments)?;
        }
    }
}

fn note(record: &Record, moments: &mut BTreeMap<u64, Moments>) -> anyhow::Result<()> {
    let header = CanonicalHeader::decode(&record.header)?;
    let of = moments.entry(header.slot.0).or_default();
    match header.kind {
        Kind::Seal => of.block = record.timestamp_ms,
        Kind::Status => {
            let event =
                SlotAssembler::new().push(record.position.offset, &record.header, &record.value)?;
            if let Some(CanonicalEvent::Status {
                commitment: Commitment::Confirmed,
                offset,
                ..
            }) = event
            {
                of.status = record.timestamp_ms;
                of.position = (record.position.partition, offset);
            }
        }
        _ => {}
    }
    Ok(())
}

/// By number.
async fn journal(client: &Client) -> anyhow::Result<BTreeMap<u64, Step>> {
    let rows: Vec<(u64, String, String, i64)> = client
        .query("SELECT batch_id, toString(phase), partitions, toUnixTimestamp64Milli(recorded_at) FROM sink_batches FINAL")
        .fetch_all()
        .await?;
    let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
    for (batch, phase, partitions, at) in rows {
        let step = steps.entry(batch).or_default();
        if phase == "done" {
            step.done = at;
            continue;
        }
        let extents: BTreeMap<u32, Extent> =
            serde_json::from_str(&partitions).context("sink_batches.partitions")?;
        step.planned = at;
        step.applied = extents
            .into_iter()
            .map(|(partition, extent)| (partition, extent.applied_to))
            .collect();
    }
    Ok(steps)
}
