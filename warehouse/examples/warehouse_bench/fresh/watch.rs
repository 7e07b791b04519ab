//! A client that asks the door, again and again, how many transactions each slot has that is not whole yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bench::{fanout_bench::stamp::Clock, plugin_bench::histogram::Histogram};
use clickhouse::Client;
use tokio::time::MissedTickBehavior;

use super::schedule::Schedule;

/// What the answers said so far. Pure.
#[derive(Debug)]
pub struct Seen {
    schedule: Schedule,
    /// Every slot before it is whole.
    next: u64,
    /// When a slot was first seen whole, on the clock: when the answer was there.
    pub whole: BTreeMap<u64, u64>,
    /// How long the answers took.
    pub answers: Histogram,
    pub failed: u64,
}

impl Seen {
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            next: schedule.slot(0),
            whole: BTreeMap::new(),
            answers: Histogram::default(),
            failed: 0,
        }
    }

    /// Rows of one answer: slot, transactions.
    fn absorb(&mut self, rows: &[(u64, u64)], at: u64) {
        for &(slot, count) in rows {
            let expected = self.schedule.expected(slot);
            if expected > 0 && count >= expected {
                self.whole.entry(slot).or_insert(at);
            }
        }
        while self.whole.contains_key(&self.next) {
            self.next += 1;
        }
    }

    pub fn has_all(&self) -> bool {
        self.whole.len() as u64 == self.schedule.slots
    }

    fn question(&self) -> String {
        format!(
            "SELECT slot, count() FROM transactions WHERE slot >= {} GROUP BY slot",
            self.next
        )
    }
}

/// A handle on what is seen.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    pub fn new(schedule: Schedule) -> Self {
        Self(Arc::new(Mutex::new(Seen::new(schedule))))
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        // Whoever panicked with it has only counted.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks until it is aborted.
    pub async fn run(self, client: Client, clock: Clock, every: Duration) {
        let mut due = tokio::time::interval(every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let question = self.with(|seen| seen.question());
            let asked = clock.now();
            let answer = client.query(&question).fetch_all::<(u64, u64)>().await;
            let at = clock.now();
            self.with(|seen| match answer {
                Ok(rows) => {
                    seen.answers.record(at - asked);
                    seen.absorb(&rows, at);
                }
                Err(_) => seen.failed += 1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_seen_when_its_last_row_is() {
        let schedule = Schedule {
            slot_ms: 400,
            rate: 10,
            warm_slots: 0,
            slots: 2,
        };
        let (first, second) = (schedule.slot(0), schedule.slot(1));
        let mut seen = Seen::new(schedule);
        seen.absorb(&[(first, 3), (second, 4)], 7);
        assert_eq!(seen.whole, BTreeMap::from([(second, 7)]));
        assert!(seen.question().contains(&format!(">= {first} ")));
        seen.absorb(&[(first, 4), (second, 4)], 9);
        assert_eq!(seen.whole, BTreeMap::from([(first, 9), (second, 7)]));
        assert!(seen.has_all());
    }
}
