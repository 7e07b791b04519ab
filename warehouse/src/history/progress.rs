//! How far a long run is, on standard error, every two seconds.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(2);

pub struct Progress {
    what: &'static str,
    of: u64,
    started: Instant,
    told: Cell<Instant>,
}

impl Progress {
    /// `of` slots; `what` is done to each.
    pub fn new(what: &'static str, of: u64) -> Self {
        let now = Instant::now();
        Self {
            what,
            of,
            started: now,
            told: Cell::new(now),
        }
    }

    /// `done` of the slots are behind it; `more` is told with it.
    pub fn tell(&self, done: u64, more: impl FnOnce() -> String) {
        if self.told.get().elapsed() < EVERY {
            return;
        }
        self.told.set(Instant::now());
        let seconds = self.started.elapsed().as_secs_f64();
        let left = if done == 0 {
            String::new()
        } else {
            let left = seconds / done as f64 * self.of.saturating_sub(done) as f64;
            format!(", about {left:.0} s left")
        };
        eprintln!(
            "{}: {done} of {} slots{left}; {}",
            self.what,
            self.of,
            more()
        );
    }
}
