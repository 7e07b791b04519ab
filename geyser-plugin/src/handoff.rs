//! Callback → worker: a bounded queue that never makes a callback wait.
//!
//! The queue is an array of records allocated at load, bounded by count and, through one counter, by bytes. A callback
//! encodes into a buffer from a pool, pushes and returns; nobody is woken, the worker looks by itself. Full means lost,
//! counted by reason and written down by slot and lane. On the steady path nothing is allocated: buffers come back.
//!
//! Buffers are pooled rather than thread-local on purpose: thread-local destructors of a library that is unloaded while
//! the validator's threads live on would run unmapped code.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crossbeam_queue::ArrayQueue;

use crate::{
    counters::{Counters, LossReason},
    lane::Lane,
    loss::LossTable,
    observation::{Fact, Key, Observation, STARTUP_SLOT},
};

/// A buffer that grew past this is given back to the allocator: one large account must not pin its size for ever.
const POOLED_BUFFER_BYTES: usize = 16 * 1024;
/// With the above, at most 64 MiB rest in the pool.
const POOLED_BUFFERS: usize = 4096;
/// What a record costs besides its bytes, for the byte bound.
const RECORD_OVERHEAD_BYTES: usize = 256;

#[derive(Debug)]
pub struct Handoff {
    ready: ArrayQueue<Observation>,
    pool: ArrayQueue<Vec<u8>>,
    held_bytes: AtomicUsize,
    bytes_max: usize,
    record_bytes_max: usize,
    pub losses: LossTable,
    counters: Arc<Counters>,
}

impl Handoff {
    /// `records` and `bytes_max` bound what waits; `record_bytes_max` is the largest value Kafka takes.
    pub fn new(
        records: usize,
        bytes_max: usize,
        record_bytes_max: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            ready: ArrayQueue::new(records.max(1)),
            pool: ArrayQueue::new(POOLED_BUFFERS.min(records.max(1))),
            held_bytes: AtomicUsize::new(0),
            bytes_max,
            record_bytes_max,
            losses: LossTable::default(),
            counters,
        }
    }

    /// From a callback. Wait-free apart from compare-and-swap; a panic in `encode` is a loss.
    pub fn offer(
        &self,
        slot: u64,
        lane: Lane,
        key: Key,
        fact: Fact,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Err(reason) = self.try_offer(slot, lane, key, fact, encode) {
            self.lose(slot, lane, fact, reason);
        }
    }

    pub fn lose(&self, slot: u64, lane: Lane, fact: Fact, reason: LossReason) {
        if let Some(kind) = fact.kind() {
            self.counters.lost(reason, 1);
            let slot = if fact == Fact::StartupAccount {
                STARTUP_SLOT
            } else {
                slot
            };
            self.losses.add(slot, lane, kind);
        }
    }

    fn try_offer(
        &self,
        slot: u64,
        lane: Lane,
        key: Key,
        fact: Fact,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LossReason> {
        // Look before encoding: when all is full, losing must be cheap.
        if self.ready.is_full() {
            return Err(LossReason::QueueRecords);
        }
        if self.held_bytes.load(Ordering::Relaxed) >= self.bytes_max {
            return Err(LossReason::QueueBytes);
        }
        let mut value = self.pool.pop().unwrap_or_default();
        value.clear();
        let encoded = catch_unwind(AssertUnwindSafe(move || {
            encode(&mut value);
            value
        }));
        let Ok(value) = encoded else {
            self.counters.panics.add(1);
            return Err(LossReason::Panic);
        };
        if value.len() > self.record_bytes_max {
            return Err(LossReason::Oversize);
        }
        let weight = value.len() + RECORD_OVERHEAD_BYTES;
        if self.held_bytes.fetch_add(weight, Ordering::Relaxed) + weight > self.bytes_max {
            self.held_bytes.fetch_sub(weight, Ordering::Relaxed);
            self.recycle(value);
            return Err(LossReason::QueueBytes);
        }
        self.ready
            .push(Observation {
                slot,
                lane,
                key,
                fact,
                value,
            })
            .map_err(|rejected| {
                self.held_bytes.fetch_sub(weight, Ordering::Relaxed);
                self.recycle(rejected.value);
                LossReason::QueueRecords
            })
    }

    /// The worker's end, in the order of the callbacks.
    pub fn take(&self) -> Option<Observation> {
        let observation = self.ready.pop()?;
        self.held_bytes.fetch_sub(
            observation.value.len() + RECORD_OVERHEAD_BYTES,
            Ordering::Relaxed,
        );
        Some(observation)
    }

    /// Gives a buffer back after its record was placed.
    pub fn recycle(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= POOLED_BUFFER_BYTES {
            // A full pool drops it.
            let _ = self.pool.push(buffer);
        }
    }

    pub fn len(&self) -> usize {
        self.ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// More than half of either bound is used: time to stop waiting for Kafka.
    pub fn is_pressed(&self) -> bool {
        self.ready.len() * 2 > self.ready.capacity() || self.held_bytes() * 2 > self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handoff(records: usize, bytes: usize) -> Handoff {
        Handoff::new(records, bytes, 10_000, Arc::new(Counters::default()))
    }

    fn offer(handoff: &Handoff, slot: u64, size: usize) {
        handoff.offer(slot, Lane(0), Key::of_slot(slot), Fact::Account, |out| {
            out.resize(size, 7)
        });
    }

    #[test]
    fn a_full_queue_loses_and_counts_by_reason() {
        let queue = handoff(2, 1 << 20);
        for slot in 0..5 {
            offer(&queue, slot, 10);
        }
        assert_eq!(queue.counters.lost_for(LossReason::QueueRecords), 3);
        let mut slots = Vec::new();
        queue
            .losses
            .sweep(|loss| slots.push((loss.slot, loss.count)));
        slots.sort_unstable();
        assert_eq!(slots, [(2, 1), (3, 1), (4, 1)]);
        assert_eq!(queue.take().map(|taken| taken.slot), Some(0));
        offer(&queue, 9, 10);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let queue = handoff(100, 2000);
        offer(&queue, 1, 1000);
        offer(&queue, 2, 1000);
        offer(&queue, 3, 20_000);
        assert_eq!(queue.counters.lost_for(LossReason::QueueBytes), 1);
        assert_eq!(queue.counters.lost_for(LossReason::Oversize), 1);
        assert!(queue.take().is_some());
        assert_eq!(queue.held_bytes(), 0);
        offer(&queue, 4, 1000);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_panic_while_encoding_is_a_counted_loss() {
        let queue = handoff(10, 2000);
        queue.offer(5, Lane(0), Key::of_slot(5), Fact::Transaction, |_| {
            panic!("broken meta")
        });
        assert_eq!(queue.counters.panics.get(), 1);
        assert_eq!(queue.counters.lost_for(LossReason::Panic), 1);
        assert!(queue.is_empty());
        offer(&queue, 6, 10);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn buffers_are_reused() {
        let queue = handoff(10, 1 << 20);
        offer(&queue, 1, 500);
        let taken = queue.take().unwrap();
        let (place, capacity) = (taken.value.as_ptr(), taken.value.capacity());
        queue.recycle(taken.value);
        offer(&queue, 2, 400);
        let again = queue.take().unwrap();
        assert_eq!(
            (again.value.as_ptr(), again.value.capacity()),
            (place, capacity)
        );
    }
}
