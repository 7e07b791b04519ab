//! The others' side: follow what is published, serve subscribers from it, and know when to take over.
//!
//! Subscribers of a standby get whole blocks in canonical order, at every commitment, live and replayed. What a validator
//! reports before its block is complete they get from the publisher only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use event_log::{Action, EventLog, LogReader, ReaderSpec, Record, Start};
use event_schema::{Slot, Topics};
use prometheus::IntGauge;
use serde_json::json;
use service_host::Host;
use tracing::{info, warn};

use super::{
    Claim, Follower, Identity, Newest, Notice, Step, Watch, follower::within_memory, last_told,
    told_after,
};
use crate::{
    archive::{Archive, ArchiveError},
    assembly::Block,
    commitment::Standing,
    config::Config,
    pipeline::Outlets,
    publication::{Settings, Told},
    router::Effect,
    state::{Earlier, RestoredBlock},
    yellowstone::engine::News,
};

/// Longest wait for news of the log; a lapse of the lease is noticed this late at most.
const POLL: Duration = Duration::from_millis(100);
const RECORDS: usize = 10_000;

/// See the module.
pub struct Standby {
    log: Arc<dyn EventLog>,
    settings: Settings,
    pub watch: Watch,
    /// Between two beats of a publisher.
    beat: Duration,
    follower: Follower,
    archive: Archive,
    /// By partition of the canonical topic: the last block whose place is known begins here.
    reached: HashMap<u32, i64>,
    /// Everything through this telling was told to those who count.
    through: u64,
    /// The newest finalized slot that was followed.
    root: Slot,
    shown: Shown,
}

/// What operators see.
struct Shown {
    publishing: IntGauge,
    turn: IntGauge,
    page: Arc<Mutex<(bool, Option<Claim>)>>,
}

impl Standby {
    pub fn new(config: &Config, log: Arc<dyn EventLog>, host: &Host) -> anyhow::Result<Self> {
        let settings = config.settings();
        let me = Identity::of_process(&config.leadership, &config.listen.to_string());
        let archive = Archive::new(
            Arc::clone(&log),
            settings.topics.canonical.clone(),
            settings.partitions.canonical,
        );
        Ok(Self {
            log,
            settings,
            shown: Shown::new(&me, host)?,
            watch: Watch::new(me, config.leadership.lease()),
            beat: config.leadership.beat(),
            follower: Follower::default(),
            archive,
            reached: HashMap::new(),
            through: 0,
            root: Slot(0),
        })
    }

    fn topics(&self) -> &Topics {
        &self.settings.topics
    }

    /// Returns when this router is to claim. `outlets` are fed meanwhile.
    pub async fn until_due(&mut self, outlets: &Outlets, host: &Host) -> anyhow::Result<()> {
        self.settings.make_topics(self.log.as_ref()).await?;
        let mut notices = self.reader(&self.topics().leadership).await?;
        self.read_notices(&mut notices).await?;
        self.watch.begin(Instant::now());
        self.shown.standing_by(self.watch.leader());
        if self.watch.wait(Instant::now()).is_zero() {
            return Ok(());
        }
        let mut states = self.reader(&self.topics().router_state).await?;
        let mut newest = Newest::default();
        while let Some(records) = some_or_end(states.as_mut()).await? {
            newest.push(&records)?;
        }
        // Even if there are none: only now subscribers can be told from when on they hear.
        self.begin(newest.in_order(), outlets).await?;
        outlets.ready(host, true);
        let leader = self.watch.leader().map(|claim| claim.by.name.clone());
        info!(publisher = leader, "standing by");
        loop {
            tokio::select! {
                read = notices.poll(RECORDS, POLL) => self.notice(&read?),
                read = states.poll(RECORDS, POLL) => {
                    let mut newest = Newest::default();
                    newest.push(&read?)?;
                    if !newest.is_empty() {
                        self.follow(newest.in_order(), outlets).await?;
                    }
                }
            }
            if self.is_due(&mut notices).await? {
                info!("nobody publishes: taking over");
                return Ok(());
            }
        }
    }

    /// Silence counts while the log answers and nothing in it is unread.
    async fn is_due(&mut self, notices: &mut Box<dyn LogReader>) -> anyhow::Result<bool> {
        let silent = self.watch.silence(Instant::now());
        if silent < self.beat * 2 && !self.watch.wait(Instant::now()).is_zero() {
            return Ok(false);
        }
        let asked = self.log.watermarks(&self.topics().leadership, 0).await;
        if let Err(error) = asked {
            warn!(%error, "the log does not answer");
            self.watch.begin(Instant::now());
            return Ok(false);
        }
        if self.watch.wait(Instant::now()).is_zero() {
            self.read_notices(notices).await?;
            self.shown.standing_by(self.watch.leader());
        }
        Ok(self.watch.wait(Instant::now()).is_zero())
    }

    async fn read_notices(&mut self, notices: &mut Box<dyn LogReader>) -> anyhow::Result<()> {
        while let Some(records) = some_or_end(notices.as_mut()).await? {
            self.notice(&records);
        }
        Ok(())
    }

    fn notice(&mut self, records: &[Record]) {
        for notice in records.iter().filter_map(Notice::read) {
            self.watch.push(notice, Instant::now());
        }
    }

    /// What was told before this router stood by. Who has not heard all of it catches up from the log.
    async fn begin(&mut self, told: Earlier, outlets: &Outlets) -> anyhow::Result<()> {
        self.through = last_told(&told);
        self.tell(&told, outlets).await?;
        outlets.tell_stream(News::Restored(told)).await;
        Ok(())
    }

    /// What is told from then on.
    async fn follow(&mut self, told: Earlier, outlets: &Outlets) -> anyhow::Result<()> {
        for (number, step) in told_after(&told, self.through) {
            let is_news = self.follower.is_news(&step);
            if outlets.stream.is_none() && !is_news {
                continue;
            }
            let (effect, offset) = self.effect(&step).await?;
            self.through = self.through.max(number);
            let telling = Told {
                effect: effect.clone(),
                number,
                offset,
            };
            outlets.tell_stream(News::Committed(vec![telling])).await;
            if is_news {
                self.tell_websocket(effect, outlets).await;
            }
            if let (Step::Publish(restored), Some(offset)) = (&step, offset) {
                self.reached(restored.block.slot, offset);
            }
        }
        Ok(())
    }

    /// Tells WebSocket subscribers what they have not heard of it, oldest first. It may be cut off anywhere: what was not told
    /// then is told by the next call.
    pub async fn tell(&mut self, told: &Earlier, outlets: &Outlets) -> anyhow::Result<()> {
        if self.follower.has_missed(told) {
            warn!("others have published more than can be told to WebSocket subscribers");
            self.hand_over(vec![Effect::PassedOver], outlets).await;
        }
        self.follower.begin(told);
        for restored in within_memory(&told.blocks) {
            if let Some(offset) = restored.history.offset {
                self.reached(restored.block.slot, offset);
            }
            for step in self.follower.news(restored) {
                match self.effect(&step).await {
                    Ok((effect, _)) => self.tell_websocket(effect, outlets).await,
                    Err(ArchiveError::Log(error)) if error.action() == Action::Retry => {
                        return Err(error.into());
                    }
                    Err(error) => {
                        warn!(%error, "a block cannot be told to WebSocket subscribers");
                        self.hand_over(vec![Effect::PassedOver], outlets).await;
                        self.follower.passed_over(restored.block);
                    }
                }
            }
            if restored.told == Standing::Finalized {
                self.root = self.root.max(restored.block.slot);
            }
        }
        for (_, gap) in &told.gaps {
            let step = Step::Gap(gap.clone());
            if self.follower.is_news(&step) {
                self.tell_websocket(Effect::Gap(gap.clone()), outlets).await;
            }
        }
        Ok(())
    }

    /// The step with what it is about, and a block's place.
    async fn effect(&self, step: &Step) -> Result<(Effect, Option<i64>), ArchiveError> {
        Ok(match step {
            Step::Publish(restored) => {
                let (block, offset) = self.find(restored).await?;
                (Effect::Publish(block), Some(offset))
            }
            Step::Standing(change) => (Effect::Standing(*change), None),
            Step::Gap(gap) => (Effect::Gap(gap.clone()), None),
        })
    }

    async fn tell_websocket(&mut self, effect: Effect, outlets: &Outlets) {
        let effects = match &effect {
            Effect::Publish(block) => {
                let (slot, parent) = (block.id.slot, block.parent.slot);
                let root = self.root;
                vec![Effect::SlotCreated { slot, parent, root }, effect]
            }
            Effect::Standing(change) if change.standing == Standing::Finalized => {
                let root = change.block.slot;
                self.root = self.root.max(root);
                vec![effect, Effect::Rooted(root)]
            }
            _ => vec![effect],
        };
        self.hand_over(effects, outlets).await;
    }

    /// Hands to WebSocket subscribers what this process tells, and notes that it was told: both, or neither, should the caller
    /// be cut off while it waits.
    pub async fn hand_over(&mut self, effects: Vec<Effect>, outlets: &Outlets) {
        // Closed only when the process ends.
        if let Ok(place) = outlets.fanout.reserve().await {
            self.follower.heard(&effects);
            outlets.board.effects(&effects);
            place.send(effects);
        }
    }

    async fn find(&self, restored: &RestoredBlock) -> Result<(Arc<Block>, i64), ArchiveError> {
        let partition = self.archive.partition_of(restored.block.slot);
        let offset = restored.history.offset;
        // It is written down with the transaction after the block's own: until then the block is looked for.
        let not_before = match offset.or_else(|| self.reached.get(&partition).copied()) {
            Some(offset) => offset,
            None => {
                let lows = self.archive.low_watermarks().await?;
                lows.get(partition as usize).copied().unwrap_or_default()
            }
        };
        self.archive.find(restored.block, offset, not_before).await
    }

    /// A block of this slot begins there, and everything before it is told.
    fn reached(&mut self, slot: Slot, offset: i64) {
        let reached = self
            .reached
            .entry(self.archive.partition_of(slot))
            .or_default();
        *reached = (*reached).max(offset);
    }

    pub fn publishing(&self, claim: &Claim) {
        self.shown.publishing(claim);
    }

    async fn reader(&self, topic: &Arc<str>) -> anyhow::Result<Box<dyn LogReader>> {
        let spec = ReaderSpec {
            partitions: vec![(topic.clone(), 0, Start::Earliest)],
            read_committed: true,
        };
        let reader = self.log.reader(spec).await;
        reader.with_context(|| format!("reading {topic}"))
    }
}

impl Shown {
    fn new(me: &Identity, host: &Host) -> anyhow::Result<Self> {
        let gauge = |name: &str, help: &str| -> anyhow::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            host.metrics().register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let page = Arc::new(Mutex::new((false, None::<Claim>)));
        let (asked, me) = (Arc::clone(&page), me.clone());
        host.page("leadership", move || {
            let (publishing, leader) = lock(&asked).clone();
            let me = me.clone();
            async move { json!({ "this": me, "publishes": publishing, "publisher": leader }) }
        });
        Ok(Self {
            publishing: gauge(
                "router_publishing",
                "1 while this router publishes, 0 while it stands by",
            )?,
            turn: gauge(
                "router_leadership_turn",
                "Number of the newest claim to publish that this router knows",
            )?,
            page,
        })
    }

    fn standing_by(&self, leader: Option<&Claim>) {
        self.show(false, leader);
    }

    fn publishing(&self, claim: &Claim) {
        self.show(true, Some(claim));
    }

    fn show(&self, publishing: bool, leader: Option<&Claim>) {
        self.publishing.set(i64::from(publishing));
        self.turn.set(leader.map_or(0, |claim| claim.turn as i64));
        *lock(&self.page) = (publishing, leader.cloned());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it guards is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` at the end of the topic.
async fn some_or_end(reader: &mut dyn LogReader) -> event_log::Result<Option<Vec<Record>>> {
    let records = reader.poll(RECORDS, POLL).await?;
    let ended = records.is_empty() && reader.lag().await? == 0;
    Ok((!ended).then_some(records))
}
