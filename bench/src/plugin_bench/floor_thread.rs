//! A thread that only reads the clock, at the rate of a round's callbacks and for as long as one takes: what it waits beyond
//! that, the scheduler made it wait. An empty callback would not do: it is too short to be interrupted as often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    drive::{Pace, Plan},
    histogram::Histogram,
    mix::ACCOUNTS_PER_TRANSACTION,
};

const NAP: Duration = Duration::from_millis(1);

/// See the module.
pub struct FloorThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram>,
}

impl FloorThread {
    /// At the rate of one of the plan's threads; each reading goes on for `length`.
    pub fn start(plan: Plan, length: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || run(plan, length, &stopped));
        Self { stop, thread }
    }

    pub fn stop(self) -> Histogram {
        self.stop.store(true, Ordering::Release);
        // It calls nothing that panics.
        self.thread.join().unwrap_or_default()
    }
}

fn run(plan: Plan, length: Duration, stopped: &AtomicBool) -> Histogram {
    let mut readings = Histogram::default();
    let begin = Instant::now();
    let mut callbacks = 0_u64;
    while !stopped.load(Ordering::Acquire) {
        for _ in 0..=ACCOUNTS_PER_TRANSACTION {
            let first = Instant::now();
            let mut took = first.elapsed();
            while took < length {
                took = first.elapsed();
            }
            readings.record(took.as_nanos() as u64);
            callbacks += 1;
        }
        match plan.pace {
            Pace::Busy => {}
            Pace::PauseMicros(micros) => thread::sleep(Duration::from_micros(micros)),
            Pace::PerSecond(rate) => {
                let share = f64::from(rate) / plan.threads.max(1) as f64;
                let due = Duration::from_secs_f64(callbacks as f64 / share);
                while due > begin.elapsed() {
                    thread::sleep(NAP);
                }
            }
        }
    }
    readings
}
