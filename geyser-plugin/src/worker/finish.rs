//! Unloading: nothing that was accepted is left without an account.

use super::*;

impl<O: Outlet> Worker<O> {
    /// Everything that can be placed has been, or time is up: what Kafka has not acknowledged goes to disk.
    pub(super) fn finish(mut self) {
        let left = self.deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if self.outlet.is_ready() && !self.outlet.flush(left) {
            log::warn!(target: crate::LOG_TARGET,
                "heliograph: Kafka did not acknowledge {} records in time",
                self.outlet.in_flight()
            );
        }
        self.around.deliveries.close();
        self.outlet.close();
        self.retire();
        self.leaving = true;
        self.keep_unacknowledged();
        // Waits for nothing any more.
        let handoff = Arc::clone(&self.around.handoff);
        while let Some(number) = self.take(&handoff) {
            if let Some(held) = handoff.records.get(number) {
                self.record(number, held);
            }
            self.taken(number);
        }
        self.note_losses();
        self.seal();
        self.show();
        self.around.memory.remove();
    }

    /// Records that were given to Kafka and not acknowledged: before everything else that waits on disk, as they are older.
    pub(super) fn keep_unacknowledged(&mut self) {
        let handoff = Arc::clone(&self.around.handoff);
        let mut placed: Vec<Placed<'_>> = numbers(self.records)
            .filter_map(|number| handoff.records.get(number))
            .flat_map(|held| Placed::all(&handoff, held))
            .chain(
                numbers(self.seals)
                    .filter_map(|number| handoff.seals.get(number))
                    .filter_map(Placed::seal),
            )
            .filter(|placed| placed.sequence != DONE)
            .collect();
        let kept = placing::prepend(
            self.spill.as_mut(),
            handoff.outputs(),
            self.around.source,
            &mut placed,
        );
        let counters = &self.around.counters;
        for record in &placed {
            match (record.kind, kept) {
                (Kind::Seal, true) => counters.spilled_seals.add(1),
                (Kind::Seal, false) => {}
                (_, true) => counters.spilled.add(1),
                (kind, false) => counters.lost_one(LossReason::Unload, kind),
            }
        }
    }
}

/// Of the records that were read and not given back.
pub(super) fn numbers(reader: Reader) -> impl Iterator<Item = u64> {
    let first = (reader.released != reader.next).then_some(reader.released);
    std::iter::successors(first, move |number| {
        let number = following(*number);
        (number != reader.next).then_some(number)
    })
}
