//! What an instance that was killed had accepted and Kafka had not acknowledged: from its memory into the spill, from where
//! it is drained under that instance's name.
//!
//! Records that Kafka's client held go before everything that waits on disk: they were given to it before the first of those
//! was spilled. The others go behind; those that had no sequence yet are given the next ones of their lanes. A record that had in fact been
//! delivered, or spilled, is there twice with the same sequence, and readers take it once. What the dead instance had only
//! begun to write was in a callback that never returned.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use event_schema::{Kind, chunk::records_of};

use crate::{
    counters::Counters,
    handoff::Handoff,
    lane::Lanes,
    observation::{DONE, UNNUMBERED},
    placing::{self, Placed},
    ring::{Ring, following},
    shared_memory::{Left, SharedMemory, SharedMemoryError},
    spill::{Spill, SpillError},
};

/// No lane comes so far in any time; what is greater is damage.
const SEQUENCE_MAX: u64 = 1 << 62;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records, seals included, that are in the spill now.
    pub records: u64,
    /// Records that the spill could not take, seals not included, and what the dead instance had counted as lost.
    pub lost: u64,
    /// That, and the same of the killed instances before it, with what they had inherited and Kafka refused: as far back as
    /// one was killed after the other.
    pub killed_lost: u64,
}

/// `outputs`: the lanes of today's configuration.
pub fn recover(
    path: &Path,
    outputs: &[Lanes],
    spill: Option<&mut Spill>,
) -> Result<Recovered, SharedMemoryError> {
    let memory = match SharedMemory::left_behind(path)? {
        Left::Memory(memory) => Arc::new(memory),
        Left::Carried(killed_lost) => {
            return Ok(Recovered {
                killed_lost,
                ..Recovered::default()
            });
        }
        Left::Nothing => return Ok(Recovered::default()),
    };
    let mut recovered = take_over(&memory, outputs, spill);
    let header = memory.header();
    recovered.killed_lost = recovered
        .lost
        .saturating_add(header.inherited_lost.0.load(Ordering::Relaxed))
        .saturating_add(header.killed_lost.0.load(Ordering::Relaxed));
    Ok(recovered)
}

fn take_over(
    memory: &Arc<SharedMemory>,
    outputs: &[Lanes],
    spill: Option<&mut Spill>,
) -> Recovered {
    let counters = Arc::new(Counters::new(Arc::clone(memory)));
    let before = counters.lost_total();
    if memory.lanes() != outputs {
        // Sequences belong to partitions; under other ones they would mean something else.
        let left = Ring::new(Arc::clone(memory), crate::ring::Which::Records).len() as u64;
        log::error!(target: crate::LOG_TARGET,
            "heliograph: {left} records of a killed instance are lost, because `partitions` or `outputs` were changed since"
        );
        return Recovered {
            lost: before.saturating_add(left),
            ..Recovered::default()
        };
    }
    let handoff = Handoff::new(memory, outputs.into(), counters);
    // Whether the client held it, and what it is.
    let (held, rest): (Vec<_>, Vec<_>) = left(&handoff.records)
        .filter_map(|number| handoff.records.get(number))
        .flat_map(|held| {
            Placed::all(&handoff, held).map(move |placed| (held.is_expecting(), placed))
        })
        .chain(
            left(&handoff.seals)
                .filter_map(|number| handoff.seals.get(number))
                .filter_map(|held| Some((held.is_expecting(), Placed::seal(held)?))),
        )
        // Its lane and sequence are read from memory that another process wrote.
        .filter(|(_, placed)| {
            let output = outputs.get(placed.output);
            placed.sequence != DONE
                && (placed.sequence == UNNUMBERED || placed.sequence < SEQUENCE_MAX)
                && output.is_some_and(|lanes| lanes.contains(placed.lane))
        })
        .partition(|(held, placed)| *held && placed.sequence != UNNUMBERED);
    let mut held: Vec<Placed<'_>> = held.into_iter().map(|(_, placed)| placed).collect();
    let mut rest: Vec<Placed<'_>> = rest.into_iter().map(|(_, placed)| placed).collect();
    // A seal that was numbered comes before records that were not.
    rest.sort_by_key(|placed| placed.sequence);
    let mut next: Vec<u64> = memory
        .header()
        .sequences
        .iter()
        .map(|next| next.load(Ordering::Acquire).min(SEQUENCE_MAX))
        .collect();
    let numbered = rest.iter().filter(|placed| placed.sequence != UNNUMBERED);
    for placed in held.iter().chain(numbered) {
        let lane = &mut next[usize::from(placed.lane.0)];
        *lane = (*lane).max(placed.sequence + records_of(placed.value.len()) as u64);
    }
    let mut recovered = Recovered {
        lost: before,
        ..Recovered::default()
    };
    let source = memory.source();
    let mut spill = spill;
    let count = held.len() as u64;
    // Seals are not observations: nobody counted them as callbacks.
    let is_observation = |placed: &Placed<'_>| placed.kind != Kind::Seal;
    let observations = held.iter().filter(|placed| is_observation(placed)).count() as u64;
    if placing::prepend(spill.as_deref_mut(), outputs, source, &mut held) {
        recovered.records += count;
    } else {
        recovered.lost = recovered.lost.saturating_add(observations);
    }
    let mut buffer = Vec::new();
    for mut placed in rest {
        if placed.sequence == UNNUMBERED {
            let lane = &mut next[usize::from(placed.lane.0)];
            placed.sequence = *lane;
            *lane += records_of(placed.value.len()) as u64;
        }
        let kept = match spill.as_deref_mut() {
            Some(spill) => placing::frames(&placed, outputs, source, &mut buffer, |frame| {
                spill.append_beyond(frame)
            }),
            None => Err(SpillError::Full(0)),
        };
        match kept {
            Ok(()) => recovered.records += 1,
            Err(_) => {
                let lost = u64::from(is_observation(&placed));
                recovered.lost = recovered.lost.saturating_add(lost);
            }
        }
    }
    recovered
}

/// Numbers of a ring that were not given back.
fn left(ring: &Ring) -> impl Iterator<Item = u64> {
    let (first, end) = (ring.first(), ring.next());
    // A ring that another process left is not taken on trust: at most as many as it has places.
    std::iter::successors((first != end).then_some(first), move |number| {
        let number = following(*number);
        (number != end).then_some(number)
    })
    .take(ring.capacity_records())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observation::{Fact, Front, Outputs},
        shared_memory::Sizes,
    };
    use event_schema::SourceId;

    const LANES: Lanes = Lanes {
        accounts: 1,
        transactions: 1,
        slots: 1,
        first: 0,
    };

    /// Found by the fuzz target: sums over what is not a number of anything.
    #[test]
    fn numbers_that_cannot_be_are_not_reckoned_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let sizes = Sizes {
            records: 16,
            record_bytes: 4096,
            seals: 4,
            seal_bytes: 1024,
        };
        let memory = SharedMemory::create(&path, sizes, SourceId::default(), &[LANES], 5).unwrap();
        let memory = Arc::new(memory);
        let counters = Arc::new(Counters::new(Arc::clone(&memory)));
        let handoff = Handoff::new(&memory, Box::new([LANES]), counters);
        for sequence in [u64::MAX - 2, 1 << 62, UNNUMBERED, 7] {
            let front = Front {
                slot: 1,
                fact: Fact::Account,
                recorded: Outputs(1),
                seen: Outputs(1),
                key: &[1; 32],
            };
            handoff.offer(front, 4, |out| out.extend_from_slice(b"four"));
            let last = left(&handoff.records).last().unwrap();
            let held = handoff.records.get(last).unwrap();
            held.word(0).unwrap().store(sequence, Ordering::Release);
        }
        for lost in &memory.header().lost {
            lost.0.store(u64::MAX / 2, Ordering::Release);
        }
        memory.header().sequences[0].store(u64::MAX, Ordering::Release);
        drop((handoff, memory));
        let mut spill = Spill::open(&dir.path().join("spill"), 1 << 20).unwrap();
        let recovered = recover(&path, &[LANES], Some(&mut spill)).unwrap();
        assert_eq!(
            recovered.records, 2,
            "the one with a number, and the one without"
        );
        assert_eq!(recovered.killed_lost, u64::MAX);
    }
}
