//! A validator that reports stamped accounts at a rate, in whole slots of 400 ms.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaAccountInfoVersions, ReplicaBlockInfoV4, ReplicaBlockInfoVersions,
    ReplicaEntryInfoV2, ReplicaEntryInfoVersions, SlotStatus,
};
use anyhow::bail;
use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_hash::Hash;
use solana_transaction_status::RewardsAndNumPartitions;

use super::stamp::{Clock, STAMP_BYTES, Stamp};
use crate::plugin_library::LoadedPlugin;

const SLOT: Duration = Duration::from_millis(400);
/// *Rooted* follows this many slots behind, as on the public clusters.
const ROOT_LAG: u64 = 32;
const FIRST_SLOT: u64 = 2_000_000_000;
/// As a token account has.
const DATA_BYTES: usize = 165;
const KEYS: usize = 4_096;
/// Of all its accounts.
pub const OWNER: [u8; 32] = [9; 32];
/// Above this rate accounts come in bursts, one per nap.
const NAP: Duration = Duration::from_micros(500);

/// See the module.
pub struct Driver {
    plugin: LoadedPlugin,
    pub clock: Clock,
    keys: Vec<[u8; 32]>,
    data: [u8; DATA_BYTES],
    next_number: u64,
    slot: u64,
    slot_begun: Instant,
    is_open: bool,
}

/// What was reported: numbers from the first to before `end`.
#[derive(Debug, Clone, Copy)]
pub struct Driven {
    pub first: u64,
    pub end: u64,
    pub seconds: f64,
}

impl Driven {
    pub fn updates(&self) -> u64 {
        self.end - self.first
    }
}

impl Driver {
    pub fn new(plugin: LoadedPlugin) -> Self {
        let random = &mut StdRng::seed_from_u64(4);
        let mut data = [7; DATA_BYTES];
        data[..STAMP_BYTES].fill(0);
        Self {
            plugin,
            clock: Clock::start(),
            keys: (0..KEYS).map(|_| random.random()).collect(),
            data,
            next_number: 0,
            slot: FIRST_SLOT,
            slot_begun: Instant::now(),
            is_open: false,
        }
    }

    /// The address of the account with this number.
    pub fn key(&self, number: u64) -> [u8; 32] {
        self.keys[number as usize % KEYS]
    }

    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Reports so many accounts per second, for so long or until it is told to stop; the last slot is finished.
    pub fn drive(
        &mut self,
        per_second: u32,
        duration: Duration,
        stop: &AtomicBool,
    ) -> anyhow::Result<Driven> {
        let (begin, first) = (Instant::now(), self.next_number);
        while begin.elapsed() < duration && !stop.load(Ordering::Relaxed) {
            if self.is_open && self.slot_begun.elapsed() >= SLOT {
                self.finish_slot()?;
            }
            if !self.is_open {
                self.begin_slot()?;
            }
            let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            while self.next_number - first < due {
                self.account()?;
            }
            let next = (self.next_number - first + 1) as f64 / f64::from(per_second);
            let wait = Duration::from_secs_f64(next).saturating_sub(begin.elapsed());
            thread::sleep(wait.clamp(NAP, SLOT / 8));
        }
        if self.is_open {
            self.finish_slot()?;
        }
        Ok(Driven {
            first,
            end: self.next_number,
            seconds: begin.elapsed().as_secs_f64(),
        })
    }

    fn account(&mut self) -> anyhow::Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let pubkey = self.key(number);
        Stamp {
            at: self.clock.now(),
            number,
        }
        .write(&mut self.data);
        let account = ReplicaAccountInfoV3 {
            pubkey: &pubkey,
            lamports: 2_039_280,
            owner: &OWNER,
            executable: false,
            rent_epoch: u64::MAX,
            data: &self.data,
            write_version: number,
            txn: None,
        };
        let account = ReplicaAccountInfoVersions::V0_0_3(&account);
        taken(self.plugin.get().update_account(account, self.slot, false))
    }

    fn begin_slot(&mut self) -> anyhow::Result<()> {
        self.slot += 1;
        self.slot_begun = Instant::now();
        self.is_open = true;
        self.status(self.slot, &SlotStatus::CreatedBank)
    }

    fn finish_slot(&mut self) -> anyhow::Result<()> {
        let slot = self.slot;
        let hash = blockhash(slot);
        let entry = ReplicaEntryInfoV2 {
            slot,
            index: 0,
            num_hashes: 1,
            hash: hash.as_ref(),
            executed_transaction_count: 0,
            starting_transaction_index: 0,
        };
        let plugin = self.plugin.get();
        taken(plugin.notify_entry(ReplicaEntryInfoVersions::V0_0_2(&entry)))?;
        let block = ReplicaBlockInfoV4 {
            parent_slot: slot - 1,
            parent_blockhash: &blockhash(slot - 1).to_string(),
            slot,
            blockhash: &hash.to_string(),
            rewards: &RewardsAndNumPartitions {
                rewards: Vec::new(),
                num_partitions: None,
            },
            block_time: Some(1_700_000_000),
            block_height: Some(slot),
            executed_transaction_count: 0,
            entry_count: 1,
        };
        taken(plugin.notify_block_metadata(ReplicaBlockInfoVersions::V0_0_4(&block)))?;
        self.status(slot, &SlotStatus::Processed)?;
        self.status(slot, &SlotStatus::Confirmed)?;
        let rooted = slot - ROOT_LAG;
        if rooted > FIRST_SLOT {
            self.status(rooted, &SlotStatus::Rooted)?;
        }
        self.is_open = false;
        Ok(())
    }

    fn status(&self, slot: u64, status: &SlotStatus) -> anyhow::Result<()> {
        let plugin = self.plugin.get();
        taken(plugin.update_slot_status(slot, Some(slot - 1), status))
    }
}

fn blockhash(slot: u64) -> Hash {
    Hash::new_from_array(*blake3::hash(&slot.to_le_bytes()).as_bytes())
}

fn taken<E: std::fmt::Display>(answer: Result<(), E>) -> anyhow::Result<()> {
    if let Err(error) = answer {
        bail!("the plugin refused a callback: {error}");
    }
    Ok(())
}
