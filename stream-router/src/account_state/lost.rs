//! Pure: accounts that blocks without account updates may have written, until each was written again, or an RPC node has told
//! what it is. Decision 0032.
//!
//! A node tells an account as it is at the end of one finalized slot, `as_of`, without a write version. So the order is by
//! slots alone:
//!
//! * It is asked for a slot that is neither below the lost block nor below the state's newest block when the loss was
//!   entered here (`since`): whatever was written up to then is in the answer.
//! * The answer counts when the state's newest finalized block has come to `as_of`, so that both are of one chain, and no block
//!   above `since` has written the account: then nothing in the topic is newer. Otherwise the write stands, and the answer
//!   is dropped.
//! * A write heals the account when its block is finalized. Until then it may be undone, and the account be lost again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chain_blocks::rpc::accounts::KEYS_MAX;
use event_schema::{Pubkey, Slot};
use serde::Serialize;

use crate::slot_tree::BlockId;

/// An answer from ahead of the state is not kept: the node is asked again when the state is there, or this many slots
/// further on; twice as many at every time, so that a node that lies about its slot is asked ever more rarely.
const AHEAD_SLOTS: u64 = 150;
const AHEAD_DOUBLINGS_MAX: u32 = 16;

/// What to ask a node for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub keys: Vec<Pubkey>,
    /// The answer must be as of this slot or a later one.
    pub at_least: Slot,
    /// How often the answer came from ahead of the state.
    pub again: u32,
}

/// Accounts of this life, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// May have been written by a block without account updates.
    pub lost: u64,
    /// A node told their state.
    pub told: u64,
    /// Were written again by a block that is finalized.
    pub written: u64,
    /// No node told them in time.
    pub failed: u64,
    /// Found no room.
    pub refused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct LostWrites {
    accounts_max: usize,
    blocks: BTreeMap<BlockId, LostBlock>,
    accounts: HashMap<Pubkey, LostAccount>,
    /// To be asked for when the state's finalized blocks have come to the slot.
    ready: BTreeSet<(Slot, Pubkey)>,
    /// Accounts by the slot of a block that wrote them and is not finalized.
    written: BTreeMap<Slot, Vec<Pubkey>>,
    /// Slots whose accounts are all as they should be, first and last; given once.
    filled: Vec<(Slot, Slot)>,
    /// Keys of the next request: fewer when a reply was too long.
    keys_max: usize,
    counts: Counts,
}

#[derive(Debug)]
struct LostBlock {
    parent: Slot,
    accounts_left: usize,
    failed: bool,
}

#[derive(Debug, Default)]
struct LostAccount {
    blocks: Vec<BlockId>,
    since: Slot,
    /// Slots above `since` of blocks in the state that wrote it, none of them finalized; ascending.
    writes: Vec<Slot>,
    /// In `ready` under this slot.
    ready: Option<Slot>,
    asking: bool,
    again: u32,
}

impl LostWrites {
    /// `accounts_max`: at once; about 200 bytes each.
    pub fn new(accounts_max: usize) -> Self {
        Self {
            accounts_max,
            blocks: BTreeMap::new(),
            accounts: HashMap::new(),
            ready: BTreeSet::new(),
            written: BTreeMap::new(),
            filled: Vec::new(),
            keys_max: KEYS_MAX,
            counts: Counts::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Accounts that are not as they should be.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// There is room for several blocks' accounts.
    pub fn has_room(&self) -> bool {
        self.len() < self.accounts_max / 2
    }

    /// The block's account updates are not in the state; `tip`: the state's newest block. False when there is no room.
    pub fn block(
        &mut self,
        block: BlockId,
        parent: Slot,
        accounts: &BTreeSet<Pubkey>,
        tip: Slot,
    ) -> bool {
        if self.blocks.contains_key(&block) {
            return true;
        }
        let is_new = |account: &&Pubkey| !self.accounts.contains_key(*account);
        let new = accounts.iter().filter(is_new).count();
        if self.accounts.len() + new > self.accounts_max {
            self.counts.refused += accounts.len() as u64;
            return false;
        }
        self.counts.lost += new as u64;
        let since = block.slot.max(tip);
        for account in accounts {
            let lost = self.accounts.entry(*account).or_default();
            lost.blocks.push(block);
            lost.since = lost.since.max(since);
            let since = lost.since;
            lost.writes.retain(|slot| *slot > since);
            if let Some(slot) = lost.ready.take() {
                self.ready.remove(&(slot, *account));
            }
            self.make_ready(*account, since);
        }
        let lost = LostBlock {
            parent,
            accounts_left: accounts.len(),
            failed: false,
        };
        self.blocks.insert(block, lost);
        if accounts.is_empty() {
            self.close(block);
        }
        true
    }

    /// A block of the state has written the accounts.
    pub fn wrote(&mut self, slot: Slot, accounts: &[Pubkey]) {
        if self.accounts.is_empty() {
            return;
        }
        for account in accounts {
            let Some(lost) = self.accounts.get_mut(account) else {
                continue;
            };
            if slot <= lost.since || lost.writes.last() == Some(&slot) {
                continue;
            }
            lost.writes.push(slot);
            if let Some(slot) = lost.ready.take() {
                self.ready.remove(&(slot, *account));
            }
            self.written.entry(slot).or_default().push(*account);
        }
    }

    /// Blocks from this slot on are not in the state any more.
    pub fn undone(&mut self, from: Slot) {
        for (_, accounts) in self.written.split_off(&from) {
            for account in accounts {
                let Some(lost) = self.accounts.get_mut(&account) else {
                    continue;
                };
                lost.writes.retain(|slot| *slot < from);
                let since = lost.since;
                self.make_ready(account, since);
            }
        }
    }

    /// The state's blocks through this slot are finalized.
    pub fn finalized(&mut self, through: Slot) {
        while let Some(entry) = self.written.first_entry()
            && *entry.key() <= through
        {
            let (slot, accounts) = entry.remove_entry();
            for account in accounts {
                let lost = self.accounts.get(&account);
                // A loss that was entered later may not know of this write.
                if lost.is_some_and(|lost| lost.writes.contains(&slot)) {
                    self.counts.written += 1;
                    self.done(account, true);
                }
            }
        }
    }

    /// What to ask for now. `finalized`: the newest finalized block in the state.
    pub fn next(&mut self, finalized: Slot) -> Option<Ask> {
        let due = self.ready.iter().take_while(|(slot, _)| *slot <= finalized);
        let due: Vec<(Slot, Pubkey)> = due.take(self.keys_max).copied().collect();
        let (mut at_least, mut again) = (Slot(0), 0);
        for (slot, account) in &due {
            self.ready.remove(&(*slot, *account));
            if let Some(lost) = self.accounts.get_mut(account) {
                (lost.ready, lost.asking) = (None, true);
                at_least = at_least.max(lost.since);
                again = again.max(lost.again);
            }
        }
        let keys: Vec<Pubkey> = due.into_iter().map(|(_, account)| account).collect();
        (!keys.is_empty()).then_some(Ask {
            keys,
            at_least,
            again,
        })
    }

    /// A node has told the accounts. Returns which of them to write, by their place, with the newest slot of their losses.
    pub fn told(&mut self, ask: &Ask, as_of: Slot, finalized: Slot) -> Vec<(usize, Slot)> {
        self.keys_max = self
            .keys_max
            .max(ask.keys.len())
            .saturating_mul(2)
            .min(KEYS_MAX);
        let mut told = Vec::new();
        for (index, account) in ask.keys.iter().enumerate() {
            let Some(lost) = self.accounts.get_mut(account).filter(|lost| lost.asking) else {
                continue;
            };
            lost.asking = false;
            let since = lost.since;
            if !lost.writes.is_empty() || as_of < since {
                self.make_ready(*account, since);
            } else if as_of > finalized {
                let further = AHEAD_SLOTS << lost.again.min(AHEAD_DOUBLINGS_MAX);
                lost.again = lost.again.saturating_add(1);
                let at = as_of.0.min(finalized.0.saturating_add(further));
                self.make_ready(*account, Slot(at));
            } else {
                let newest = lost.blocks.iter().map(|block| block.slot).max();
                told.push((index, newest.unwrap_or(since)));
                self.counts.told += 1;
                self.done(*account, true);
            }
        }
        told
    }

    /// The reply was longer than may be read. False when fewer accounts cannot be asked for.
    pub fn too_long(&mut self, ask: &Ask) -> bool {
        if ask.keys.len() < 2 {
            return false;
        }
        self.keys_max = (ask.keys.len() / 2).max(1);
        for account in &ask.keys {
            if let Some(lost) = self.accounts.get_mut(account).filter(|lost| lost.asking) {
                lost.asking = false;
                let since = lost.since;
                self.make_ready(*account, since);
            }
        }
        true
    }

    /// No node has told the accounts in time.
    pub fn failed(&mut self, ask: &Ask) {
        for account in &ask.keys {
            let Some(lost) = self.accounts.get_mut(account).filter(|lost| lost.asking) else {
                continue;
            };
            lost.asking = false;
            if lost.writes.is_empty() {
                self.counts.failed += 1;
                self.done(*account, false);
            }
        }
    }

    /// Slots that are filled and that the state has come to, first and last; given once.
    pub fn take_filled(&mut self, tip: Slot) -> Vec<(Slot, Slot)> {
        let reached = self.filled.extract_if(.., |(_, last)| *last <= tip);
        reached.collect()
    }

    pub fn has_filled(&self, tip: Slot) -> bool {
        self.filled.iter().any(|(_, last)| *last <= tip)
    }

    fn make_ready(&mut self, account: Pubkey, at: Slot) {
        if let Some(lost) = self.accounts.get_mut(&account)
            && !lost.asking
            && lost.writes.is_empty()
            && lost.ready.is_none()
        {
            lost.ready = Some(at);
            self.ready.insert((at, account));
        }
    }

    fn done(&mut self, account: Pubkey, well: bool) {
        let Some(lost) = self.accounts.remove(&account) else {
            return;
        };
        if let Some(slot) = lost.ready {
            self.ready.remove(&(slot, account));
        }
        for id in lost.blocks {
            if let Some(block) = self.blocks.get_mut(&id) {
                block.failed |= !well;
                block.accounts_left = block.accounts_left.saturating_sub(1);
                if block.accounts_left == 0 {
                    self.close(id);
                }
            }
        }
    }

    /// Between the block and its parent there is none.
    fn close(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.remove(&id)
            && !block.failed
        {
            let first = block.parent.0.saturating_add(1).min(id.slot.0);
            self.filled.push((Slot(first), id.slot));
        }
    }
}

#[cfg(test)]
mod tests;
