//! Pure: what is wrong with what is stored, and what to do with a block that was fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::shelf::{Range, Shelf, Standing, Stored, StoredBlock};
use crate::retention::Dropped;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The chain has a block in the slot; here there is none.
    Missing { slot: u64 },
    /// Stored in part, or twice with different contents; `what` says which rows.
    Incomplete { slot: u64, what: String },
    /// Rows of a slot without a block, or of a block that is not on the chain.
    NotOnChain { slot: u64 },
    /// Stored, and final on the chain, but not marked as final.
    NotFinal { slot: u64 },
    /// The block names a parent with another hash than the one stored there.
    Unlinked { slot: u64, parent_slot: u64 },
    /// A block names this slot as its parent's, and it is not stored.
    ParentMissing { slot: u64, child: u64 },
}

impl Finding {
    pub fn slot(&self) -> u64 {
        match self {
            Self::Missing { slot }
            | Self::Incomplete { slot, .. }
            | Self::NotOnChain { slot }
            | Self::NotFinal { slot }
            | Self::Unlinked { slot, .. }
            | Self::ParentMissing { slot, .. } => *slot,
        }
    }

    /// For machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Incomplete { .. } => "incomplete",
            Self::NotOnChain { .. } => "not_on_chain",
            Self::NotFinal { .. } => "not_final",
            Self::Unlinked { .. } => "unlinked",
            Self::ParentMissing { .. } => "parent_missing",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { slot } => write!(
                out,
                "slot {slot}: not stored, and the chain has a block there"
            ),
            Self::Incomplete { slot, what } => write!(out, "slot {slot}: {what}"),
            Self::NotOnChain { slot } => {
                write!(out, "slot {slot}: stored, and the chain has no such block")
            }
            Self::NotFinal { slot } => write!(out, "slot {slot}: stored, but not marked as final"),
            Self::Unlinked { slot, parent_slot } => write!(
                out,
                "slot {slot}: its parent's hash is not that of the block in slot {parent_slot}"
            ),
            Self::ParentMissing { slot, child } => write!(
                out,
                "slot {slot}: not stored, and the block in slot {child} names it as its parent"
            ),
        }
    }
}

/// Why a stored block is not whole; `None`: it is. Of tables that are `gone` on purpose no rows are missed.
pub fn lacking(
    stored: &Stored,
    block: &StoredBlock,
    gone: impl Fn(&str) -> bool,
) -> Option<String> {
    let without_transactions = gone("transactions");
    if stored.transactions != block.transactions && !without_transactions {
        return Some(format!(
            "{} of {} transactions",
            stored.transactions, block.transactions
        ));
    }
    if stored.instructions != stored.instructions_stated
        && !without_transactions
        && !gone("instructions")
    {
        return Some(format!(
            "{} instructions, its transactions have {}",
            stored.instructions, stored.instructions_stated
        ));
    }
    if stored.raw != block.transactions && !gone("transactions_raw") {
        return Some(format!(
            "{} of {} transactions in their raw form",
            stored.raw, block.transactions
        ));
    }
    None
}

/// Whether a final block of the slot is stored whole.
pub fn is_whole(stored: &Stored) -> bool {
    stored.block.as_ref().is_some_and(|block| {
        lacking(stored, block, |_| false).is_none() && stored.is_finalized(block.blockhash)
    })
}

/// Everything wrong in `range`. `chain`: the slots of it with finalized blocks, if a node was asked. `dropped`: what is
/// missing on purpose.
pub fn audit(
    shelf: &Shelf,
    chain: Option<&BTreeSet<u64>>,
    range: Range,
    dropped: &Dropped,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let blocks: BTreeMap<u64, &StoredBlock> = shelf
        .iter()
        .filter_map(|(slot, stored)| Some((*slot, stored.block.as_ref()?)))
        .collect();
    for (&slot, stored) in shelf {
        let on_chain = chain.is_none_or(|chain| chain.contains(&slot));
        match &stored.block {
            None if !stored.rows => {}
            _ if !on_chain => found.push(Finding::NotOnChain { slot }),
            None if dropped.is_from("blocks", slot) => {}
            None => found.push(Finding::Incomplete {
                slot,
                what: "rows without their block".into(),
            }),
            Some(block) => {
                let what = lacking(stored, block, |table| dropped.is_from(table, slot));
                found.extend(what.map(|what| Finding::Incomplete { slot, what }));
                let abandoned = stored
                    .statuses
                    .contains(&(block.blockhash, Standing::Abandoned));
                if abandoned {
                    found.push(Finding::NotOnChain { slot });
                } else if chain.is_some() && !stored.is_finalized(block.blockhash) {
                    found.push(Finding::NotFinal { slot });
                }
                found.extend(parent(slot, block, &blocks, range));
            }
        }
    }
    if let Some(chain) = chain {
        // That the chain has a block there says it better than that another names it.
        found.retain(|finding| {
            !matches!(finding, Finding::ParentMissing { slot, .. } if chain.contains(slot))
        });
        let told: BTreeSet<u64> = found.iter().map(Finding::slot).collect();
        let missing = chain
            .iter()
            .filter(|slot| !blocks.contains_key(slot) && !told.contains(slot));
        found.extend(missing.map(|slot| Finding::Missing { slot: *slot }));
    }
    found.retain(|finding| {
        let missed = matches!(
            finding,
            Finding::Missing { .. } | Finding::ParentMissing { .. }
        );
        !(missed && dropped.is_from("blocks", finding.slot()))
    });
    found.sort();
    found.sort_by_key(Finding::slot);
    found.dedup();
    found
}

fn parent(
    slot: u64,
    block: &StoredBlock,
    blocks: &BTreeMap<u64, &StoredBlock>,
    range: Range,
) -> Option<Finding> {
    // Of the genesis block, which is its own parent, and of blocks whose source did not say, nothing can be told.
    if block.parent_blockhash == [0; 32] || block.parent_slot >= slot {
        return None;
    }
    match blocks.get(&block.parent_slot) {
        Some(parent) if parent.blockhash == block.parent_blockhash => None,
        Some(_) => Some(Finding::Unlinked {
            slot,
            parent_slot: block.parent_slot,
        }),
        None if range.contains(block.parent_slot) => Some(Finding::ParentMissing {
            slot: block.parent_slot,
            child: slot,
        }),
        None => None,
    }
}

/// What to do with a finalized block of `slot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Stored whole, and known as final.
    Nothing,
    /// Stored whole: only its standing is to be told.
    Finalize,
    Insert,
    /// What is stored is in part, or another block's.
    Replace,
}

/// A block that must not be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("another block of this slot is stored as final")]
    OtherFinal,
    #[error("its parent in slot {0} is stored with another hash")]
    OtherParent(u64),
    #[error("the stored block of slot {0} names it as its parent with another hash")]
    OtherChild(u64),
}

/// `around`: what is stored from the block's parent to the next block after it.
pub fn deed(
    around: &Shelf,
    slot: u64,
    blockhash: [u8; 32],
    parent: (u64, Option<[u8; 32]>),
    transactions: u64,
) -> Result<Deed, Refusal> {
    let final_hash = |stored: &Stored| {
        let hash = stored.block.as_ref()?.blockhash;
        stored.is_finalized(hash).then_some(hash)
    };
    if let Some(known) = around.get(&parent.0).and_then(final_hash)
        && parent.0 < slot
        && parent.1.is_some_and(|hash| hash != known)
    {
        return Err(Refusal::OtherParent(parent.0));
    }
    for (&child, stored) in around.range(slot.saturating_add(1)..) {
        if let Some(block) = &stored.block
            && block.parent_slot == slot
            && block.parent_blockhash != [0; 32]
            && block.parent_blockhash != blockhash
            && stored.is_finalized(block.blockhash)
        {
            return Err(Refusal::OtherChild(child));
        }
    }
    let Some(stored) = around.get(&slot) else {
        return Ok(Deed::Insert);
    };
    match &stored.block {
        None if !stored.rows => Ok(Deed::Insert),
        None => Ok(Deed::Replace),
        Some(block) if block.blockhash != blockhash => {
            if stored.is_finalized(block.blockhash) {
                return Err(Refusal::OtherFinal);
            }
            Ok(Deed::Replace)
        }
        Some(block)
            if block.transactions != transactions
                || lacking(stored, block, |_| false).is_some() =>
        {
            Ok(Deed::Replace)
        }
        Some(_) if stored.is_finalized(blockhash) => Ok(Deed::Nothing),
        Some(_) => Ok(Deed::Finalize),
    }
}

#[cfg(test)]
mod tests;
