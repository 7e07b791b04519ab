//! Records that Kafka was given and did not take after all, and what cannot be kept.

use super::*;

impl<O: Outlet> Worker<O> {
    /// Records that Kafka did not take after all: in front of the spill, else to Kafka again, or given up.
    pub(super) fn replace_failed(&mut self) {
        let mut failed = self.around.deliveries.take_failed();
        if failed.is_empty() && self.again.is_empty() {
            return;
        }
        if failed.iter().any(|failed| !failed.for_good) {
            // The others it holds have not failed yet, and must not overtake these.
            self.close_client();
            failed.extend(self.around.deliveries.take_failed());
        }
        let handoff = Arc::clone(&self.around.handoff);
        for Failed { tag, for_good } in failed {
            match tag {
                Tag::Live(live) if for_good => {
                    if let Some(placed) = still_placed(&handoff, live) {
                        self.lost_after_numbering(placed.kind, placed.slot, placed.lane);
                    }
                    mark_done(&handoff, live);
                    handoff.ring(live.ring).settle(live.number);
                }
                Tag::Live(live) => self.again.push(live),
                Tag::Drained(number) if for_good => {
                    let settled = self.around.deliveries.drains().settle(number);
                    if let Some(drained) = settled {
                        self.lost_from_the_spill(drained);
                    }
                }
                // It is on disk still, and read again.
                Tag::Drained(_) => {}
            }
        }
        self.keep_again(&handoff);
        self.place_again(&handoff);
    }

    /// Puts the failed records in front of the spill, and reads that from its beginning.
    pub(super) fn keep_again(&mut self, handoff: &Handoff) {
        let Some(spill) = &mut self.spill else { return };
        if self.again.is_empty() && self.finished.is_empty() && self.drain_next == 0 {
            return;
        }
        let mut placed: Vec<Placed<'_>> = self
            .again
            .iter()
            .filter_map(|live| still_placed(handoff, *live))
            .collect();
        // Every chunk of a value has failed; it is kept once.
        placed.sort_unstable_by_key(|record| (record.lane, record.sequence));
        placed.dedup_by_key(|record| (record.lane, record.sequence));
        let start = self
            .finished
            .front()
            .map_or(self.segment_start, |read| read.start);
        spill.read_again(self.finished.drain(..).map(|read| read.segment));
        self.drain_next = 0;
        self.segment_start = 0;
        let kept = placing::prepend(
            Some(spill),
            handoff.outputs(),
            self.around.source,
            &mut placed,
        );
        let before: Vec<Drained> = if kept {
            placed.iter().flat_map(frames_of).collect()
        } else {
            Vec::new()
        };
        self.around.deliveries.drains().restart(start, &before);
        if kept {
            let counters = &self.around.counters;
            for record in &placed {
                match record.kind {
                    Kind::Seal => counters.spilled_seals.add(1),
                    _ => counters.spilled.add(1),
                }
            }
            for live in self.again.drain(..) {
                mark_done(handoff, live);
                handoff.ring(live.ring).settle(live.number);
            }
        }
    }

    /// Without a disk to keep them: to Kafka once more.
    pub(super) fn place_again(&mut self, handoff: &Handoff) {
        let mut again = std::mem::take(&mut self.again);
        again.sort_unstable_by_key(|live| {
            still_placed(handoff, *live).map(|placed| (placed.lane, placed.sequence))
        });
        let mut before = None;
        for live in again {
            if let Some(placed) = still_placed(handoff, live)
                && before.replace((placed.lane, placed.sequence))
                    != Some((placed.lane, placed.sequence))
            {
                let settled = self.place(&Numbered {
                    output: placed.output,
                    lane: placed.lane,
                    kind: placed.kind,
                    slot: placed.slot,
                    sequence: placed.sequence,
                    key: placed.key,
                    value: placed.value,
                    ring: live.ring,
                    number: live.number,
                    last: true,
                });
                if settled {
                    mark_done(handoff, live);
                }
            }
            // Only now: until then it was kept in the ring.
            handoff.ring(live.ring).settle(live.number);
        }
    }

    /// It waits on disk no longer, and Kafka will not have it.
    pub(super) fn lost_from_the_spill(&mut self, drained: Drained) {
        let Some(lane) = drained.lane else {
            self.around.counters.inherited_lost.add(1);
            // Whoever comes after a kill counts it with the rest.
            let header = self.around.memory.header();
            header.inherited_lost.0.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.around.deliveries.left_the_spill(&drained);
        if drained.last {
            self.lost_after_numbering(drained.kind, drained.slot, lane);
        }
    }

    /// Seals are not observations; a hole in the sequence shows that one is missing.
    pub(super) fn lost_after_numbering(&mut self, kind: Kind, slot: u64, lane: Lane) {
        if kind == Kind::Seal {
            return;
        }
        self.around.counters.lost_one(LossReason::Delivery, kind);
        if kind.is_beside_blocks() {
            return;
        }
        if let Some(ledger) = self.ledger_of(lane) {
            ledger.lost_after_numbering(slot, lane);
        }
    }

    pub(super) fn ledger_of(&mut self, lane: Lane) -> Option<&mut SlotLedger> {
        let output = self
            .around
            .handoff
            .outputs()
            .iter()
            .position(|lanes| lanes.contains(lane))?;
        self.ledgers.get_mut(output)
    }
}

/// Kafka has nothing to say of the record any more.
pub(super) fn mark_done(handoff: &Handoff, live: Live) {
    let held = handoff.ring(live.ring).get(live.number);
    let word = held.and_then(|held| match live.ring {
        Which::Records => held.word(Outputs(held.note().x).word(live.output)),
        Which::Seals => held.word(0),
    });
    if let Some(word) = word {
        word.store(DONE, Ordering::Release);
    }
}

/// The record, unless Kafka or the disk has it.
pub(super) fn still_placed(handoff: &Handoff, live: Live) -> Option<Placed<'_>> {
    Placed::read(handoff, live.ring, live.number, live.output)
        .filter(|placed| placed.sequence != DONE)
}

/// The frames that the record has in the spill.
pub(super) fn frames_of(record: &Placed<'_>) -> impl Iterator<Item = Drained> + use<> {
    let count = if record.value.len() > CHUNK_BYTES_MAX {
        records_of(record.value.len())
    } else {
        1
    };
    let drained = Drained {
        lane: Some(record.lane),
        kind: record.kind,
        slot: record.slot,
        last: true,
    };
    (0..count).map(move |index| Drained {
        last: index + 1 == count,
        ..drained
    })
}
