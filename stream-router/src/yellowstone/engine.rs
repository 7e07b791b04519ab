//! Live fan-out to Yellowstone subscribers.
//!
//! One task holds all subscribers and their filters. Events of a block that is not complete yet are told to subscribers at
//! processed at once; everything else is told after the router's transaction is on the log, so that what was told can be told
//! again. A subscriber is *live* (gets what is told) or *catching up*: then a task of its own reads what it lacks from the log
//! at its pace, and hands over when nothing is left. Whoever asks for old slots, resumes, or reads too slowly for its queue
//! catches up; nobody live waits for it.
//!
//! A subscriber that began with a cursor (an empty one means "from now") gets whole blocks in the canonical order, and a cursor
//! with every update. The others get a processed block's events as they are observed, and what they had of it is not repeated
//! when the block is complete.
//!
//! `chronicle`, `early`, `blocks`, `emission` and `composed` are pure.

use std::{collections::HashMap, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, OptionFuture},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Duration, Instant},
};

use super::{
    catch_up::CatchUp,
    cursor::Cursor,
    filter::{FilterIndex, Filters, SubscriberId},
    outbox::{Ending, Outbox},
    tips::Tips,
};
use crate::{archive::Archive, subscription::Level};

mod blocks;
mod chronicle;
mod command;
mod composed;
mod delivery;
mod early;
mod emission;
mod metrics;
mod stamp;

use blocks::RecentBlocks;
pub use blocks::weight;
pub use chronicle::{Chronicle, Item, Reached, TooOld, What};
pub use command::{CaughtUp, Command, News, Start, SubscriberView, say_goodbye};
pub use delivery::frame as delivered;
pub use early::{EarlySlots, Had};
pub use emission::{Delivery, Scratch, event, telling};
pub use metrics::EngineMetrics;
pub use stamp::Stamp;

/// News waiting for the engine.
pub const NEWS: usize = 256;
/// Requests waiting for the engine; when full, the door waits.
pub const COMMANDS: usize = 1_024;
const TIDY: Duration = Duration::from_secs(10);
/// Tellings that are given from memory to one that hands over; more are read from the log first.
const HANDED_OVER_MAX: usize = 8;

/// What becomes of a subscriber whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSlow {
    CatchUp,
    Disconnect,
}

/// The engine's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Blocks that can be told again.
    pub replay_blocks: usize,
    /// Memory for blocks that are not finalized, bytes; what does not fit is read from the log when it is due.
    pub recent_bytes: usize,
    pub when_slow: WhenSlow,
}

#[derive(Debug)]
struct Subscriber {
    outbox: Outbox,
    level: Level,
    /// Whole blocks in canonical order, with cursors.
    in_order: bool,
    /// Catching up while this is set.
    task: Option<AbortHandle>,
    /// Tells the current task from earlier ones.
    epoch: u64,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// See the module.
pub struct Engine {
    settings: Settings,
    archive: Arc<Archive>,
    tips: Tips,
    metrics: EngineMetrics,
    /// For tasks that catch up.
    own: mpsc::Sender<Command>,
    index: FilterIndex,
    subscribers: HashMap<SubscriberId, Subscriber>,
    chronicle: Chronicle,
    recent: RecentBlocks,
    early: EarlySlots,
    scratch: Scratch,
    epochs: u64,
}

impl Engine {
    pub fn new(
        settings: Settings,
        archive: Arc<Archive>,
        tips: Tips,
        metrics: EngineMetrics,
        own: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            archive,
            tips,
            metrics,
            own,
            index: FilterIndex::default(),
            subscribers: HashMap::new(),
            chronicle: Chronicle::new(settings.replay_blocks),
            recent: RecentBlocks::new(settings.recent_bytes),
            early: EarlySlots::default(),
            scratch: Scratch::default(),
            epochs: 0,
            settings,
        }
    }

    /// Until the router's loop is gone.
    pub async fn run(
        mut self,
        mut news: mpsc::Receiver<News>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut tidy = tokio::time::interval_at(Instant::now() + TIDY, TIDY);
        // Before it is known what was told, no cursor can be judged.
        if let Some(told) = news.recv().await {
            self.news(told);
        }
        let archive = Arc::clone(&self.archive);
        let mut keeping = JoinSet::new();
        keeping.spawn(async move { archive.keep().await });
        let mut lows: OptionFuture<BoxFuture<'static, event_log::Result<Vec<i64>>>> = None.into();
        loop {
            tokio::select! {
                told = news.recv() => match told {
                    Some(told) => {
                        self.commands_before(&mut commands);
                        self.news(told);
                    }
                    None => break,
                },
                Some(command) = commands.recv() => self.command(command),
                _ = tidy.tick() => {
                    let archive = Arc::clone(&self.archive);
                    lows = Some(async move { archive.low_watermarks().await }.boxed()).into();
                    self.metrics.recent_bytes.set(self.recent.bytes() as i64);
                }
                Some(answer) = &mut lows => {
                    lows = None.into();
                    // A log that does not answer is told by those who read from it.
                    if let Ok(lows) = answer {
                        self.forget_before(&lows);
                    }
                }
            }
        }
        for subscriber in self.subscribers.values() {
            subscriber.outbox.end(Ending::Shutdown);
        }
    }

    /// Who was let in before a telling was handed over hears it. They wait in two queues, so the one must be asked first.
    fn commands_before(&mut self, commands: &mut mpsc::Receiver<Command>) {
        for _ in 0..commands.len() {
            let Ok(command) = commands.try_recv() else {
                return;
            };
            self.command(command);
        }
    }

    /// Forgets what retention has removed: what lies before the first offset of its partition.
    fn forget_before(&mut self, lows: &[i64]) {
        let archive = Arc::clone(&self.archive);
        self.chronicle.forget_before(|slot, offset| {
            let low = lows.get(archive.partition_of(slot) as usize);
            low.is_some_and(|low| offset < *low)
        });
        self.show_first_available();
    }

    pub(super) fn show_first_available(&self) {
        self.tips.first_available(self.chronicle.first_available());
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect {
                id,
                outbox,
                filters,
                start,
            } => {
                let subscriber = Subscriber {
                    outbox,
                    level: filters.level(),
                    in_order: false,
                    task: None,
                    epoch: 0,
                };
                self.subscribers.insert(id, subscriber);
                self.begin(id, filters, start);
            }
            Command::Replace { id, filters, start } => {
                if let Some(subscriber) = self.subscribers.get_mut(&id) {
                    if let Some(task) = subscriber.task.take() {
                        task.abort();
                    }
                    subscriber.level = filters.level();
                    self.begin(id, filters, start);
                }
            }
            Command::ChangeAccounts {
                id,
                filter,
                add,
                remove,
                done,
            } => {
                // For one that catches up this holds from the next portion on.
                let changed = self.index.change_accounts(id, &filter, &add, &remove);
                // The door may have given up waiting.
                let _ = done.send(changed);
            }
            Command::Disconnect { id } => self.forget(id),
            Command::Who(answer) => {
                let _ = answer.send(self.views());
            }
            Command::CaughtUp {
                id,
                epoch,
                number,
                had,
                next,
            } => {
                // A task that was aborted does not wait for the answer.
                let _ = next.send(self.hand_over(id, epoch, number, had));
            }
        }
        self.count_subscribers();
    }

    fn begin(&mut self, id: SubscriberId, filters: Filters, start: Start) {
        let level = filters.level();
        self.index.insert(id, filters);
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return;
        };
        let (items, from) = match start {
            Start::Now => return,
            Start::Slot(slot) => (self.chronicle.from_slot(slot), 0),
            Start::Cursor(bytes) => {
                subscriber.in_order = true;
                if bytes.is_empty() {
                    return;
                }
                let cursor = match Cursor::decode(&bytes) {
                    Ok(cursor) if cursor.level == level => cursor,
                    Ok(cursor) => {
                        let problem = format!(
                            "the cursor is of {:?}, the request of {level:?}: ask for the same commitment",
                            cursor.level
                        );
                        return self.end(id, Ending::CursorUnusable(problem));
                    }
                    Err(error) => return self.end(id, Ending::CursorUnusable(error.to_string())),
                };
                if cursor.number > self.chronicle.last() {
                    let problem = "the cursor is not of this stream, or ahead of it";
                    return self.end(id, Ending::CursorUnusable(problem.to_owned()));
                }
                self.resume(cursor)
            }
        };
        match items {
            Ok(items) => self.catch_up(id, items, from, Had::default()),
            Err(too_old) => self.end(id, too_old.ending()),
        }
    }

    /// What is left of the cursor's telling, and everything after it.
    fn resume(&self, cursor: Cursor) -> (Result<Vec<Item>, TooOld>, u32) {
        if cursor.next == u32::MAX {
            return (self.chronicle.after(cursor.number), 0);
        }
        let items = self.chronicle.after(cursor.number.saturating_sub(1));
        (items, cursor.next)
    }

    /// Starts a task that gives the items, the first from `from` on.
    fn catch_up(&mut self, id: SubscriberId, items: Vec<Item>, from: u32, had: Had) {
        let (Some(subscriber), Some(filters)) =
            (self.subscribers.get_mut(&id), self.index.filters(id))
        else {
            return;
        };
        self.epochs += 1;
        subscriber.epoch = self.epochs;
        let early = subscriber.level == Level::Processed && !subscriber.in_order;
        let task = CatchUp {
            id,
            epoch: self.epochs,
            level: subscriber.level,
            in_order: subscriber.in_order,
            filters: filters.clone(),
            outbox: subscriber.outbox.clone(),
            archive: Arc::clone(&self.archive),
            engine: self.own.clone(),
            number: items
                .first()
                .map_or(self.chronicle.last(), |item| item.number.saturating_sub(1)),
            items,
            from,
            // The others get nothing early.
            had: if early { had } else { Had::default() },
        };
        self.metrics.catch_ups.inc();
        let running = tokio::spawn(task.run());
        if let Some(before) = subscriber.task.replace(running.abort_handle()) {
            before.abort();
        }
    }

    /// The task has given everything through `number`: the rest from memory if that is little, else it goes on.
    fn hand_over(&mut self, id: SubscriberId, epoch: u64, number: u64, had: Had) -> CaughtUp {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return CaughtUp::Done;
        };
        if subscriber.epoch != epoch || subscriber.task.is_none() {
            return CaughtUp::Done;
        }
        let level = subscriber.level;
        let items = match self.chronicle.after(number) {
            Ok(items) => items,
            Err(too_old) => return CaughtUp::TooOld(too_old),
        };
        let in_memory = |item: &Item| match &item.what {
            What::Reached(reached) if reached.level == level => {
                self.recent.get(reached.block).is_some()
            }
            What::Reached(_) | What::Gap(_) => true,
        };
        if items.len() > HANDED_OVER_MAX || !items.iter().all(in_memory) {
            return self.more(id, number, (items, 0), had);
        }
        self.go_live(id, number, &items, had)
    }

    /// The task goes on, with the filters as they are now.
    fn more(
        &self,
        id: SubscriberId,
        through: u64,
        (items, from): (Vec<Item>, u32),
        had: Had,
    ) -> CaughtUp {
        match self.index.filters(id) {
            None => CaughtUp::Done,
            Some(filters) => CaughtUp::More {
                filters: Box::new(filters.clone()),
                through,
                items,
                from,
                had,
            },
        }
    }

    fn end(&mut self, id: SubscriberId, ending: Ending) {
        if let Some(subscriber) = self.subscribers.get(&id) {
            subscriber.outbox.end(ending);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: SubscriberId) {
        self.subscribers.remove(&id);
        self.index.remove(id);
    }

    fn count_subscribers(&self) {
        let catching_up = self.subscribers.values().filter(|s| s.task.is_some());
        self.metrics.catching_up.set(catching_up.count() as i64);
        self.metrics.subscribers.set(self.subscribers.len() as i64);
    }

    fn views(&self) -> Vec<SubscriberView> {
        let views = self
            .subscribers
            .iter()
            .map(|(id, subscriber)| SubscriberView {
                id: *id,
                commitment: match subscriber.level {
                    Level::Processed => "processed",
                    Level::Confirmed => "confirmed",
                    Level::Finalized => "finalized",
                },
                queued_bytes: subscriber.outbox.queued_bytes(),
                live: subscriber.task.is_none(),
            });
        let mut views: Vec<SubscriberView> = views.collect();
        views.sort_by_key(|view| view.id);
        views
    }
}
