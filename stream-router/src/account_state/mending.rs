//! Accounts that lost blocks may have written are asked of RPC nodes, and their states written, marked. Decision 0032.
//!
//! Nothing of this is kept but the holes themselves. A next life reads the blocks that lie in holes from the canonical
//! topic, and asks again for what they may have written.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use chain_blocks::rpc::accounts::{RpcAccount, RpcAccounts};
use event_log::NewRecord;
use event_schema::{
    Blockhash, Pubkey, Slot,
    account_state::repaired::{NO_WRITE, RepairedState},
    partition_of_slot,
    proto::{
        Message,
        geyser::{
            SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            subscribe_update::UpdateOneof,
        },
    },
};
use tracing::{info, warn};

use super::{
    AccountStates,
    lost::{Ask, Counts, LostWrites},
    touched,
};
use crate::{assembly::Block, commitment::Standing, slot_tree::BlockId, state::RestoredBlock};

/// Blocks in holes that are not finalized yet. One that finds no place stays a hole.
const UNFINAL_MAX: usize = 256;

/// Where a published block lies in the canonical topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub block: BlockId,
    pub offset: Option<i64>,
    pub not_before: i64,
}

/// What the state needs to fill its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Accounts(Ask),
    /// A block of an earlier life.
    Block(Place),
}

/// What became of it.
#[derive(Debug)]
pub enum Answer {
    Told {
        ask: Ask,
        /// Of the node.
        host: Arc<str>,
        told: RpcAccounts,
    },
    /// The reply was longer than may be read.
    TooLong {
        ask: Ask,
        reason: String,
    },
    Failed {
        ask: Ask,
        reason: String,
    },
    Read(Arc<Block>),
    Unreadable {
        block: BlockId,
        reason: String,
    },
}

/// The part of [`AccountStates`] that this module keeps.
#[derive(Debug)]
pub(super) struct Mending {
    enabled: bool,
    pub(super) lost: LostWrites,
    /// Not finalized yet: their parents, and what they may have written.
    unfinal: BTreeMap<BlockId, (Slot, BTreeSet<Pubkey>)>,
    /// Blocks of earlier lives in holes.
    unread: VecDeque<Place>,
    reading: bool,
    /// States that nodes told, to be written before the next block is applied.
    states: Vec<NewRecord>,
}

impl Mending {
    /// `accounts_max`: 0 when no node is to be asked.
    pub(super) fn new(accounts_max: usize) -> Self {
        Self {
            enabled: accounts_max > 0,
            lost: LostWrites::new(accounts_max),
            unfinal: BTreeMap::new(),
            unread: VecDeque::new(),
            reading: false,
            states: Vec::new(),
        }
    }

    /// Finalized blocks of earlier lives that lie in holes. `blocks`: oldest publication first; `lows`: what each partition of
    /// the canonical topic still holds begins there.
    pub(super) fn find(
        &mut self,
        blocks: &[RestoredBlock],
        lows: &[i64],
        is_in_hole: impl Fn(Slot) -> bool,
    ) {
        if !self.enabled {
            return;
        }
        let mut reached = lows.to_vec();
        for restored in blocks {
            let (block, offset) = (restored.block, restored.history.offset);
            let partition = partition_of_slot(block.slot, lows.len() as u32) as usize;
            let (Some(low), Some(reached)) = (lows.get(partition), reached.get_mut(partition))
            else {
                continue;
            };
            *reached = (*reached).max(offset.unwrap_or(0));
            let is_kept = offset.is_none_or(|offset| offset >= *low);
            if is_kept && restored.told == Standing::Finalized && is_in_hole(block.slot) {
                self.unread.push_back(Place {
                    block,
                    offset,
                    not_before: *reached,
                });
            }
        }
    }

    pub(super) fn is_due(&self, tip: Slot) -> bool {
        !self.states.is_empty() || self.lost.has_filled(tip)
    }
}

impl AccountStates {
    /// A block whose updates are not in the state, or will not be.
    pub(super) fn loses(&mut self, block: &Block) {
        if self.mending.enabled && self.mending.unfinal.len() < UNFINAL_MAX {
            let lost = (block.parent.slot, touched::accounts(block));
            self.mending.unfinal.insert(block.id, lost);
        }
    }

    pub(super) fn loses_standing(&mut self, block: BlockId, standing: Standing) {
        match standing {
            Standing::Processed | Standing::Confirmed => {}
            Standing::Abandoned => drop(self.mending.unfinal.remove(&block)),
            Standing::Finalized => {
                if let Some((parent, accounts)) = self.mending.unfinal.remove(&block) {
                    self.enter(block, parent, &accounts);
                }
            }
        }
    }

    pub(super) fn enter(&mut self, block: BlockId, parent: Slot, accounts: &BTreeSet<Pubkey>) {
        let tip = self.applied.tip().unwrap_or_default().slot;
        if !self.mending.lost.block(block, parent, accounts, tip) {
            warn!(
                slot = %block.slot,
                accounts = accounts.len(),
                "too many accounts are to be asked of RPC nodes already (repair.accounts_max): the accounts topic keeps this \
                 slot among its holes; raise the limit and start the router again"
            );
        }
    }

    /// What to send to RPC nodes or to look up in the log next.
    pub fn next_wanted(&mut self) -> Option<Wanted> {
        let mending = &mut self.mending;
        if !mending.enabled {
            return None;
        }
        let finalized = self.applied.finalized()?;
        // Blocks first: they name much the same accounts, which are asked for once.
        if !mending.lost.has_room() || (!mending.reading && mending.unread.is_empty()) {
            return mending.lost.next(finalized.slot).map(Wanted::Accounts);
        }
        if mending.reading {
            return None;
        }
        let place = mending.unread.pop_front()?;
        mending.reading = true;
        Some(Wanted::Block(place))
    }

    pub fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Told { ask, host, told } => self.told(&ask, &host, told),
            Answer::TooLong { ask, reason } => {
                if !self.mending.lost.too_long(&ask) {
                    self.failed(&ask, &reason);
                }
            }
            Answer::Failed { ask, reason } => self.failed(&ask, &reason),
            Answer::Read(block) => {
                self.mending.reading = false;
                if self.applied.is_in_hole(block.id.slot) {
                    let accounts = touched::accounts(&block);
                    self.enter(block.id, block.parent.slot, &accounts);
                }
            }
            Answer::Unreadable { block, reason } => {
                self.mending.reading = false;
                warn!(slot = %block.slot, reason, "the block cannot be read: the accounts topic keeps its slot among its holes");
            }
        }
    }

    /// Of this life.
    pub fn lost_counts(&self) -> Counts {
        self.mending.lost.counts()
    }

    /// Accounts that are older than they should be.
    pub fn lost_now(&self) -> usize {
        self.mending.lost.len()
    }

    fn told(&mut self, ask: &Ask, host: &str, told: RpcAccounts) {
        let finalized = self.applied.finalized().unwrap_or_default().slot;
        let as_of = told.as_of;
        let to_write = self.mending.lost.told(ask, as_of, finalized);
        let mut accounts = told.accounts;
        for (index, lost) in to_write {
            let (Some(account), Some(told)) = (ask.keys.get(index), accounts.get_mut(index)) else {
                continue;
            };
            let told = told.take().filter(|told| told.lamports > 0);
            self.restate(*account, told, as_of, (host, lost));
        }
    }

    /// Writes what the node told; `None`: there is no such account.
    fn restate(
        &mut self,
        account: Pubkey,
        told: Option<RpcAccount>,
        as_of: Slot,
        (host, lost): (&str, Slot),
    ) {
        let out = &mut self.mending.states;
        let no_block = BlockId::new(as_of, Blockhash::default());
        match told {
            Some(told) => {
                let mark = RepairedState {
                    source: format!("rpc:{host}"),
                    as_of_slot: as_of.0,
                    lost_slot: lost.0,
                };
                let value = mark.mark(&update(&account, told, as_of));
                self.writes
                    .state(account, (no_block, NO_WRITE), &value, out);
            }
            // Final, so nothing needs to be kept of it.
            None => self.writes.forget(account, no_block, out),
        }
    }

    fn failed(&mut self, ask: &Ask, reason: &str) {
        self.mending.lost.failed(ask);
        warn!(
            accounts = ask.keys.len(),
            at_least = %ask.at_least,
            reason,
            "no RPC node told these accounts in time (repair.deadline_seconds): the accounts topic keeps the slots among its \
             holes; mend what the reason names and start the router again"
        );
    }

    /// States that nodes told.
    pub(super) fn write_told(&mut self, out: &mut Vec<NewRecord>) {
        out.append(&mut self.mending.states);
    }

    /// Holes whose accounts are all as they should be are no longer holes. True when there were any.
    pub(super) fn fill(&mut self) -> bool {
        let tip = self.applied.tip().unwrap_or_default().slot;
        let filled = self.mending.lost.take_filled(tip);
        for (first, last) in &filled {
            self.applied.fill(*first, *last);
            info!(
                slots = format!("{first}..={last}"),
                "the accounts topic has the accounts of slots whose updates were lost"
            );
        }
        !filled.is_empty()
    }

    /// Bytes that wait for the next transaction.
    pub fn waiting_bytes(&self) -> usize {
        let states = self.mending.states.iter();
        states
            .map(|record| record.value.len() + record.key.len())
            .sum()
    }
}

fn update(account: &Pubkey, told: RpcAccount, as_of: Slot) -> Vec<u8> {
    let info = SubscribeUpdateAccountInfo {
        pubkey: account.as_bytes().to_vec(),
        lamports: told.lamports,
        owner: told.owner.as_bytes().to_vec(),
        executable: told.executable,
        rent_epoch: told.rent_epoch,
        data: told.data,
        // A node does not tell which write left this state.
        write_version: 0,
        txn_signature: None,
    };
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(info),
            slot: as_of.0,
            is_startup: false,
        })),
        ..SubscribeUpdate::default()
    };
    update.encode_to_vec()
}
