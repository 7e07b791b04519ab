//! Wiring only.
//!
//! | queue | depth | when full |
//! |---|---|---|
//! | reader → loop, one per observed topic | 2 batches of 4,000 records | the topic is not read further |
//! | open slots in the core | `limits.open_mebibytes` | from half on, a topic ahead of the others by `limits.skew_ms` waits; at the limit the oldest incomplete slot becomes a gap |
//! | loop → transaction | one in flight, one of 256 MiB waiting | nothing is read until the log has taken it |
//! | repair → loop | 1 block | no further block is offered; the loop never waits for a repair |
//! | loop → account repair | 1 errand, `repair.concurrency` under way | what the accounts topic lacks waits |
//! | account repair → loop | 1 answer | nodes are asked no further |
//! | loop → fan-outs | 256 batches of effects each | the loop waits: a fan-out never waits for a subscriber |
//! | loop → what is sent beside blocks (deshred, gossip) | 16,384 reports | dropped and counted |
//! | fan-out → subscriber | `websocket.queue_*` | the subscriber is disconnected with the reason |
//!
//! The loop takes what the readers have, lets the core conclude, tells live subscribers, and commits while it goes on. A lost
//! broker or an unknown commit outcome ends one life of the publication; the next reads the state and goes on. When another router has
//! taken over, this one stands by (`leadership`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use event_log::{Error as LogError, EventLog, NewRecord, TransactionalWriter};
use event_schema::ObservedTopic;
use service_host::Host;
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{info, warn};

use crate::{
    account_state::Answer,
    archive::Archive,
    board::Board,
    commits::{Commits, Ended},
    config::Config,
    intake::{self, Batch, LogTime},
    leadership::{self, Held, Pulse, Standby},
    metrics::Metrics,
    observation::Lane,
    publication::{self, Publication, Settings},
    repair::{Asks, Errand, Hole, Offer},
    router::Effect,
    yellowstone::{door::Door, engine::News},
};

/// Batches of effects between the loop and the fan-out.
pub const FANOUT_BATCHES: usize = 256;
const TICK: Duration = Duration::from_millis(250);
/// Progress alone (nothing to publish) is committed this often.
const PROGRESS_COMMIT: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for the log at the end.
const FINISH: Duration = Duration::from_secs(10);
/// Bytes of the next transaction. While the log takes the last one longer, nothing more is read.
const PENDING_BYTES_MAX: usize = 256 << 20;

/// What the loop tells the rest of the process.
#[derive(Clone)]
pub struct Outlets {
    pub fanout: mpsc::Sender<Vec<Effect>>,
    /// To Yellowstone subscribers, when that door is open.
    pub stream: Option<Stream>,
    pub board: Board,
    pub metrics: Metrics,
    /// To RPC nodes, when some are configured.
    pub asks: Option<Asks>,
}

/// The way to Yellowstone subscribers.
#[derive(Clone)]
pub struct Stream {
    pub news: mpsc::Sender<News>,
    pub door: Door,
}

impl Outlets {
    /// Whether the log is at hand.
    pub fn ready(&self, host: &Host, ready: bool) {
        host.ready("log", ready);
        if let Some(stream) = &self.stream {
            stream.door.ready(ready);
        }
    }

    pub async fn tell_stream(&self, news: News) {
        if let Some(stream) = &self.stream {
            // Closed only when the process ends.
            let _ = stream.news.send(news).await;
        }
    }
}

/// Stands by and publishes in turns until drained. `offers`: blocks from RPC nodes.
pub async fn run(
    config: &Config,
    log: Arc<dyn EventLog>,
    outlets: Outlets,
    mut offers: Option<mpsc::Receiver<Offer>>,
    host: Host,
) -> anyhow::Result<()> {
    let mut standby = Standby::new(config, Arc::clone(&log), &host)?;
    let process = Process {
        config,
        log: &log,
        outlets: &outlets,
        host: &host,
    };
    let drain = host.drain();
    tokio::pin!(drain);
    loop {
        let due = tokio::select! {
            due = standby.until_due(&outlets, &host) => due,
            () = &mut drain => return Ok(()),
        };
        let ended = match due {
            Ok(()) => one_life(process, &mut standby, &mut offers).await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else {
            outlets.ready(&host, false);
            return Ok(());
        };
        match error.downcast_ref::<LogError>() {
            Some(LogError::Fenced { .. }) => {
                info!("another router has taken over");
                continue;
            }
            Some(LogError::PartitionCount { .. } | LogError::Config { .. }) => return Err(error),
            _ => {}
        }
        outlets.ready(&host, false);
        warn!(
            error = format!("{error:#}"),
            "waiting, then starting over from the log"
        );
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => {}
            () = &mut drain => return Ok(()),
        }
    }
}

/// What lasts longer than a life.
#[derive(Clone, Copy)]
struct Process<'a> {
    config: &'a Config,
    log: &'a Arc<dyn EventLog>,
    outlets: &'a Outlets,
    host: &'a Host,
}

/// Claims and publishes: until drained, fenced, or the log fails.
async fn one_life(
    process: Process<'_>,
    standby: &mut Standby,
    offers: &mut Option<mpsc::Receiver<Offer>>,
) -> anyhow::Result<()> {
    let settings = process.config.settings();
    let (id, topic) = (settings.transactional_id, settings.topics.leadership);
    let lease = process.config.leadership.lease();
    let claim = standby.watch.next_claim();
    let claimed = leadership::claim(process.log, &topic, &id, claim, lease);
    let (writer, held) = tokio::select! {
        claimed = claimed => claimed?,
        () = process.host.drain() => return Ok(()),
    };
    standby.publishing(&held.claim);
    let since = Instant::now();
    let ended = publish(process, standby, offers, writer, held).await;
    if let Err(error) = &ended {
        match error.downcast_ref() {
            Some(LogError::Fenced { .. }) => standby.watch.lost_after(since.elapsed()),
            _ => standby.watch.failed_after(since.elapsed()),
        }
    }
    ended
}

async fn publish(
    process: Process<'_>,
    standby: &mut Standby,
    offers: &mut Option<mpsc::Receiver<Offer>>,
    writer: Box<dyn TransactionalWriter>,
    held: Held,
) -> anyhow::Result<()> {
    let Process {
        config,
        log,
        outlets,
        host,
    } = process;
    let settings = config.settings();
    let (claim, pulse) = (held.claim.clone(), held.pulse.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(held.beat(settings.transactional_id.clone()));
    let opening = Publication::open_with(log.as_ref(), settings.clone(), writer);
    let publication = tokio::select! {
        opened = pulse.during(opening) => opened?,
        () = host.drain() => return Ok(()),
    };
    info!(
        turn = claim.turn,
        remembered_blocks = publication.router().remembered_blocks(),
        "took over; reading the observed topics"
    );
    let mut queues = Vec::new();
    for topic in ObservedTopic::ALL {
        let reader = log.reader(publication.reader_spec(topic)).await?;
        let (sender, receiver) = mpsc::channel(intake::QUEUE_BATCHES);
        tasks.spawn(intake::read(topic, Arc::clone(log), reader, sender));
        queues.push(receiver);
    }
    let [accounts, transactions, slots]: [mpsc::Receiver<Batch>; 3] = queues
        .try_into()
        .map_err(|_| anyhow::anyhow!("one queue per observed topic"))?;
    let archive = || {
        let (topic, count) = (&settings.topics.canonical, settings.partitions.canonical);
        Archive::new(Arc::clone(log), topic.clone(), count)
    };
    let body = Loop {
        config,
        publication,
        outlets,
        time: LogTime::new(lanes(&settings)),
        host,
        log: log.as_ref(),
        archive: archive(),
        errands_archive: Arc::new(archive()),
        standby,
        pulse,
        release: leadership::release(&claim, &settings.topics.leadership),
    };
    tokio::select! {
        ended = body.run(accounts, transactions, slots, offers) => ended,
        Some(ended) = tasks.join_next() => match ended {
            Ok(ended) => ended,
            Err(error) => Err(error.into()),
        },
    }
}

/// Forever when there are no RPC nodes.
async fn next_offer(offers: &mut Option<mpsc::Receiver<Offer>>) -> Offer {
    if let Some(queue) = offers
        && let Some(offer) = queue.recv().await
    {
        return offer;
    }
    std::future::pending().await
}

/// What Yellowstone subscribers are told at once, and what WebSocket subscribers are; some of it both. What is beside the
/// blocks has been told by now.
fn split(effects: Vec<Effect>) -> (Vec<Effect>, Vec<Effect>) {
    let (mut early, mut rest) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Early { .. } => early.push(effect),
            Effect::Beside { .. } => {}
            Effect::SlotUpdate(_) | Effect::Closed { block: None, .. } => {
                early.push(effect.clone());
                rest.push(effect);
            }
            _ => rest.push(effect),
        }
    }
    (early, rest)
}

fn lanes(settings: &Settings) -> Vec<Lane> {
    ObservedTopic::ALL
        .into_iter()
        .flat_map(|topic| {
            (0..settings.partitions_of(topic)).map(move |partition| Lane { topic, partition })
        })
        .collect()
}

/// The one loop: it owns the publication.
struct Loop<'a> {
    config: &'a Config,
    publication: Publication,
    outlets: &'a Outlets,
    time: LogTime,
    host: &'a Host,
    log: &'a dyn EventLog,
    /// Where the accounts topic's late blocks are read.
    archive: Archive,
    /// For errands, which read beside the loop.
    errands_archive: Arc<Archive>,
    standby: &'a mut Standby,
    pulse: Pulse,
    /// What lets another take over at once.
    release: NewRecord,
}

impl Loop<'_> {
    async fn run(
        mut self,
        mut accounts: mpsc::Receiver<Batch>,
        mut transactions: mpsc::Receiver<Batch>,
        mut slots: mpsc::Receiver<Batch>,
        offers: &mut Option<mpsc::Receiver<Offer>>,
    ) -> anyhow::Result<()> {
        let committer = self.publication.take_committer();
        let mut commits = Commits::new(committer.context("a publication has one committer")?);
        let restored = self.publication.take_restored();
        let told = self.standby.tell(&restored, self.outlets);
        self.pulse.during(told).await?;
        self.outlets.tell_stream(News::Restored(restored)).await;
        let found = self.publication.take_found();
        self.tell(found).await;
        // Only now subscribers can be told from when on they hear: another may take over before anything is published.
        self.outlets.ready(self.host, true);
        self.ask_again();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_commit = tokio::time::Instant::now();
        let mut batches = Vec::new();
        let (answer_to, mut answers) = mpsc::channel(1);
        let drain = self.host.drain();
        tokio::pin!(drain);
        loop {
            self.pulse.touch();
            self.send_errands(&answer_to);
            let room = self.publication.pending_bytes() < PENDING_BYTES_MAX;
            tokio::select! {
                batch = accounts.recv(), if room && self.may_read(ObservedTopic::Accounts) => batches.extend(batch),
                batch = transactions.recv(), if room && self.may_read(ObservedTopic::Transactions) => batches.extend(batch),
                batch = slots.recv(), if room && self.may_read(ObservedTopic::Slots) => batches.extend(batch),
                offer = next_offer(offers), if room => self.mend(offer).await,
                Some(answer) = answers.recv(), if room => self.publication.answer(answer),
                ended = commits.ended() => self.committed(ended?).await,
                _ = tick.tick() => {
                    let effects = self.publication.tick(self.time.now_ms());
                    self.tell(effects).await;
                    self.show();
                }
                () = &mut drain => return self.finish(commits).await,
            }
            if room {
                // Whatever else is ready goes into the same transaction.
                for queue in [&mut accounts, &mut transactions, &mut slots] {
                    batches.extend(queue.try_recv());
                }
            }
            for batch in batches.drain(..) {
                self.time.take(&batch);
                self.outlets.metrics.lag(batch.topic, batch.lag);
                self.outlets.board.lag(batch.topic, batch.lag);
                let effects = self.publication.absorb(&batch.records);
                self.tell(effects).await;
            }
            let due = self.publication.has_pending() || last_commit.elapsed() >= PROGRESS_COMMIT;
            if due && commits.is_idle() {
                if self.publication.needs_log() {
                    let settled = self.publication.settle(self.log, &self.archive);
                    self.pulse.during(settled).await?;
                }
                if let Some(batch) = self.publication.take_batch() {
                    commits.begin(batch);
                }
                last_commit = tokio::time::Instant::now();
            }
        }
    }

    /// What was taken in is committed before the end, if the log takes it in time: what it does not take, the next life
    /// reads again.
    async fn finish(mut self, mut commits: Commits) -> anyhow::Result<()> {
        let orderly = async {
            if !commits.is_idle() {
                let ended = commits.ended().await?;
                self.committed(ended).await;
            }
            if let Some(batch) = self.publication.take_batch() {
                commits.begin(batch);
                let ended = commits.ended().await?;
                self.committed(ended).await;
            }
            commits.begin(publication::Batch::bare(vec![self.release.clone()]));
            commits.ended().await?;
            Ok(())
        };
        let ended = tokio::time::timeout(FINISH, orderly).await;
        ended.unwrap_or_else(|_| {
            warn!("the log did not take the last transaction in time");
            Ok(())
        })
    }

    async fn committed(&mut self, ended: Ended) {
        self.outlets.metrics.committed(ended.took);
        let told = self.publication.committed(ended.batch, &ended.positions);
        if !told.is_empty() {
            self.outlets.tell_stream(News::Committed(told)).await;
        }
    }

    /// What earlier lives found missing and nobody has given since.
    fn ask_again(&mut self) {
        let Some(asks) = &self.outlets.asks else {
            return;
        };
        for (first, last) in self.publication.told_holes() {
            asks.ask(Hole::new(self.publication.router(), first, last));
        }
    }

    /// What the accounts topic lacks, as far as somebody has time for it.
    fn send_errands(&mut self, answers: &mpsc::Sender<Answer>) {
        let Some(asks) = &self.outlets.asks else {
            return;
        };
        while let Some(place) = asks.place() {
            let Some(wanted) = self.publication.next_wanted() else {
                return;
            };
            place.send(Errand {
                wanted,
                archive: Arc::clone(&self.errands_archive),
                answers: answers.clone(),
            });
        }
    }

    async fn mend(&mut self, Offer { block, verdict }: Offer) {
        let (mended, effects) = self.publication.mend(*block);
        self.tell(effects).await;
        // Nobody waits for the verdict when the process ends.
        let _ = verdict.send(mended);
    }

    /// While memory is tight, a topic ahead of the slowest one waits for it.
    fn may_read(&self, topic: ObservedTopic) -> bool {
        let limits = &self.config.limits;
        if self.publication.router().open_bytes() < (limits.open_mebibytes << 20) / 2 {
            return true;
        }
        let slowest = self.time.now_ms();
        self.time.of_topic(topic) <= slowest.saturating_add(limits.skew_ms as i64)
    }

    async fn tell(&mut self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        self.outlets.metrics.effects(&effects);
        if let Some(asks) = &self.outlets.asks {
            let router = self.publication.router();
            for hole in effects.iter().filter_map(|effect| Hole::of(router, effect)) {
                asks.ask(hole);
            }
        }
        if let Some(stream) = &self.outlets.stream {
            effects.iter().for_each(|effect| stream.door.tell(effect));
        }
        let (early, effects) = split(effects);
        if self.outlets.stream.is_some() && !early.is_empty() {
            self.outlets.tell_stream(News::Early(early)).await;
        }
        if !effects.is_empty() {
            self.standby.hand_over(effects, self.outlets).await;
        }
    }

    fn show(&self) {
        let router = self.publication.router();
        self.outlets
            .metrics
            .router(router, self.publication.dead_letters());
        self.outlets
            .board
            .router(router, self.publication.dead_letters());
        let (counts, now) = self.publication.lost_accounts();
        self.outlets.metrics.lost_accounts(&counts, now);
        self.outlets.board.lost_accounts(&counts, now);
    }
}
