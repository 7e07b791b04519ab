//! The partitions that a ledger numbers into, and what their readers may rely on.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Written {
    Record {
        slot: u64,
        fact: Fact,
        sequence: u64,
        checksum: u32,
    },
    Seal {
        sequence: u64,
        seal: Seal,
    },
}

/// The ledger and the partitions it numbers into.
pub(super) struct Log {
    pub(super) ledger: SlotLedger,
    pub(super) lanes: Vec<Vec<Written>>,
    pub(super) lost: BTreeMap<(u64, Lane), u64>,
    pub(super) checksum: u32,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            ledger: SlotLedger::new(LANES),
            lanes: vec![Vec::new(); LANES.count()],
            lost: BTreeMap::new(),
            checksum: 0,
        }
    }

    pub(super) fn record(&mut self, slot: u64, lane: Lane, fact: Fact) {
        self.checksum = self.checksum.wrapping_mul(31).wrapping_add(7);
        let sequence = self.ledger.record(slot, lane, &fact, self.checksum);
        self.lanes[usize::from(lane.0)].push(Written::Record {
            slot,
            fact,
            sequence,
            checksum: self.checksum,
        });
    }

    pub(super) fn lose(&mut self, slot: u64, lane: Lane, fact: Fact) {
        self.ledger.lost(Loss {
            slot,
            lane,
            kind: fact.kind().unwrap(),
            count: 1,
        });
        *self.lost.entry((slot, lane)).or_default() += 1;
    }

    pub(super) fn end_batch(&mut self) -> usize {
        self.ledger.settle();
        let mut count = 0;
        while let Some(seals) = self.ledger.seal_next() {
            count += seals.len();
            self.write(seals);
        }
        self.ledger.settle();
        count
    }

    pub(super) fn write(&mut self, due: Vec<DueSeal>) {
        for DueSeal { lane, seal } in due {
            let sequence = self.ledger.number(lane);
            self.lanes[usize::from(lane.0)].push(Written::Seal { sequence, seal });
        }
    }

    pub(super) fn seals(&self, slot: u64) -> Vec<(Lane, Seal)> {
        let mut found = Vec::new();
        for (number, lane) in self.lanes.iter().enumerate() {
            for written in lane {
                if let Written::Seal { seal, .. } = written
                    && seal.slot == slot
                {
                    found.push((Lane(number as u16), seal.clone()));
                }
            }
        }
        found
    }

    pub(super) fn last_revision(&self, slot: u64) -> Option<u32> {
        self.seals(slot).iter().map(|(_, seal)| seal.revision).max()
    }

    /// What every reader may rely on, whatever happened.
    pub(super) fn verify(&self) {
        for (number, lane) in self.lanes.iter().enumerate() {
            let mut so_far: BTreeMap<u64, (u64, u64, u64, SealHash)> = BTreeMap::new();
            for (place, written) in lane.iter().enumerate() {
                match written {
                    Written::Record {
                        slot,
                        sequence,
                        checksum,
                        fact,
                    } => {
                        assert_eq!(*sequence, place as u64, "sequences are contiguous");
                        if is_beside(fact) {
                            continue;
                        }
                        let share =
                            so_far
                                .entry(*slot)
                                .or_insert((0, *sequence, 0, SealHash::default()));
                        share.0 += 1;
                        share.2 = *sequence;
                        share.3.add(*sequence, *checksum);
                    }
                    Written::Seal { sequence, seal } => {
                        assert_eq!(*sequence, place as u64, "seals are numbered as well");
                        let (records, first, last, hash) =
                            so_far.get(&seal.slot).copied().unwrap_or_default();
                        assert_eq!(
                            (seal.records, seal.first_sequence, seal.last_sequence),
                            (records, first, last)
                        );
                        assert_eq!(
                            seal.hash,
                            if records == 0 {
                                SealHash::default().value()
                            } else {
                                hash.value()
                            }
                        );
                        let (topic, partition) = LANES.place(Lane(number as u16));
                        let row = seal
                            .table
                            .iter()
                            .find(|row| row.topic == topic as u32 && row.partition == partition)
                            .expect("a seal's table names its own partition");
                        assert_eq!((row.records, row.lost), (seal.records, seal.lost));
                    }
                }
            }
        }
    }

    /// Once all is quiet: the last seals count every record and every loss of the slot, in every lane.
    pub(super) fn verify_whole(&self, slot: u64) {
        let revision = self.last_revision(slot).expect("the slot is sealed");
        let last: BTreeMap<Lane, Seal> = self
            .seals(slot)
            .into_iter()
            .filter(|(_, seal)| seal.revision == revision)
            .collect();
        for (number, lane) in self.lanes.iter().enumerate() {
            let lane_id = Lane(number as u16);
            let content = lane
                .iter()
                .filter(|written| matches!(written, Written::Record { slot: of, fact, .. } if *of == slot && !matches!(fact, Fact::Status(_)) && !is_beside(fact)))
                .count() as u64;
            let lost = self.lost.get(&(slot, lane_id)).copied().unwrap_or(0);
            match last.get(&lane_id) {
                Some(seal) => {
                    assert!(
                        seal.records >= content,
                        "slot {slot} lane {number}: {seal:?}"
                    );
                    assert_eq!(seal.lost, lost, "slot {slot} lane {number}: {seal:?}");
                    assert_eq!(seal.table.len(), last.len());
                }
                None => assert_eq!(
                    (content, lost),
                    (0, 0),
                    "slot {slot} lane {number} has no seal"
                ),
            }
        }
    }
}

pub(super) fn is_beside(fact: &Fact) -> bool {
    matches!(fact, Fact::Deshred | Fact::ContactInfo)
}
