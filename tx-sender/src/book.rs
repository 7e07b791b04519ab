//! All open deliveries and the chain they are judged by.
//!
//! Pure: the engine tells it what happened and takes from it what to do: leaders to send to, rows to store, questions for
//! the validator. A delivery leaves the book when it is settled *and* stored.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use event_schema::{Blockhash, Pubkey, Signature, Slot};
use uuid::Uuid;

use crate::{
    chain::{BlockSummary, Chain},
    delivery::{Attempt, Commitment, Delivery, Landing, Lifetime, Proof, State, Turn},
};

/// Finalized blocks past the end of a life before the validator is asked about it: time for lagging partitions.
pub const BLOCKS_BEFORE_ASKING: u64 = 32;

/// A delivery's own name: what PostgreSQL and the callers know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub Uuid);

/// A delivery with what the book does not judge by.
#[derive(Debug, Clone)]
pub struct Entry {
    pub delivery: Delivery,
    pub wire: Bytes,
    /// Unix milliseconds.
    pub accepted_at_ms: u64,
}

/// Hand these bytes to that leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    pub id: DeliveryId,
    pub leader: Pubkey,
    pub window: u64,
    pub wire: Bytes,
}

/// A state that changed for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub id: DeliveryId,
    pub from: State,
    pub to: State,
    pub accepted_at_ms: u64,
}

/// What only the validator can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How long can a transaction with this blockhash live?
    Lifetime {
        id: DeliveryId,
        blockhash: Blockhash,
    },
    /// Its life is over and the stream has a hole there: did it land?
    Absence {
        id: DeliveryId,
        signature: Signature,
        blockhash: Blockhash,
    },
    /// Has the nonce moved on, and did the transaction land?
    Nonce {
        id: DeliveryId,
        signature: Signature,
        account: Pubkey,
        value: Blockhash,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    open: HashMap<DeliveryId, Entry>,
    by_signature: HashMap<Signature, DeliveryId>,
    chain: Chain,
    turn: Turn,
    targets: Vec<Pubkey>,
    validator_finalized_height: Option<u64>,
    sends: Vec<Send>,
    changed: HashSet<DeliveryId>,
    touched: HashSet<DeliveryId>,
    transitions: Vec<Transition>,
}

impl Book {
    /// Takes a new delivery, or one that an earlier process left open. What the chain already knows applies at once.
    pub fn open(&mut self, id: DeliveryId, entry: Entry) {
        if self.open.contains_key(&id) {
            return;
        }
        self.by_signature.insert(entry.delivery.signature, id);
        let (blockhash, signature) = (entry.delivery.blockhash, entry.delivery.signature);
        self.open.insert(id, entry);
        if let Some(height) = self.chain.height_of(&blockhash) {
            self.learn_lifetime(id, Lifetime::of_block(height));
        }
        for landing in self.chain.landings(&signature) {
            self.landed(id, landing);
        }
        self.send_due(id);
    }

    /// The leaders' turn: `targets` are to get every open transaction that is in no block.
    pub fn turn(&mut self, turn: Turn, targets: Vec<Pubkey>) {
        self.turn = self.turn.max(turn);
        self.targets = targets;
        self.send_all_due();
    }

    pub fn attempt_ended(&mut self, id: DeliveryId, attempt: Attempt) {
        let height_max = self.chain.height_max();
        let Some(entry) = self.open.get_mut(&id) else {
            return;
        };
        self.touched.insert(id);
        let leader = attempt.leader;
        if entry
            .delivery
            .attempt_ended(attempt, &self.targets, height_max)
        {
            self.sends.push(Send {
                id,
                leader,
                window: self.turn.window,
                wire: entry.wire.clone(),
            });
        }
    }

    /// A block was published.
    pub fn block(&mut self, block: BlockSummary) {
        let (slot, blockhash) = (block.slot, block.blockhash);
        let landed: Vec<(DeliveryId, Option<Arc<str>>)> = block
            .transactions
            .iter()
            .filter_map(|(signature, error)| {
                Some((*self.by_signature.get(signature)?, error.clone()))
            })
            .collect();
        let finalized = self.chain.insert(block);
        for (id, error) in landed {
            let landing = Landing {
                slot,
                blockhash,
                commitment: Commitment::Processed,
                error,
            };
            self.landed(id, landing);
        }
        self.learn_from(&blockhash);
        self.finalize(&finalized);
    }

    /// A block rose; `None`: it was abandoned.
    pub fn status(&mut self, slot: Slot, blockhash: Blockhash, commitment: Option<Commitment>) {
        let finalized = self.chain.commit(&blockhash, commitment);
        match commitment {
            Some(commitment) => {
                self.update(|delivery| delivery.block_committed(slot, &blockhash, commitment))
            }
            None => {
                self.update(|delivery| delivery.block_abandoned(slot, &blockhash));
                self.send_all_due();
            }
        }
        self.finalize(&finalized);
    }

    /// Every record of the partition before `next_offset` has been told.
    pub fn read_up_to(&mut self, partition: u32, next_offset: i64) {
        self.chain.read_up_to(partition, next_offset);
    }

    /// The validator's own word on how far the chain is finalized, as a block height.
    pub fn validator_finalized(&mut self, height: u64) {
        self.validator_finalized_height = self.validator_finalized_height.max(Some(height));
    }

    pub fn learn_lifetime(&mut self, id: DeliveryId, lifetime: Lifetime) {
        if let Some(entry) = self.open.get_mut(&id)
            && entry.delivery.learn_lifetime(lifetime)
        {
            self.changed.insert(id);
        }
    }

    /// The validator has no trace of it, past the end of its life.
    pub fn absent(&mut self, id: DeliveryId) {
        self.update_one(id, |delivery| delivery.expire(Proof::Validator));
    }

    pub fn landed(&mut self, id: DeliveryId, landing: Landing) {
        self.update_one(id, |delivery| delivery.landed(landing));
    }

    /// What the finalized chain proves expired.
    pub fn expire_proven(&mut self) {
        let (tip, from) = (self.chain.finalized_height(), self.chain.covered_from());
        self.update(|delivery| {
            delivery.absence_is_proven(tip, from) && delivery.expire(Proof::Stream)
        });
    }

    /// What the stream cannot answer. Ask now and then; answers may fail to come.
    pub fn questions(&self) -> Vec<Question> {
        let finalized = self
            .chain
            .finalized_height()
            .max(self.validator_finalized_height);
        self.open
            .iter()
            .filter(|(_, entry)| !entry.delivery.settled())
            .filter_map(|(id, entry)| question(*id, &entry.delivery, finalized))
            .collect()
    }

    /// Sends that are due since the last call.
    pub fn take_sends(&mut self) -> Vec<Send> {
        std::mem::take(&mut self.sends)
    }

    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Deliveries whose row is behind. With `counters`, those of which only the attempts changed as well.
    pub fn take_changed(&mut self, counters: bool) -> Vec<(DeliveryId, Delivery)> {
        if counters {
            self.changed.extend(self.touched.drain());
        }
        let ids = std::mem::take(&mut self.changed);
        ids.into_iter()
            .filter_map(|id| Some((id, self.open.get(&id)?.delivery.clone())))
            .collect()
    }

    /// Whether a row is behind.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Storing them failed: they are still behind.
    pub fn not_stored(&mut self, ids: impl IntoIterator<Item = DeliveryId>) {
        self.changed.extend(ids);
    }

    /// Their rows are written as they were taken: what is settled may go.
    pub fn stored(&mut self, ids: impl IntoIterator<Item = DeliveryId>) {
        for id in ids {
            if self.changed.contains(&id) {
                continue;
            }
            if let Some(entry) = self.open.get(&id)
                && entry.delivery.settled()
            {
                self.by_signature.remove(&entry.delivery.signature);
                self.touched.remove(&id);
                self.open.remove(&id);
            }
        }
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    pub fn get(&self, id: DeliveryId) -> Option<&Entry> {
        self.open.get(&id)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn finalize(&mut self, blocks: &[(Slot, Blockhash)]) {
        for (slot, blockhash) in blocks {
            self.update(|delivery| {
                delivery.block_committed(*slot, blockhash, Commitment::Finalized)
            });
        }
    }

    fn learn_from(&mut self, blockhash: &Blockhash) {
        let Some(height) = self.chain.height_of(blockhash) else {
            return;
        };
        let waiting: Vec<DeliveryId> = self
            .open
            .iter()
            .filter(|(_, entry)| entry.delivery.blockhash == *blockhash)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.learn_lifetime(id, Lifetime::of_block(height));
        }
    }

    fn update(&mut self, mut change: impl FnMut(&mut Delivery) -> bool) {
        for (id, entry) in &mut self.open {
            apply(
                *id,
                entry,
                &mut change,
                &mut self.changed,
                &mut self.transitions,
            );
        }
    }

    fn update_one(&mut self, id: DeliveryId, change: impl FnOnce(&mut Delivery) -> bool) {
        if let Some(entry) = self.open.get_mut(&id) {
            apply(id, entry, change, &mut self.changed, &mut self.transitions);
        }
    }

    fn send_all_due(&mut self) {
        let ids: Vec<DeliveryId> = self.open.keys().copied().collect();
        for id in ids {
            self.send_due(id);
        }
    }

    fn send_due(&mut self, id: DeliveryId) {
        let (turn, height_max) = (self.turn, self.chain.height_max());
        let Some(entry) = self.open.get_mut(&id) else {
            return;
        };
        let before = entry.delivery.state();
        let leaders = entry.delivery.take_turn(turn, &self.targets, height_max);
        if leaders.is_empty() {
            return;
        }
        let after = entry.delivery.state();
        if before == after {
            self.touched.insert(id);
        } else {
            self.changed.insert(id);
            self.transitions.push(Transition {
                id,
                from: before,
                to: after,
                accepted_at_ms: entry.accepted_at_ms,
            });
        }
        self.sends.extend(leaders.into_iter().map(|leader| Send {
            id,
            leader,
            window: turn.window,
            wire: entry.wire.clone(),
        }));
    }
}

fn apply(
    id: DeliveryId,
    entry: &mut Entry,
    change: impl FnOnce(&mut Delivery) -> bool,
    changed: &mut HashSet<DeliveryId>,
    transitions: &mut Vec<Transition>,
) {
    let from = entry.delivery.state();
    if !change(&mut entry.delivery) {
        return;
    }
    changed.insert(id);
    let to = entry.delivery.state();
    if from != to {
        transitions.push(Transition {
            id,
            from,
            to,
            accepted_at_ms: entry.accepted_at_ms,
        });
    }
}

fn question(id: DeliveryId, delivery: &Delivery, finalized: Option<u64>) -> Option<Question> {
    let signature = delivery.signature;
    match delivery.lifetime {
        Lifetime::Unknown => Some(Question::Lifetime {
            id,
            blockhash: delivery.blockhash,
        }),
        Lifetime::Nonce(account) if delivery.landing().is_none() => Some(Question::Nonce {
            id,
            signature,
            account,
            value: delivery.blockhash,
        }),
        Lifetime::Nonce(_) => None,
        Lifetime::Blocks { .. } => {
            let over = delivery.lifetime.last_possible()? + BLOCKS_BEFORE_ASKING;
            (finalized? > over).then_some(Question::Absence {
                id,
                signature,
                blockhash: delivery.blockhash,
            })
        }
    }
}

#[cfg(test)]
mod tests;
