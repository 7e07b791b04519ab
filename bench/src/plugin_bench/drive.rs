//! Drives a plugin from one or more threads with whole slots, and takes a probe of every callback.
//!
//! The threads share each block's transactions; before each transaction its accounts are updated on the same thread. The
//! first thread reports the rest as a validator does: *CreatedBank* before anything else of the slot; entries, metadata,
//! *Processed* and *Confirmed* after it; *Rooted* two slots behind. A plugin that asks for them gets the slot's deshredded
//! transactions before *CreatedBank*, and some contact info with them. Each round's slots follow those of the one before.

use std::{
    net::SocketAddr,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, ReplicaAccountInfoV3, ReplicaAccountInfoVersions, ReplicaBlockInfoV4,
    ReplicaBlockInfoVersions, ReplicaContactInfoV0_0_1, ReplicaContactInfoVersions,
    ReplicaDeshredTransactionInfoV2, ReplicaDeshredTransactionInfoVersions, ReplicaEntryInfoV2,
    ReplicaEntryInfoVersions, ReplicaTransactionInfoVersions, Result as PluginResult, SlotStatus,
};
use serde::{Deserialize, Serialize};

use crate::replica;

use super::{
    mix::{ACCOUNTS_PER_TRANSACTION, Kind},
    probe::Probe,
    touch,
    workload::{PreparedBlock, Workload},
};

/// *Rooted* follows this many slots behind.
const ROOT_LAG: u64 = 2;
/// One contact info with so many deshredded transactions; mainnet's nodes say each second how they are reached.
const TRANSACTIONS_PER_CONTACT_INFO: usize = 8;
/// How long a thread sleeps that is ahead of its rate, or of its window; and when it stops to believe in the reader.
const NAP: Duration = Duration::from_millis(1);
const WINDOW_NAP: Duration = Duration::from_micros(200);
const STUCK: Duration = Duration::from_secs(10);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Back to back.
    Busy,
    /// With a sleep of so many microseconds after each transaction.
    PauseMicros(u64),
    /// So many callbacks per second over all threads, in a burst per millisecond.
    PerSecond(u32),
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    pub threads: usize,
    pub pace: Pace,
    pub until: Until,
    /// Whether what is reported is read just before, see [`super::touch`].
    pub touched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Every block so many times.
    Passes(u64),
    /// The slot that is under way after so many milliseconds is finished.
    Milliseconds(u64),
}

/// Lets callbacks run ahead of a reader by at most so many.
#[derive(Debug)]
pub struct Window {
    pub ahead_max: u64,
    /// Callbacks made, and of them, those whose records the reader has.
    pub issued: AtomicU64,
    pub received: AtomicU64,
    abandoned: AtomicBool,
}

impl Window {
    pub fn new(ahead_max: u64) -> Self {
        Self {
            ahead_max,
            issued: AtomicU64::new(0),
            received: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
        }
    }

    fn wait(&self) {
        let is_ahead = || {
            self.issued.load(Ordering::Relaxed)
                > self.received.load(Ordering::Relaxed) + self.ahead_max
        };
        if !is_ahead() {
            return;
        }
        let begin = Instant::now();
        while is_ahead() && !self.abandoned.load(Ordering::Relaxed) {
            thread::sleep(WINDOW_NAP);
            // What was lost is never received; then the window is no longer one, and the loss is reported.
            if begin.elapsed() > STUCK {
                self.abandoned.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What one round came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Driven {
    pub callbacks: u64,
    pub refused: u64,
    pub seconds: f64,
}

/// Drives `workload` from `first_slot` on; returns the outcome, each thread's probe, and the next free slot.
pub fn drive<P: Probe + Send>(
    plugin: &dyn GeyserPlugin,
    workload: &Workload,
    plan: Plan,
    first_slot: u64,
    window: Option<&Window>,
    probe: impl Fn() -> P + Sync,
) -> (Driven, Vec<P>, u64) {
    let threads = plan.threads.max(1);
    let shared = Shared {
        plugin,
        workload,
        pace: plan.pace,
        until: plan.until,
        touched: plan.touched,
        threads,
        first_slot,
        window,
        begin: Instant::now(),
        slots: AtomicU64::new(0),
        barrier: Barrier::new(threads),
    };
    let ends: Vec<Caller<'_, P>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..threads)
            .map(|number| {
                let (shared, probe) = (&shared, &probe);
                scope.spawn(move || {
                    let mut caller = Caller::new(shared, number, probe());
                    caller.run();
                    caller
                })
            })
            .collect();
        callers
            .into_iter()
            .map(|caller| {
                // A plugin's panic ends the host, as it would end a validator.
                caller
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let driven = Driven {
        callbacks: ends.iter().map(|caller| caller.callbacks).sum(),
        refused: ends.iter().map(|caller| caller.refused).sum(),
        seconds: shared.begin.elapsed().as_secs_f64(),
    };
    let next_slot = first_slot + shared.slots.load(Ordering::Relaxed);
    let probes = ends.into_iter().map(|caller| caller.probe).collect();
    (driven, probes, next_slot)
}

/// What the threads of a round have in common.
struct Shared<'a> {
    plugin: &'a dyn GeyserPlugin,
    workload: &'a Workload,
    pace: Pace,
    until: Until,
    touched: bool,
    threads: usize,
    first_slot: u64,
    window: Option<&'a Window>,
    begin: Instant,
    /// How many slots there shall be; raised by the first thread before each.
    slots: AtomicU64,
    barrier: Barrier,
}

impl Shared<'_> {
    fn goes_on(&self, slots: u64) -> bool {
        match self.until {
            Until::Passes(passes) => slots < passes * self.workload.blocks.len() as u64,
            Until::Milliseconds(limit) => self.begin.elapsed() < Duration::from_millis(limit),
        }
    }
}

/// One thread of a round.
struct Caller<'a, P> {
    shared: &'a Shared<'a>,
    number: usize,
    probe: P,
    accounts: u64,
    callbacks: u64,
    refused: u64,
}

impl<'a, P: Probe> Caller<'a, P> {
    fn new(shared: &'a Shared<'a>, number: usize, probe: P) -> Self {
        Self {
            shared,
            number,
            probe,
            // Threads begin at different places of the series of accounts.
            accounts: (number as u64) * 7_919,
            callbacks: 0,
            refused: 0,
        }
    }

    fn run(&mut self) {
        let shared = self.shared;
        for nth in 0.. {
            if self.number == 0 && shared.goes_on(nth) {
                shared.slots.store(nth + 1, Ordering::Relaxed);
                let slot = shared.first_slot + nth;
                let blocks = &shared.workload.blocks;
                self.beside(&blocks[nth as usize % blocks.len()], slot);
                self.status(slot, Some(slot - 1), &SlotStatus::CreatedBank);
            }
            shared.barrier.wait();
            if shared.slots.load(Ordering::Relaxed) <= nth {
                return;
            }
            let slot = shared.first_slot + nth;
            let blocks = &shared.workload.blocks;
            let block = &blocks[nth as usize % blocks.len()];
            for index in (self.number..block.block.transactions.len()).step_by(shared.threads) {
                self.transaction(block, slot, index);
                self.wait();
            }
            shared.barrier.wait();
            if self.number == 0 {
                self.finish(block, slot);
            }
        }
    }

    /// What no block holds, as far as the plugin asks for it.
    fn beside(&mut self, block: &PreparedBlock, slot: u64) {
        let plugin = self.shared.plugin;
        let (deshred, lookup_tables, contact_info) = (
            plugin.deshred_transaction_notifications_enabled(),
            plugin.deshred_transaction_alt_resolution_enabled(),
            plugin.contact_info_notifications_enabled(),
        );
        for (nth, recorded) in block.block.transactions.iter().enumerate() {
            let signature = recorded.transaction.signatures.first();
            if let Some(signature) = signature.filter(|_| deshred) {
                let set = nth as u32 / 32;
                let info = ReplicaDeshredTransactionInfoV2 {
                    signature,
                    is_vote: recorded.is_vote,
                    transaction: &recorded.transaction,
                    loaded_addresses: lookup_tables.then_some(&recorded.meta.loaded_addresses),
                    completed_data_set_starting_shred_index: set,
                    completed_data_set_ending_shred_index_exclusive: set + 1,
                };
                if self.shared.touched {
                    touch::deshred(&recorded.transaction);
                }
                self.call(Kind::Deshred, |plugin| {
                    let info = ReplicaDeshredTransactionInfoVersions::V0_0_2(&info);
                    plugin.notify_deshred_transaction(info, slot)
                });
            }
            if contact_info && nth % TRANSACTIONS_PER_CONTACT_INFO == 0 {
                self.contact_info(slot, nth as u64);
            }
        }
    }

    /// As an Agave node advertises itself.
    fn contact_info(&mut self, slot: u64, nth: u64) {
        let socket = |port| Some(SocketAddr::from(([203, 0, 113, nth as u8], port)));
        let info = ReplicaContactInfoV0_0_1 {
            pubkey: self.shared.workload.accounts.node(nth),
            wallclock: 1_700_000_000_000 + slot * 400,
            outset: 1_699_999_000_000_000,
            shred_version: 50_093,
            version_major: 4,
            version_minor: 2,
            version_patch: 2,
            version_commit: 0x0102_0304,
            version_feature_set: 0x0506_0708,
            version_client_id: 3,
            gossip: socket(8_000),
            tpu_quic: socket(8_009),
            tpu_forwards_quic: socket(8_010),
            tpu_vote_udp: socket(8_005),
            tpu_vote_quic: socket(8_011),
            tvu_udp: socket(8_001),
            tvu_quic: None,
            serve_repair_udp: socket(8_012),
            serve_repair_quic: socket(8_013),
            rpc: None,
            rpc_pubsub: None,
            alpenglow: socket(8_014),
        };
        self.call(Kind::ContactInfo, |plugin| {
            plugin.notify_contact_info(ReplicaContactInfoVersions::V0_0_1(&info), false)
        });
    }

    /// A transaction, after the accounts it wrote.
    fn transaction(&mut self, block: &PreparedBlock, slot: u64, index: usize) {
        let shared = self.shared;
        for _ in 0..ACCOUNTS_PER_TRANSACTION {
            let account = shared.workload.accounts.get(self.accounts);
            let info = ReplicaAccountInfoV3 {
                pubkey: account.pubkey,
                lamports: account.lamports,
                owner: account.owner,
                executable: false,
                rent_epoch: u64::MAX,
                data: account.data,
                write_version: self.write_version(),
                txn: Some(&block.writers[index]),
            };
            if shared.touched {
                touch::account(&account, &block.writers[index]);
            }
            self.accounts += 1;
            self.call(account.kind, |plugin| {
                plugin.update_account(ReplicaAccountInfoVersions::V0_0_3(&info), slot, false)
            });
        }
        let recorded = &block.block.transactions[index];
        let Some(info) = replica::transaction(recorded, index) else {
            return;
        };
        if shared.touched {
            touch::transaction(&recorded.transaction, &recorded.meta);
        }
        let kind = if recorded.is_vote {
            Kind::VoteTransaction
        } else {
            Kind::NonVoteTransaction
        };
        self.call(kind, |plugin| {
            plugin.notify_transaction(ReplicaTransactionInfoVersions::V0_0_3(&info), slot)
        });
    }

    /// At a given rate it is the time, for who measures how long a record is under way.
    fn write_version(&self) -> u64 {
        match self.shared.pace {
            Pace::PerSecond(_) => unix_micros(),
            _ => self.accounts * self.shared.threads as u64 + self.number as u64,
        }
    }

    /// Everything that follows a slot's transactions.
    fn finish(&mut self, block: &PreparedBlock, slot: u64) {
        for entry in &block.entries {
            let info = ReplicaEntryInfoV2 {
                slot,
                index: entry.index,
                num_hashes: entry.num_hashes,
                hash: entry.hash.as_ref(),
                executed_transaction_count: entry.executed_transaction_count,
                starting_transaction_index: entry.starting_transaction_index,
            };
            self.call(Kind::Entry, |plugin| {
                plugin.notify_entry(ReplicaEntryInfoVersions::V0_0_2(&info))
            });
            if let Pace::PerSecond(_) = self.shared.pace {
                self.wait();
            }
        }
        let info = ReplicaBlockInfoV4 {
            parent_slot: slot - 1,
            parent_blockhash: &block.parent_blockhash,
            slot,
            blockhash: &block.blockhash,
            rewards: &block.block.rewards,
            block_time: block.block.block_time,
            block_height: block.block.block_height,
            executed_transaction_count: block.block.transactions.len() as u64,
            entry_count: block.entries.len() as u64,
        };
        self.call(Kind::BlockMeta, |plugin| {
            plugin.notify_block_metadata(ReplicaBlockInfoVersions::V0_0_4(&info))
        });
        self.status(slot, Some(slot - 1), &SlotStatus::Processed);
        self.status(slot, None, &SlotStatus::Confirmed);
        let rooted = slot - ROOT_LAG;
        self.status(rooted, Some(rooted - 1), &SlotStatus::Rooted);
    }

    fn status(&mut self, slot: u64, parent: Option<u64>, status: &SlotStatus) {
        self.call(Kind::SlotStatus, |plugin| {
            plugin.update_slot_status(slot, parent, status)
        });
    }

    fn call(&mut self, kind: Kind, callback: impl FnOnce(&dyn GeyserPlugin) -> PluginResult<()>) {
        let plugin = self.shared.plugin;
        let answer = self.probe.around(kind, || callback(plugin));
        self.callbacks += 1;
        if let Some(window) = self.shared.window {
            window.issued.fetch_add(1, Ordering::Relaxed);
        }
        self.refused += u64::from(answer.is_err());
    }

    /// Between two transactions.
    fn wait(&mut self) {
        let shared = self.shared;
        match shared.pace {
            Pace::Busy => {}
            Pace::PauseMicros(micros) => thread::sleep(Duration::from_micros(micros)),
            Pace::PerSecond(rate) => {
                let share = f64::from(rate) / shared.threads as f64;
                let due = Duration::from_secs_f64(self.callbacks as f64 / share);
                while due > shared.begin.elapsed() {
                    thread::sleep(NAP);
                }
            }
        }
        if let Some(window) = shared.window {
            window.wait();
        }
    }
}

pub fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests;
