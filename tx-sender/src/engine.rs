//! The one loop that owns the book and the connections. Everything that can wake it is a [`Wake`].
//!
//! It decides nothing about a transaction (that is `delivery`, `book`, `chain`): it turns what happened into calls, and
//! what is due into sends, rows and questions. Rows are written by one write at a time; what changes meanwhile goes with
//! the next one, so that a slow database makes batches instead of a queue.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use event_schema::{Pubkey, Slot};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    book::{Book, DeliveryId, Entry, Question},
    config::LeadersConfig,
    delivery::{State, Turn},
    inquiry::{self, Answer},
    leaders::LeaderView,
    metrics::Metrics,
    outcomes::Told,
    quic::{Ended, Job, Quic},
    schedule::{Target, window_of},
    store::Store,
    validator::Validator,
};

/// Resolution of every timer of the loop.
const TICK: Duration = Duration::from_millis(100);
/// Counters and positions are written at least this often, states at once.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
const WARM_EVERY: Duration = Duration::from_millis(500);
const QUESTIONS_EVERY: Duration = Duration::from_secs(2);
const WRITE_RETRY: Duration = Duration::from_millis(500);
/// Events taken at once from each queue.
const TAKEN_AT_ONCE: usize = 256;
/// How long a drain waits for attempts that are open.
const DRAIN_SENDS: Duration = Duration::from_secs(1);

/// What can wake the loop.
enum Wake {
    Accepted(Vec<(DeliveryId, Entry)>),
    Ended(Vec<Ended>),
    Told(Vec<Told>),
    Leaders,
    Answers(Vec<Answer>),
    Written(Result<(), sqlx::Error>),
    Tick,
    Drain,
}

/// Where accepted transactions go in; how many are open.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    accepted: mpsc::Sender<(DeliveryId, Entry)>,
    open: Arc<AtomicUsize>,
}

impl EngineHandle {
    /// Waits when the engine is busy: the transaction is stored, nothing is lost by waiting.
    pub async fn open(&self, id: DeliveryId, entry: Entry) {
        // Fails only when the service ends; the next process resumes it from the store.
        let _ = self.accepted.send((id, entry)).await;
    }

    /// Transactions that are not settled.
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// The way in for accepted transactions, and its other end. `depth`: transactions that may wait to be opened.
pub fn accepted_queue(depth: usize) -> (EngineHandle, AcceptedQueue) {
    let (sender, receiver) = mpsc::channel(depth);
    let open = Arc::new(AtomicUsize::new(0));
    let handle = EngineHandle {
        accepted: sender,
        open: open.clone(),
    };
    (handle, AcceptedQueue { receiver, open })
}

/// The engine's end of the way in.
pub struct AcceptedQueue {
    receiver: mpsc::Receiver<(DeliveryId, Entry)>,
    open: Arc<AtomicUsize>,
}

/// The loop, with what it is wired to.
pub struct Engine {
    /// What an earlier process left open. Known before the stream is replayed: a landing may be told there only once.
    pub resumed: Vec<(DeliveryId, Entry)>,
    pub accepted: AcceptedQueue,
    pub ended: mpsc::UnboundedReceiver<Ended>,
    pub told: mpsc::Receiver<Vec<Told>>,
    pub leaders: watch::Receiver<LeaderView>,
    pub quic: Quic,
    pub store: Store,
    pub validator: Validator,
    pub topic: Arc<str>,
    pub settings: LeadersConfig,
    pub metrics: Metrics,
}

impl Engine {
    /// Runs until drained. `written` is told whether rows can be written.
    pub async fn run(
        mut self,
        drain: impl Future<Output = ()> + Send,
        written: impl Fn(bool) + Send,
    ) -> anyhow::Result<()> {
        let mut desk = Desk::new();
        for (id, entry) in std::mem::take(&mut self.resumed) {
            desk.book.open(id, entry);
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (answer, mut answers) = mpsc::channel::<Vec<Answer>>(1);
        tokio::pin!(drain);
        let mut draining = false;
        loop {
            let wake = self
                .wake(&mut desk, &mut tick, &mut answers, drain.as_mut(), draining)
                .await;
            match wake {
                Wake::Accepted(entries) => {
                    for (id, entry) in entries {
                        desk.book.open(id, entry);
                    }
                }
                Wake::Ended(ends) => {
                    for end in ends {
                        self.count(&end);
                        desk.book.attempt_ended(end.id, end.attempt);
                    }
                }
                Wake::Told(events) => desk.hear(events),
                Wake::Leaders => {}
                Wake::Answers(given) => desk.learn(given),
                Wake::Written(outcome) => desk.write_ended(outcome, &written),
                Wake::Tick => {
                    self.keep_warm(&mut desk);
                    self.ask(&mut desk, &answer);
                }
                Wake::Drain => draining = true,
            }
            if !draining {
                self.take_turn(&mut desk);
                self.send(&mut desk);
            }
            self.tell_metrics(&mut desk);
            self.write(&mut desk, draining);
            if draining && desk.write.is_none() && !desk.behind() {
                break;
            }
        }
        self.quic.drain(DRAIN_SENDS).await;
        Ok(())
    }

    async fn wake(
        &mut self,
        desk: &mut Desk,
        tick: &mut tokio::time::Interval,
        answers: &mut mpsc::Receiver<Vec<Answer>>,
        drain: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
        draining: bool,
    ) -> Wake {
        let mut accepted = Vec::new();
        let mut ended = Vec::new();
        let writing = desk.write.is_some();
        tokio::select! {
            () = drain, if !draining => Wake::Drain,
            1.. = self.accepted.receiver.recv_many(&mut accepted, TAKEN_AT_ONCE) => Wake::Accepted(accepted),
            1.. = self.ended.recv_many(&mut ended, TAKEN_AT_ONCE) => Wake::Ended(ended),
            Some(told) = self.told.recv() => Wake::Told(told),
            Ok(()) = self.leaders.changed() => Wake::Leaders,
            Some(given) = answers.recv() => Wake::Answers(given),
            outcome = written(&mut desk.write), if writing => Wake::Written(outcome),
            _ = tick.tick() => Wake::Tick,
        }
    }

    /// The leaders change with the window; without slots the fallback timer repeats the last window.
    fn take_turn(&mut self, desk: &mut Desk) {
        let view = self.leaders.borrow_and_update();
        let published = desk.book.chain().slot_max().map(|slot| Slot(slot.0 + 1));
        let Some(slot) = view.slot.max(published) else {
            return;
        };
        let now = Instant::now();
        if desk.slot < Some(slot) {
            desk.slot = Some(slot);
            desk.slot_at = now;
        }
        let window = window_of(desk.slot.unwrap_or(slot));
        let targets = view.schedule.targets(window, self.settings.fanout);
        let silent = now.duration_since(desk.slot_at.max(desk.turn_at))
            >= Duration::from_millis(self.settings.fallback_ms);
        let turn = match desk.turn {
            turn if turn.window < window => Turn { window, repeat: 0 },
            turn if silent => Turn {
                repeat: turn.repeat.saturating_add(1),
                ..turn
            },
            turn => turn,
        };
        if turn == desk.turn && targets == desk.targets {
            return;
        }
        desk.turn = turn;
        desk.turn_at = now;
        desk.book
            .turn(turn, targets.iter().map(|target| target.leader).collect());
        desk.addresses = targets
            .iter()
            .map(|target| (target.leader, *target))
            .collect();
        desk.targets = targets;
    }

    fn send(&mut self, desk: &mut Desk) {
        for send in desk.book.take_sends() {
            let Some(target) = desk.addresses.get(&send.leader) else {
                continue;
            };
            let job = Job {
                id: send.id,
                window: send.window,
                wire: send.wire,
            };
            self.quic.send(*target, job);
        }
    }

    fn keep_warm(&mut self, desk: &mut Desk) {
        if desk.warmed_at.elapsed() < WARM_EVERY {
            return;
        }
        desk.warmed_at = Instant::now();
        if let Some(slot) = desk.slot {
            let schedule = self.leaders.borrow().schedule.clone();
            let warm = self.settings.warm.max(self.settings.fanout);
            self.quic.keep(&schedule.targets(window_of(slot), warm));
        }
        let peers = i64::try_from(self.quic.peers()).unwrap_or(i64::MAX);
        self.metrics.connections.set(peers);
    }

    fn ask(&self, desk: &mut Desk, answer: &mpsc::Sender<Vec<Answer>>) {
        if let Some(height) = self.leaders.borrow().finalized_height {
            desk.book.validator_finalized(height);
        }
        if desk.asking || desk.asked_at.elapsed() < QUESTIONS_EVERY {
            return;
        }
        desk.asked_at = Instant::now();
        // The proof may have been there before the transaction was.
        desk.book.expire_proven();
        let questions: Vec<Question> = desk.book.questions();
        if questions.is_empty() {
            return;
        }
        desk.asking = true;
        let (validator, answer) = (self.validator.clone(), answer.clone());
        tokio::spawn(async move {
            let answers = inquiry::ask(&validator, questions).await;
            // The loop has ended: nobody needs them.
            let _ = answer.send(answers).await;
        });
    }

    fn count(&self, end: &Ended) {
        let outcome = end.attempt.outcome;
        self.metrics
            .attempts
            .with_label_values(&[outcome.as_str()])
            .inc();
        if outcome == crate::delivery::Outcome::Acked {
            self.metrics
                .attempt_seconds
                .observe(end.attempt.took_us as f64 / 1e6);
        }
    }

    fn tell_metrics(&self, desk: &mut Desk) {
        for transition in desk.book.take_transitions() {
            self.metrics
                .states
                .with_label_values(&[transition.to.as_str()])
                .inc();
            if matches!(transition.to, State::Landed | State::Failed) {
                let ms = unix_ms().saturating_sub(transition.accepted_at_ms);
                self.metrics.seconds_to_land.observe(ms as f64 / 1e3);
            }
        }
        self.accepted.open.store(desk.book.len(), Ordering::Relaxed);
        self.metrics
            .open
            .set(i64::try_from(desk.book.len()).unwrap_or(i64::MAX));
        if let Some(height) = desk.book.chain().finalized_height() {
            let height = i64::try_from(height).unwrap_or(i64::MAX);
            self.metrics.finalized_height.set(height);
        }
    }

    /// Starts a write when none is under way and something is behind.
    fn write(&self, desk: &mut Desk, draining: bool) {
        if desk.write.is_some() || Instant::now() < desk.write_not_before {
            return;
        }
        let due = draining || desk.counters_at.elapsed() >= COUNTERS_EVERY;
        let changed = desk.book.take_changed(due);
        if changed.is_empty() && !due {
            return;
        }
        if due {
            desk.counters_at = Instant::now();
        }
        let positions = desk.book.chain().replay_offsets();
        if changed.is_empty() && positions == desk.positions_written {
            return;
        }
        let (done, outcome) = oneshot::channel();
        let ids = changed.iter().map(|(id, _)| *id).collect();
        desk.write = Some(Write {
            ids,
            positions: positions.clone(),
            outcome,
        });
        let (store, topic) = (self.store.clone(), self.topic.clone());
        tokio::spawn(async move {
            let _ = done.send(store.write(&changed, &topic, &positions).await);
        });
    }
}

/// A write under way.
struct Write {
    ids: Vec<DeliveryId>,
    positions: BTreeMap<u32, i64>,
    outcome: oneshot::Receiver<Result<(), sqlx::Error>>,
}

async fn written(write: &mut Option<Write>) -> Result<(), sqlx::Error> {
    match write {
        Some(write) => (&mut write.outcome)
            .await
            .unwrap_or(Err(sqlx::Error::WorkerCrashed)),
        None => std::future::pending().await,
    }
}

/// What the loop has before it.
struct Desk {
    book: Book,
    slot: Option<Slot>,
    slot_at: Instant,
    turn: Turn,
    turn_at: Instant,
    targets: Vec<Target>,
    addresses: HashMap<Pubkey, Target>,
    warmed_at: Instant,
    asking: bool,
    asked_at: Instant,
    counters_at: Instant,
    write: Option<Write>,
    write_not_before: Instant,
    writable: bool,
    positions_written: BTreeMap<u32, i64>,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            book: Book::default(),
            slot: None,
            slot_at: now,
            turn: Turn::default(),
            turn_at: now,
            targets: Vec::new(),
            addresses: HashMap::new(),
            warmed_at: now,
            asking: false,
            asked_at: now,
            counters_at: now,
            write: None,
            write_not_before: now,
            writable: true,
            positions_written: BTreeMap::new(),
        }
    }

    /// Rows that a drain should still write, while the database takes them.
    fn behind(&self) -> bool {
        self.writable && self.book.has_changes()
    }

    fn hear(&mut self, events: Vec<Told>) {
        for event in events {
            match event {
                Told::Block(block) => self.book.block(block),
                Told::Status {
                    slot,
                    blockhash,
                    commitment,
                } => self.book.status(slot, blockhash, commitment),
                Told::ReadUpTo {
                    partition,
                    next_offset,
                } => self.book.read_up_to(partition, next_offset),
            }
        }
        self.book.expire_proven();
    }

    fn learn(&mut self, answers: Vec<Answer>) {
        self.asking = false;
        for answer in answers {
            match answer {
                Answer::Lifetime(id, lifetime) => self.book.learn_lifetime(id, lifetime),
                Answer::Landed(id, landing) => self.book.landed(id, landing),
                Answer::Absent(id) => self.book.absent(id),
            }
        }
    }

    fn write_ended(&mut self, outcome: Result<(), sqlx::Error>, told: &impl Fn(bool)) {
        let Some(write) = self.write.take() else {
            return;
        };
        told(outcome.is_ok());
        match outcome {
            Ok(()) => {
                if !self.writable {
                    tracing::info!("PostgreSQL takes rows again");
                }
                self.writable = true;
                self.positions_written = write.positions;
                self.book.stored(write.ids);
            }
            Err(error) => {
                if self.writable {
                    tracing::warn!(%error, "PostgreSQL takes no rows; sending goes on, states are written when it does");
                }
                self.writable = false;
                self.write_not_before = Instant::now() + WRITE_RETRY;
                self.book.not_stored(write.ids);
            }
        }
    }
}

/// Unix milliseconds now.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
