//! Pure: what readers of the canonical topic must see of a history, and what they need not.

use std::collections::BTreeMap;

use event_schema::{Commitment, Slot, SourceId};

use super::{
    chain::{Block, BlockName},
    contents::Values,
    prints::Print,
};

/// A block, and what it truly holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrueBlock {
    pub parent: BlockName,
    pub on_chain: bool,
    /// In canonical order.
    pub prints: Vec<Print>,
    /// Whether it must be published. One that every source gave up for another, or that cannot be proven whole, need not.
    pub required: bool,
}

impl TrueBlock {
    /// What becomes of it in the end.
    pub fn fate(&self) -> &'static [Commitment] {
        if self.on_chain {
            &[Commitment::Confirmed, Commitment::Finalized]
        } else {
            &[Commitment::Abandoned]
        }
    }
}

/// Who has a hole in which slot.
pub type GapName = (Slot, String);

/// A hole that must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrueGap {
    pub records: u64,
    /// Only if this block was not published.
    pub unless: Option<BlockName>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    pub blocks: BTreeMap<BlockName, TrueBlock>,
    pub gaps: BTreeMap<GapName, TrueGap>,
}

impl Truth {
    /// Some source holds the block whole. `required`: see [`TrueBlock`].
    pub fn add(&mut self, block: &Block, values: &Values, required: bool) {
        let known = self.blocks.entry(block.name).or_insert_with(|| TrueBlock {
            parent: block.parent,
            on_chain: block.on_chain,
            prints: values.prints(),
            required,
        });
        known.required |= required;
    }

    pub fn expect_gap(
        &mut self,
        slot: Slot,
        source: SourceId,
        records: u64,
        unless: Option<BlockName>,
    ) {
        let gap = TrueGap { records, unless };
        self.gaps.insert((slot, source.to_string()), gap);
    }

    /// Events of all blocks that must be published.
    pub fn events(&self) -> u64 {
        let required = self.blocks.values().filter(|block| block.required);
        required.map(|block| block.prints.len() as u64).sum()
    }

    pub fn required_blocks(&self) -> u64 {
        self.blocks.values().filter(|block| block.required).count() as u64
    }
}
