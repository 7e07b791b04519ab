//! Pure: when a block is confirmed, finalized or abandoned.
//!
//! Evidence is what validators report per slot, carried along parent links: a confirmed block confirms its ancestors, a
//! rooted block confirms and finalizes them. Nothing waits for a Confirmed report, which validators sometimes leave out.
//! A report is about the block that *this* source holds for the slot, so it waits for that source's block metadata.
//! A block is abandoned only when the finalized chain provably passes it by; one validator's Dead report is no proof.

use std::collections::{BTreeMap, HashMap, VecDeque};

use event_schema::{Slot, SourceId};
use serde::{Deserialize, Serialize};

use crate::slot_tree::{BlockId, SlotTree};

/// What is known about a block's place on the chain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    #[default]
    Processed,
    Confirmed,
    Finalized,
    /// Beside the finalized chain. Final.
    Abandoned,
}

/// A block moved to another standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub block: BlockId,
    pub standing: Standing,
}

/// The tree with the evidence.
#[derive(Debug)]
pub struct Commitments {
    tree: SlotTree,
    /// Also of blocks known only by name, as the parent of one with evidence.
    standings: HashMap<BlockId, Standing>,
    /// The finalized chain as far as it is linked, to prove what it passes by.
    finalized: BTreeMap<Slot, BlockId>,
    /// The block each source holds for a slot.
    held: BTreeMap<(Slot, SourceId), BlockId>,
    /// Reports that came before the source's block.
    waiting: BTreeMap<(Slot, SourceId), Standing>,
    /// Arrival order of keys in `held` and `waiting`, so that they can be forgotten.
    keys: VecDeque<(Slot, SourceId)>,
    /// Blocks, and as many source keys, that are remembered.
    capacity: usize,
}

impl Commitments {
    pub fn new(capacity: usize) -> Self {
        Self {
            tree: SlotTree::default(),
            standings: HashMap::new(),
            finalized: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            keys: VecDeque::new(),
            capacity: capacity.max(16),
        }
    }

    /// `source` holds `block`. Changes are oldest slot first.
    pub fn on_block(&mut self, source: SourceId, block: BlockId, parent: BlockId) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.tree.insert(block, parent) {
            self.welcome(block, &mut changes);
        }
        self.remember_key((block.slot, source));
        self.held.insert((block.slot, source), block);
        if let Some(standing) = self.waiting.remove(&(block.slot, source)) {
            self.raise(block, standing, &mut changes);
        }
        self.forget_old();
        oldest_first(changes)
    }

    /// `source` reports that its block of the slot is confirmed or rooted.
    pub fn on_report(&mut self, source: SourceId, slot: Slot, standing: Standing) -> Vec<Change> {
        let mut changes = Vec::new();
        match self.held.get(&(slot, source)).copied() {
            Some(block) => self.raise(block, standing, &mut changes),
            None => {
                self.remember_key((slot, source));
                let waiting = self.waiting.entry((slot, source)).or_default();
                *waiting = (*waiting).max(standing);
            }
        }
        oldest_first(changes)
    }

    /// `source` gave up its block of the slot; a block it replays later is another.
    pub fn on_dead(&mut self, source: SourceId, slot: Slot) {
        self.held.remove(&(slot, source));
        self.waiting.remove(&(slot, source));
    }

    /// What an earlier life of the router had concluded.
    pub fn restore(
        &mut self,
        block: BlockId,
        parent: BlockId,
        standing: Standing,
        sources: impl IntoIterator<Item = SourceId>,
    ) {
        self.tree.insert(block, parent);
        for source in sources {
            self.remember_key((block.slot, source));
            self.held.insert((block.slot, source), block);
        }
        if standing > Standing::Processed {
            self.standings.insert(block, standing);
        }
        if matches!(standing, Standing::Confirmed | Standing::Finalized) {
            if standing == Standing::Finalized {
                self.finalized.insert(block.slot, block);
            }
            if let Some(parent) = self.tree.parent(block) {
                let known = self.standings.entry(parent).or_default();
                *known = (*known).max(standing);
            }
        }
    }

    pub fn standing(&self, block: BlockId) -> Standing {
        self.standings.get(&block).copied().unwrap_or_default()
    }

    pub fn tree(&self) -> &SlotTree {
        &self.tree
    }

    /// Whether the slot is provably not on the finalized chain: a finalized block above it has its parent below it.
    pub fn passed_by(&self, slot: Slot) -> bool {
        self.finalized
            .range(Slot(slot.0.saturating_add(1))..)
            .next()
            .and_then(|(_, above)| self.tree.parent(*above))
            .is_some_and(|parent| parent.slot < slot)
    }

    /// The slot's finalized block, observed or named as a parent by the finalized block above it.
    pub fn finalized_at(&self, slot: Slot) -> Option<BlockId> {
        self.finalized.get(&slot).copied().or_else(|| {
            let (_, above) = self
                .finalized
                .range(Slot(slot.0.saturating_add(1))..)
                .next()?;
            self.tree
                .parent(*above)
                .filter(|parent| parent.slot == slot)
        })
    }

    /// A finalized block strictly between the two slots.
    pub fn finalized_between(&self, after: Slot, before: Slot) -> Option<BlockId> {
        let (first, end) = (Slot(after.0.saturating_add(1)), before);
        let mut between = (first < end).then(|| self.finalized.range(first..end))?;
        between.next().map(|(_, block)| *block)
    }

    /// The block of the slot that the source has shown.
    pub fn held_by(&self, source: SourceId, slot: Slot) -> Option<BlockId> {
        self.held.get(&(slot, source)).copied()
    }

    /// A block just observed may already be judged: by a descendant, or by the finalized chain.
    fn welcome(&mut self, block: BlockId, changes: &mut Vec<Change>) {
        let promised = self.standing(block);
        if promised == Standing::Confirmed || promised == Standing::Finalized {
            self.standings.remove(&block);
            self.raise(block, promised, changes);
            return;
        }
        let beside_its_parent = self.tree.parent(block).is_some_and(|parent| {
            self.standing(parent) == Standing::Abandoned
                || self.tree.children(parent).iter().any(|sibling| {
                    *sibling != block && self.standing(*sibling) == Standing::Finalized
                })
        });
        if promised == Standing::Abandoned
            || beside_its_parent
            || self
                .finalized_at(block.slot)
                .is_some_and(|finalized| finalized != block)
            || self.passed_by(block.slot)
        {
            self.standings.remove(&block);
            self.abandon(block, changes);
        }
    }

    /// Raises the block and its ancestors, up to the first that already stands there or is not observed.
    fn raise(&mut self, block: BlockId, standing: Standing, changes: &mut Vec<Change>) {
        let mut next = Some(block);
        while let Some(block) = next {
            let current = self.standing(block);
            // Abandoned is final: contradicting evidence would mean the cluster broke its own finality.
            if current >= standing {
                break;
            }
            self.standings.insert(block, standing);
            if !self.tree.contains(block) {
                break;
            }
            changes.push(Change { block, standing });
            next = self.tree.parent(block);
            if standing == Standing::Finalized {
                self.finalized.insert(block.slot, block);
                self.abandon_beside(block, changes);
            }
        }
    }

    /// Everything between a finalized block and its parent, and its rivals in its own slot, is not on the chain.
    fn abandon_beside(&mut self, block: BlockId, changes: &mut Vec<Change>) {
        let mut beside: Vec<BlockId> = self
            .tree
            .at(block.slot)
            .filter(|rival| *rival != block)
            .collect();
        if let Some(parent) = self.tree.parent(block) {
            beside.extend(self.tree.between(parent.slot, block.slot));
            beside.extend(self.tree.at(parent.slot).filter(|rival| *rival != parent));
            beside.extend(
                self.tree
                    .children(parent)
                    .iter()
                    .filter(|child| **child != block),
            );
        }
        for rival in beside {
            self.abandon(rival, changes);
        }
    }

    fn abandon(&mut self, block: BlockId, changes: &mut Vec<Change>) {
        let mut open = vec![block];
        while let Some(block) = open.pop() {
            let current = self.standing(block);
            if current == Standing::Abandoned || current == Standing::Finalized {
                continue;
            }
            self.standings.insert(block, Standing::Abandoned);
            if self.tree.contains(block) {
                changes.push(Change {
                    block,
                    standing: Standing::Abandoned,
                });
            }
            open.extend_from_slice(self.tree.children(block));
        }
    }

    fn remember_key(&mut self, key: (Slot, SourceId)) {
        if !self.held.contains_key(&key) && !self.waiting.contains_key(&key) {
            self.keys.push_back(key);
        }
        while self.keys.len() > 2 * self.capacity {
            if let Some(old) = self.keys.pop_front() {
                self.held.remove(&old);
                self.waiting.remove(&old);
            }
        }
    }

    fn forget_old(&mut self) {
        while self.tree.len() > self.capacity {
            let Some(old) = self.tree.oldest().next() else {
                break;
            };
            self.tree.remove(old);
            self.standings.remove(&old);
            if self.finalized.get(&old.slot) == Some(&old) {
                self.finalized.remove(&old.slot);
            }
        }
        // Names of parents that were never observed: at most a few per remembered block.
        if self.standings.len() > 4 * self.capacity {
            let tree = &self.tree;
            self.standings.retain(|block, _| tree.contains(*block));
        }
    }
}

fn oldest_first(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(|change| (change.block.slot, change.block, change.standing));
    changes
}

#[cfg(test)]
mod tests;
