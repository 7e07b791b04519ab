//! Pure: a chain as a router tells it, with its forks, abandoned slots, gaps and poison. The same seed makes the same history.

use std::collections::{BTreeMap, VecDeque};

use event_schema::proto::geyser::SlotStatus;

/// Shortly before a table's next partition, so that every run crosses it.
pub const FIRST_SLOT: u64 = 700 * 432_000 - 60;

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub slot: u64,
    pub fork: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Published(Block),
    Status(Block, SlotStatus),
    Gap { slot: u64 },
    Poison { slot: u64, number: u64 },
}

/// What must be stored in the end.
#[derive(Debug, Default, Clone)]
pub struct Truth {
    /// The fork that became final, by slot.
    pub finals: BTreeMap<u64, u8>,
    pub abandoned: Vec<Block>,
    /// Of them, blocks whose rows had been stored, or were about to be.
    pub abandoned_after_confirmation: u64,
    pub gaps: Vec<u64>,
}

/// See the module.
pub struct Chain {
    random: Random,
    slot: u64,
    /// Events of the slots to come, in order.
    due: VecDeque<Vec<Event>>,
    poison: u64,
    pub truth: Truth,
}

impl Chain {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            slot: FIRST_SLOT,
            due: VecDeque::new(),
            poison: 0,
            truth: Truth::default(),
        }
    }

    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// What is told while the next slot is the newest.
    pub fn next(&mut self) -> Vec<Event> {
        // Now and then nobody leads for a while, so that windows of slots are soon full.
        self.slot += match self.random.below(13) {
            0 => self.random.between(50, 200),
            _ => 1,
        };
        let slot = self.slot;
        let (first, second) = (Block { slot, fork: 1 }, Block { slot, fork: 2 });
        match self.random.below(1_000) {
            0..30 => {}
            // Confirmed, abandoned, and another block of the slot instead.
            30..48 => {
                let confirmed = self.confirmed(first, 0, 0);
                let dead = self.dead_after_confirmation(first, confirmed);
                // The other one is told before or after the first one's end.
                let told = if self.random.below(2) == 0 {
                    confirmed
                } else {
                    dead
                };
                self.becomes_final(second, told, dead);
            }
            48..58 => {
                let confirmed = self.confirmed(first, 0, 0);
                self.dead_after_confirmation(first, confirmed);
            }
            58..78 => {
                self.at(0, Event::Published(first));
                let dead = self.random.below(4);
                self.dead(first, dead);
                if self.random.below(2) == 0 {
                    self.becomes_final(second, dead, dead);
                }
            }
            // Two forks side by side; the second one loses.
            78..88 => {
                self.at(0, Event::Published(second));
                self.becomes_final(first, 0, 0);
                self.dead(second, 6);
            }
            _ => self.becomes_final(first, 0, 0),
        }
        if self.random.below(1_000) < 10 {
            self.at(0, Event::Gap { slot });
            self.truth.gaps.push(slot);
        }
        if self.random.below(1_000) < 15 {
            let number = self.poison;
            self.poison += 1;
            self.at(0, Event::Poison { slot, number });
        }
        self.due.pop_front().unwrap_or_default()
    }

    /// What is still to be told.
    pub fn finish(&mut self) -> Vec<Vec<Event>> {
        self.due.drain(..).collect()
    }

    fn at(&mut self, slots_later: u64, event: Event) {
        let at = slots_later as usize;
        if self.due.len() <= at {
            self.due.resize(at + 1, Vec::new());
        }
        self.due[at].push(event);
    }

    /// Published so many slots later, and confirmed no sooner than that; tells when.
    fn confirmed(&mut self, block: Block, published: u64, soonest: u64) -> u64 {
        self.at(published, Event::Published(block));
        let confirmed = soonest + self.random.below(4);
        self.at(confirmed, Event::Status(block, SlotStatus::SlotConfirmed));
        confirmed
    }

    fn becomes_final(&mut self, block: Block, published: u64, soonest: u64) {
        let confirmed = self.confirmed(block, published, soonest);
        let finalized = confirmed + self.random.between(1, 12);
        self.at(finalized, Event::Status(block, SlotStatus::SlotFinalized));
        self.truth.finals.insert(block.slot, block.fork);
    }

    fn dead_after_confirmation(&mut self, block: Block, confirmed: u64) -> u64 {
        let dead = confirmed + self.random.below(5);
        self.dead(block, dead);
        self.truth.abandoned_after_confirmation += 1;
        dead
    }

    fn dead(&mut self, block: Block, at: u64) {
        self.at(at, Event::Status(block, SlotStatus::SlotDead));
        self.truth.abandoned.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_history_in_which_everything_happens_in_its_order() {
        let lived = |seed| {
            let mut chain = Chain::new(seed);
            let mut events: Vec<Event> = (0..3_000).flat_map(|_| chain.next()).collect();
            events.extend(chain.finish().into_iter().flatten());
            (events, chain.truth)
        };
        let (events, truth) = lived(5);
        assert_eq!(events, lived(5).0);
        assert_ne!(events, lived(6).0);
        assert!(truth.abandoned_after_confirmation > 20 && truth.gaps.len() > 5);
        let place = |wanted: Event| events.iter().position(|event| *event == wanted);
        for (slot, fork) in &truth.finals {
            let block = Block {
                slot: *slot,
                fork: *fork,
            };
            let published = place(Event::Published(block)).unwrap();
            let confirmed = place(Event::Status(block, SlotStatus::SlotConfirmed)).unwrap();
            let finalized = place(Event::Status(block, SlotStatus::SlotFinalized)).unwrap();
            assert!(published < confirmed && confirmed < finalized);
            // A slot has one block at a time: the other is gone before this one is confirmed.
            let other = Block {
                slot: *slot,
                fork: 3 - fork,
            };
            if place(Event::Status(other, SlotStatus::SlotConfirmed)).is_some() {
                let dead = place(Event::Status(other, SlotStatus::SlotDead)).unwrap();
                assert!(dead < confirmed, "slot {slot}");
            }
        }
        for block in &truth.abandoned {
            let published = place(Event::Published(*block)).unwrap();
            assert!(published < place(Event::Status(*block, SlotStatus::SlotDead)).unwrap());
        }
    }
}
