//! The one thread that numbers records: takes them from the callbacks' queue, writes the slot ledger, places each record in
//! Kafka or, while Kafka is away, in the spill, and appends the seals that are due.
//!
//! Order in a partition is sequence order, because only this thread assigns sequences and because once one record has gone
//! to the spill, all go there until it is drained. The worker never drops a numbered record: when Kafka and the spill are
//! both full it waits, the queue behind it fills, and callbacks count the loss, which the next seals state.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use event_log::producer::SendError;
use event_schema::{Kind, ObservedHeader, ObservedTopic, Sequence, Slot, SourceId};
use prost::Message as _;

use crate::{
    counters::{Counters, LossReason},
    handoff::Handoff,
    lane::{Lane, Lanes},
    observation::{Fact, Key, Observation},
    outlet::{Deliveries, Outlet, Tag},
    slot_ledger::{DueSeal, SlotLedger},
    spill::{Finished, Frame, Spill},
};

/// Records between two looks at losses, seals and the spill.
const BATCH: usize = 1024;
/// Looks for work this often shortly after there was some, and this often otherwise. The callbacks wake nobody.
const BUSY_NAP: Duration = Duration::from_micros(200);
const IDLE_NAP: Duration = Duration::from_millis(1);
const BUSY_FOR: Duration = Duration::from_millis(50);
/// A full Kafka client is given this long, while the queue is not pressed, before records go to disk.
const PATIENCE: Duration = Duration::from_millis(100);
/// A record that the client refuses this often is given up.
const REFUSALS_MAX: u32 = 3;

/// Everything the worker needs from its surroundings.
pub struct Surroundings {
    pub lanes: Lanes,
    pub source: SourceId,
    pub handoff: Arc<Handoff>,
    pub counters: Arc<Counters>,
    pub deliveries: Arc<Deliveries>,
    pub stop: Arc<AtomicBool>,
    /// How long stopping may take.
    pub stop_within: Duration,
}

/// See the module.
pub struct Worker<O> {
    around: Surroundings,
    ledger: SlotLedger,
    outlet: O,
    spill: Option<Spill>,
    /// Records given to Kafka, per place of [`Deliveries`].
    sent: Vec<u64>,
    /// Segments read to their end, each with what must be reported before it may be deleted.
    finished: Vec<(Finished, Vec<u64>)>,
    spill_complained: Option<Instant>,
    deadline: Option<Instant>,
}

/// A numbered record on its way out.
struct Numbered<'a> {
    lane: Lane,
    kind: Kind,
    slot: u64,
    sequence: u64,
    key: &'a [u8],
    value: &'a [u8],
}

/// Stopping took too long; the record was not placed.
struct Abandoned;

impl<O: Outlet> Worker<O> {
    pub fn new(around: Surroundings, outlet: O, spill: Option<Spill>) -> Self {
        Self {
            ledger: SlotLedger::new(around.lanes),
            sent: vec![0; around.lanes.count() + 1],
            around,
            outlet,
            spill,
            finished: Vec::new(),
            spill_complained: None,
            deadline: None,
        }
    }

    /// Until told to stop; then places what is queued, waits for Kafka within the limit, and accounts for the rest.
    pub fn run(mut self) {
        let mut active = Instant::now();
        loop {
            let stopping = self.around.stop.load(Ordering::Acquire);
            if stopping && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + self.around.stop_within);
            }
            let Ok(taken) = self.turn() else { break };
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                break;
            }
            if taken > 0 {
                active = Instant::now();
            } else if stopping {
                break;
            } else {
                thread::sleep(if active.elapsed() < BUSY_FOR {
                    BUSY_NAP
                } else {
                    IDLE_NAP
                });
            }
        }
        self.finish();
    }

    /// One batch and what follows from it; returns how much was done.
    fn turn(&mut self) -> Result<usize, Abandoned> {
        let mut done = 0;
        while done < BATCH {
            let Some(observation) = self.around.handoff.take() else {
                break;
            };
            done += 1;
            self.record(observation)?;
        }
        self.note_losses();
        let seals = self.ledger.take_due();
        done += seals.len();
        self.seal(seals)?;
        // More than one batch took, so that a spill empties under steady traffic.
        done += self.drain(4 * BATCH);
        self.retire();
        self.show();
        Ok(done)
    }

    fn record(&mut self, observation: Observation) -> Result<(), Abandoned> {
        let Observation {
            slot,
            lane,
            key,
            fact,
            value,
        } = observation;
        let Some(kind) = fact.kind() else {
            if fact == Fact::EndOfStartup {
                self.note_losses();
                let seals = self.ledger.end_startup();
                self.seal(seals)?;
            }
            return Ok(());
        };
        let sequence = self
            .ledger
            .record(slot, lane, &fact, crc32fast::hash(&value));
        let placed = self.place(&Numbered {
            lane,
            kind,
            slot,
            sequence,
            key: key.as_bytes(),
            value: &value,
        });
        if placed.is_err() {
            self.around.counters.lost(LossReason::Unload, 1);
        }
        self.around.handoff.recycle(value);
        placed
    }

    fn seal(&mut self, seals: Vec<DueSeal>) -> Result<(), Abandoned> {
        let mut last_slot = None;
        for DueSeal { lane, seal } in seals {
            if last_slot.replace(seal.slot) != Some(seal.slot) {
                let counters = &self.around.counters;
                if seal.revision == 0 {
                    counters.seals_sealed.add(1)
                } else {
                    counters.seals_amended.add(1)
                }
            }
            let sequence = self.ledger.number(lane);
            let key = Key::of_slot(seal.slot);
            let value = seal.encode_to_vec();
            self.place(&Numbered {
                lane,
                kind: Kind::Seal,
                slot: seal.slot,
                sequence,
                key: key.as_bytes(),
                value: &value,
            })?;
        }
        Ok(())
    }

    /// Into Kafka, else into the spill, else waits for either.
    fn place(&mut self, record: &Numbered<'_>) -> Result<(), Abandoned> {
        let (topic, partition) = self.around.lanes.place(record.lane);
        let header = ObservedHeader {
            kind: record.kind,
            slot: Slot(record.slot),
            source: self.around.source,
            sequence: Sequence(record.sequence),
        }
        .encode();
        let tag = Tag {
            kind: record.kind,
            lane: Some(record.lane),
            slot: record.slot,
        };
        let mut since = None;
        let mut refusals = 0;
        loop {
            let spilling = self.spill.as_ref().is_some_and(|spill| !spill.is_empty());
            if !spilling {
                match self.send(topic, partition, record.key, &header, record.value, tag) {
                    Ok(()) => return Ok(()),
                    Err(SendError::QueueFull) => {}
                    Err(SendError::Fatal(reason)) => {
                        refusals += 1;
                        if refusals >= REFUSALS_MAX {
                            self.give_up(tag, &reason);
                            return Ok(());
                        }
                    }
                }
            }
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            let patient = !spilling
                && self.deadline.is_none()
                && since.elapsed() < PATIENCE
                && !self.around.handoff.is_pressed();
            if !patient && self.spill_record(topic, partition, &header, record) {
                return Ok(());
            }
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Err(Abandoned);
            }
            if self.around.stop.load(Ordering::Acquire) && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + self.around.stop_within);
            }
            self.note_losses();
            if self.drain(BATCH) == 0 {
                thread::sleep(IDLE_NAP);
            }
            self.retire();
            self.show();
        }
    }

    fn send(
        &mut self,
        topic: ObservedTopic,
        partition: u32,
        key: &[u8],
        header: &[u8],
        value: &[u8],
        tag: Tag,
    ) -> Result<(), SendError> {
        if !self.outlet.is_ready() {
            return Err(SendError::QueueFull);
        }
        self.outlet
            .try_send(topic, partition, key, header, value, tag)?;
        self.sent[self.around.deliveries.place(tag.lane)] += 1;
        Ok(())
    }

    fn spill_record(
        &mut self,
        topic: ObservedTopic,
        partition: u32,
        header: &[u8; ObservedHeader::LENGTH],
        record: &Numbered<'_>,
    ) -> bool {
        let Some(spill) = &mut self.spill else {
            return false;
        };
        let counters = &self.around.counters;
        match spill.append(Frame {
            topic,
            partition,
            header,
            key: record.key,
            value: record.value,
        }) {
            Ok(()) => {
                if record.kind == Kind::Seal {
                    counters.spilled_seals.add(1)
                } else {
                    counters.spilled.add(1)
                }
                true
            }
            Err(error) => {
                if matches!(error, crate::spill::SpillError::Io(..)) {
                    counters.spill_errors.add(1);
                }
                // Once a minute: this happens for every record while it lasts.
                if self
                    .spill_complained
                    .is_none_or(|at| at.elapsed() > Duration::from_secs(60))
                {
                    self.spill_complained = Some(Instant::now());
                    log::error!(target: crate::LOG_TARGET,
                        "heliograph: {error}; Kafka is away as well, so records will be lost and counted"
                    );
                }
                false
            }
        }
    }

    /// Hands spilled records to Kafka, oldest first; returns how many.
    fn drain(&mut self, most: usize) -> usize {
        let mut drained = 0;
        let mut finished = Vec::new();
        if !self.outlet.is_ready() {
            return 0;
        }
        while drained < most {
            let Some(spill) = &mut self.spill else { break };
            let Some(frame) = spill.peek(&mut finished) else {
                break;
            };
            let tag = tag_of(&frame, &self.around);
            let sent = match tag {
                Some(tag) => self.outlet.try_send(
                    frame.topic,
                    frame.partition,
                    frame.key,
                    frame.header,
                    frame.value,
                    tag,
                ),
                None => Err(SendError::Fatal(format!(
                    "its partition {} of topic {:?} is not configured, or its header cannot be read",
                    frame.partition, frame.topic
                ))),
            };
            match sent {
                Ok(()) => {
                    if let Some(tag) = tag {
                        self.sent[self.around.deliveries.place(tag.lane)] += 1;
                    }
                }
                Err(SendError::QueueFull) => break,
                Err(SendError::Fatal(reason)) => {
                    let foreign = Tag {
                        kind: Kind::Gap,
                        lane: None,
                        slot: 0,
                    };
                    self.give_up(tag.unwrap_or(foreign), &reason);
                }
            }
            if let Some(spill) = &mut self.spill {
                spill.advance();
            }
            let counters = &self.around.counters;
            match tag {
                Some(Tag {
                    lane: Some(_),
                    kind: Kind::Seal,
                    ..
                }) => counters.drained_seals.add(1),
                Some(Tag { lane: Some(_), .. }) => counters.drained.add(1),
                _ => counters.inherited.add(1),
            }
            drained += 1;
        }
        self.finished.extend(
            finished
                .into_iter()
                .map(|segment| (segment, self.sent.clone())),
        );
        drained
    }

    /// Deletes the segments of which Kafka has reported every record.
    fn retire(&mut self) {
        let Some(spill) = &mut self.spill else { return };
        let deliveries = &self.around.deliveries;
        while let Some((segment, sent)) = self.finished.first() {
            if (0..sent.len()).any(|place| deliveries.reported(place) < sent[place]) {
                break;
            }
            spill.delete(segment);
            self.finished.remove(0);
        }
    }

    fn give_up(&mut self, tag: Tag, reason: &str) {
        log::error!(target: crate::LOG_TARGET,
            "heliograph: Kafka refuses a {} record of slot {}: {reason}",
            tag.kind.as_str(),
            tag.slot
        );
        self.around.counters.kafka_errors.add(1);
        self.around
            .deliveries
            .count_failed(tag, LossReason::Delivery);
        self.note_failed(tag);
    }

    fn note_failed(&mut self, tag: Tag) {
        if let Tag {
            lane: Some(lane),
            slot,
            kind,
        } = tag
            && kind != Kind::Seal
        {
            self.ledger.lost_after_numbering(slot, lane);
        }
    }

    /// What callbacks and Kafka lost since the last look, into the ledger.
    fn note_losses(&mut self) {
        let ledger = &mut self.ledger;
        let unplaced = self.around.handoff.losses.sweep(|loss| ledger.lost(loss));
        if unplaced > 0 {
            ledger.lost_unplaced(unplaced);
            self.around.counters.lost_unplaced.add(unplaced);
        }
        for tag in self.around.deliveries.take_failed() {
            self.note_failed(tag);
        }
    }

    fn show(&self) {
        let counters = &self.around.counters;
        counters.queue_records.set(self.around.handoff.len() as u64);
        counters
            .queue_bytes
            .set(self.around.handoff.held_bytes() as u64);
        counters.kafka_in_flight.set(self.outlet.in_flight() as u64);
        counters.unsealed.set(self.ledger.unsealed());
        if let Some(spill) = &self.spill {
            counters.spill_bytes.set(spill.bytes());
        }
    }

    /// Everything that can be placed has been, or time is up.
    fn finish(mut self) {
        let counters = Arc::clone(&self.around.counters);
        while let Some(observation) = self.around.handoff.take() {
            if observation.fact.kind().is_some() {
                counters.lost(LossReason::Unload, 1);
            }
        }
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
        // What the client dropped without a report is lost as well.
        for (place, sent) in self.sent.iter().enumerate() {
            let silent = sent.saturating_sub(self.around.deliveries.reported(place));
            if place < self.around.lanes.count() {
                counters.lost(LossReason::Unload, silent);
            } else {
                counters.inherited_lost.add(silent);
            }
        }
        self.retire();
        self.show();
    }
}

/// Whose record a spilled frame is: this instance's, with its lane, or an earlier one's.
fn tag_of(frame: &Frame<'_>, around: &Surroundings) -> Option<Tag> {
    let header = ObservedHeader::decode(frame.header).ok()?;
    let lane = around.lanes.at(frame.topic, frame.partition)?;
    let own = header.source == around.source;
    Some(Tag {
        kind: header.kind,
        lane: own.then_some(lane),
        slot: header.slot.0,
    })
}

#[cfg(test)]
mod tests;
