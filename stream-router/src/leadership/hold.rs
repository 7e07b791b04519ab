//! The publisher's side: the claim, the beats, the release.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_log::{Action, Error, EventLog, NewRecord, ReaderSpec, Start, TransactionalWriter};
use tokio::time::Instant;
use tracing::warn;

use super::{Beat, Claim, Notice};

/// Shows that the publisher's loop goes round. While it does not, no beat is written, and another may take over.
#[derive(Debug, Clone)]
pub struct Pulse {
    born: Instant,
    felt_ms: Arc<AtomicU64>,
}

impl Pulse {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            felt_ms: Arc::default(),
        }
    }

    pub fn touch(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.felt_ms.fetch_max(now, Ordering::Relaxed);
    }

    fn is_felt(&self, within: Duration) -> bool {
        let felt = Duration::from_millis(self.felt_ms.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(felt) <= within
    }

    /// Work that is longer than a beat, but goes on.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beat.tick() => self.touch(),
            }
        }
    }
}

/// A claim that is on the log.
pub struct Held {
    pub claim: Claim,
    pub pulse: Pulse,
    topic: Arc<str>,
    /// The claim's own.
    offset: i64,
    log: Arc<dyn EventLog>,
    lease: Duration,
}

/// Takes over: from the first step on, the router that published can commit nothing more.
pub async fn claim(
    log: &Arc<dyn EventLog>,
    topic: &Arc<str>,
    transactional_id: &str,
    claim: Claim,
    lease: Duration,
) -> event_log::Result<(Box<dyn TransactionalWriter>, Held)> {
    let mut writer = log.transactional_writer(transactional_id).await?;
    let record = Notice::Claim(claim.clone()).record(topic);
    let positions = writer.commit(vec![record]).await?;
    let held = Held {
        claim,
        pulse: Pulse::new(),
        topic: topic.clone(),
        offset: positions.first().map_or(0, |position| position.offset),
        log: Arc::clone(log),
        lease,
    };
    Ok((writer, held))
}

/// The record by which a publisher that ends in order lets go. Written in a transaction, like the claim.
pub fn release(claim: &Claim, topic: &Arc<str>) -> NewRecord {
    let released = Claim {
        released: true,
        ..claim.clone()
    };
    Notice::Claim(released).record(topic)
}

impl Held {
    /// Beats until another claims: then it fails with [`Error::Fenced`], even if nothing is to be published.
    pub async fn beat(self, transactional_id: String) -> anyhow::Result<()> {
        let writer = self.log.writer().await?;
        let spec = ReaderSpec {
            partitions: vec![(self.topic.clone(), 0, Start::At(self.offset))],
            read_committed: true,
        };
        let mut reader = self.log.reader(spec).await?;
        let beat = Notice::Beat(Beat {
            turn: self.claim.turn,
            life: self.claim.by.life,
        });
        let every = self.lease / 6;
        let mut due = Instant::now();
        loop {
            if Instant::now() >= due {
                due = Instant::now() + every;
                if self.pulse.is_felt(self.lease) {
                    match writer.append(vec![beat.record(&self.topic)]).await {
                        Err(error) if error.action() != Action::Retry => return Err(error.into()),
                        Err(error) => warn!(%error, "a beat was not written"),
                        Ok(_) => {}
                    }
                } else {
                    warn!("the publisher's loop stands still: the lease is not renewed");
                }
            }
            let wait = due.saturating_duration_since(Instant::now());
            for record in reader.poll(64, wait).await? {
                if let Some(Notice::Claim(other)) = Notice::read(&record)
                    && other.turn >= self.claim.turn
                    && other.by != self.claim.by
                {
                    return Err(Error::Fenced { transactional_id }.into());
                }
            }
        }
    }
}
