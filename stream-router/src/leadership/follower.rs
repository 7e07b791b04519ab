//! Pure: what subscribers have heard, so that what another router publishes is told once.
//!
//! A standby reads in the state topic what the publisher tells. When routers change, the same blocks come by again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use event_log::Record;
use event_schema::{Gap, proto::Message};

use crate::{
    commitment::{Change, Standing},
    router::Effect,
    slot_tree::BlockId,
    state::{self, Earlier, RestoredBlock, StateError},
};

/// Blocks remembered: far more than are on their way to finality.
const MEMORY: usize = 8_192;

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Publish(RestoredBlock),
    Standing(Change),
    Gap(Gap),
}

/// What records of the state topic say, the newest of each block.
#[derive(Debug, Default)]
pub struct Newest {
    blocks: HashMap<BlockId, RestoredBlock>,
    gaps: BTreeMap<u64, Gap>,
}

impl Newest {
    pub fn push(&mut self, records: &[Record]) -> Result<(), StateError> {
        for record in records {
            if let Some(block) = state::published_block(record)? {
                self.blocks.insert(block.block, block);
            } else if let Some((number, gap)) = state::told_gap(record)? {
                self.gaps.insert(number, gap);
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.gaps.is_empty()
    }

    /// Oldest first. More gaps than a router remembers are no use to anybody.
    pub fn in_order(mut self) -> Earlier {
        while self.gaps.len() > state::GAPS_MAX {
            self.gaps.pop_first();
        }
        let mut blocks: Vec<RestoredBlock> = self.blocks.into_values().collect();
        blocks.sort_by_key(|block| block.history.published);
        Earlier {
            blocks,
            gaps: self.gaps.into_iter().collect(),
        }
    }
}

/// The number of the last telling in it.
pub fn last_told(told: &Earlier) -> u64 {
    let of_block = |block: &RestoredBlock| {
        let history = &block.history;
        let later = history.finalized.max(history.confirmed);
        history.published.max(later.unwrap_or(0))
    };
    let blocks = told.blocks.iter().map(of_block).max();
    let gaps = told.gaps.last().map(|(number, _)| *number);
    blocks.max(gaps).unwrap_or(0)
}

/// The tellings after `through`, by their numbers: for subscribers who count by them. That a block is abandoned has no number
/// there; it may come again.
pub fn told_after(told: &Earlier, through: u64) -> Vec<(u64, Step)> {
    let mut tellings = Vec::new();
    let gaps = told.gaps.iter().filter(|(number, _)| *number > through);
    tellings.extend(gaps.map(|(number, gap)| (*number, Step::Gap(gap.clone()))));
    for restored in &told.blocks {
        let (block, history) = (restored.block, &restored.history);
        let step = |standing| Step::Standing(Change { block, standing });
        let numbered = [
            (Some(history.published), Step::Publish(*restored)),
            (history.confirmed, step(Standing::Confirmed)),
            (history.finalized, step(Standing::Finalized)),
        ];
        let numbered = numbered.into_iter();
        tellings.extend(numbered.filter_map(|(number, step)| {
            let number = number.filter(|number| *number > through)?;
            Some((number, step))
        }));
    }
    tellings.sort_by_key(|(number, _)| *number);
    let abandoned = told
        .blocks
        .iter()
        .filter(|restored| restored.told == Standing::Abandoned);
    tellings.extend(abandoned.map(|restored| {
        let change = Change {
            block: restored.block,
            standing: Standing::Abandoned,
        };
        (through, Step::Standing(change))
    }));
    tellings
}

/// Those that can be news: no more are remembered.
pub fn within_memory(blocks: &[RestoredBlock]) -> &[RestoredBlock] {
    &blocks[blocks.len().saturating_sub(MEMORY)..]
}

/// See the module.
#[derive(Debug, Default)]
pub struct Follower {
    told: HashMap<BlockId, Standing>,
    arrivals: VecDeque<BlockId>,
    /// By what they say: who told one and was cut off before it was on the log gave it no number.
    told_gaps: HashSet<Vec<u8>>,
    gap_arrivals: VecDeque<Vec<u8>>,
    begun: bool,
}

impl Follower {
    /// This process tells it.
    pub fn heard(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => self.know(block.id, Standing::Processed),
                Effect::Standing(change) => self.know(change.block, change.standing),
                Effect::Gap(gap) | Effect::ParentGap { gap, .. } => self.know_gap(gap),
                _ => {}
            }
        }
    }

    /// What the log held when this process began is history, not news.
    pub fn begin(&mut self, told: &Earlier) {
        if !std::mem::replace(&mut self.begun, true) {
            for restored in within_memory(&told.blocks) {
                self.know(restored.block, restored.told);
            }
            for (_, gap) in &told.gaps {
                self.know_gap(gap);
            }
        }
    }

    /// Whether others have told blocks that are too old by now to be told here.
    pub fn has_missed(&self, told: &Earlier) -> bool {
        let news = within_memory(&told.blocks);
        let older = &told.blocks[..told.blocks.len() - news.len()];
        let knows = |restored: &RestoredBlock| self.told.contains_key(&restored.block);
        // What is remembered is the newest of what was told before: if neither is part of it, it ended before both.
        let seam = older.last().zip(news.first());
        self.begun && seam.is_some_and(|(before, first)| !knows(before) && !knows(first))
    }

    /// What is new of the block; [`Self::heard`] is to be told of each as it is told.
    pub fn news(&self, restored: &RestoredBlock) -> Vec<Step> {
        let block = restored.block;
        let path: &[Standing] = match restored.told {
            Standing::Processed => &[],
            Standing::Confirmed => &[Standing::Confirmed],
            Standing::Finalized => &[Standing::Confirmed, Standing::Finalized],
            Standing::Abandoned => &[Standing::Abandoned],
        };
        let standing = |standing| Step::Standing(Change { block, standing });
        let all = [Step::Publish(*restored)]
            .into_iter()
            .chain(path.iter().copied().map(standing));
        all.filter(|step| self.is_news(step)).collect()
    }

    pub fn is_news(&self, step: &Step) -> bool {
        match step {
            Step::Publish(restored) => !self.told.contains_key(&restored.block),
            Step::Standing(change) => change.standing > self.known(change.block),
            Step::Gap(gap) => !self.told_gaps.contains(&gap.encode_to_vec()),
        }
    }

    /// The block cannot be told, now or later.
    pub fn passed_over(&mut self, block: BlockId) {
        self.know(block, Standing::Processed);
    }

    fn know_gap(&mut self, gap: &Gap) {
        let said = gap.encode_to_vec();
        if self.told_gaps.insert(said.clone()) {
            self.gap_arrivals.push_back(said);
        }
        while self.gap_arrivals.len() > state::GAPS_MAX {
            if let Some(oldest) = self.gap_arrivals.pop_front() {
                self.told_gaps.remove(&oldest);
            }
        }
    }

    fn known(&self, block: BlockId) -> Standing {
        self.told.get(&block).copied().unwrap_or_default()
    }

    fn know(&mut self, block: BlockId, standing: Standing) {
        match self.told.get_mut(&block) {
            Some(known) => *known = (*known).max(standing),
            None => {
                self.told.insert(block, standing);
                self.arrivals.push_back(block);
            }
        }
        while self.arrivals.len() > MEMORY {
            if let Some(oldest) = self.arrivals.pop_front() {
                self.told.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event_schema::{Blockhash, Slot};

    use super::*;
    use crate::state::History;

    fn block(slot: u64, told: Standing) -> RestoredBlock {
        let id = |slot| BlockId::new(Slot(slot), Blockhash([slot as u8; 32]));
        RestoredBlock {
            block: id(slot),
            parent: id(slot - 1),
            told,
            history: History::default(),
        }
    }

    fn standing(slot: u64, standing: Standing) -> Step {
        Step::Standing(Change {
            block: block(slot, standing).block,
            standing,
        })
    }

    fn told(follower: &mut Follower, step: &Step) {
        match step {
            Step::Publish(restored) => follower.passed_over(restored.block),
            Step::Standing(change) => follower.heard(&[Effect::Standing(*change)]),
            Step::Gap(_) => {}
        }
    }

    #[test]
    fn history_is_no_news_and_news_come_once() {
        let mut follower = Follower::default();
        let gap = |first_slot| Gap {
            first_slot,
            ..Gap::default()
        };
        follower.begin(&Earlier {
            blocks: vec![block(5, Standing::Confirmed)],
            gaps: vec![(1, gap(3))],
        });
        assert!(!follower.is_news(&Step::Gap(gap(3))));
        assert!(follower.is_news(&Step::Gap(gap(4))));
        follower.heard(&[Effect::Gap(gap(4))]);
        assert!(!follower.is_news(&Step::Gap(gap(4))), "told already");
        assert_eq!(follower.news(&block(5, Standing::Confirmed)), []);
        let five = block(5, Standing::Finalized);
        assert_eq!(follower.news(&five), [standing(5, Standing::Finalized)]);
        let six = block(6, Standing::Finalized);
        let steps = [
            Step::Publish(six),
            standing(6, Standing::Confirmed),
            standing(6, Standing::Finalized),
        ];
        // The router may be cut off between any two of them: what was not told is still news.
        for (at, step) in steps.iter().enumerate() {
            follower.begin(&Earlier {
                blocks: vec![six],
                gaps: Vec::new(),
            });
            assert_eq!(follower.news(&six), steps[at..]);
            told(&mut follower, step);
        }
        assert_eq!(follower.news(&six), [], "told already");
    }

    #[test]
    fn who_was_away_for_longer_than_is_remembered_has_missed_blocks() {
        let told = |slots: std::ops::Range<u64>| Earlier {
            blocks: slots.map(|slot| block(slot, Standing::Finalized)).collect(),
            gaps: Vec::new(),
        };
        let memory = MEMORY as u64;
        let mut follower = Follower::default();
        assert!(!follower.has_missed(&told(1..3 * memory)), "history");
        follower.begin(&told(1..3 * memory));
        for (more, misses) in [(0, false), (1, false), (memory, false), (memory + 1, true)] {
            let now = told(1..3 * memory + more);
            assert_eq!(follower.has_missed(&now), misses, "after {more} more");
        }
        // What was compacted away meanwhile was told before.
        let now = told(3 * memory - 10..4 * memory);
        assert!(!follower.has_missed(&now));
        follower.begin(&now);
        let newest = told(4 * memory..4 * memory + 1).blocks;
        let step = Step::Publish(newest[0]);
        self::told(&mut follower, &step);
        assert!(!follower.has_missed(&told(3 * memory..5 * memory + 1)));
        assert!(follower.has_missed(&told(3 * memory..5 * memory + 2)));
    }

    #[test]
    fn tellings_come_in_their_order_whatever_the_block() {
        let mut five = block(5, Standing::Finalized);
        five.history = History {
            published: 3,
            confirmed: Some(7),
            finalized: Some(12),
            offset: None,
        };
        let mut six = block(6, Standing::Confirmed);
        six.history = History {
            published: 5,
            confirmed: Some(9),
            finalized: None,
            offset: None,
        };
        let tellings = [
            (5, Step::Publish(six)),
            (7, standing(5, Standing::Confirmed)),
            (
                8,
                Step::Gap(Gap {
                    first_slot: 4,
                    last_slot: 4,
                    ..Gap::default()
                }),
            ),
            (9, standing(6, Standing::Confirmed)),
            (12, standing(5, Standing::Finalized)),
        ];
        let gap = |first_slot| Gap {
            first_slot,
            last_slot: first_slot,
            ..Gap::default()
        };
        let told = Earlier {
            blocks: vec![five, six],
            gaps: vec![(2, gap(1)), (8, gap(4))],
        };
        assert_eq!(told_after(&told, 3), tellings);
        assert_eq!(told_after(&told, 12), []);
        assert_eq!(last_told(&told), 12);
    }

    #[test]
    fn what_this_process_published_itself_is_not_told_again() {
        let mut follower = Follower::default();
        let change = Change {
            block: block(7, Standing::Confirmed).block,
            standing: Standing::Confirmed,
        };
        follower.heard(&[Effect::Standing(change)]);
        assert_eq!(
            follower.news(&block(7, Standing::Abandoned)),
            [standing(7, Standing::Abandoned)]
        );
    }
}
