//! Pure: counts observations as a reader of the log gets them, and checks the sequences of every source and partition: which
//! never came, which came late, which came twice.

use std::collections::{BTreeMap, HashMap};

use event_log::Record;
use event_schema::{CHUNK_BYTES_MAX, Kind, ObservedHeader, SourceId, chunk::Piece};

/// See the module.
#[derive(Debug, Default)]
pub struct Tally {
    /// Callbacks whose whole record was read, each once.
    pub observations: u64,
    pub seals: u64,
    /// Sequences that came after a later one.
    pub late: u64,
    /// Sequences that came again.
    pub repeated: u64,
    /// Records without a readable header or chunk.
    pub unreadable: u64,
    partitions: HashMap<(SourceId, String, u32), Sequences>,
}

/// Of one source in one partition.
#[derive(Debug)]
struct Sequences {
    next: u64,
    /// Runs of sequences that were passed over: first and the one after the last.
    holes: BTreeMap<u64, u64>,
}

enum Place {
    InOrder,
    Late,
    Again,
}

impl Sequences {
    fn take(&mut self, sequence: u64) -> Place {
        if sequence >= self.next {
            if sequence > self.next {
                self.holes.insert(self.next, sequence);
            }
            self.next = sequence + 1;
            return Place::InOrder;
        }
        let hole = self.holes.range(..=sequence).next_back();
        let Some((first, end)) = hole.map(|(first, end)| (*first, *end)) else {
            return Place::Again;
        };
        if sequence >= end {
            return Place::Again;
        }
        self.holes.remove(&first);
        if first < sequence {
            self.holes.insert(first, sequence);
        }
        if sequence + 1 < end {
            self.holes.insert(sequence + 1, end);
        }
        Place::Late
    }
}

impl Tally {
    /// Sequences that were passed over and have not come.
    pub fn missing(&self) -> u64 {
        self.partitions
            .values()
            .flat_map(|partition| &partition.holes)
            .map(|(first, end)| end - first)
            .sum()
    }

    pub fn add(&mut self, record: &Record) {
        let Ok(header) = ObservedHeader::decode(&record.header) else {
            self.unreadable += 1;
            return;
        };
        let (topic, partition) = (&record.position.topic, record.position.partition);
        let sequence = header.sequence.0;
        let sequences = self
            .partitions
            .entry((header.source, topic.to_string(), partition))
            .or_insert_with(|| Sequences {
                next: sequence,
                holes: BTreeMap::new(),
            });
        match sequences.take(sequence) {
            Place::InOrder => {}
            Place::Late => self.late += 1,
            Place::Again => {
                self.repeated += 1;
                return;
            }
        }
        match header.kind {
            Kind::Seal => self.seals += 1,
            Kind::Gap => {}
            // A value in chunks has come when its last chunk has.
            Kind::Chunk => match Piece::read(&record.value) {
                Ok(piece) => self.observations += u64::from(piece.index + 1 == piece.count),
                Err(_) => self.unreadable += 1,
            },
            _ => self.observations += 1,
        }
    }
}

/// A fingerprint of observations' bytes, whatever their order: equal for two ways to the log that say the same. What may be
/// written in chunks is left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    pub values: u64,
    sum: u128,
}

impl Contents {
    pub fn add(&mut self, record: &Record) {
        let header = ObservedHeader::decode(&record.header);
        let beside = header.is_ok_and(|h| matches!(h.kind, Kind::Seal | Kind::Gap | Kind::Chunk));
        if beside || record.value.len() > CHUNK_BYTES_MAX {
            return;
        }
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(&record.value).as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
        self.values += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use event_log::Position;
    use event_schema::{Sequence, Slot, chunks_of};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn record(partition: u32, sequence: u64, kind: Kind, value: Bytes) -> Record {
        let header = ObservedHeader {
            kind,
            slot: Slot(7),
            source: SourceId::default(),
            sequence: Sequence(sequence),
        };
        Record {
            position: Position {
                topic: "x.observed.accounts".into(),
                partition,
                offset: 0,
            },
            key: Bytes::new(),
            header: Bytes::copy_from_slice(&header.encode()),
            value,
            timestamp_ms: 0,
        }
    }

    #[test]
    fn what_never_came_came_late_or_came_twice_is_told_apart_per_partition() {
        let mut tally = Tally::default();
        for (partition, sequence) in [
            (0, 5),
            (0, 6),
            (1, 0),
            (0, 10),
            (1, 1),
            (1, 1),
            (0, 8),
            (0, 8),
            (0, 5),
        ] {
            tally.add(&record(partition, sequence, Kind::Account, Bytes::new()));
        }
        assert_eq!((tally.observations, tally.late, tally.repeated), (6, 1, 3));
        assert_eq!(tally.missing(), 2);
        for sequence in [7, 9] {
            tally.add(&record(0, sequence, Kind::Account, Bytes::new()));
        }
        assert_eq!((tally.observations, tally.late), (8, 3));
        assert_eq!(tally.missing(), 0);
        let mut foreign = record(0, 10, Kind::Account, Bytes::new());
        foreign.header = Bytes::from_static(b"?");
        tally.add(&foreign);
        assert_eq!(tally.unreadable, 1);
    }

    proptest! {
        /// The oracle is a plain set.
        #[test]
        fn any_order_is_counted_as_by_a_set(sequences in vec(0..60_u64, 1..120)) {
            let mut tally = Tally::default();
            let first = sequences[0];
            let mut seen = HashSet::new();
            let (mut again, mut greatest) = (0, first);
            for sequence in sequences {
                tally.add(&record(0, sequence, Kind::Entry, Bytes::new()));
                // What lies before the first one read belongs to an earlier reader.
                again += u64::from(sequence < first || !seen.insert(sequence));
                greatest = greatest.max(sequence);
            }
            prop_assert_eq!(tally.repeated, again);
            prop_assert_eq!(tally.observations, seen.len() as u64);
            prop_assert_eq!(tally.missing(), greatest - first + 1 - seen.len() as u64);
        }
    }

    #[test]
    fn a_value_in_chunks_counts_once_and_seals_apart() {
        let mut tally = Tally::default();
        let value = vec![7; 2 << 20];
        let chunks = chunks_of(Kind::Account, &value).unwrap();
        for (sequence, chunk) in chunks.enumerate() {
            assert_eq!(tally.observations, 0);
            let mut part = Vec::new();
            chunk.write(&mut part);
            tally.add(&record(0, sequence as u64, Kind::Chunk, part.into()));
        }
        tally.add(&record(0, 3, Kind::Seal, Bytes::new()));
        assert_eq!((tally.observations, tally.seals), (1, 1));
        assert_eq!((tally.missing(), tally.late), (0, 0));
        assert_eq!((tally.repeated, tally.unreadable), (0, 0));
    }

    #[test]
    fn contents_are_the_same_in_any_order_and_without_what_is_beside_them() {
        let contents = |records: &[Record]| {
            let mut contents = Contents::default();
            records.iter().for_each(|record| contents.add(record));
            contents
        };
        let [one, two] = ["one", "two"].map(|value| record(0, 1, Kind::Entry, value.into()));
        let seal = record(0, 2, Kind::Seal, "seal".into());
        let large = record(0, 3, Kind::Account, vec![1; CHUNK_BYTES_MAX + 1].into());
        let mut bare = two.clone();
        bare.header = Bytes::new();
        let both = contents(&[one.clone(), two.clone()]);
        assert_eq!(both, contents(&[seal, bare, large, one.clone()]));
        assert_ne!(both, contents(&[one.clone(), one]));
        assert_ne!(both, contents(&[two]));
    }
}
