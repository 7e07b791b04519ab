use std::{
    path::Path,
    sync::{Mutex, MutexGuard},
};

use super::*;
use crate::plugin_bench::probe::Latencies;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Account {
        slot: u64,
        size: usize,
        writer: String,
    },
    Transaction {
        slot: u64,
        index: usize,
        signature: String,
    },
    Deshred {
        slot: u64,
        signature: String,
    },
    ContactInfo,
    Entry {
        slot: u64,
        index: usize,
    },
    Block {
        slot: u64,
        transactions: u64,
        entries: u64,
    },
    Status {
        slot: u64,
        parent: Option<u64>,
        status: SlotStatus,
    },
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Seen>>, bool);

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap()
    }

    fn note(&self, seen: Seen) -> PluginResult<()> {
        self.seen().push(seen);
        Ok(())
    }
}

impl GeyserPlugin for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn update_account(
        &self,
        account: ReplicaAccountInfoVersions,
        slot: u64,
        is_startup: bool,
    ) -> PluginResult<()> {
        let ReplicaAccountInfoVersions::V0_0_3(info) = account else {
            panic!("another version")
        };
        assert!(!is_startup);
        self.note(Seen::Account {
            slot,
            size: info.data.len(),
            writer: info.txn.unwrap().signature().to_string(),
        })
    }

    fn update_slot_status(
        &self,
        slot: u64,
        parent: Option<u64>,
        status: &SlotStatus,
    ) -> PluginResult<()> {
        let status = status.clone();
        self.note(Seen::Status {
            slot,
            parent,
            status,
        })
    }

    fn notify_transaction(
        &self,
        transaction: ReplicaTransactionInfoVersions,
        slot: u64,
    ) -> PluginResult<()> {
        let ReplicaTransactionInfoVersions::V0_0_3(info) = transaction else {
            panic!("another version")
        };
        self.note(Seen::Transaction {
            slot,
            index: info.index,
            signature: info.signature.to_string(),
        })
    }

    fn deshred_transaction_notifications_enabled(&self) -> bool {
        self.1
    }

    fn contact_info_notifications_enabled(&self) -> bool {
        self.1
    }

    fn notify_deshred_transaction(
        &self,
        transaction: ReplicaDeshredTransactionInfoVersions,
        slot: u64,
    ) -> PluginResult<()> {
        let ReplicaDeshredTransactionInfoVersions::V0_0_2(info) = transaction else {
            panic!("another version")
        };
        assert!(info.loaded_addresses.is_none());
        self.note(Seen::Deshred {
            slot,
            signature: info.signature.to_string(),
        })
    }

    fn notify_contact_info(
        &self,
        _: ReplicaContactInfoVersions,
        startup: bool,
    ) -> PluginResult<()> {
        assert!(!startup);
        self.note(Seen::ContactInfo)
    }

    fn notify_entry(&self, entry: ReplicaEntryInfoVersions) -> PluginResult<()> {
        let ReplicaEntryInfoVersions::V0_0_2(info) = entry else {
            panic!("another version")
        };
        self.note(Seen::Entry {
            slot: info.slot,
            index: info.index,
        })
    }

    fn notify_block_metadata(&self, block: ReplicaBlockInfoVersions) -> PluginResult<()> {
        let ReplicaBlockInfoVersions::V0_0_4(info) = block else {
            panic!("another version")
        };
        self.note(Seen::Block {
            slot: info.slot,
            transactions: info.executed_transaction_count,
            entries: info.entry_count,
        })
    }
}

fn shipped() -> Workload {
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    Workload::load(&blocks).unwrap()
}

const FIRST: u64 = 5_000;

#[test]
fn every_slot_is_whole_and_in_order_from_any_number_of_threads() {
    let workload = shipped();
    for threads in [1, 2, 4] {
        let recorder = Recorder::default();
        let plan = Plan {
            threads,
            pace: Pace::Busy,
            until: Until::Passes(2),
            touched: true,
        };
        let (driven, probes, next_slot) =
            drive(&recorder, &workload, plan, FIRST, None, Latencies::default);
        let seen = recorder.seen();
        assert_eq!(driven.callbacks, seen.len() as u64);
        assert_eq!(driven.refused, 0);
        assert_eq!(probes.len(), threads);
        let measured: u64 = probes.iter().map(|probe| probe.all().count()).sum();
        assert_eq!(measured, driven.callbacks);
        assert_eq!(next_slot, FIRST + 2 * workload.blocks.len() as u64);
        for slot in FIRST..next_slot {
            let block = &workload.blocks[(slot - FIRST) as usize % workload.blocks.len()];
            check_slot(&seen, slot, block);
        }
    }
}

fn check_slot(seen: &[Seen], slot: u64, block: &PreparedBlock) {
    let place = |wanted: &dyn Fn(&Seen) -> bool| -> Vec<usize> {
        (0..seen.len()).filter(|at| wanted(&seen[*at])).collect()
    };
    let status = |wanted: SlotStatus| {
        let at = place(
            &|seen| matches!(seen, Seen::Status { slot: s, status, .. } if *s == slot && *status == wanted),
        );
        assert!(at.len() <= 1, "slot {slot}: {wanted:?} {} times", at.len());
        at.first().copied()
    };
    let of_slot = place(&|seen| match seen {
        Seen::Account { slot: s, .. }
        | Seen::Transaction { slot: s, .. }
        | Seen::Entry { slot: s, .. }
        | Seen::Block { slot: s, .. } => *s == slot,
        Seen::Status { .. } | Seen::Deshred { .. } | Seen::ContactInfo => false,
    });
    let created = status(SlotStatus::CreatedBank).unwrap();
    let processed = status(SlotStatus::Processed).unwrap();
    let confirmed = status(SlotStatus::Confirmed).unwrap();
    assert!(of_slot.iter().all(|at| created < *at && *at < processed));
    assert!(processed < confirmed);
    assert!(status(SlotStatus::Rooted).is_none_or(|rooted| confirmed < rooted));

    let recorded = &block.block.transactions;
    for (index, transaction) in recorded.iter().enumerate() {
        let signature = transaction.transaction.signatures[0].to_string();
        let own = place(
            &|seen| matches!(seen, Seen::Transaction { slot: s, index: i, .. } if *s == slot && *i == index),
        );
        let [at] = own[..] else {
            panic!("slot {slot}, transaction {index}: {} times", own.len())
        };
        assert!(matches!(&seen[at], Seen::Transaction { signature: s, .. } if *s == signature));
        let written = place(
            &|seen| matches!(seen, Seen::Account { slot: s, writer, .. } if *s == slot && *writer == signature),
        );
        assert_eq!(written.len(), ACCOUNTS_PER_TRANSACTION);
        assert!(written.iter().all(|account| *account < at));
    }
    let entries = place(&|seen| matches!(seen, Seen::Entry { slot: s, .. } if *s == slot));
    assert_eq!(entries.len(), block.entries.len());
    let meta = Seen::Block {
        slot,
        transactions: recorded.len() as u64,
        entries: entries.len() as u64,
    };
    assert_eq!(seen.iter().filter(|seen| **seen == meta).count(), 1);
}

#[test]
fn what_no_block_holds_comes_first_and_only_if_asked_for() {
    let workload = shipped();
    for asks in [false, true] {
        let recorder = Recorder(Mutex::default(), asks);
        let plan = Plan {
            threads: 2,
            pace: Pace::Busy,
            until: Until::Passes(1),
            touched: true,
        };
        let (driven, _, next_slot) =
            drive(&recorder, &workload, plan, FIRST, None, Latencies::default);
        let seen = recorder.seen();
        assert_eq!(driven.callbacks, seen.len() as u64);
        for slot in FIRST..next_slot {
            let block = &workload.blocks[(slot - FIRST) as usize];
            let deshreds: Vec<(usize, &String)> = seen
                .iter()
                .enumerate()
                .filter_map(|(at, seen)| match seen {
                    Seen::Deshred {
                        slot: of,
                        signature,
                    } if *of == slot => Some((at, signature)),
                    _ => None,
                })
                .collect();
            let recorded = &block.block.transactions;
            assert_eq!(deshreds.len(), if asks { recorded.len() } else { 0 });
            let created = Seen::Status {
                slot,
                parent: Some(slot - 1),
                status: SlotStatus::CreatedBank,
            };
            let created = seen.iter().position(|seen| *seen == created).unwrap();
            for ((at, signature), recorded) in deshreds.into_iter().zip(recorded) {
                assert!(at < created);
                assert_eq!(*signature, recorded.transaction.signatures[0].to_string());
            }
        }
        assert_eq!(seen.contains(&Seen::ContactInfo), asks);
    }
}

#[test]
fn a_rate_is_kept_and_a_pause_is_made() {
    let workload = shipped();
    let recorder = Recorder::default();
    let rate = 2_000;
    let plan = Plan {
        threads: 2,
        pace: Pace::PerSecond(rate),
        until: Until::Milliseconds(400),
        touched: true,
    };
    let (driven, ..) = drive(&recorder, &workload, plan, FIRST, None, Latencies::default);
    let stated = driven.callbacks as f64 / driven.seconds;
    // The last slot's entries come at once, after the rate; a machine under load may be slower.
    assert!(stated < f64::from(rate) * 1.6, "{stated} per second");
    let plan = Plan {
        threads: 1,
        pace: Pace::PauseMicros(300),
        until: Until::Passes(1),
        touched: true,
    };
    let (driven, ..) = drive(&recorder, &workload, plan, FIRST, None, Latencies::default);
    let pauses = workload.transactions as f64 * 300e-6;
    assert!(driven.seconds >= pauses, "{} of {pauses} s", driven.seconds);
}

#[test]
fn a_window_holds_the_driver_back_until_the_reader_follows() {
    let workload = shipped();
    let recorder = Recorder::default();
    let window = Window::new(20);
    let plan = Plan {
        threads: 1,
        pace: Pace::Busy,
        until: Until::Passes(1),
        touched: true,
    };
    let ahead_most = thread::scope(|scope| {
        let driver = scope.spawn(|| {
            drive(
                &recorder,
                &workload,
                plan,
                FIRST,
                Some(&window),
                Latencies::default,
            )
        });
        let mut ahead_most = 0;
        while !driver.is_finished() {
            let issued = window.issued.load(Ordering::Relaxed);
            ahead_most = ahead_most.max(issued - window.received.load(Ordering::Relaxed));
            // Reads one in three looks, so that the driver is the faster one.
            if issued % 3 == 0 || issued >= 20 {
                window.received.store(issued, Ordering::Relaxed);
            }
            thread::yield_now();
        }
        driver.join().unwrap();
        ahead_most
    });
    // A slot's entries and statuses are not held back, nor what a transaction brings with it.
    let slack = workload.blocks.iter().map(|b| b.entries.len() + 16).max();
    assert!(ahead_most <= 20 + slack.unwrap() as u64, "{ahead_most}");
}
