//! What a record in a ring is on the way out: its lane, sequence, key and value, for one output. Used when a record must be
//! placed again, and by who recovers the ring of a validator that was killed.

use std::sync::atomic::Ordering;

use event_schema::{
    Kind, ObservedHeader, Sequence, Slot, SourceId,
    chunk::{CHUNK_BYTES_MAX, chunks_of},
};

use crate::{
    handoff::Handoff,
    lane::{Lane, Lanes},
    observation::{Observation, UNNUMBERED},
    ring::{Held, Note, Ring, Which},
    spill::{Frame, Spill, SpillError},
};

/// Tag of a seal's note.
const SEAL: u8 = 12;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    pub output: usize,
    pub lane: Lane,
    pub kind: Kind,
    pub slot: u64,
    /// [`UNNUMBERED`] when it has none yet.
    pub sequence: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Placed<'a> {
    /// The record as the output has it; `None` when that output does not.
    pub fn read(handoff: &'a Handoff, ring: Which, number: u64, output: usize) -> Option<Self> {
        match ring {
            Which::Records => Self::all(handoff, handoff.records.get(number)?)
                .find(|placed| placed.output == output),
            Which::Seals => Self::seal(handoff.seals.get(number)?),
        }
    }

    /// The record for every output that has it.
    pub fn all(handoff: &'a Handoff, held: Held<'a>) -> impl Iterator<Item = Self> + 'a {
        let read = Observation::read(held).and_then(|read| Some((read, read.fact.kind()?)));
        read.into_iter().flat_map(move |(observation, kind)| {
            let known = observation
                .recorded
                .iter()
                .enumerate()
                .filter(|(_, output)| *output < handoff.outputs().len());
            known.map(move |(word, output)| Self {
                output,
                lane: handoff.lane(output, &observation.fact, observation.slot, observation.key),
                kind,
                slot: observation.slot,
                sequence: held
                    .word(word)
                    .map_or(UNNUMBERED, |word| word.load(Ordering::Acquire)),
                key: observation.key,
                value: observation.value,
            })
        })
    }

    pub fn seal(held: Held<'a>) -> Option<Self> {
        let Note {
            slot,
            a: lane,
            tag,
            head,
            x: output,
            ..
        } = held.note();
        let (key, value) = held.bytes(1).split_at_checked(head.into())?;
        (tag == SEAL).then_some(Self {
            output: output.into(),
            // It was one.
            lane: Lane(lane as u16),
            kind: Kind::Seal,
            slot,
            sequence: held.word(0)?.load(Ordering::Acquire),
            key,
            value,
        })
    }
}

/// Writes records in front of what the spill holds, in the order of their sequences; false when that fails, or there is no
/// spill.
pub fn prepend(
    spill: Option<&mut Spill>,
    outputs: &[Lanes],
    source: SourceId,
    placed: &mut [Placed<'_>],
) -> bool {
    if placed.is_empty() {
        return true;
    }
    let Some(spill) = spill else { return false };
    placed.sort_unstable_by_key(|record| (record.lane, record.sequence));
    let written = spill.prepend(|segment| {
        let mut buffer = Vec::new();
        for record in &*placed {
            frames(record, outputs, source, &mut buffer, |frame| {
                segment.append(frame)
            })?;
        }
        Ok(())
    });
    if let Err(error) = &written {
        log::error!(target: crate::LOG_TARGET, "heliograph: {error}; {} records are lost", placed.len());
    }
    written.is_ok()
}

/// The record as the spill holds it: one frame, or one per chunk.
pub fn frames(
    record: &Placed<'_>,
    outputs: &[Lanes],
    source: SourceId,
    buffer: &mut Vec<u8>,
    mut append: impl FnMut(Frame<'_>) -> Result<(), SpillError>,
) -> Result<(), SpillError> {
    let (topic, partition) = outputs[record.output].place(record.lane);
    let mut write = |kind, sequence, value: &[u8]| {
        let header = ObservedHeader {
            kind,
            slot: Slot(record.slot),
            source,
            sequence: Sequence(sequence),
        }
        .encode();
        append(Frame {
            // Below 8.
            output: record.output as u8,
            topic,
            partition,
            header: &header,
            key: record.key,
            value,
        })
    };
    if record.value.len() <= CHUNK_BYTES_MAX {
        return write(record.kind, record.sequence, record.value);
    }
    for chunk in chunks_of(record.kind, record.value).into_iter().flatten() {
        buffer.clear();
        chunk.write(buffer);
        write(
            Kind::Chunk,
            record.sequence + u64::from(chunk.index()),
            buffer,
        )?;
    }
    Ok(())
}

/// Writes a seal into its ring; `None` while that is full.
pub fn keep_seal(ring: &Ring, output: usize, lane: Lane, slot: u64, value: &[u8]) -> Option<u64> {
    let key = slot.to_be_bytes();
    let length = 8 + key.len() + value.len();
    let mut reservation = ring.reserve(length).ok()?;
    let number = reservation.number();
    let room = reservation.room();
    room[..8].copy_from_slice(&UNNUMBERED.to_ne_bytes());
    room[8..16].copy_from_slice(&key);
    room[16..length].copy_from_slice(value);
    let note = Note {
        slot,
        a: lane.0.into(),
        b: 0,
        tag: SEAL,
        head: 8,
        // Below 8.
        x: output as u8,
        y: 0,
    };
    reservation.commit(note, length);
    Some(number)
}
