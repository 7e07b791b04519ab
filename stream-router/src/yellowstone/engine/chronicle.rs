//! Pure: what was told of which block, in which order, and where its records lie.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use event_schema::{Gap, Slot};

use crate::{
    commitment::Standing,
    slot_tree::BlockId,
    state::{Earlier, GAPS_MAX},
    subscription::Level,
    yellowstone::gap,
};

/// One telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub number: u64,
    pub what: What,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Reached(Reached),
    /// Something is missing; the update that says so.
    Gap(Bytes),
}

/// A block reached a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    pub level: Level,
    pub block: BlockId,
    pub parent: Slot,
    /// The block's first record in its partition; unknown when the router ended before it was written down.
    pub offset: Option<i64>,
    /// Where to look for the first record otherwise: it is not before.
    pub not_before: i64,
}

/// What is asked for lies further back than what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld {
    pub first_available: Option<Slot>,
}

/// The newest `capacity` blocks, and the gaps that were told since the oldest of them.
#[derive(Debug)]
pub struct Chronicle {
    tellings: BTreeMap<u64, (Level, BlockId)>,
    gaps: BTreeMap<u64, KnownGap>,
    blocks: BTreeMap<BlockId, Known>,
    arrivals: VecDeque<BlockId>,
    capacity: usize,
    /// Tellings up to here were forgotten.
    forgotten: u64,
    last: u64,
}

#[derive(Debug, Clone)]
struct KnownGap {
    /// `None`: it is not known which slots were in the records that are missing.
    last_slot: Option<Slot>,
    update: Bytes,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    parent: Slot,
    offset: Option<i64>,
    not_before: i64,
    numbers: [Option<u64>; 3],
}

impl Chronicle {
    pub fn new(capacity: usize) -> Self {
        Self {
            tellings: BTreeMap::new(),
            gaps: BTreeMap::new(),
            blocks: BTreeMap::new(),
            arrivals: VecDeque::new(),
            capacity: capacity.max(1),
            forgotten: 0,
            last: 0,
        }
    }

    /// What earlier lives told. `partition_of` tells the partition of a slot.
    pub fn restore(&mut self, earlier: &Earlier, partition_of: impl Fn(Slot) -> u32) {
        let mut reached: BTreeMap<u32, i64> = BTreeMap::new();
        for restored in &earlier.blocks {
            let history = &restored.history;
            // Told by a release that did not count: there is no order to go by.
            if history.published == 0 {
                continue;
            }
            let reached = reached
                .entry(partition_of(restored.block.slot))
                .or_default();
            *reached = (*reached).max(history.offset.unwrap_or(0));
            let known = Known {
                parent: restored.parent.slot,
                offset: history.offset,
                not_before: *reached,
                numbers: [None; 3],
            };
            self.know(restored.block, known);
            self.tell(restored.block, Level::Processed, history.published);
            for (level, number) in [
                (Level::Confirmed, history.confirmed),
                (Level::Finalized, history.finalized),
            ] {
                if let Some(number) = number {
                    self.tell(restored.block, level, number);
                }
            }
        }
        for (number, gap) in &earlier.gaps {
            self.gap(*number, gap);
        }
    }

    /// Returns the update that tells it.
    pub fn gap(&mut self, number: u64, gap: &Gap) -> Bytes {
        self.last = self.last.max(number);
        let update = gap::update(gap);
        let known = KnownGap {
            last_slot: (gap.last_slot > 0).then_some(Slot(gap.last_slot)),
            update: update.clone(),
        };
        self.gaps.insert(number, known);
        // One fewer than the state remembers: by the one left over, a next life knows which cursors to refuse.
        while self.gaps.len() >= GAPS_MAX {
            if let Some((number, _)) = self.gaps.pop_first() {
                self.forgotten = self.forgotten.max(number);
            }
        }
        update
    }

    pub fn publish(&mut self, (block, parent): (BlockId, Slot), number: u64, offset: Option<i64>) {
        let known = Known {
            parent,
            offset,
            not_before: offset.unwrap_or(0),
            numbers: [None; 3],
        };
        self.know(block, known);
        self.tell(block, Level::Processed, number);
    }

    /// The standing's level, if it has one and the block is known.
    pub fn standing(&mut self, block: BlockId, standing: Standing, number: u64) -> Option<Level> {
        self.last = self.last.max(number);
        let level = Level::reached(standing)?;
        self.tell(block, level, number);
        Some(level)
    }

    /// Number of the newest telling.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The lowest slot that can be told again.
    pub fn first_available(&self) -> Option<Slot> {
        self.blocks.keys().next().map(|block| block.slot)
    }

    /// Every telling after that one.
    pub fn after(&self, number: u64) -> Result<Vec<Item>, TooOld> {
        if number < self.forgotten {
            return Err(TooOld {
                first_available: self.first_available(),
            });
        }
        let later = number.saturating_add(1)..;
        let reached = self.tellings.range(later.clone());
        let reached =
            reached.filter_map(|(number, (level, block))| self.as_item(*number, *level, *block));
        let gaps = self.gaps.range(later);
        Ok(in_order(reached, gaps.map(as_gap)))
    }

    /// Every telling about this slot and later ones.
    pub fn from_slot(&self, slot: Slot) -> Result<Vec<Item>, TooOld> {
        let first_available = self.first_available();
        if first_available.is_none_or(|first| slot < first) {
            return Err(TooOld { first_available });
        }
        let reached = self.tellings.iter();
        let reached = reached
            .filter(|(_, (_, block))| block.slot >= slot)
            .filter_map(|(number, (level, block))| self.as_item(*number, *level, *block));
        let gaps = self.gaps.iter();
        let gaps = gaps.filter(|(_, gap)| gap.last_slot.is_none_or(|last| last >= slot));
        Ok(in_order(reached, gaps.map(as_gap)))
    }

    /// The records below these offsets, by partition, were removed by retention: what lies there is forgotten.
    pub fn forget_before(&mut self, mut removed: impl FnMut(Slot, i64) -> bool) {
        while let Some(oldest) = self.arrivals.front() {
            let gone = self.blocks.get(oldest).is_none_or(|known| {
                known
                    .offset
                    .is_some_and(|offset| removed(oldest.slot, offset))
            });
            if !gone {
                break;
            }
            self.forget_oldest();
        }
    }

    fn as_item(&self, number: u64, level: Level, block: BlockId) -> Option<Item> {
        let known = self.blocks.get(&block)?;
        Some(Item {
            number,
            what: What::Reached(Reached {
                level,
                block,
                parent: known.parent,
                offset: known.offset,
                not_before: known.not_before,
            }),
        })
    }

    fn know(&mut self, block: BlockId, known: Known) {
        if self.blocks.insert(block, known).is_none() {
            self.arrivals.push_back(block);
        }
        while self.arrivals.len() > self.capacity {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.arrivals.pop_front() else {
            return;
        };
        if let Some(known) = self.blocks.remove(&oldest) {
            for number in known.numbers.into_iter().flatten() {
                self.tellings.remove(&number);
                self.forgotten = self.forgotten.max(number);
            }
        }
        // Neither after a cursor nor after a slot can anybody ask for those.
        let oldest = self.arrivals.front().and_then(|id| self.blocks.get(id));
        if let Some([Some(first), ..]) = oldest.map(|known| known.numbers) {
            self.gaps = self.gaps.split_off(&first.min(self.forgotten + 1));
        }
    }

    fn tell(&mut self, block: BlockId, level: Level, number: u64) {
        self.last = self.last.max(number);
        let Some(known) = self.blocks.get_mut(&block) else {
            return;
        };
        known.numbers[level as usize] = Some(number);
        self.tellings.insert(number, (level, block));
    }
}

fn as_gap((number, gap): (&u64, &KnownGap)) -> Item {
    Item {
        number: *number,
        what: What::Gap(gap.update.clone()),
    }
}

fn in_order(reached: impl Iterator<Item = Item>, gaps: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut items: Vec<Item> = reached.chain(gaps).collect();
    // Two runs that are sorted already: merged in one pass.
    items.sort_by_key(|item| item.number);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{History, RestoredBlock};
    use event_schema::Blockhash;

    fn block(slot: u64) -> BlockId {
        BlockId::new(Slot(slot), Blockhash([1; 32]))
    }

    fn numbers(items: Result<Vec<Item>, TooOld>) -> Vec<u64> {
        items.unwrap().into_iter().map(|item| item.number).collect()
    }

    #[test]
    fn tellings_come_in_their_order_whatever_the_slot() {
        let mut chronicle = Chronicle::new(10);
        chronicle.publish((block(7), Slot(4)), 3, Some(70));
        chronicle.publish((block(5), Slot(4)), 4, Some(50));
        assert_eq!(
            chronicle.standing(block(7), Standing::Confirmed, 6),
            Some(Level::Confirmed)
        );
        assert_eq!(chronicle.standing(block(5), Standing::Abandoned, 8), None);
        assert_eq!(numbers(chronicle.after(3)), [4, 6]);
        assert_eq!(numbers(chronicle.from_slot(Slot(6))), [3, 6]);
        assert_eq!(chronicle.last(), 8);
        assert!(chronicle.from_slot(Slot(4)).is_err());
    }

    #[test]
    fn what_was_forgotten_is_refused_with_what_there_is() {
        let mut chronicle = Chronicle::new(2);
        for slot in 1..=4 {
            chronicle.publish((block(slot), Slot(slot - 1)), slot * 10, Some(0));
        }
        let too_old = TooOld {
            first_available: Some(Slot(3)),
        };
        assert_eq!(chronicle.after(10), Err(too_old));
        assert_eq!(numbers(chronicle.after(20)), [30, 40]);
        assert_eq!(chronicle.from_slot(Slot(2)), Err(too_old));
        chronicle.forget_before(|slot, _| slot == Slot(3));
        assert_eq!(chronicle.first_available(), Some(Slot(4)));
    }

    #[test]
    fn an_earlier_life_is_continued() {
        let restored = |slot, published, offset| RestoredBlock {
            block: block(slot),
            parent: block(slot - 1),
            told: Standing::Confirmed,
            history: History {
                published,
                confirmed: Some(published + 5),
                finalized: None,
                offset,
            },
        };
        let earlier = Earlier {
            blocks: vec![restored(2, 1, Some(20)), restored(3, 2, None)],
            gaps: vec![(4, gap(5, 9)), (8, gap(1, 1))],
        };
        let mut chronicle = Chronicle::new(10);
        chronicle.restore(&earlier, |_| 0);
        assert_eq!(numbers(chronicle.after(0)), [1, 2, 4, 6, 7, 8]);
        assert_eq!(chronicle.last(), 8);
        let What::Reached(reached) = chronicle.after(1).unwrap()[0].what else {
            panic!("a block first");
        };
        assert_eq!((reached.offset, reached.not_before), (None, 20));
    }

    fn gap(first_slot: u64, last_slot: u64) -> Gap {
        Gap {
            first_slot,
            last_slot,
            records: 7,
            ..Gap::default()
        }
    }

    #[test]
    fn a_gap_has_its_place_and_goes_with_the_blocks_around_it() {
        let mut chronicle = Chronicle::new(2);
        chronicle.publish((block(5), Slot(4)), 1, Some(0));
        chronicle.gap(2, &gap(6, 7));
        chronicle.publish((block(8), Slot(5)), 3, Some(0));
        // Records of which nobody knows the slots.
        chronicle.gap(4, &gap(0, 0));
        assert_eq!(numbers(chronicle.after(0)), [1, 2, 3, 4]);
        assert_eq!(numbers(chronicle.after(2)), [3, 4]);
        assert_eq!(numbers(chronicle.from_slot(Slot(7))), [2, 3, 4]);
        assert_eq!(numbers(chronicle.from_slot(Slot(8))), [3, 4]);
        chronicle.publish((block(9), Slot(8)), 5, Some(0));
        assert_eq!(numbers(chronicle.from_slot(Slot(8))), [3, 4, 5]);
        assert!(chronicle.after(0).is_err());
        // Who has the forgotten block does not have the gap behind it.
        assert_eq!(numbers(chronicle.after(1)), [2, 3, 4, 5]);
        chronicle.publish((block(10), Slot(9)), 6, Some(0));
        assert_eq!(chronicle.gaps.len(), 1);
    }

    #[test]
    fn gaps_are_bounded_and_a_cursor_from_before_the_kept_ones_is_refused() {
        let mut chronicle = Chronicle::new(10);
        chronicle.publish((block(5), Slot(4)), 1, Some(0));
        let most = GAPS_MAX as u64;
        for number in 2..2 + most {
            chronicle.gap(number, &gap(number, number));
        }
        assert!(chronicle.after(1).is_err());
        assert_eq!(chronicle.after(3).unwrap().len() as u64, most - 2);
    }
}
