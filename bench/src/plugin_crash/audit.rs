//! Pure: what a reader of the observed topics finds, source by source: is every sequence there, once or equal, in order; how
//! many callbacks' records are there; do the seals count what is there?

use std::collections::{BTreeMap, BTreeSet};

use event_log::Record;
use event_schema::{Kind, ObservedHeader, ObservedTopic, Seal, SealHash, chunk::Piece};
use prost::Message as _;

/// No run is so long; what says so is damaged.
const SEQUENCE_MAX: u64 = 1 << 28;

/// Topic and partition.
pub type Place = (ObservedTopic, u32);

/// Findings that must be 0, but for `repetitions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    pub records: u64,
    /// The same sequence with the same bytes.
    pub repetitions: u64,
    pub repetitions_with_other_bytes: u64,
    /// Sequences below the greatest that never came.
    pub holes: u64,
    /// Records that came for the first time behind one of a greater sequence.
    pub out_of_order: u64,
    pub unreadable: u64,
    /// Seals of the greatest revision that do not count, or hash, what is in the log.
    pub wrong_seals: u64,
    pub seals: u64,
    /// Slots of a source that are sealed, and those whose seals state a loss.
    pub sealed_slots: u64,
    pub slots_with_stated_losses: u64,
}

/// What one source has in one partition, by sequence.
#[derive(Debug, Default)]
struct Share(Vec<Option<Found>>);

#[derive(Debug, Clone, Copy)]
struct Found {
    fingerprint: u64,
    slot: u64,
    /// CRC-32 of the value, as seals hash it.
    checksum: u32,
    /// [`Kind::Chunk`] for all chunks but the last of a value.
    kind: Kind,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Audit {
    shares: BTreeMap<(u64, Place), Share>,
    /// The seals of the greatest revision.
    seals: BTreeMap<(u64, u64, Place), Seal>,
    findings: Findings,
}

impl Audit {
    pub fn add(&mut self, topic: ObservedTopic, record: &Record) {
        self.findings.records += 1;
        let header = ObservedHeader::decode(&record.header);
        let Some(header) = header.ok().filter(|h| h.sequence.0 <= SEQUENCE_MAX) else {
            self.findings.unreadable += 1;
            return;
        };
        let place = (topic, record.position.partition);
        let instance = header.source.instance;
        let sequence = header.sequence.0 as usize;
        let share = &mut self.shares.entry((instance, place)).or_default().0;
        let fingerprint = fingerprint(record);
        if let Some(Some(before)) = share.get(sequence) {
            self.findings.repetitions += 1;
            if before.fingerprint != fingerprint {
                self.findings.repetitions_with_other_bytes += 1;
            }
            return;
        }
        if sequence < share.len() {
            self.findings.out_of_order += 1;
        } else {
            share.resize(sequence + 1, None);
        }
        let kind = self.kind(&header, record);
        let share = &mut self.shares.entry((instance, place)).or_default().0;
        share[sequence] = Some(Found {
            fingerprint,
            slot: header.slot.0,
            checksum: crc32fast::hash(&record.value),
            kind,
        });
        if kind == Kind::Seal {
            self.seal((instance, header.slot.0, place), record);
        }
    }

    /// Of the whole value, for the last of its chunks.
    fn kind(&mut self, header: &ObservedHeader, record: &Record) -> Kind {
        if header.kind != Kind::Chunk {
            return header.kind;
        }
        match Piece::read(&record.value) {
            Ok(piece) if piece.index + 1 == piece.count => piece.kind,
            Ok(_) => Kind::Chunk,
            Err(_) => {
                self.findings.unreadable += 1;
                Kind::Chunk
            }
        }
    }

    fn seal(&mut self, key: (u64, u64, Place), record: &Record) {
        self.findings.seals += 1;
        match Seal::decode(&*record.value) {
            Ok(seal) => {
                let known = self.seals.get(&key);
                if known.is_none_or(|known| known.revision < seal.revision) {
                    self.seals.insert(key, seal);
                }
            }
            Err(_) => self.findings.unreadable += 1,
        }
    }

    pub fn findings(&self) -> Findings {
        let holes = self.shares.values().flat_map(|share| &share.0);
        let mut findings = Findings {
            holes: holes.filter(|found| found.is_none()).count() as u64,
            ..self.findings
        };
        let mut slots: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        for ((instance, slot, place), seal) in &self.seals {
            *slots.entry((*instance, *slot)).or_default() |= seal.lost > 0;
            findings.wrong_seals += u64::from(!self.is_right(*instance, *place, seal));
        }
        findings.sealed_slots = slots.len() as u64;
        findings.slots_with_stated_losses = slots.values().filter(|lost| **lost).count() as u64;
        findings
    }

    /// Whether the seal counts what is there between its first and its last record.
    fn is_right(&self, instance: u64, place: Place, seal: &Seal) -> bool {
        let (mut records, mut hash) = (0, SealHash::default());
        if seal.records > 0
            && let Some(share) = self.shares.get(&(instance, place))
        {
            let end = share.0.len().min(seal.last_sequence as usize + 1);
            let first = end.min(seal.first_sequence as usize);
            for (nth, found) in share.0[first..end].iter().enumerate() {
                if let Some(found) = found
                    && found.slot == seal.slot
                    && found.kind != Kind::Seal
                {
                    records += 1;
                    hash.add((first + nth) as u64, found.checksum);
                }
            }
        }
        records == seal.records && hash.value() == seal.hash
    }

    /// Callbacks whose record is in the log, by source instance and kind.
    pub fn delivered(&self) -> BTreeMap<(u64, Kind), u64> {
        let mut delivered = BTreeMap::new();
        for ((instance, _), share) in &self.shares {
            for found in share.0.iter().flatten() {
                *delivered.entry((*instance, found.kind)).or_default() += 1;
            }
        }
        delivered
    }

    /// Slots of which any record came, seals apart.
    pub fn slots(&self) -> BTreeSet<u64> {
        let found = self
            .shares
            .values()
            .flat_map(|share| share.0.iter().flatten());
        found
            .filter(|found| found.kind != Kind::Seal)
            .map(|found| found.slot)
            .collect()
    }
}

fn fingerprint(record: &Record) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [&record.header, &record.key, &record.value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut half = [0; 8];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use event_log::Position;
    use event_schema::{Sequence, Slot, SourceId, chunk::chunks_of_size};

    use super::*;

    fn record(kind: Kind, slot: u64, sequence: u64, value: &[u8]) -> Record {
        let header = ObservedHeader {
            kind,
            slot: Slot(slot),
            source: SourceId {
                instance: 5,
                ..SourceId::default()
            },
            sequence: Sequence(sequence),
        };
        Record {
            position: Position {
                topic: "x".into(),
                partition: 1,
                offset: 0,
            },
            key: Bytes::from_static(b"key"),
            header: Bytes::copy_from_slice(&header.encode()),
            value: Bytes::copy_from_slice(value),
            timestamp_ms: 0,
        }
    }

    fn audit(records: &[Record]) -> Audit {
        let mut audit = Audit::default();
        for record in records {
            audit.add(ObservedTopic::Accounts, record);
        }
        audit
    }

    fn seal(sequence: u64, records: u64, values: &[&[u8]]) -> Record {
        let mut hash = SealHash::default();
        for (sequence, value) in (0..).zip(values) {
            hash.add(sequence, crc32fast::hash(value));
        }
        let seal = Seal {
            slot: 9,
            records,
            last_sequence: records.saturating_sub(1),
            hash: hash.value(),
            ..Seal::default()
        };
        record(Kind::Seal, 9, sequence, &seal.encode_to_vec())
    }

    #[test]
    fn what_is_whole_has_no_findings() {
        let audit = audit(&[
            record(Kind::Account, 9, 0, b"a"),
            record(Kind::Account, 9, 1, b"b"),
            record(Kind::Account, 9, 0, b"a"),
            seal(2, 2, &[b"a", b"b"]),
        ]);
        let expected = Findings {
            records: 4,
            repetitions: 1,
            seals: 1,
            sealed_slots: 1,
            ..Findings::default()
        };
        assert_eq!(audit.findings(), expected);
        let delivered = audit.delivered();
        assert_eq!(delivered[&(5, Kind::Account)], 2);
        assert_eq!((delivered.len(), audit.slots().len()), (2, 1));
    }

    #[test]
    fn every_fault_is_found() {
        let found = audit(&[
            record(Kind::Account, 9, 3, b"d"),
            record(Kind::Account, 9, 1, b"b"),
            record(Kind::Account, 9, 1, b"other"),
            seal(4, 2, &[b"a", b"b"]),
        ])
        .findings();
        assert_eq!(
            (
                found.holes,
                found.out_of_order,
                found.repetitions_with_other_bytes,
                found.wrong_seals
            ),
            (2, 1, 1, 1)
        );
        let mut foreign = record(Kind::Account, 9, 0, b"");
        foreign.header = Bytes::from_static(b"?");
        assert_eq!(audit(&[foreign]).findings().unreadable, 1);
        // Two records, as counted, yet not these two.
        let exchanged = [
            record(Kind::Account, 9, 0, b"a"),
            record(Kind::Account, 9, 1, b"c"),
            seal(2, 2, &[b"a", b"b"]),
        ];
        assert_eq!(audit(&exchanged).findings().wrong_seals, 1);
    }

    #[test]
    fn a_value_in_chunks_is_one_callback() {
        let chunks: Vec<Record> = chunks_of_size(Kind::Account, &[3; 1_000], 300)
            .unwrap()
            .zip(0..)
            .map(|(chunk, sequence)| {
                let mut value = Vec::new();
                chunk.write(&mut value);
                record(Kind::Chunk, 9, sequence, &value)
            })
            .collect();
        assert!(chunks.len() > 1);
        let audit = audit(&chunks);
        assert_eq!(audit.findings().holes, 0);
        assert_eq!(audit.delivered()[&(5, Kind::Account)], 1);
    }
}
