//! The one thread that numbers records: takes them from the callbacks' ring, writes the slot ledgers, places each record in
//! Kafka or, while Kafka is away, in the spill, and appends the seals that are due.
//!
//! Order in a partition is sequence order, because only this thread assigns sequences and because once one record has gone
//! to the spill, all go there until it is drained. A record keeps its room in the ring until Kafka has acknowledged it or it
//! is on disk; its sequence is written there before it is placed. The worker never drops a numbered record: when Kafka and
//! the spill are both full it waits, the ring fills, and callbacks count the loss, which the next seals state.

mod drain;
mod failed;
mod finish;
mod place;
mod silence;

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
    lane::{Lane, Lanes},
    observation::{DONE, Fact, Observation, Outputs},
    outlet::{Deliveries, Failed, Live, Outlet, Tag},
    pacing::Pacing,
    placing::{self, Placed},
    ring::{Held, Which, following},
    shared_memory::SharedMemory,
    slot_ledger::{DueSeal, SlotLedger},
    spill::{Finished, Frame, Spill, SpillError},
};

use self::{failed::still_placed, silence::Silence};

/// Records between two looks at losses, seals and the spill.
const BATCH: usize = 1024;
/// While a record waits for room in Kafka's client or on disk. The callbacks wake nobody.
const WAITING_NAP: Duration = Duration::from_millis(1);
/// A full Kafka client is given this long, while the ring is not pressed, before records go to disk.
const PATIENCE: Duration = Duration::from_millis(100);
/// Kafka is away, not only slow, for a record at the ring's end that has kept its room for this long.
const STUCK: Duration = Duration::from_millis(if cfg!(test) { 40 } else { 1_000 });
/// A client that holds only what is on disk as well is in nobody's way, and connects by itself. After so long without an
/// answer it is replaced all the same: a connection may be dead without anybody telling.
const SILENT: Duration = Duration::from_millis(if cfg!(test) { 400 } else { 10_000 });
/// What is on disk is handed to a client by so many records until Kafka has acknowledged one of them: while it is away, the
/// client's whole memory would be filled with what is on disk anyway.
const TRIALS: usize = 256;
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
    /// How long a record may wait for others, see [`Pacing`].
    pub linger: Duration,
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
    /// Seals that found no room in their ring yet, with their outputs: those of one slot, and of the snapshot.
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
    silence: Silence,
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
            silence: Silence::new(Instant::now()),
            leaving: false,
        }
    }

    /// Until told to stop; then places what is queued, waits for Kafka within the limit, and accounts for the rest.
    pub fn run(mut self) {
        let partitions = self.around.handoff.outputs().iter();
        let partitions = partitions.map(|lanes| Lanes::count(*lanes)).sum();
        let pacing = Pacing::new(self.around.linger, partitions);
        let mut looked = Instant::now();
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
            if stopping && taken == 0 {
                break;
            }
            let since = looked.elapsed();
            looked += since;
            if taken < BATCH && !stopping {
                thread::sleep(pacing.rest(taken, since));
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

    /// Seals what is due, as far as there is room: into the ring for seals, then out.
    fn seal(&mut self) -> usize {
        let mut done = 0;
        while let Some((output, DueSeal { lane, seal })) = self.next_seal() {
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

    /// One that has waited, else the first of the next slot that is due.
    fn next_seal(&mut self) -> Option<(usize, DueSeal)> {
        if self.waiting_seals.is_empty() {
            let mut ledgers = self.ledgers.iter_mut().enumerate();
            let due = ledgers.find_map(|(output, ledger)| Some((output, ledger.seal_next()?)));
            let (output, seals) = due?;
            self.waiting_seals
                .extend(seals.into_iter().map(|seal| (output, seal)));
        }
        self.waiting_seals.pop_front()
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

    /// What callbacks lost since the last look, into the ledgers, which keep to their limits also while the worker waits.
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
        self.ledgers.iter_mut().for_each(SlotLedger::settle);
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
        let dropped = self.ledgers.iter().map(SlotLedger::seals_dropped).sum();
        counters.seals_dropped.set(dropped);
        if let Some(spill) = &self.spill {
            counters.spill_bytes.set(spill.bytes());
            counters.spill_age_seconds.set(spill.age().as_secs());
        }
    }
}

fn complain(kind: Kind, slot: u64, reason: &str) {
    log::error!(target: crate::LOG_TARGET,
        "heliograph: Kafka refuses a {} record of slot {slot}: {reason}",
        kind.as_str(),
    );
}

#[cfg(test)]
mod tests;
