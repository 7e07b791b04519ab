//! A validator that executes recorded transactions under new signatures, evenly over its slots, and tells the plugin as
//! one would: bank, transactions with entries between them, metadata, and what becomes of the slot.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaBlockInfoV4, ReplicaBlockInfoVersions, ReplicaEntryInfoV2, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoVersions, SlotStatus,
};
use anyhow::{Context, bail};
use bench::{
    block_file::RecordedTransaction, entries::TICKS, fanout_bench::stamp::Clock,
    plugin_library::LoadedPlugin, replica,
};
use sha2::{Digest, Sha256};
use solana_transaction_status::RewardsAndNumPartitions;

use super::schedule::Schedule;

/// *Rooted* follows this many slots behind, as on the public clusters.
const ROOT_LAG: u64 = 32;
/// Sleeping less is not worth it: at high rates callbacks come in bursts, one per nap.
const NAP: Duration = Duration::from_micros(500);
const HASHES_PER_TICK: u64 = 62_500;

/// See the module.
pub struct Validator<'a> {
    pub plugin: &'a LoadedPlugin,
    pub clock: Clock,
    pub pool: Vec<RecordedTransaction>,
    pub schedule: Schedule,
    /// From the slot's last callback until it is confirmed.
    pub confirm_after: Duration,
    /// Transactions told so far, for whoever watches.
    pub told: &'a AtomicU64,
}

/// What was told of a slot, and when, in nanoseconds of the clock.
#[derive(Debug, Clone, Default)]
pub struct DrivenSlot {
    pub slot: u64,
    /// When the callback of each transaction was entered.
    pub entered: Vec<u64>,
    /// When the callback that tells *confirmed* was entered.
    pub confirmed: u64,
}

#[derive(Debug, Default)]
pub struct Driven {
    pub slots: Vec<DrivenSlot>,
    pub begun: u64,
    /// When the last transaction was told.
    pub ended: u64,
    /// By how much a transaction was late at most.
    pub latest: u64,
}

/// One run's state.
struct Run<'a, 'b> {
    validator: &'b mut Validator<'a>,
    driven: Driven,
    /// Slots by their number in the run, and when they are confirmed.
    unconfirmed: VecDeque<(u64, u64)>,
}

impl<'a> Validator<'a> {
    /// Drives the whole schedule; returns when the last slot is confirmed.
    pub fn drive(&mut self) -> anyhow::Result<Driven> {
        let begun = self.clock.now();
        let slots = self.schedule.slots;
        let mut run = Run {
            validator: self,
            driven: Driven {
                begun,
                ..Driven::default()
            },
            unconfirmed: VecDeque::new(),
        };
        for nth in 0..slots {
            run.slot(nth)?;
        }
        while let Some(&(_, due)) = run.unconfirmed.front() {
            run.wait_until(due)?;
        }
        Ok(run.driven)
    }
}

impl Run<'_, '_> {
    fn slot(&mut self, nth: u64) -> anyhow::Result<()> {
        let schedule = self.validator.schedule;
        let (slot, count, ticks) = (schedule.slot(nth), schedule.count(nth), TICKS as u64);
        self.driven.slots.push(DrivenSlot {
            slot,
            entered: Vec::with_capacity(count as usize),
            confirmed: 0,
        });
        self.status(slot, Some(slot - 1), &SlotStatus::CreatedBank)?;
        let (mut told, mut entries) = (0, 0);
        for tick in 1..=ticks {
            let first = told;
            while told < count * tick / ticks {
                self.transaction(nth, told)?;
                told += 1;
            }
            self.wait_until(self.at(nth, tick, ticks))?;
            if told > first {
                self.entry(slot, entries, (first, told), 1, &hash(slot, tick))?;
                entries += 1;
            }
            let end = if tick == ticks {
                blockhash(slot)
            } else {
                hash(slot, tick + ticks)
            };
            self.entry(slot, entries, (told, told), HASHES_PER_TICK, &end)?;
            entries += 1;
        }
        self.metadata(slot, count, entries)?;
        self.status(slot, Some(slot - 1), &SlotStatus::Processed)?;
        let due = self.validator.clock.now() + self.validator.confirm_after.as_nanos() as u64;
        self.unconfirmed.push_back((nth, due));
        self.confirm()
    }

    /// On the clock.
    fn at(&self, nth: u64, part: u64, parts: u64) -> u64 {
        self.driven.begun + self.validator.schedule.due(nth, part, parts).as_nanos() as u64
    }

    fn transaction(&mut self, nth: u64, index: u64) -> anyhow::Result<()> {
        let schedule = self.validator.schedule;
        let due = self.at(nth, index, schedule.count(nth));
        self.wait_until(due)?;
        let number = schedule.first(nth) + index;
        let pool = &mut self.validator.pool;
        let place = number as usize % pool.len();
        let recorded = &mut pool[place];
        if let Some(signature) = recorded.transaction.signatures.first_mut() {
            *signature = Schedule::signature(number).into();
        }
        let info = replica::transaction(&self.validator.pool[place], index as usize)
            .context("a recorded transaction without a signature")?;
        let info = ReplicaTransactionInfoVersions::V0_0_3(&info);
        let plugin = self.validator.plugin.get();
        let entered = self.validator.clock.now();
        taken(plugin.notify_transaction(info, schedule.slot(nth)))?;
        self.driven.latest = self.driven.latest.max(entered.saturating_sub(due));
        self.driven.ended = entered;
        if let Some(slot) = self.driven.slots.last_mut() {
            slot.entered.push(entered);
        }
        self.validator.told.store(number + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Confirms meanwhile what is due.
    fn wait_until(&mut self, due: u64) -> anyhow::Result<()> {
        loop {
            self.confirm()?;
            let now = self.validator.clock.now();
            if now >= due {
                return Ok(());
            }
            let next = self.unconfirmed.front().map_or(due, |(_, at)| due.min(*at));
            thread::sleep(Duration::from_nanos(next.saturating_sub(now)).max(NAP));
        }
    }

    fn confirm(&mut self) -> anyhow::Result<()> {
        while let Some(&(nth, due)) = self.unconfirmed.front() {
            let now = self.validator.clock.now();
            if now < due {
                break;
            }
            self.unconfirmed.pop_front();
            let slot = self.validator.schedule.slot(nth);
            self.driven.slots[nth as usize].confirmed = now;
            self.status(slot, None, &SlotStatus::Confirmed)?;
            if nth >= ROOT_LAG {
                let rooted = slot - ROOT_LAG;
                self.status(rooted, Some(rooted - 1), &SlotStatus::Rooted)?;
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        slot: u64,
        index: usize,
        (first, end): (u64, u64),
        num_hashes: u64,
        hash: &[u8; 32],
    ) -> anyhow::Result<()> {
        let entry = ReplicaEntryInfoV2 {
            slot,
            index,
            num_hashes,
            hash,
            executed_transaction_count: end - first,
            starting_transaction_index: first as usize,
        };
        let plugin = self.validator.plugin.get();
        taken(plugin.notify_entry(ReplicaEntryInfoVersions::V0_0_2(&entry)))
    }

    fn metadata(&self, slot: u64, transactions: u64, entries: usize) -> anyhow::Result<()> {
        let text = |slot| bs58::encode(blockhash(slot)).into_string();
        let block = ReplicaBlockInfoV4 {
            parent_slot: slot - 1,
            parent_blockhash: &text(slot - 1),
            slot,
            blockhash: &text(slot),
            rewards: &RewardsAndNumPartitions {
                rewards: Vec::new(),
                num_partitions: None,
            },
            block_time: Some(1_700_000_000),
            block_height: Some(slot),
            executed_transaction_count: transactions,
            entry_count: entries as u64,
        };
        let plugin = self.validator.plugin.get();
        taken(plugin.notify_block_metadata(ReplicaBlockInfoVersions::V0_0_4(&block)))
    }

    fn status(&self, slot: u64, parent: Option<u64>, status: &SlotStatus) -> anyhow::Result<()> {
        let plugin = self.validator.plugin.get();
        taken(plugin.update_slot_status(slot, parent, status))
    }
}

fn blockhash(slot: u64) -> [u8; 32] {
    hash(slot, 0)
}

fn hash(slot: u64, part: u64) -> [u8; 32] {
    let bytes = [slot.to_le_bytes(), part.to_le_bytes()].concat();
    Sha256::digest(bytes).into()
}

fn taken<E: std::fmt::Display>(answer: Result<(), E>) -> anyhow::Result<()> {
    if let Err(error) = answer {
        bail!("the plugin refused a callback: {error}");
    }
    Ok(())
}
