//! The validator's side of the plugin interface: which thread calls what, and in which order.
//!
//! As in Agave 4.2.2, a source has one thread for transactions (`solTxStatusWrtr`), one for entries (`solEntryNotif`), the
//! replay thread for banks and block metadata (`solReplayStage`) and one for commitment (`solBankNotif`). What follows what:
//!
//! - *CreatedBank* comes before anything else of its slot;
//! - block metadata may overtake any number of the slot's transactions, as the freeze does not wait for them;
//! - *Processed* waits for the slot's transactions and metadata, and for no entry: entries may trail into later slots;
//! - *Confirmed* carries no parent; *Rooted* follows some slots behind, with its parent.
//!
//! Account updates are not made: recorded blocks hold none.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaBlockInfoV4, ReplicaBlockInfoVersions, ReplicaEntryInfoV2, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoVersions, Result as PluginResult, SlotStatus,
};

use crate::{
    block_file::Block,
    entries::{self, Entry},
    plugin_library::LoadedPlugin,
    replica,
};

/// Blocks that may wait for a thread of a source; the host blocks when it is full. A validator's queues have no bound, but
/// a recording can wait.
const BLOCKS_QUEUED_MAX: usize = 4;

/// How a source drives its blocks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Transactions per second; none drives as fast as the plugin returns.
    pub transactions_per_second: Option<u32>,
    /// How many slots *Rooted* stays behind *Confirmed*.
    pub root_lag_slots: usize,
}

/// One validator's plugin instance and the threads that call it.
pub struct Source {
    // The threads come first: they are dropped, and so joined, before the plugin is unloaded on the thread that drops the
    // source. A thread that once ran a plugin's code may run some of it again when it ends.
    transactions: Caller,
    entries: Caller,
    replay_stage: Caller,
    bank_notifications: Caller,
    plugin: Arc<LoadedPlugin>,
    refusals: Arc<Refusals>,
    pace: Pace,
    wants_transactions: bool,
    wants_entries: bool,
    /// Slots that are confirmed and not yet rooted, with their parents.
    unrooted: VecDeque<(u64, u64)>,
}

/// Callbacks to which the plugin answered with an error.
#[derive(Debug, Default)]
struct Refusals {
    count: AtomicU64,
    first: Mutex<Option<String>>,
}

/// What the plugin refused over the life of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub count: u64,
    /// The first refusal in the plugin's words.
    pub first: String,
}

/// A thread of the validator ended early: a panic crossed into it.
#[derive(Debug, thiserror::Error)]
#[error("thread {0} of the host ended: the plugin panicked in a callback")]
pub struct ThreadEnded(&'static str);

impl Source {
    pub fn new(plugin: LoadedPlugin, pace: Pace) -> std::io::Result<Self> {
        let plugin = Arc::new(plugin);
        let caller = |name| Caller::new(name, plugin.clone());
        Ok(Self {
            wants_transactions: plugin.get().transaction_notifications_enabled(),
            wants_entries: plugin.get().entry_notifications_enabled(),
            transactions: caller("solTxStatusWrtr")?,
            entries: caller("solEntryNotif")?,
            replay_stage: caller("solReplayStage")?,
            bank_notifications: caller("solBankNotif")?,
            plugin,
            refusals: Arc::default(),
            pace,
            unrooted: VecDeque::new(),
        })
    }

    /// Drives one block and returns when its transactions and metadata are delivered. `metadata_after` says how many of its
    /// transactions are delivered before the metadata is sent on its way.
    pub fn drive(&mut self, block: &Arc<Block>, metadata_after: usize) -> Result<(), ThreadEnded> {
        let (slot, parent_slot) = (block.slot, block.parent_slot);
        let made = Arc::new(entries::synthesise(block));

        let (created, bank_created) = mpsc::channel();
        let refusals = self.refusals.clone();
        self.replay_stage.call(move |plugin| {
            let answer =
                plugin
                    .get()
                    .update_slot_status(slot, Some(parent_slot), &SlotStatus::CreatedBank);
            refusals.note("update_slot_status", slot, answer);
            let _ = created.send(());
        })?;
        bank_created
            .recv()
            .map_err(|_| ThreadEnded(self.replay_stage.name))?;

        if self.wants_entries {
            let (made, refusals) = (made.clone(), self.refusals.clone());
            self.entries
                .call(move |plugin| notify_entries(plugin, slot, &made, &refusals))?;
        }

        let (metadata_due, freeze) = mpsc::channel();
        let (transactions_done, metadata_done) = (mpsc::channel(), mpsc::channel());
        let metadata_after = if self.wants_transactions {
            let after = metadata_after.min(block.transactions.len());
            let (block, refusals) = (block.clone(), self.refusals.clone());
            let (done, rate) = (transactions_done.0, self.pace.transactions_per_second);
            let due = metadata_due.clone();
            self.transactions.call(move |plugin| {
                notify_transactions(plugin, &block, rate, &refusals, |delivered| {
                    if delivered == after {
                        let _ = due.send(());
                    }
                });
                let _ = done.send(());
            })?;
            Some(after)
        } else {
            let _ = transactions_done.0.send(());
            None
        };
        if metadata_after.is_none_or(|after| after == 0) {
            let _ = metadata_due.send(());
        }
        drop(metadata_due);
        let (metadata_block, refusals) = (block.clone(), self.refusals.clone());
        let (done, entry_count) = (metadata_done.0, made.len() as u64);
        self.replay_stage.call(move |plugin| {
            // A closed channel means that the transactions' thread is gone; the receiver below reports it.
            if freeze.recv().is_ok() {
                notify_metadata(plugin, &metadata_block, entry_count, &refusals);
                let _ = done.send(());
            }
        })?;
        transactions_done
            .1
            .recv()
            .map_err(|_| ThreadEnded(self.transactions.name))?;
        metadata_done
            .1
            .recv()
            .map_err(|_| ThreadEnded(self.replay_stage.name))?;

        self.status(slot, Some(parent_slot), SlotStatus::Processed)?;
        self.status(slot, None, SlotStatus::Confirmed)?;
        self.unrooted.push_back((slot, parent_slot));
        while self.unrooted.len() > self.pace.root_lag_slots {
            self.root_oldest()?;
        }
        Ok(())
    }

    /// Roots what is left, waits for every thread, unloads the plugin and says what it refused.
    pub fn finish(mut self) -> Result<Option<Refused>, ThreadEnded> {
        while !self.unrooted.is_empty() {
            self.root_oldest()?;
        }
        for caller in [
            &mut self.transactions,
            &mut self.entries,
            &mut self.replay_stage,
            &mut self.bank_notifications,
        ] {
            caller.end()?;
        }
        drop(self.plugin);
        let count = self.refusals.count.load(Ordering::Relaxed);
        let first = self
            .refusals
            .first
            .lock()
            .ok()
            .and_then(|first| first.clone());
        Ok((count > 0).then(|| Refused {
            count,
            first: first.unwrap_or_default(),
        }))
    }

    /// Whether the plugin asked for transactions at all.
    pub fn wants_transactions(&self) -> bool {
        self.wants_transactions
    }

    fn root_oldest(&mut self) -> Result<(), ThreadEnded> {
        match self.unrooted.pop_front() {
            Some((slot, parent)) => self.status(slot, Some(parent), SlotStatus::Rooted),
            None => Ok(()),
        }
    }

    fn status(
        &self,
        slot: u64,
        parent: Option<u64>,
        status: SlotStatus,
    ) -> Result<(), ThreadEnded> {
        let refusals = self.refusals.clone();
        self.bank_notifications.call(move |plugin| {
            let answer = plugin.get().update_slot_status(slot, parent, &status);
            refusals.note("update_slot_status", slot, answer);
        })
    }
}

fn notify_transactions(
    plugin: &LoadedPlugin,
    block: &Block,
    transactions_per_second: Option<u32>,
    refusals: &Refusals,
    mut delivered: impl FnMut(usize),
) {
    let begin = Instant::now();
    for (index, recorded) in block.transactions.iter().enumerate() {
        if let Some(rate) = transactions_per_second.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(index as f64 / f64::from(rate));
            thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        let Some(info) = replica::transaction(recorded, index) else {
            continue;
        };
        let info = ReplicaTransactionInfoVersions::V0_0_3(&info);
        let answer = plugin.get().notify_transaction(info, block.slot);
        refusals.note("notify_transaction", block.slot, answer);
        delivered(index + 1);
    }
}

fn notify_entries(plugin: &LoadedPlugin, slot: u64, made: &[Entry], refusals: &Refusals) {
    for entry in made {
        let answer =
            plugin
                .get()
                .notify_entry(ReplicaEntryInfoVersions::V0_0_2(&ReplicaEntryInfoV2 {
                    slot,
                    index: entry.index,
                    num_hashes: entry.num_hashes,
                    hash: entry.hash.as_ref(),
                    executed_transaction_count: entry.executed_transaction_count,
                    starting_transaction_index: entry.starting_transaction_index,
                }));
        refusals.note("notify_entry", slot, answer);
    }
}

fn notify_metadata(plugin: &LoadedPlugin, block: &Block, entry_count: u64, refusals: &Refusals) {
    let answer = plugin
        .get()
        .notify_block_metadata(ReplicaBlockInfoVersions::V0_0_4(&ReplicaBlockInfoV4 {
            parent_slot: block.parent_slot,
            parent_blockhash: &block.parent_blockhash.to_string(),
            slot: block.slot,
            blockhash: &block.blockhash.to_string(),
            rewards: &block.rewards,
            block_time: block.block_time,
            block_height: block.block_height,
            executed_transaction_count: block.transactions.len() as u64,
            entry_count,
        }));
    refusals.note("notify_block_metadata", block.slot, answer);
}

impl Refusals {
    fn note(&self, callback: &str, slot: u64, answer: PluginResult<()>) {
        let Err(e) = answer else {
            return;
        };
        if self.count.fetch_add(1, Ordering::Relaxed) == 0
            && let Ok(mut first) = self.first.lock()
        {
            *first = Some(format!("{callback}, slot {slot}: {e}"));
        }
    }
}

type Call = Box<dyn FnOnce(&LoadedPlugin) + Send>;

/// A named thread that makes its callbacks one after the other; dropping it waits for them.
struct Caller {
    name: &'static str,
    calls: Option<SyncSender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    fn new(name: &'static str, plugin: Arc<LoadedPlugin>) -> std::io::Result<Self> {
        let (calls, queue) = mpsc::sync_channel::<Call>(BLOCKS_QUEUED_MAX);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            for call in queue {
                call(&plugin);
            }
        })?;
        Ok(Self {
            name,
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    fn call(&self, call: impl FnOnce(&LoadedPlugin) + Send + 'static) -> Result<(), ThreadEnded> {
        let sent = self.calls.as_ref().map(|calls| calls.send(Box::new(call)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(ThreadEnded(self.name)),
        }
    }

    fn end(&mut self) -> Result<(), ThreadEnded> {
        self.calls = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(ThreadEnded(self.name)),
            _ => Ok(()),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // A source that is dropped unfinished has already said why.
        let _ = self.end();
    }
}
