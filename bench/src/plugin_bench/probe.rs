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

/// The plugin times one callback in so many of each kind that it counts: the first, then every 64th.
pub const TIMED_ONE_IN: u64 = 64;

/// Time of callbacks by kind, those whose turn it is to be timed by the plugin apart from the others. Of one thread, and
/// right only if every callback since the plugin was loaded is among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Turns {
    /// Callbacks so far of each kind that the plugin counts.
    made: [u64; 7],
    /// By kind of the table: those in turn, and the others.
    times: [[TotalTime; 2]; Kind::ALL.len()],
}

/// For a mean that one interruption does not move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalTime {
    /// The reading of the clock around each included.
    pub nanoseconds: u64,
    /// Longer ones are left out.
    pub callbacks: u64,
}

impl TotalTime {
    pub fn mean(&self) -> f64 {
        self.nanoseconds as f64 / self.callbacks.max(1) as f64
    }
}

impl Turns {
    /// From where `self` stands, with nothing measured.
    pub fn next(&self) -> Self {
        Self {
            made: self.made,
            ..Self::default()
        }
    }

    pub fn add(&mut self, later: &Self) {
        self.made = later.made;
        let (mine, theirs) = (self.times.iter_mut(), later.times.iter());
        for (mine, theirs) in mine.flatten().zip(theirs.flatten()) {
            mine.nanoseconds += theirs.nanoseconds;
            mine.callbacks += theirs.callbacks;
        }
    }

    /// By kind of the table: those in turn, and the others.
    pub fn times(&self) -> impl Iterator<Item = (Kind, [TotalTime; 2])> + '_ {
        Kind::ALL.into_iter().zip(self.times)
    }
}

/// Which of the plugin's counters a callback raises.
const fn counted_as(kind: Kind) -> usize {
    match kind {
        Kind::AccountEmpty
        | Kind::Account165
        | Kind::Account1k
        | Kind::Account10k
        | Kind::Account1m => 0,
        Kind::VoteTransaction | Kind::NonVoteTransaction => 1,
        Kind::Entry => 2,
        Kind::BlockMeta => 3,
        Kind::SlotStatus => 4,
        Kind::Deshred => 5,
        Kind::ContactInfo => 6,
    }
}

impl Probe for Turns {
    fn around<R>(&mut self, kind: Kind, callback: impl FnOnce() -> R) -> R {
        let made = &mut self.made[counted_as(kind)];
        let other = usize::from(!made.is_multiple_of(TIMED_ONE_IN));
        *made += 1;
        let begin = Instant::now();
        let answer = callback();
        let nanoseconds = begin.elapsed().as_nanos() as u64;
        if nanoseconds <= LONG_NANOSECONDS {
            let time = &mut self.times[kind as usize][other];
            time.nanoseconds += nanoseconds;
            time.callbacks += 1;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whose_turn_it_is_goes_on_from_round_to_round() {
        let mut all = Turns::default();
        for round in 0..5 {
            let mut turns = all.next();
            for nth in 0..50_u64 {
                // What the plugin would do: the accounts of both sizes are one series to it.
                let made = round * 50 + nth;
                let kind = [Kind::Account165, Kind::Account1k][(made % 3 == 0) as usize];
                turns.around(kind, || {
                    if made % TIMED_ONE_IN == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
            }
            turns.around(Kind::Entry, || ());
            all.add(&turns);
        }
        // 0, 64, 128, 192: slept, and so too long to be counted.
        for (kind, [in_turn, others]) in all.times() {
            let expected = match kind {
                Kind::Account165 => (0, 164),
                Kind::Account1k => (0, 82),
                Kind::Entry => (1, 4),
                _ => (0, 0),
            };
            assert_eq!(in_turn.callbacks, expected.0, "{kind:?}");
            // A busy machine may interrupt a few.
            assert!(others.callbacks <= expected.1 && others.callbacks + 20 >= expected.1);
        }
    }
}
