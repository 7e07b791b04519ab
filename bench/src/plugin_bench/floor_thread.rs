//! A thread that makes empty callbacks at the rate of a round and times them like the others: what it waits, the scheduler
//! made it wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{GeyserPlugin, SlotStatus};

use super::{
    drive::{Pace, Plan},
    mix::{ACCOUNTS_PER_TRANSACTION, Kind},
    probe::{Latencies, Probe},
};
use crate::throughput::NullPlugin;

const NAP: Duration = Duration::from_millis(1);

/// See the module.
pub struct FloorThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latencies>,
}

impl FloorThread {
    /// At the rate of one of the plan's threads.
    pub fn start(plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || run(plan, &stopped));
        Self { stop, thread }
    }

    pub fn stop(self) -> Latencies {
        self.stop.store(true, Ordering::Release);
        // It calls nothing that panics.
        self.thread.join().unwrap_or_default()
    }
}

fn run(plan: Plan, stopped: &AtomicBool) -> Latencies {
    // The same way into a callback as for a real plugin, which the compiler must not see through.
    let plugin: Box<dyn GeyserPlugin> = std::hint::black_box(Box::new(NullPlugin));
    let mut latencies = Latencies::default();
    let begin = Instant::now();
    let mut callbacks = 0_u64;
    while !stopped.load(Ordering::Acquire) {
        for _ in 0..=ACCOUNTS_PER_TRANSACTION {
            // A plugin that does nothing refuses nothing.
            let _ = latencies.around(Kind::SlotStatus, || {
                plugin.update_slot_status(callbacks, None, &SlotStatus::Processed)
            });
            callbacks += 1;
        }
        match plan.pace {
            Pace::Busy => {}
            Pace::PauseMicros(micros) => thread::sleep(Duration::from_micros(micros)),
            Pace::PerSecond(rate) => {
                let share = f64::from(rate) / plan.threads.max(1) as f64;
                let due = Duration::from_secs_f64(callbacks as f64 / share);
                if due > begin.elapsed() {
                    thread::sleep(NAP);
                }
            }
        }
    }
    latencies
}
