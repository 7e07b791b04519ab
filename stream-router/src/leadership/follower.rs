//! Pure: what subscribers have heard, so that what another router publishes is told once.
//!
//! A standby reads in the state topic what the publisher tells. When routers change, the same blocks come by again.

use std::collections::{HashMap, VecDeque};

use crate::{
    commitment::{Change, Standing},
    router::Effect,
    slot_tree::BlockId,
    state::RestoredBlock,
};

/// Blocks remembered: far more than are on their way to finality.
const MEMORY: usize = 8_192;

/// What is to be told of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Publish(RestoredBlock),
    Standing(Change),
}

/// The tellings after `through`, by their numbers: for subscribers who count by them. That a block is abandoned has no number
/// there; it may come again.
pub fn told_after(blocks: &[RestoredBlock], through: u64) -> Vec<(u64, Step)> {
    let mut tellings = Vec::new();
    for restored in blocks {
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
    let abandoned = blocks
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

/// See the module.
#[derive(Debug, Default)]
pub struct Follower {
    told: HashMap<BlockId, Standing>,
    arrivals: VecDeque<BlockId>,
    begun: bool,
}

impl Follower {
    /// This process told it as a publisher.
    pub fn heard(&mut self, effects: &[Effect]) {
        self.begun = true;
        for effect in effects {
            match effect {
                Effect::Publish(block) => self.know(block.id, Standing::Processed),
                Effect::Standing(change) => self.know(change.block, change.standing),
                _ => {}
            }
        }
    }

    /// What is new in it. What the log held when this process began is history, not news.
    pub fn follow(&mut self, blocks: &[RestoredBlock]) -> Vec<Step> {
        let mut steps = Vec::new();
        // Only the newest can be news.
        for restored in &blocks[blocks.len().saturating_sub(MEMORY)..] {
            if self.begun {
                self.steps(restored, &mut steps);
            }
            self.know(restored.block, restored.told);
        }
        self.begun = true;
        steps
    }

    fn steps(&self, restored: &RestoredBlock, steps: &mut Vec<Step>) {
        let block = restored.block;
        let known = self.told.get(&block).copied();
        if known.is_none() {
            steps.push(Step::Publish(*restored));
        }
        let known = known.unwrap_or_default();
        let path: &[Standing] = match restored.told {
            Standing::Processed => &[],
            Standing::Confirmed => &[Standing::Confirmed],
            Standing::Finalized => &[Standing::Confirmed, Standing::Finalized],
            Standing::Abandoned => &[Standing::Abandoned],
        };
        let new = path.iter().copied().filter(|standing| *standing > known);
        steps.extend(new.map(|standing| Step::Standing(Change { block, standing })));
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

    #[test]
    fn history_is_no_news_and_news_come_once() {
        let mut follower = Follower::default();
        assert_eq!(follower.follow(&[block(5, Standing::Confirmed)]), []);
        let six = block(6, Standing::Finalized);
        let steps = [
            standing(5, Standing::Finalized),
            Step::Publish(six),
            standing(6, Standing::Confirmed),
            standing(6, Standing::Finalized),
        ];
        let news = [block(5, Standing::Finalized), six];
        assert_eq!(follower.follow(&news), steps);
        assert_eq!(follower.follow(&news), [], "told already");
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
            (9, standing(6, Standing::Confirmed)),
            (12, standing(5, Standing::Finalized)),
        ];
        assert_eq!(told_after(&[five, six], 3), tellings);
        assert_eq!(told_after(&[five, six], 12), []);
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
            follower.follow(&[block(7, Standing::Abandoned)]),
            [standing(7, Standing::Abandoned)]
        );
    }
}
