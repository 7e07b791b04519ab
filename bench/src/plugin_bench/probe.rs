//! What is taken of each callback: its time, or the allocations that the calling thread made in it. Never both in one pass:
//! counting allocations costs time.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{allocations::AllocationReader, histogram::Histogram, mix::Kind};

/// Taken around every callback of one thread.
pub trait Probe {
    fn around<R>(&mut self, kind: Kind, callback: impl FnOnce() -> R) -> R;
}

/// Nanoseconds per callback, by kind. The clock is read before and after each, so its own cost is included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latencies(Vec<Histogram>);

impl Default for Latencies {
    fn default() -> Self {
        Self(vec![Histogram::default(); Kind::ALL.len()])
    }
}

impl Latencies {
    pub fn of(&self, kind: Kind) -> &Histogram {
        &self.0[kind as usize]
    }

    /// Of all kinds together.
    pub fn all(&self) -> Histogram {
        let mut all = Histogram::default();
        self.0.iter().for_each(|kind| all.merge(kind));
        all
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.merge(theirs);
        }
    }
}

impl Probe for Latencies {
    fn around<R>(&mut self, kind: Kind, callback: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let answer = callback();
        let nanoseconds = begin.elapsed().as_nanos() as u64;
        self.0[kind as usize].record(nanoseconds);
        answer
    }
}

/// A callback that took longer was interrupted, or copied a megabyte.
const LONG_NANOSECONDS: u64 = 50_000;

/// All callbacks together, for a mean that one interruption does not move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalTime {
    /// The reading of the clock around each included.
    pub nanoseconds: u64,
    pub callbacks: u64,
    /// Took longer than 50 µs; in neither of the two.
    pub left_out: u64,
}

impl TotalTime {
    pub fn merge(&mut self, other: &Self) {
        self.nanoseconds += other.nanoseconds;
        self.callbacks += other.callbacks;
        self.left_out += other.left_out;
    }
}

impl Probe for TotalTime {
    fn around<R>(&mut self, _: Kind, callback: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let answer = callback();
        let nanoseconds = begin.elapsed().as_nanos() as u64;
        if nanoseconds <= LONG_NANOSECONDS {
            self.nanoseconds += nanoseconds;
            self.callbacks += 1;
        } else {
            self.left_out += 1;
        }
        answer
    }
}

/// Callbacks of one kind and the allocations in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocated {
    pub callbacks: u64,
    pub allocations: u64,
    /// The most in one callback.
    pub most: u64,
}

impl Allocated {
    pub fn merge(&mut self, other: &Self) {
        self.callbacks += other.callbacks;
        self.allocations += other.allocations;
        self.most = self.most.max(other.most);
    }

    pub fn per_callback(&self) -> f64 {
        self.allocations as f64 / self.callbacks.max(1) as f64
    }
}

/// Allocations per callback, by kind.
#[derive(Debug, Clone, Copy)]
pub struct AllocationProbe {
    pub reader: AllocationReader,
    pub counted: [Allocated; Kind::ALL.len()],
}

impl Probe for AllocationProbe {
    fn around<R>(&mut self, kind: Kind, callback: impl FnOnce() -> R) -> R {
        let before = self.reader.on_this_thread();
        let answer = callback();
        let made = self.reader.on_this_thread() - before;
        self.counted[kind as usize].merge(&Allocated {
            callbacks: 1,
            allocations: made,
            most: made,
        });
        answer
    }
}
