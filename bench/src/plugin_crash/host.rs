//! The process that is killed: loads the plugin and reports slots to it from five threads, as a validator does.
//!
//! *CreatedBank* comes first; accounts (two threads) and transactions follow; metadata and *Processed* wait for these;
//! entries wait for nobody and may trail into the next slot; *Rooted* follows some slots behind. It ends in order when its
//! standard input does.

use std::{
    io::Read as _,
    path::PathBuf,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, ReplicaAccountInfoV3, ReplicaAccountInfoVersions, ReplicaBlockInfoV4,
    ReplicaBlockInfoVersions, ReplicaEntryInfoV2, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoV3, ReplicaTransactionInfoVersions, SlotStatus,
};
use anyhow::Context;
use clap::Args;
use event_schema::Kind;
use solana_hash::Hash;
use solana_message::{VersionedMessage, v1};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{RewardsAndNumPartitions, TransactionStatusMeta};

use super::{
    chain,
    count_sheet::{CountSheet, Fact},
};
use crate::plugin_library::LoadedPlugin;

/// *Rooted* follows this many slots behind.
pub const ROOT_LAG_SLOTS: u64 = 4;

/// Arguments of the host.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// The plugin's shared object
    #[arg(long)]
    so: PathBuf,
    /// Its configuration
    #[arg(long)]
    config: PathBuf,
    /// The file for its counts
    #[arg(long)]
    sheet: PathBuf,
    /// The first slot it executes
    #[arg(long)]
    first_slot: u64,
    /// How long a slot takes, in microseconds
    #[arg(long)]
    slot_micros: u64,
}

/// See the module.
pub fn serve(args: &HostArgs) -> anyhow::Result<()> {
    StderrLog::install();
    let sheet = CountSheet::open(&args.sheet).context("the count sheet")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    sheet.set(Fact::Started, now.as_micros() as u64);
    let plugin = LoadedPlugin::open(&args.so, &args.config)?;
    sheet.set(Fact::Loaded, 1);
    let stop = AtomicBool::new(false);
    let stage = Stage {
        plugin: plugin.get(),
        sheet: &sheet,
        first_slot: args.first_slot,
        slot_time: Duration::from_micros(args.slot_micros),
        stop: &stop,
        end: AtomicU64::new(u64::MAX),
        begun: Barrier::new(5),
        executed: Barrier::new(4),
        writes: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = [0];
            // Whatever it says, or its end.
            let _ = std::io::stdin().read(&mut byte);
            stop.store(true, Ordering::Release);
        });
        scope.spawn(|| stage.replay(0));
        for half in 0..chain::ACCOUNT_THREADS {
            let stage = &stage;
            scope.spawn(move || stage.accounts(1 + half as usize, half));
        }
        scope.spawn(|| stage.transactions(3));
        scope.spawn(|| stage.entries(4));
    });
    sheet.set(Fact::Stopped, 1);
    // The supervisor looks at the plugin's counters before it lets it go.
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    drop(plugin);
    Ok(())
}

struct Stage<'a> {
    plugin: &'a dyn GeyserPlugin,
    sheet: &'a CountSheet,
    first_slot: u64,
    slot_time: Duration,
    stop: &'a AtomicBool,
    /// The first slot that is not executed.
    end: AtomicU64,
    begun: Barrier,
    /// For all but the entries' thread.
    executed: Barrier,
    /// Versions of account writes begin at 0 with each process.
    writes: AtomicU64,
}

impl Stage<'_> {
    fn replay(&self, thread: usize) {
        let begin = Instant::now();
        for slot in self.first_slot.. {
            if self.stop.load(Ordering::Acquire) {
                self.end.store(slot, Ordering::Release);
                self.begun.wait();
                return;
            }
            let due = self.slot_time * (slot - self.first_slot) as u32;
            thread::sleep(due.saturating_sub(begin.elapsed()));
            self.sheet.set(Fact::LastSlot, slot);
            self.status(thread, slot, &SlotStatus::CreatedBank);
            self.begun.wait();
            self.executed.wait();
            self.metadata(thread, slot);
            self.status(thread, slot, &SlotStatus::Processed);
            self.status(thread, slot, &SlotStatus::Confirmed);
            let rooted = slot - ROOT_LAG_SLOTS;
            if rooted >= self.first_slot {
                self.status(thread, rooted, &SlotStatus::Rooted);
                self.sheet.set(Fact::Rooted, rooted);
            }
        }
    }

    /// The slots, once each has begun.
    fn slots(&self) -> impl Iterator<Item = u64> {
        (self.first_slot..).take_while(|slot| {
            self.begun.wait();
            *slot < self.end.load(Ordering::Acquire)
        })
    }

    fn accounts(&self, thread: usize, half: u64) {
        let data = vec![7; chain::LARGE_BYTES];
        for slot in self.slots() {
            for nth in 0..chain::ACCOUNTS_PER_THREAD {
                let index = nth * chain::ACCOUNT_THREADS + half;
                let pubkey = chain::account_key(index);
                let account = ReplicaAccountInfoV3 {
                    pubkey: &pubkey,
                    lamports: slot,
                    owner: &[9; 32],
                    executable: false,
                    rent_epoch: u64::MAX,
                    data: &data[..chain::account_bytes(slot, index)],
                    write_version: self.writes.fetch_add(1, Ordering::Relaxed),
                    txn: None,
                };
                self.sheet.around(thread, Kind::Account, || {
                    let account = ReplicaAccountInfoVersions::V0_0_3(&account);
                    answered(self.plugin.update_account(account, slot, false));
                });
            }
            self.executed.wait();
        }
    }

    fn transactions(&self, thread: usize) {
        let mut transaction = VersionedTransaction {
            signatures: Vec::new(),
            message: VersionedMessage::V1(v1::Message::default()),
        };
        let meta = TransactionStatusMeta {
            fee: 5_000,
            ..TransactionStatusMeta::default()
        };
        for slot in self.slots() {
            for index in 0..chain::TRANSACTIONS {
                let signature = chain::signature(slot, index);
                transaction.signatures = vec![signature];
                let info = ReplicaTransactionInfoV3 {
                    signature: &signature,
                    message_hash: &Hash::default(),
                    is_vote: false,
                    transaction: &transaction,
                    transaction_status_meta: &meta,
                    index: index as usize,
                };
                self.sheet.around(thread, Kind::Transaction, || {
                    let info = ReplicaTransactionInfoVersions::V0_0_3(&info);
                    answered(self.plugin.notify_transaction(info, slot));
                });
            }
            self.executed.wait();
        }
    }

    fn entries(&self, thread: usize) {
        for slot in self.slots() {
            for index in 0..chain::ENTRIES {
                let hash = chain::entry_hash(slot, index);
                let entry = ReplicaEntryInfoV2 {
                    slot,
                    index: index as usize,
                    num_hashes: 1,
                    hash: hash.as_ref(),
                    executed_transaction_count: chain::TRANSACTIONS / chain::ENTRIES,
                    starting_transaction_index: (index * chain::TRANSACTIONS / chain::ENTRIES)
                        as usize,
                };
                self.sheet.around(thread, Kind::Entry, || {
                    let entry = ReplicaEntryInfoVersions::V0_0_2(&entry);
                    answered(self.plugin.notify_entry(entry));
                });
            }
        }
    }

    fn metadata(&self, thread: usize, slot: u64) {
        let block = ReplicaBlockInfoV4 {
            parent_slot: slot - 1,
            parent_blockhash: &chain::blockhash(slot - 1).to_string(),
            slot,
            blockhash: &chain::blockhash(slot).to_string(),
            rewards: &RewardsAndNumPartitions {
                rewards: Vec::new(),
                num_partitions: None,
            },
            block_time: Some(1_700_000_000),
            block_height: Some(slot),
            executed_transaction_count: chain::TRANSACTIONS,
            entry_count: chain::entries_stated(slot),
        };
        self.sheet.around(thread, Kind::BlockMeta, || {
            let block = ReplicaBlockInfoVersions::V0_0_4(&block);
            answered(self.plugin.notify_block_metadata(block));
        });
    }

    fn status(&self, thread: usize, slot: u64, status: &SlotStatus) {
        self.sheet.around(thread, Kind::Slot, || {
            answered(self.plugin.update_slot_status(slot, Some(slot - 1), status));
        });
    }
}

/// A validator only logs what a plugin answers; here it would spoil the counts.
fn answered<E: std::fmt::Display>(answer: Result<(), E>) {
    if let Err(error) = answer {
        eprintln!("the plugin refused a callback: {error}");
        std::process::abort();
    }
}

/// What the plugin logs goes to the host's log file.
struct StderrLog;

impl StderrLog {
    fn install() {
        if log::set_logger(&StderrLog).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
    }
}

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            eprintln!("{:>5} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
