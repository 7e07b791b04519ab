//! Callback → worker, without ever making a callback wait.
//!
//! A callback reserves room in the ring, encodes in place, commits and returns; nobody is woken, the worker looks by itself.
//! A record stays in the ring until Kafka has acknowledged it or the spill holds it, so a validator that is killed takes
//! nothing with it that a callback had returned from (see [`crate::shared_memory`]). Full means lost, counted by reason and
//! written down by slot and lane. Nothing is allocated.
//!
//! There are no thread-local buffers on purpose: thread-local destructors of a library that is unloaded while the
//! validator's threads live on would run unmapped code.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use event_schema::chunk::CHUNK_BYTES_MAX;

use crate::{
    counters::{Counters, LossReason},
    encode::Out,
    lane::{Lane, Lanes},
    loss::LossTable,
    observation::{Fact, Front, Outputs, STARTUP_SLOT},
    ring::{Full, Ring, Which},
    shared_memory::SharedMemory,
    startup_rate::StartupRate,
};

#[derive(Debug)]
pub struct Handoff {
    pub records: Ring,
    /// Written by the worker alone.
    pub seals: Ring,
    pub losses: LossTable,
    lanes: Box<[Lanes]>,
    /// Of the snapshot's accounts; `None`: as fast as they come.
    startup_rate: Option<StartupRate>,
    counters: Arc<Counters>,
}

impl Handoff {
    /// `lanes` of every output.
    pub fn new(memory: &Arc<SharedMemory>, lanes: Box<[Lanes]>, counters: Arc<Counters>) -> Self {
        Self {
            records: Ring::new(Arc::clone(memory), Which::Records),
            seals: Ring::new(Arc::clone(memory), Which::Seals),
            losses: LossTable::default(),
            lanes,
            startup_rate: None,
            counters,
        }
    }

    /// Bounds how many of the snapshot's accounts are taken in a second.
    pub fn with_startup_rate(self, records_per_second: Option<u64>) -> Self {
        Self {
            startup_rate: records_per_second.map(StartupRate::new),
            ..self
        }
    }

    pub fn ring(&self, which: Which) -> &Ring {
        match which {
            Which::Records => &self.records,
            Which::Seals => &self.seals,
        }
    }

    /// From a callback: room for `most` bytes is reserved, and `encode` writes the value there. Wait-free apart from
    /// compare-and-swap; a panic in `encode` is a loss.
    #[inline]
    pub fn offer(&self, front: Front<'_>, most: usize, encode: impl FnOnce(&mut Out<'_>)) {
        if let Err(reason) = self.try_offer(&front, most, encode) {
            self.lose(&front, reason);
        }
    }

    /// The callback's record will not be kept.
    #[cold]
    pub fn lose(&self, front: &Front<'_>, reason: LossReason) {
        let Some(kind) = front.fact.kind() else {
            return;
        };
        let slot = if front.fact == Fact::StartupAccount {
            STARTUP_SLOT
        } else {
            front.slot
        };
        for output in front.recorded.iter() {
            self.counters.lost_one(reason, kind);
            if kind.is_beside_blocks() {
                // No block lacks it, so no seal states it.
                continue;
            }
            let lane = self.lane(output, &front.fact, front.slot, front.key);
            self.losses.add(slot, lane, kind);
        }
    }

    /// Where the output puts the record.
    pub fn lane(&self, output: usize, fact: &Fact, slot: u64, key: &[u8]) -> Lane {
        let lanes = self.lanes[output];
        match fact {
            Fact::Account | Fact::StartupAccount => lanes.of_account(key),
            Fact::Transaction | Fact::Deshred => lanes.of_transaction(key),
            Fact::ContactInfo => lanes.of_node(key),
            _ => lanes.of_slot(slot),
        }
    }

    pub fn outputs(&self) -> &[Lanes] {
        &self.lanes
    }

    /// Every output there is.
    pub fn all(&self) -> Outputs {
        Outputs::first(self.lanes.len())
    }

    #[inline]
    fn try_offer(
        &self,
        front: &Front<'_>,
        most: usize,
        encode: impl FnOnce(&mut Out<'_>),
    ) -> Result<(), LossReason> {
        let length = front.length();
        // The largest account has 10 MiB; what is larger than a quarter of the ring would keep everybody else out.
        if most > self.records.capacity_bytes() / 4 {
            return Err(LossReason::Oversize);
        }
        // The snapshot may have half of the ring: what the validator executes comes first.
        if front.fact == Fact::StartupAccount {
            if self.is_pressed() {
                return Err(LossReason::Startup);
            }
            // Last, so that a place that it gives is used.
            if !self.startup_rate.as_ref().is_none_or(StartupRate::admits) {
                return Err(LossReason::StartupRate);
            }
        }
        // What no block needs has that half as well, and is never cut.
        if matches!(front.fact, Fact::Deshred | Fact::ContactInfo) {
            if most > CHUNK_BYTES_MAX {
                return Err(LossReason::Oversize);
            }
            if self.is_pressed() {
                return Err(LossReason::Beside);
            }
        }
        let mut reservation = self
            .records
            .reserve(length + most)
            .map_err(|full| match full {
                Full::Records => LossReason::QueueRecords,
                Full::Bytes => LossReason::QueueBytes,
            })?;
        let room = front.write(reservation.room());
        let written = catch_unwind(AssertUnwindSafe(|| {
            let mut out = Out::new(room);
            encode(&mut out);
            out.finish()
        }));
        match written {
            Ok(Some(value)) => {
                reservation.commit(front.note(), length + value);
                Ok(())
            }
            // The bound was none: a defect of this library, like a panic.
            Ok(None) | Err(_) => {
                self.counters.panics.add(1);
                Err(LossReason::Panic)
            }
        }
    }

    /// More than half of either bound is used: time to stop waiting for Kafka's client to take a record.
    pub fn is_pressed(&self) -> bool {
        self.is_used_by(1, 2)
    }

    /// More than three quarters: what comes now goes to disk.
    pub fn is_crowded(&self) -> bool {
        self.is_used_by(3, 4)
    }

    fn is_used_by(&self, parts: usize, of: usize) -> bool {
        self.records.len() * of > self.records.capacity_records() * parts
            || self.records.held_bytes() * of > self.records.capacity_bytes() * parts
    }
}

#[cfg(test)]
mod tests {
    use event_schema::SourceId;

    use super::*;
    use crate::{observation::Observation, ring::following, shared_memory::Sizes};

    const LANES: Lanes = Lanes {
        accounts: 2,
        transactions: 2,
        slots: 1,
        first: 0,
    };

    fn handoff(records: u64, bytes: u64) -> Handoff {
        let sizes = Sizes {
            records,
            record_bytes: bytes,
            seals: 4,
            seal_bytes: 4096,
        };
        let memory =
            Arc::new(SharedMemory::anonymous(sizes, SourceId::default(), &[LANES]).unwrap());
        let counters = Arc::new(Counters::new(Arc::clone(&memory)));
        Handoff::new(&memory, Box::new([LANES]), counters)
    }

    fn front(slot: u64, fact: Fact) -> Front<'static> {
        Front {
            slot,
            fact,
            recorded: Outputs(1),
            seen: Outputs(1),
            key: &[5; 32],
        }
    }

    fn offer(handoff: &Handoff, slot: u64, size: usize) {
        handoff.offer(front(slot, Fact::Account), size, |out| {
            out.extend_from_slice(&vec![7; size])
        });
    }

    fn stated(handoff: &Handoff) -> Vec<(u64, u64)> {
        let mut slots = Vec::new();
        handoff
            .losses
            .sweep(|loss| slots.push((loss.slot, loss.count)));
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_full_ring_loses_and_counts_by_reason() {
        let queue = handoff(2, 1 << 16);
        for slot in 0..5 {
            offer(&queue, slot, 10);
        }
        assert_eq!(queue.counters.lost_for(LossReason::QueueRecords), 3);
        assert_eq!(stated(&queue), [(2, 1), (3, 1), (4, 1)]);
        let first = queue.records.get(0).and_then(Observation::read).unwrap();
        assert_eq!((first.slot, first.value), (0, &[7; 10][..]));
        queue.records.release(0, 1);
        offer(&queue, 9, 10);
        assert_eq!(queue.records.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let queue = handoff(128, 8192);
        for slot in 0..5 {
            offer(&queue, slot, 1500);
        }
        offer(&queue, 6, 1500);
        offer(&queue, 7, 20_000);
        assert_eq!(queue.counters.lost_for(LossReason::QueueBytes), 1);
        assert_eq!(queue.counters.lost_for(LossReason::Oversize), 1);
        queue.records.release(0, 5);
        assert_eq!(queue.records.held_bytes(), 0);
        offer(&queue, 8, 1500);
        assert_eq!(queue.records.len(), 1);
    }

    #[test]
    fn a_panic_or_a_wrong_bound_is_a_counted_loss() {
        let queue = handoff(16, 8192);
        queue.offer(front(5, Fact::Transaction), 10, |_| panic!("broken meta"));
        queue.offer(front(5, Fact::Transaction), 10, |out| {
            out.extend_from_slice(&[0; 999])
        });
        assert_eq!(queue.counters.panics.get(), 2);
        assert_eq!(queue.counters.lost_for(LossReason::Panic), 2);
        assert_eq!(stated(&queue), [(5, 2)]);
        // Their places pass by.
        offer(&queue, 6, 10);
        let observations: Vec<_> = std::iter::successors(Some(0), |n| Some(following(*n)))
            .take(3)
            .map(|n| queue.records.get(n).and_then(Observation::read))
            .map(|read| read.map(|read| read.slot))
            .collect();
        assert_eq!(observations, [None, None, Some(6)]);
    }

    #[test]
    fn the_snapshot_leaves_half_of_the_ring_to_the_chain() {
        let queue = handoff(8, 1 << 16);
        for _ in 0..20 {
            queue.offer(front(3, Fact::StartupAccount), 10, |_| {});
        }
        assert_eq!(queue.records.len(), 5);
        assert_eq!(queue.counters.lost_for(LossReason::Startup), 15);
        assert_eq!(stated(&queue), [(STARTUP_SLOT, 15)]);
        offer(&queue, 9, 10);
        assert_eq!(queue.records.len(), 6);
    }

    #[test]
    fn what_no_block_needs_leaves_half_of_the_ring_to_the_chain() {
        for fact in [Fact::Deshred, Fact::ContactInfo] {
            let queue = handoff(8, 4 << 20);
            for _ in 0..20 {
                queue.offer(front(3, fact), 10, |_| {});
            }
            assert_eq!(queue.records.len(), 5);
            assert_eq!(queue.counters.lost_for(LossReason::Beside), 15);
            assert_eq!(queue.counters.lost_beside.get(), 15);
            assert_eq!(stated(&queue), [], "no seal states it");
            offer(&queue, 9, 10);
            assert_eq!(queue.records.len(), 6);
            let queue = handoff(8, 4 << 20);
            queue.offer(front(3, fact), CHUNK_BYTES_MAX + 1, |_| {});
            assert_eq!(queue.counters.lost_for(LossReason::Oversize), 1);
        }
    }

    #[test]
    fn above_its_rate_the_snapshot_is_lost_and_told_and_nothing_else_is() {
        let queue = handoff(1 << 10, 1 << 20).with_startup_rate(Some(5));
        let begin = std::time::Instant::now();
        for _ in 0..20 {
            queue.offer(front(3, Fact::StartupAccount), 10, |_| {});
            offer(&queue, 9, 10);
        }
        let lost = queue.counters.lost_for(LossReason::StartupRate);
        // A second's worth at once; a slow machine may be granted another few.
        let granted = 5 + begin.elapsed().as_millis() as u64 / 200 + 1;
        assert!(
            lost <= 15 && lost + granted >= 20,
            "{lost} lost, {granted} granted"
        );
        assert_eq!(queue.counters.lost_total(), lost);
        assert_eq!(stated(&queue), [(STARTUP_SLOT, lost)]);
        assert_eq!(queue.records.len() as u64, 40 - lost);
    }
}
