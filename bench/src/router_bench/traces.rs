//! Pure: histories in which two validators do not see the same: what each lives through, and what must be published of it.

use std::collections::BTreeMap;

use event_schema::Slot;
use rand::Rng;

use crate::observed::chain::{Block, BlockName, Chain, Moment};

/// Two validators.
#[derive(Debug, Default)]
pub struct Lives {
    pub moments: [Vec<Moment>; 2],
}

/// A scripted trace.
pub struct Script {
    pub name: &'static str,
    play: fn(&mut Chain, &mut Lives),
}

impl Script {
    pub fn play(&self, chain: &mut Chain, lives: &mut Lives) {
        (self.play)(chain, lives);
        settle(chain, lives, 0);
    }
}

/// Every way in which a slot's block can be in doubt.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "a block beside the chain",
        play: |chain, lives| {
            let base = lives.both_extend(chain);
            lives.both_beside(chain, base);
            lives.both_extend(chain);
        },
    },
    Script {
        name: "a long fork is overtaken",
        play: |chain, lives| {
            let base = lives.both_extend(chain);
            let mut fork = base;
            for _ in 0..5 {
                fork = lives.both_beside(chain, fork);
            }
            for _ in 0..2 {
                lives.both_extend(chain);
            }
        },
    },
    Script {
        name: "two chains grow in turn",
        play: |chain, lives| {
            let mut fork = lives.both_extend(chain);
            for _ in 0..6 {
                fork = lives.both_beside(chain, fork);
                lives.both_extend(chain);
            }
        },
    },
    Script {
        name: "only one validator sees the fork",
        play: |chain, lives| {
            let base = lives.both_extend(chain);
            let mut fork = base;
            for _ in 0..3 {
                let block = chain.beside(fork);
                lives.moments[1].push(Moment::Block(block));
                fork = block.name;
            }
            lives.both_extend(chain);
        },
    },
    Script {
        name: "a slot dies in the middle",
        play: |chain, lives| {
            lives.both_extend(chain);
            let broken = chain.beside(chain.tip());
            lives.both(Moment::Broken(broken));
            lives.both_extend(chain);
        },
    },
    Script {
        name: "two blocks of one slot, one validator holds each",
        play: |chain, lives| {
            let block = chain.extend();
            let rival = chain.rival(&block);
            lives.moments[0].push(Moment::Block(block));
            lives.moments[1].push(Moment::Block(rival));
            lives.both_extend(chain);
        },
    },
    Script {
        name: "one validator dumps a duplicate block and replays the slot",
        play: |chain, lives| {
            let block = chain.extend();
            let rival = chain.rival(&block);
            lives.moments[0].push(Moment::Block(block));
            lives.replay(1, rival, block, true);
            lives.both_extend(chain);
        },
    },
    Script {
        name: "both replay a slot, and nobody said that it was dead",
        play: |chain, lives| {
            let block = chain.extend();
            let rival = chain.rival(&block);
            lives.replay(0, rival, block, false);
            lives.replay(1, rival, block, false);
            lives.both_extend(chain);
        },
    },
    Script {
        name: "a replay after the fork has grown",
        play: |chain, lives| {
            let block = chain.extend();
            let rival = chain.rival(&block);
            lives.moments[0].push(Moment::Block(block));
            lives.moments[1].push(Moment::Block(rival));
            let grown = chain.beside(rival.name);
            lives.moments[1].push(Moment::Block(grown));
            lives.moments[1].push(Moment::Dumped(block.name.slot));
            lives.moments[1].push(Moment::Block(block));
            lives.both_extend(chain);
        },
    },
    Script {
        name: "leaders miss their slots",
        play: |chain, lives| {
            for skipped in [1, 4, 9] {
                (0..skipped).for_each(|_| chain.skip());
                lives.both_extend(chain);
            }
        },
    },
    Script {
        name: "nothing is confirmed until a root far above",
        play: |chain, lives| {
            let fork = lives.both_extend(chain);
            for _ in 0..12 {
                let block = chain.extend();
                lives.both(Moment::Block(block));
            }
            let _ = chain.beside(fork);
            let roots = chain.roots(0);
            // The oldest are never told as rooted.
            lives.moments[0].extend(roots.last());
            lives.moments[1].extend(roots.last());
        },
    },
    Script {
        name: "one validator never roots",
        play: |chain, lives| {
            for _ in 0..4 {
                lives.both_extend(chain);
            }
            lives.moments[0].extend(chain.roots(1));
        },
    },
];

/// Anything may happen.
pub fn random(chain: &mut Chain, lives: &mut Lives, slots: usize) {
    for _ in 0..slots {
        match chain.random().random_range(0..100) {
            0..10 => chain.skip(),
            10..26 => {
                let parent = chain.fork_parent();
                let block = chain.beside(parent);
                let seen_by = chain.random().random_range(0..3);
                for (number, moments) in lives.moments.iter_mut().enumerate() {
                    if seen_by != number {
                        moments.push(Moment::Block(block));
                    }
                }
            }
            26..31 => {
                let broken = chain.beside(chain.tip());
                lives.both(Moment::Broken(broken));
            }
            31..38 => {
                let block = chain.extend();
                let rival = chain.rival(&block);
                for number in 0..2 {
                    match chain.random().random_range(0..4) {
                        0 => lives.replay(number, rival, block, true),
                        1 => lives.replay(number, rival, block, false),
                        _ => lives.moments[number].push(Moment::Block(block)),
                    }
                }
            }
            _ => {
                lives.both_extend(chain);
            }
        }
        if chain.random().random_bool(0.3) {
            settle(chain, lives, 3);
        }
    }
    settle(chain, lives, 0);
}

/// One more block on the chain, and all but the newest `keep` are rooted.
fn settle(chain: &mut Chain, lives: &mut Lives, keep: usize) {
    lives.both_extend(chain);
    for root in chain.roots(keep) {
        lives.both(root);
    }
}

impl Lives {
    /// What must be published: what someone holds in the end. `false`: what all who had it gave up for another.
    pub fn published(&self) -> BTreeMap<BlockName, bool> {
        let mut published = BTreeMap::new();
        for moments in &self.moments {
            let mut held: BTreeMap<Slot, BlockName> = BTreeMap::new();
            for moment in moments {
                if let Moment::Block(block) = moment {
                    held.insert(block.name.slot, block.name);
                    published.entry(block.name).or_insert(false);
                }
            }
            for name in held.into_values() {
                published.insert(name, true);
            }
        }
        published
    }

    fn both(&mut self, moment: Moment) {
        for moments in &mut self.moments {
            moments.push(moment);
        }
    }

    /// Some blocks are reported as confirmed, by one of them.
    fn both_extend(&mut self, chain: &mut Chain) -> BlockName {
        let block = chain.extend();
        self.both(Moment::Block(block));
        if chain.random().random_bool(0.5) {
            let number = chain.random().random_range(0..2);
            self.moments[number].push(Moment::Confirmed(block.name.slot));
        }
        block.name
    }

    fn both_beside(&mut self, chain: &mut Chain, parent: BlockName) -> BlockName {
        let block = chain.beside(parent);
        self.both(Moment::Block(block));
        block.name
    }

    /// The validator executes one block of a slot and then, instead, another.
    fn replay(&mut self, number: usize, first: Block, then: Block, told: bool) {
        let moments = &mut self.moments[number];
        moments.push(Moment::Block(first));
        if told {
            moments.push(Moment::Dumped(first.name.slot));
        }
        moments.push(Moment::Block(then));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::chain::Temper;

    #[test]
    fn the_chain_is_always_held_and_rooted_to_its_tip() {
        for seed in 0..20 {
            let mut chain = Chain::new(seed, 500, Temper::RESTLESS);
            let mut lives = Lives::default();
            for script in SCRIPTS {
                script.play(&mut chain, &mut lives);
            }
            random(&mut chain, &mut lives, 30);
            let published = lives.published();
            assert!(published.values().any(|required| !required));
            let blocks = lives.moments.iter().flatten().filter_map(|m| match m {
                Moment::Block(block) => Some(block),
                _ => None,
            });
            let on_chain = blocks.filter(|block| block.on_chain);
            assert!(on_chain.clone().all(|block| published[&block.name]));
            let rooted = Moment::Rooted {
                slot: chain.tip().slot,
                parent: on_chain.max_by_key(|block| block.name).unwrap().parent.slot,
            };
            assert!(lives.moments.iter().all(|m| m.last() == Some(&rooted)));
        }
    }
}
