//! The life of one transaction: accepted → sending → landed or failed, or expired when that is proven.
//!
//! Pure: no I/O, no clock. Time is a [`Turn`], which follows the leaders' windows; what happened is told by calls, what to
//! do comes back as leaders to send to. Sending stops while the transaction is in a block, and goes on when that block is
//! abandoned. Identical bytes cannot land twice on one fork, so sending once too often costs bandwidth, never money.

use std::{collections::VecDeque, sync::Arc};

use event_schema::{Blockhash, Pubkey, Signature, Slot};
use serde::{Deserialize, Serialize};

/// Blocks for which a blockhash is reported usable after its own block: `MAX_PROCESSING_AGE`, solana-clock 3.1.1.
pub const MAX_PROCESSING_AGE: u64 = 150;
/// Blocks after the reported last valid height that may still hold the transaction. A bank compares the age of the
/// blockhash with its *parent* as the youngest (`BlockhashQueue::is_hash_valid_for_age`, solana-accounts-db 4.2.2), so
/// that the block after the reported last one is still possible. A proof of absence must include it.
pub const HEIGHTS_PAST_LAST_VALID: u64 = 1;
/// Sends to one leader in one turn: the first, and the repeats when an attempt is known to have failed.
pub const SENDS_PER_LEADER_TURN_MAX: u8 = 3;
/// Attempts remembered per transaction for its reader; older ones are only counted.
pub const ATTEMPTS_REMEMBERED: usize = 16;

/// How sure the chain is of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commitment {
    Processed,
    Confirmed,
    Finalized,
}

impl Commitment {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Processed, Self::Confirmed, Self::Finalized]
            .into_iter()
            .find(|commitment| commitment.as_str() == text)
    }
}

/// The transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    pub slot: Slot,
    pub blockhash: Blockhash,
    pub commitment: Commitment,
    /// Solana's `TransactionError` as JSON when execution failed.
    pub error: Option<Arc<str>>,
}

/// What the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Stored; not yet handed to a leader's connection.
    Accepted,
    Sending,
    /// In a block, executed without error.
    Landed,
    /// In a block, executed with an error; the fee is spent.
    Failed,
    /// Proven to be in no finalized block that could hold it.
    Expired,
}

impl State {
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Sending,
        Self::Landed,
        Self::Failed,
        Self::Expired,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sending => "sending",
            Self::Landed => "landed",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Which blocks may hold the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The blockhash is not known yet, neither here nor to the validator.
    Unknown,
    /// By block height. When not `exact`, the range is wider than the truth, never narrower.
    Blocks {
        first: u64,
        last_valid: u64,
        exact: bool,
    },
    /// Until the nonce advances.
    Nonce(Pubkey),
}

impl Lifetime {
    /// Of a transaction whose blockhash is that of the block at `height`.
    pub fn of_block(height: u64) -> Self {
        Self::Blocks {
            first: height + 1,
            last_valid: height + MAX_PROCESSING_AGE,
            exact: true,
        }
    }

    /// Of a transaction whose blockhash the stream has not told, by a validator at `height`. When it takes the blockhash
    /// (`valid`), that is at most as old as its life is long. When it does not, the blockhash may be younger than the
    /// validator's tip, or of any age: the transaction may have landed long ago.
    pub fn seen_at(height: u64, valid: bool) -> Self {
        Self::Blocks {
            first: if valid {
                height.saturating_sub(MAX_PROCESSING_AGE)
            } else {
                0
            },
            last_valid: height + MAX_PROCESSING_AGE,
            exact: false,
        }
    }

    /// Height of the last block that may hold the transaction, past the reported last valid one.
    pub fn last_possible(&self) -> Option<u64> {
        match self {
            Self::Blocks { last_valid, .. } => Some(last_valid + HEIGHTS_PAST_LAST_VALID),
            Self::Unknown | Self::Nonce(_) => None,
        }
    }
}

/// Who proved that the transaction is in no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Every finalized block that could hold it was read from the canonical stream.
    Stream,
    /// The stream has a hole there; the validator's transaction history was asked.
    Validator,
}

impl Proof {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Validator => "validator",
        }
    }
}

/// A leader's window, or a repeat of it while no slots arrive. Turns only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// Slot divided by the slots per leader.
    pub window: u64,
    /// Counts the fallback timer's firings within the window.
    pub repeat: u32,
}

/// What became of one send to one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The leader's QUIC stack acknowledged every byte. Not yet a promise to include it.
    Acked,
    /// Written, and not acknowledged in time.
    Unacked,
    /// The leader refused the stream.
    Refused,
    /// The connection went away before the acknowledgement.
    ConnectionLost,
    /// There was no connection and none could be made.
    Unreachable,
    /// The leader's queue was full; nothing was written.
    QueueFull,
}

impl Outcome {
    pub const ALL: [Self; 6] = [
        Self::Acked,
        Self::Unacked,
        Self::Refused,
        Self::ConnectionLost,
        Self::Unreachable,
        Self::QueueFull,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Unacked => "unacked",
            Self::Refused => "refused",
            Self::ConnectionLost => "connection_lost",
            Self::Unreachable => "unreachable",
            Self::QueueFull => "queue_full",
        }
    }

    /// Whether sending again in the same turn can help: a full queue or an absent leader will not change that soon.
    pub const fn repeat_at_once(self) -> bool {
        matches!(self, Self::Unacked | Self::Refused | Self::ConnectionLost)
    }
}

/// One finished send, for the reader of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub leader: Pubkey,
    /// First slot of the window it was sent in.
    pub window_slot: u64,
    pub outcome: Outcome,
    /// From the write to the end of the attempt, microseconds.
    pub took_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    leader: Pubkey,
    sends: u8,
}

/// One transaction on its way. See the module.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub signature: Signature,
    pub blockhash: Blockhash,
    pub lifetime: Lifetime,
    landings: Vec<Landing>,
    expired: Option<Proof>,
    turn: Turn,
    sent: Vec<Sent>,
    pub attempts: u64,
    pub acked: u64,
    pub recent: VecDeque<Attempt>,
}

impl Delivery {
    pub fn new(signature: Signature, blockhash: Blockhash, lifetime: Lifetime) -> Self {
        Self {
            signature,
            blockhash,
            lifetime,
            landings: Vec::new(),
            expired: None,
            turn: Turn::default(),
            sent: Vec::new(),
            attempts: 0,
            acked: 0,
            recent: VecDeque::new(),
        }
    }

    pub fn state(&self) -> State {
        if self.expired.is_some() {
            return State::Expired;
        }
        match self.landing() {
            Some(landing) if landing.error.is_some() => State::Failed,
            Some(_) => State::Landed,
            None if self.attempts > 0 => State::Sending,
            None => State::Accepted,
        }
    }

    /// The surest block that holds it; among equals the one of the greatest slot.
    pub fn landing(&self) -> Option<&Landing> {
        self.landings
            .iter()
            .max_by_key(|landing| (landing.commitment, landing.slot))
    }

    /// Nothing that may happen can change the state any more.
    pub fn settled(&self) -> bool {
        self.expired.is_some()
            || self
                .landing()
                .is_some_and(|landing| landing.commitment == Commitment::Finalized)
    }

    /// Whether sending can still help, as far as is known. `height_max` is the highest block published.
    pub fn may_send(&self, height_max: Option<u64>) -> bool {
        let over = match (self.lifetime.last_possible(), height_max) {
            (Some(last), Some(height)) => height > last,
            _ => false,
        };
        self.expired.is_none() && self.landings.is_empty() && !over
    }

    /// Leaders among `targets` that have not been sent to in this turn. Counts them as sent.
    pub fn take_turn(
        &mut self,
        turn: Turn,
        targets: &[Pubkey],
        height_max: Option<u64>,
    ) -> Vec<Pubkey> {
        if !self.may_send(height_max) {
            return Vec::new();
        }
        if turn > self.turn {
            self.turn = turn;
            self.sent.clear();
        }
        let mut due = Vec::new();
        for leader in targets {
            if self.sent.iter().all(|sent| sent.leader != *leader) {
                self.sent.push(Sent {
                    leader: *leader,
                    sends: 1,
                });
                due.push(*leader);
            }
        }
        self.attempts += due.len() as u64;
        due
    }

    /// Takes the outcome of a send. True: send to that leader again at once.
    pub fn attempt_ended(
        &mut self,
        attempt: Attempt,
        targets: &[Pubkey],
        height_max: Option<u64>,
    ) -> bool {
        let (leader, outcome) = (attempt.leader, attempt.outcome);
        self.acked += u64::from(outcome == Outcome::Acked);
        if self.recent.len() == ATTEMPTS_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(attempt);
        if !outcome.repeat_at_once() || !self.may_send(height_max) || !targets.contains(&leader) {
            return false;
        }
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.leader == leader) else {
            return false;
        };
        if sent.sends >= SENDS_PER_LEADER_TURN_MAX {
            return false;
        }
        sent.sends += 1;
        self.attempts += 1;
        true
    }

    /// It is in a published block. Told again with a higher commitment, it rises; it never falls.
    pub fn landed(&mut self, landing: Landing) -> bool {
        if self.settled() {
            return false;
        }
        let known = self
            .landings
            .iter_mut()
            .find(|known| (known.slot, known.blockhash) == (landing.slot, landing.blockhash));
        match known {
            Some(known) if known.commitment >= landing.commitment => false,
            Some(known) => {
                known.commitment = landing.commitment;
                true
            }
            None => {
                self.landings.push(landing);
                true
            }
        }
    }

    /// A block it is in has risen.
    pub fn block_committed(
        &mut self,
        slot: Slot,
        blockhash: &Blockhash,
        commitment: Commitment,
    ) -> bool {
        let Some(error) = self
            .landings
            .iter()
            .find(|known| known.slot == slot && known.blockhash == *blockhash)
            .map(|known| known.error.clone())
        else {
            return false;
        };
        self.landed(Landing {
            slot,
            blockhash: *blockhash,
            commitment,
            error,
        })
    }

    /// A block it is in is not on the chain. Without another landing it is on its way again, at once.
    pub fn block_abandoned(&mut self, slot: Slot, blockhash: &Blockhash) -> bool {
        if self.settled() {
            return false;
        }
        let before = self.landings.len();
        self.landings
            .retain(|known| !(known.slot == slot && known.blockhash == *blockhash));
        if self.landings.is_empty() && before > 0 {
            self.turn = Turn::default();
            self.sent.clear();
        }
        self.landings.len() != before
    }

    /// Replaces what is known of its lifetime, when that is better: an exact range stays.
    pub fn learn_lifetime(&mut self, lifetime: Lifetime) -> bool {
        let better = match (self.lifetime, lifetime) {
            (Lifetime::Nonce(_) | Lifetime::Blocks { exact: true, .. }, _) => false,
            (_, Lifetime::Unknown) => false,
            (Lifetime::Blocks { exact: false, .. }, new) => {
                matches!(new, Lifetime::Blocks { exact: true, .. })
            }
            (Lifetime::Unknown, _) => true,
        };
        if better {
            self.lifetime = lifetime;
        }
        better
    }

    /// What the finalized chain proves: it is past the last block that could hold the transaction, and every block
    /// from `covered_from` to its tip has been read. A finalized landing would have settled it before.
    pub fn absence_is_proven(
        &self,
        finalized_height: Option<u64>,
        covered_from: Option<u64>,
    ) -> bool {
        let (Lifetime::Blocks { first, .. }, Some(last)) =
            (self.lifetime, self.lifetime.last_possible())
        else {
            return false;
        };
        !self.settled()
            && finalized_height.is_some_and(|tip| tip > last)
            && covered_from.is_some_and(|from| from <= first)
    }

    /// Who proved it expired.
    pub fn proof(&self) -> Option<Proof> {
        self.expired
    }

    /// Declares it expired. Call with a proof only.
    pub fn expire(&mut self, proof: Proof) -> bool {
        if self.settled() {
            return false;
        }
        self.landings.clear();
        self.expired = Some(proof);
        true
    }
}

#[cfg(test)]
mod tests;
