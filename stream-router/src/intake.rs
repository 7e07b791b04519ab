//! Reads one observed topic into a bounded queue, and says up to when it has read.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use event_log::{EventLog, LogReader, Record};
use event_schema::ObservedTopic;
use futures::future::{BoxFuture, FutureExt};
use tokio::{sync::mpsc, time::Instant};

use crate::observation::Lane;

/// Records at most in one batch; small enough that a commit is never far away.
pub const BATCH_RECORDS: usize = 4_000;
/// Batches waiting per topic. When full, the topic is simply not read further.
pub const QUEUE_BATCHES: usize = 2;
/// How long one wait for records lasts: it costs a little to wait anew.
const POLL: Duration = Duration::from_secs(1);
/// How often the ends of the partitions are asked for.
const END_CHECK: Duration = Duration::from_millis(500);

/// What one topic yielded.
#[derive(Debug)]
pub struct Batch {
    pub topic: ObservedTopic,
    pub records: Vec<Record>,
    /// Partitions that stood at their end, at this time (Unix ms).
    pub at_end: Vec<(u32, i64)>,
    /// Offsets between the reader and the end of the topic, as last counted.
    pub lag: u64,
}

/// Reads until the queue is closed or the log fails. The ends are asked for while reading goes on: no record waits for that.
pub async fn read(
    topic: ObservedTopic,
    log: Arc<dyn EventLog>,
    mut reader: Box<dyn LogReader>,
    queue: mpsc::Sender<Batch>,
) -> anyhow::Result<()> {
    let positions = reader.positions().into_iter();
    let partitions: Arc<[(Arc<str>, u32)]> = positions
        .map(|position| (position.topic, position.partition))
        .collect();
    let mut question = ends(&log, &partitions, Instant::now());
    let mut lag = 0;
    loop {
        let (records, answer) = tokio::select! {
            records = reader.poll(BATCH_RECORDS, POLL) => (records?, None),
            answer = &mut question => (Vec::new(), Some(answer?)),
            () = queue.closed() => return Ok(()),
        };
        let mut at_end = Vec::new();
        if let Some(Ends { asked_ms, ends }) = answer {
            lag = 0;
            for (position, end) in reader.positions().iter().zip(ends) {
                if position.offset >= end {
                    at_end.push((position.partition, asked_ms));
                }
                lag += end.saturating_sub(position.offset).max(0) as u64;
            }
            question = self::ends(&log, &partitions, Instant::now() + END_CHECK);
        }
        if records.is_empty() && at_end.is_empty() {
            continue;
        }
        let batch = Batch {
            topic,
            records,
            at_end,
            lag,
        };
        if queue.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

/// Where the partitions end.
struct Ends {
    /// Before it was asked for: what is written after that may be missed by the answer.
    asked_ms: i64,
    ends: Vec<i64>,
}

fn ends(
    log: &Arc<dyn EventLog>,
    partitions: &Arc<[(Arc<str>, u32)]>,
    at: Instant,
) -> BoxFuture<'static, event_log::Result<Ends>> {
    let (log, partitions) = (Arc::clone(log), Arc::clone(partitions));
    async move {
        tokio::time::sleep_until(at).await;
        let asked_ms = unix_ms();
        let ends = log.ends(&partitions).await?;
        Ok(Ends { asked_ms, ends })
    }
    .boxed()
}

/// Pure: up to when every partition has been read.
#[derive(Debug, Default)]
pub struct LogTime {
    through_ms: BTreeMap<Lane, i64>,
}

impl LogTime {
    pub fn new(lanes: impl IntoIterator<Item = Lane>) -> Self {
        Self {
            through_ms: lanes.into_iter().map(|lane| (lane, i64::MIN)).collect(),
        }
    }

    pub fn take(&mut self, batch: &Batch) {
        let at_end = batch.at_end.iter().copied();
        let read = batch
            .records
            .iter()
            .map(|record| (record.position.partition, record.timestamp_ms));
        for (partition, ms) in at_end.chain(read) {
            let lane = Lane {
                topic: batch.topic,
                partition,
            };
            if let Some(through) = self.through_ms.get_mut(&lane) {
                *through = (*through).max(ms);
            }
        }
    }

    /// `i64::MIN` until every partition has been read from.
    pub fn now_ms(&self) -> i64 {
        self.through_ms.values().copied().min().unwrap_or(i64::MIN)
    }

    pub fn of_topic(&self, topic: ObservedTopic) -> i64 {
        self.through_ms
            .iter()
            .filter(|(lane, _)| lane.topic == topic)
            .map(|(_, through)| *through)
            .min()
            .unwrap_or(i64::MIN)
    }
}

pub fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_partition_sets_the_time() {
        let lane = |topic, partition| Lane { topic, partition };
        let mut time = LogTime::new([
            lane(ObservedTopic::Accounts, 0),
            lane(ObservedTopic::Accounts, 1),
            lane(ObservedTopic::Slots, 0),
        ]);
        let end = |topic, partition, ms| Batch {
            topic,
            records: Vec::new(),
            at_end: vec![(partition, ms)],
            lag: 0,
        };
        time.take(&end(ObservedTopic::Accounts, 0, 500));
        time.take(&end(ObservedTopic::Slots, 0, 300));
        assert_eq!(time.now_ms(), i64::MIN);
        time.take(&end(ObservedTopic::Accounts, 1, 400));
        assert_eq!(time.now_ms(), 300);
        time.take(&end(ObservedTopic::Slots, 0, 200));
        assert_eq!(time.now_ms(), 300, "time never goes back");
        assert_eq!(time.of_topic(ObservedTopic::Accounts), 400);
    }
}
