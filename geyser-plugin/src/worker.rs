//! The one thread that numbers records: takes them from the callbacks' ring, writes the slot ledgers, places each record in
//! Kafka or, while Kafka is away, in the spill, and appends the seals that are due.
//!
//! Order in a partition is sequence order, because only this thread assigns sequences and because once one record has gone
//! to the spill, all go there until it is drained. A record keeps its room in the ring until Kafka has acknowledged it or it
//! is on disk; its sequence is written there before it is placed. The worker never drops a numbered record: when Kafka and
//! the spill are both full it waits, the ring fills, and callbacks count the loss, which the next seals state.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_log::producer::SendError;
use event_schema::{
    Kind, ObservedHeader, ObservedTopic, Sequence, Slot, SourceId,
    chunk::{CHUNK_BYTES_MAX, Piece, chunks_of, records_of},
};
use prost::Message as _;

use crate::{
    counters::{Counters, LossReason},
    drain_book::Drained,
    handoff::Handoff,
    lane::Lane,
    observation::{DONE, Fact, Observation, Outputs},
    outlet::{Deliveries, Failed, Live, Outlet, Tag},
    placing::{self, Placed},
    ring::{Held, Which, following},
    shared_memory::SharedMemory,
    slot_ledger::{DueSeal, SlotLedger},
    spill::{Finished, Frame, Spill, SpillError},
};

/// Records between two looks at losses, seals and the spill.
const BATCH: usize = 1024;
/// Looks for work this often shortly after there was some, and this often otherwise. The callbacks wake nobody.
const BUSY_NAP: Duration = Duration::from_micros(200);
const IDLE_NAP: Duration = Duration::from_millis(1);
const BUSY_FOR: Duration = Duration::from_millis(50);
/// A full Kafka client is given this long, while the ring is not pressed, before records go to disk.
const PATIENCE: Duration = Duration::from_millis(100);
/// Kafka is away, not only slow, when it has acknowledged nothing for this long.
const STUCK: Duration = Duration::from_millis(if cfg!(test) { 40 } else { 1_000 });
/// A record that the client refuses this often is given up.
const REFUSALS_MAX: u32 = 3;
/// Blocks whose seals are waited for, to tell the lag.
const UNSEALED_BLOCKS_MAX: usize = 4096;

/// Everything the worker needs from its surroundings.
pub struct Surroundings {
    pub memory: Arc<SharedMemory>,
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
    /// By output.
    ledgers: Vec<SlotLedger>,
    outlet: O,
    spill: Option<Spill>,
    records: Reader,
    seals: Reader,
    /// Seals that found no room in their ring yet, with their outputs.
    waiting_seals: VecDeque<(usize, DueSeal)>,
    last_seal: Option<(usize, u64, u32)>,
    /// Number, in the [`crate::drain_book`], of the record that is read from the spill next.
    drain_next: u64,
    /// Number of the first record in the segment that is being read.
    segment_start: u64,
    finished: VecDeque<Read>,
    /// Failed records that are not placed again yet.
    again: Vec<Live>,
    /// When the metadata of blocks came that are not sealed yet.
    blocks: BTreeMap<u64, Instant>,
    chunk: Vec<u8>,
    spill_complained: Option<Instant>,
    deadline: Option<Instant>,
    /// When the ring was last given something back, or was empty.
    moved: Instant,
    /// Kafka is not to be had any more: to disk, or lost.
    leaving: bool,
}

/// A segment that was read to its end, with the numbers of its records. It is deleted when all are settled.
struct Read {
    segment: Finished,
    start: u64,
    end: u64,
}

/// How far a ring has been read and given back.
#[derive(Debug, Clone, Copy)]
struct Reader {
    released: u64,
    next: u64,
}

/// A numbered record on its way out.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    output: usize,
    lane: Lane,
    kind: Kind,
    slot: u64,
    sequence: u64,
    key: &'a [u8],
    value: &'a [u8],
    ring: Which,
    number: u64,
    /// It is whole, or the last chunk of a value.
    last: bool,
}

impl Numbered<'_> {
    fn live(&self) -> Live {
        Live {
            ring: self.ring,
            number: self.number,
            output: self.output,
            last: self.last,
        }
    }
}

impl<O: Outlet> Worker<O> {
    pub fn new(around: Surroundings, outlet: O, spill: Option<Spill>) -> Self {
        let reader = |first| Reader {
            released: first,
            next: first,
        };
        Self {
            ledgers: around
                .handoff
                .outputs()
                .iter()
                .map(|lanes| SlotLedger::new(*lanes))
                .collect(),
            records: reader(around.handoff.records.first()),
            seals: reader(around.handoff.seals.first()),
            waiting_seals: VecDeque::new(),
            last_seal: None,
            drain_next: 0,
            segment_start: 0,
            again: Vec::new(),
            around,
            outlet,
            spill,
            finished: VecDeque::new(),
            blocks: BTreeMap::new(),
            chunk: Vec::new(),
            spill_complained: None,
            deadline: None,
            moved: Instant::now(),
            leaving: false,
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
            let taken = self.turn();
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
    fn turn(&mut self) -> usize {
        self.replace_failed();
        let mut done = 0;
        let handoff = Arc::clone(&self.around.handoff);
        while done < BATCH {
            let Some(number) = self.take(&handoff) else {
                break;
            };
            done += 1;
            if let Some(held) = handoff.records.get(number) {
                self.record(number, held);
            }
            self.taken(number);
        }
        self.note_losses();
        done += self.seal();
        // No record may be left to take, with the ring full of what the client holds; and what waits should be on disk as
        // soon as anything is.
        if self.is_crowded() || self.spill.as_ref().is_some_and(|spill| !spill.is_empty()) {
            self.take_back();
        }
        // More than one batch took, so that a spill empties under steady traffic.
        done += self.drain(4 * BATCH);
        self.retire();
        self.show();
        done
    }

    /// The next committed record's number.
    fn take(&mut self, handoff: &Handoff) -> Option<u64> {
        let number = self.records.next;
        if number == handoff.records.next() || handoff.records.get(number).is_none() {
            return None;
        }
        Some(number)
    }

    /// Only now may the record be given back: while it waits to be placed nobody has announced a report of it, and its room
    /// would be another callback's.
    fn taken(&mut self, number: u64) {
        self.records.next = following(number);
    }

    fn record(&mut self, number: u64, held: Held<'_>) {
        // A callback that gave up left nothing.
        let Some(observation) = Observation::read(held) else {
            return;
        };
        let Observation {
            slot,
            fact,
            recorded,
            seen,
            key,
            value,
        } = observation;
        let Some(kind) = fact.kind() else {
            if fact == Fact::EndOfStartup {
                self.note_losses();
                for (output, ledger) in self.ledgers.iter_mut().enumerate() {
                    let seals = ledger.end_startup();
                    self.waiting_seals
                        .extend(seals.into_iter().map(|seal| (output, seal)));
                }
            }
            return;
        };
        if let Fact::Block { .. } = fact {
            self.blocks.insert(slot, Instant::now());
            if self.blocks.len() > UNSEALED_BLOCKS_MAX {
                self.blocks.pop_first();
            }
        }
        let mut checksum = None;
        for output in seen.iter().filter(|output| !recorded.contains(*output)) {
            self.ledgers[output].see(slot, &fact);
        }
        for (word, output) in recorded.iter().enumerate() {
            let lane = self.around.handoff.lane(output, &fact, slot, key);
            let sequence = if value.len() > CHUNK_BYTES_MAX {
                self.number_chunks(output, slot, lane, &fact, kind, value)
            } else {
                let checksum = *checksum.get_or_insert_with(|| crc32fast::hash(value));
                self.ledgers[output].record(slot, lane, &fact, checksum)
            };
            // Into the record before the lane's next number: who recovers takes the greater.
            if let Some(place) = held.word(word) {
                place.store(sequence, Ordering::Release);
            }
            self.numbered(lane, sequence + records_of(value.len()) as u64);
            let spilled = self.place(&Numbered {
                output,
                lane,
                kind,
                slot,
                sequence,
                key,
                value,
                ring: Which::Records,
                number,
                last: true,
            });
            if spilled && let Some(place) = held.word(word) {
                place.store(DONE, Ordering::Release);
            }
        }
    }

    /// Numbers a value that is too large for one record; returns the first chunk's sequence.
    fn number_chunks(
        &mut self,
        output: usize,
        slot: u64,
        lane: Lane,
        fact: &Fact,
        kind: Kind,
        value: &[u8],
    ) -> u64 {
        let ledger = &mut self.ledgers[output];
        let mut first = None;
        // Only the snapshot's and the chain's values are cut, and the ring takes none that is too long to be.
        for chunk in chunks_of(kind, value).into_iter().flatten() {
            self.chunk.clear();
            chunk.write(&mut self.chunk);
            let checksum = crc32fast::hash(&self.chunk);
            match first {
                None => first = Some(ledger.record(slot, lane, fact, checksum)),
                Some(_) => {
                    ledger.record_more(slot, lane, fact, checksum);
                }
            }
        }
        first.unwrap_or_else(|| ledger.number(lane))
    }

    /// Writes down the lane's next sequence, for who may have to go on after a kill.
    fn numbered(&self, lane: Lane, next: u64) {
        self.around.memory.header().sequences[usize::from(lane.0)].store(next, Ordering::Release);
    }

    /// Seals what is due: into the ring for seals, then out.
    fn seal(&mut self) -> usize {
        for (output, ledger) in self.ledgers.iter_mut().enumerate() {
            let due = ledger.take_due();
            self.waiting_seals
                .extend(due.into_iter().map(|seal| (output, seal)));
        }
        let mut done = 0;
        while let Some((output, DueSeal { lane, seal })) = self.waiting_seals.pop_front() {
            let value = seal.encode_to_vec();
            let handoff = Arc::clone(&self.around.handoff);
            let Some(number) = placing::keep_seal(&handoff.seals, output, lane, seal.slot, &value)
            else {
                // The ring for seals empties with Kafka's acknowledgements.
                self.waiting_seals
                    .push_front((output, DueSeal { lane, seal }));
                break;
            };
            done += 1;
            self.count_seal(output, &seal);
            let sequence = self.ledgers[output].number(lane);
            let Some(held) = handoff.seals.get(number) else {
                self.seals.next = following(number);
                continue;
            };
            if let Some(place) = held.word(0) {
                place.store(sequence, Ordering::Release);
            }
            self.numbered(lane, sequence + 1);
            let spilled = self.place(&Numbered {
                output,
                lane,
                kind: Kind::Seal,
                slot: seal.slot,
                sequence,
                key: &seal.slot.to_be_bytes(),
                value: &value,
                ring: Which::Seals,
                number,
                last: true,
            });
            if spilled && let Some(place) = held.word(0) {
                place.store(DONE, Ordering::Release);
            }
            // As with records: not given back before it is placed.
            self.seals.next = following(number);
        }
        done
    }

    /// Once per slot and revision: the lanes' seals of one follow one another.
    fn count_seal(&mut self, output: usize, seal: &event_schema::Seal) {
        let this = (output, seal.slot, seal.revision);
        if self.last_seal.replace(this) == Some(this) {
            return;
        }
        let counters = &self.around.counters;
        if seal.revision > 0 {
            counters.seals_amended.add(1);
            return;
        }
        counters.seals_sealed.add(1);
        if let Some(since) = self.blocks.remove(&seal.slot) {
            counters.seal_lag.add(since.elapsed());
        }
    }

    /// Into Kafka, else into the spill, else waits for either. A value that is too large for one record goes in chunks.
    /// Returns true when Kafka has nothing to say of it any more: it is on disk, or given up.
    fn place(&mut self, record: &Numbered<'_>) -> bool {
        if record.value.len() <= CHUNK_BYTES_MAX {
            return self.place_one(record);
        }
        let mut buffer = std::mem::take(&mut self.chunk);
        let mut live = Vec::new();
        let mut any_settled = false;
        for chunk in chunks_of(record.kind, record.value).into_iter().flatten() {
            // The client gave the first chunks back while this one waited: then all of them are on disk.
            if still_placed(&Arc::clone(&self.around.handoff), record.live()).is_none() {
                any_settled = true;
                live.clear();
                break;
            }
            buffer.clear();
            chunk.write(&mut buffer);
            let settled = self.place_one(&Numbered {
                kind: Kind::Chunk,
                sequence: record.sequence + u64::from(chunk.index()),
                value: &buffer,
                last: chunk.index() + 1 == chunk.count(),
                ..*record
            });
            any_settled |= settled;
            if !settled {
                live.push(chunk.index());
            }
        }
        self.chunk = buffer;
        any_settled && self.keep_chunks(record, &live)
    }

    /// Some chunks of a value are with Kafka's client, the others on disk. The client's go there as well: one value is in one
    /// place, and a chunk that is there twice is taken once.
    fn keep_chunks(&mut self, record: &Numbered<'_>, live: &[u32]) -> bool {
        if live.is_empty() {
            return true;
        }
        let Some(spill) = &mut self.spill else {
            return false;
        };
        let first = record.sequence;
        let placed = Placed {
            output: record.output,
            lane: record.lane,
            kind: record.kind,
            slot: record.slot,
            sequence: first,
            key: record.key,
            value: record.value,
        };
        let outputs = self.around.handoff.outputs();
        placing::frames(
            &placed,
            outputs,
            self.around.source,
            &mut self.chunk,
            |frame| {
                let sequence = ObservedHeader::decode(frame.header).map(|header| header.sequence.0);
                match sequence {
                    Ok(sequence) if live.contains(&((sequence - first) as u32)) => {
                        spill.append_beyond(frame)
                    }
                    _ => Ok(()),
                }
            },
        )
        .is_ok()
    }

    fn place_one(&mut self, record: &Numbered<'_>) -> bool {
        let (topic, partition) = self.around.handoff.outputs()[record.output].place(record.lane);
        let header = ObservedHeader {
            kind: record.kind,
            slot: Slot(record.slot),
            source: self.around.source,
            sequence: Sequence(record.sequence),
        }
        .encode();
        let mut since = None;
        let mut refusals = 0;
        loop {
            let spilling = self.spill.as_ref().is_some_and(|spill| !spill.is_empty());
            // Kafka has not acknowledged all that came from the disk: what it were given now would be younger than that, and when
            // it is taken back, or the validator killed, it goes before what is on disk. So it waits for the acknowledgement.
            let draining = !spilling && !self.finished.is_empty();
            if !spilling && !draining && !self.leaving && !self.is_crowded() {
                match self.send(topic, partition, &header, record) {
                    Ok(()) => return false,
                    Err(SendError::QueueFull) => {}
                    Err(SendError::Fatal(reason)) => {
                        refusals += 1;
                        if refusals >= REFUSALS_MAX {
                            self.give_up(record, &reason);
                            return true;
                        }
                    }
                }
            }
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            let patient = !spilling
                && !self.leaving
                && self.deadline.is_none()
                && (draining || since.elapsed() < PATIENCE)
                && !self.around.handoff.is_pressed();
            if !patient {
                self.take_back();
                // With its first chunks, all of the value went to disk.
                if record.kind == Kind::Chunk
                    && still_placed(&Arc::clone(&self.around.handoff), record.live()).is_none()
                {
                    return true;
                }
                if self.spill_record(topic, partition, &header, record) {
                    return true;
                }
            }
            if self.leaving {
                if record.kind != Kind::Seal && record.last {
                    self.around.counters.lost(LossReason::Unload, 1);
                }
                return true;
            }
            if self.around.stop.load(Ordering::Acquire) {
                let within = self.around.stop_within;
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + within);
                self.leaving = Instant::now() >= deadline;
            }
            self.note_losses();
            if self.drain(BATCH) == 0 {
                thread::sleep(IDLE_NAP);
            }
            self.retire();
            self.show();
        }
    }

    /// The ring fills though records are handed on: what Kafka does not acknowledge in time makes room on disk instead.
    fn is_crowded(&self) -> bool {
        self.spill.is_some() && self.around.handoff.is_crowded()
    }

    /// While Kafka is away, what its client holds would keep everything behind it in the ring. So the client gives it back,
    /// and it goes to disk before what comes after it.
    fn take_back(&mut self) {
        let stuck = self.records.released != self.records.next
            && self.moved.elapsed() >= STUCK
            && self.outlet.in_flight() > 0;
        if !stuck || self.leaving || self.spill.is_none() {
            return;
        }
        self.moved = Instant::now();
        self.outlet.close();
        self.replace_failed();
        self.retire();
    }

    fn send(
        &mut self,
        topic: ObservedTopic,
        partition: u32,
        header: &[u8],
        record: &Numbered<'_>,
    ) -> Result<(), SendError> {
        if !self.outlet.is_ready() {
            return Err(SendError::QueueFull);
        }
        let ring = self.around.handoff.ring(record.ring);
        // Before it is sent: the report may come first.
        let Some(held) = ring.get(record.number) else {
            return Err(SendError::Fatal("it is not in the ring any more".into()));
        };
        held.expect();
        let tag = Tag::Live(record.live());
        let sent = self.outlet.try_send(
            record.output,
            topic,
            partition,
            record.key,
            header,
            record.value,
            tag,
        );
        if sent.is_err() {
            ring.settle(record.number);
        }
        sent
    }

    /// Records that Kafka did not take after all: in front of the spill, else to Kafka again, or given up.
    fn replace_failed(&mut self) {
        let mut failed = self.around.deliveries.take_failed();
        if failed.is_empty() && self.again.is_empty() {
            return;
        }
        if failed.iter().any(|failed| !failed.for_good) {
            // The others it holds have not failed yet, and must not overtake these.
            self.outlet.close();
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
    fn keep_again(&mut self, handoff: &Handoff) {
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
    fn place_again(&mut self, handoff: &Handoff) {
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
        let frame = Frame {
            // Below 8.
            output: record.output as u8,
            topic,
            partition,
            header,
            key: record.key,
            value: record.value,
        };
        match spill.append(frame) {
            Ok(()) => {
                if record.kind == Kind::Seal {
                    counters.spilled_seals.add(1);
                } else if record.last {
                    counters.spilled.add(1);
                }
                true
            }
            Err(error) => {
                if matches!(error, SpillError::Io(..)) {
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
            let frame = spill.peek(&mut finished);
            for segment in finished.drain(..) {
                self.finished.push_back(Read {
                    segment,
                    start: self.segment_start,
                    end: self.drain_next,
                });
                self.segment_start = self.drain_next;
            }
            let Some(frame) = frame else { break };
            let number = self.drain_next;
            if !self.around.deliveries.drains().is_settled(number) {
                let record = read_frame(&frame, &self.around);
                // Known before it can be acknowledged.
                self.around
                    .deliveries
                    .drains()
                    .give(number, record.unwrap_or(UNREADABLE));
                let sent = match record {
                    Some(_) => self.outlet.try_send(
                        frame.output.into(),
                        frame.topic,
                        frame.partition,
                        frame.key,
                        frame.header,
                        frame.value,
                        Tag::Drained(number),
                    ),
                    None => Err(SendError::Fatal(format!(
                        "its partition {} of topic {:?} is not configured, or its header cannot be read",
                        frame.partition, frame.topic
                    ))),
                };
                match sent {
                    Ok(()) => {}
                    Err(SendError::QueueFull) => break,
                    Err(SendError::Fatal(reason)) => {
                        let settled = self.around.deliveries.drains().settle(number);
                        let drained = settled.unwrap_or(UNREADABLE);
                        complain(drained.kind, drained.slot, &reason);
                        self.around.counters.kafka_errors.add(1);
                        self.lost_from_the_spill(drained);
                    }
                }
            }
            if let Some(spill) = &mut self.spill {
                spill.advance();
            }
            self.drain_next += 1;
            drained += 1;
        }
        drained
    }

    /// Gives back what nobody needs any more: room in the rings, and segments of which Kafka has reported every record.
    fn retire(&mut self) {
        let handoff = &self.around.handoff;
        let released = handoff
            .records
            .release(self.records.released, self.records.next);
        if released != self.records.released || released == self.records.next {
            self.moved = Instant::now();
        }
        self.records.released = released;
        self.seals.released = handoff.seals.release(self.seals.released, self.seals.next);
        let Some(spill) = &mut self.spill else { return };
        let settled = self.around.deliveries.drains().settled_below();
        while self
            .finished
            .front()
            .is_some_and(|read| read.end <= settled)
        {
            if let Some(read) = self.finished.pop_front() {
                spill.delete(&read.segment);
            }
        }
    }

    fn give_up(&mut self, record: &Numbered<'_>, reason: &str) {
        complain(record.kind, record.slot, reason);
        self.around.counters.kafka_errors.add(1);
        if record.last {
            self.lost_after_numbering(record.kind, record.slot, record.lane);
        }
    }

    /// It waits on disk no longer, and Kafka will not have it.
    fn lost_from_the_spill(&mut self, drained: Drained) {
        let Some(lane) = drained.lane else {
            self.around.counters.inherited_lost.add(1);
            return;
        };
        self.around.deliveries.left_the_spill(&drained);
        if drained.last {
            self.lost_after_numbering(drained.kind, drained.slot, lane);
        }
    }

    /// Seals are not observations; a hole in the sequence shows that one is missing.
    fn lost_after_numbering(&mut self, kind: Kind, slot: u64, lane: Lane) {
        if kind == Kind::Seal {
            return;
        }
        self.around.counters.lost(LossReason::Delivery, 1);
        if let Some(ledger) = self.ledger_of(lane) {
            ledger.lost_after_numbering(slot, lane);
        }
    }

    fn ledger_of(&mut self, lane: Lane) -> Option<&mut SlotLedger> {
        let output = self
            .around
            .handoff
            .outputs()
            .iter()
            .position(|lanes| lanes.contains(lane))?;
        self.ledgers.get_mut(output)
    }

    /// What callbacks lost since the last look, into the ledgers.
    fn note_losses(&mut self) {
        let handoff = Arc::clone(&self.around.handoff);
        let unplaced = handoff.losses.sweep(|loss| {
            if let Some(ledger) = self.ledger_of(loss.lane) {
                ledger.lost(loss);
            }
        });
        if unplaced > 0 {
            // Whose they were was not written down: the first output states them.
            self.ledgers[0].lost_unplaced(unplaced);
            self.around.counters.lost_unplaced.add(unplaced);
        }
    }

    fn show(&self) {
        let counters = &self.around.counters;
        let handoff = &self.around.handoff;
        counters.queue_records.set(handoff.records.len() as u64);
        counters
            .queue_bytes
            .set(handoff.records.held_bytes() as u64);
        counters.kafka_in_flight.set(self.outlet.in_flight() as u64);
        let unsealed = self.ledgers.iter().map(SlotLedger::unsealed).sum();
        counters.unsealed.set(unsealed);
        if let Some(spill) = &self.spill {
            counters.spill_bytes.set(spill.bytes());
            counters.spill_age_seconds.set(spill.age().as_secs());
        }
    }

    /// Everything that can be placed has been, or time is up: what Kafka has not acknowledged goes to disk.
    fn finish(mut self) {
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
    fn keep_unacknowledged(&mut self) {
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
                (_, false) => counters.lost(LossReason::Unload, 1),
            }
        }
    }
}

/// Kafka has nothing to say of the record any more.
fn mark_done(handoff: &Handoff, live: Live) {
    let held = handoff.ring(live.ring).get(live.number);
    let word = held.and_then(|held| match live.ring {
        Which::Records => held.word(Outputs(held.note().x).word(live.output)),
        Which::Seals => held.word(0),
    });
    if let Some(word) = word {
        word.store(DONE, Ordering::Release);
    }
}

/// Of the records that were read and not given back.
fn numbers(reader: Reader) -> impl Iterator<Item = u64> {
    let first = (reader.released != reader.next).then_some(reader.released);
    std::iter::successors(first, move |number| {
        let number = following(*number);
        (number != reader.next).then_some(number)
    })
}

fn complain(kind: Kind, slot: u64, reason: &str) {
    log::error!(target: crate::LOG_TARGET,
        "heliograph: Kafka refuses a {} record of slot {slot}: {reason}",
        kind.as_str(),
    );
}

/// The record, unless Kafka or the disk has it.
fn still_placed(handoff: &Handoff, live: Live) -> Option<Placed<'_>> {
    Placed::read(handoff, live.ring, live.number, live.output)
        .filter(|placed| placed.sequence != DONE)
}

/// The frames that the record has in the spill.
fn frames_of(record: &Placed<'_>) -> impl Iterator<Item = Drained> + use<> {
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

/// Stands for a frame that names no record; counted with those of earlier instances.
const UNREADABLE: Drained = Drained {
    lane: None,
    kind: Kind::Gap,
    slot: 0,
    last: true,
};

/// Whose record a spilled frame is: this instance's, with its lane, or an earlier one's.
fn read_frame(frame: &Frame<'_>, around: &Surroundings) -> Option<Drained> {
    let header = ObservedHeader::decode(frame.header).ok()?;
    let lanes = around.handoff.outputs().get(usize::from(frame.output))?;
    let lane = lanes.at(frame.topic, frame.partition)?;
    let own = header.source == around.source;
    let (kind, last) = match header.kind {
        Kind::Chunk => {
            let piece = Piece::read(&Bytes::copy_from_slice(frame.value)).ok()?;
            (piece.kind, piece.index + 1 == piece.count)
        }
        kind => (kind, true),
    };
    Some(Drained {
        kind,
        lane: own.then_some(lane),
        slot: header.slot.0,
        last,
    })
}

#[cfg(test)]
mod tests;
