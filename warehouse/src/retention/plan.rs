//! What to do with every epoch of every table: policy and state in, deeds out. Pure.

use std::collections::BTreeMap;

use super::policy::{Policy, Rules};
use crate::history::LEFT_TO_THE_STREAM;

/// Slots of a partition, as the tables' scripts have it.
pub const SLOTS_PER_EPOCH: u64 = 432_000;

pub fn epoch_of(slot: u64) -> u64 {
    slot / SLOTS_PER_EPOCH
}

pub fn last_slot(epoch: u64) -> u64 {
    epoch
        .saturating_mul(SLOTS_PER_EPOCH)
        .saturating_add(SLOTS_PER_EPOCH - 1)
}

/// What the warehouse holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The newest slot that is final.
    pub finalized: Option<u64>,
    /// Epochs with a slot that is neither final nor abandoned, and the first such slot.
    pub undecided: BTreeMap<u64, u64>,
    pub partitions: BTreeMap<Place, Partition>,
    /// The newest entry of the journal.
    pub notes: BTreeMap<Place, Note>,
}

/// A partition's name. Epochs first: an old one is dealt with in every table before a newer one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub epoch: u64,
    pub table: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub rows: u64,
    pub bytes: u64,
    /// Bytes that are not on the cold volume.
    pub bytes_hot: u64,
    /// Highest number of an insert or mutation in it.
    pub newest_block: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub state: NoteState,
    pub rows: u64,
    pub bytes: u64,
    pub newest_block: u64,
    pub archive: String,
    pub manifest_sha256: String,
}

/// In the order of a partition's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteState {
    Dropping,
    Dropped,
    Returning,
    Returned,
}

impl NoteState {
    /// Whether the rows are missing because the policy says so.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Dropping | Self::Dropped)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropping => "dropping",
            Self::Dropped => "dropped",
            Self::Returning => "returning",
            Self::Returned => "returned",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Dropping,
            Self::Dropped,
            Self::Returning,
            Self::Returned,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// What is known of the archives of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Nobody looked yet.
    Unknown,
    /// An archive holds exactly these rows.
    Archived(Archived),
    /// None does, and why.
    Lacking(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archived {
    pub folder: String,
    pub manifest_sha256: String,
}

/// For one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// To be dropped; `None`: without an archive.
    Drop(Option<Archived>),
    /// It was dropped, and only the journal does not say so yet.
    Finish,
    Move,
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub place: Place,
    pub deed: Deed,
    pub rows: u64,
    pub bytes: u64,
    /// Why it is not dropped or moved although it is there.
    pub reason: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("no rule for it")]
    NoRule,
    #[error("within the epochs to keep")]
    Young,
    #[error("within the epochs to keep; on the cold volume")]
    Cold,
    #[error("nothing is final yet")]
    NothingFinal,
    #[error("the epoch of the newest final slot, or beyond")]
    Newest,
    #[error("the stream may still be writing to it")]
    BesideTheStream,
    #[error(
        "slot {0} is not decided (`heliograph warehouse verify --repair` asks the chain for what is final)"
    )]
    Undecided(u64),
    #[error("its restore is under way, or broke off: repeat the restore")]
    Returning,
    #[error("to be dropped, and not archived: {0}")]
    NotArchived(String),
    #[error("to be dropped, and rows came in or were changed while it was looked at: come again")]
    Changed,
    /// [`Proof::Unknown`]: look, and decide again.
    #[error("to be dropped, if an archive holds it")]
    NotProven,
}

impl Reason {
    /// Whether a rule says that the epoch should be gone, and somebody has to see to it.
    pub fn is_overdue(&self) -> bool {
        matches!(
            self,
            Self::NotArchived(_) | Self::Changed | Self::Undecided(_) | Self::Returning
        )
    }
}

/// Decisions for every partition, oldest epoch first; `blocks` last within an epoch, since the others refer to it.
pub fn plan(policy: &Policy, state: &State, proof: impl Fn(&Place) -> Proof) -> Vec<Decision> {
    let there = state.partitions.iter().filter(|(_, it)| it.rows > 0);
    let mut decisions: Vec<Decision> = there
        .map(|(place, partition)| decide(policy, state, place, partition, proof(place)))
        .collect();
    let broken_off = state.notes.iter().filter(|(place, note)| {
        let rows = state.partitions.get(place).map_or(0, |there| there.rows);
        note.state == NoteState::Dropping && rows == 0
    });
    decisions.extend(broken_off.map(|(place, note)| Decision {
        place: place.clone(),
        deed: Deed::Finish,
        rows: note.rows,
        bytes: note.bytes,
        reason: None,
    }));
    decisions.sort_by_key(|decision| {
        let place = &decision.place;
        (place.epoch, place.table == "blocks", place.table.clone())
    });
    decisions
}

/// What to do with one partition.
pub fn decide(
    policy: &Policy,
    state: &State,
    place: &Place,
    partition: &Partition,
    proof: Proof,
) -> Decision {
    let (deed, reason) = judge(&policy.rules(&place.table), state, place, partition, proof);
    Decision {
        place: place.clone(),
        deed,
        rows: partition.rows,
        bytes: partition.bytes,
        reason,
    }
}

fn judge(
    rules: &Rules,
    state: &State,
    place: &Place,
    partition: &Partition,
    proof: Proof,
) -> (Deed, Option<Reason>) {
    let keep = |reason| (Deed::Keep, Some(reason));
    if rules.is_idle() {
        return keep(Reason::NoRule);
    }
    let Some(finalized) = state.finalized else {
        return keep(Reason::NothingFinal);
    };
    let Some(age) = epoch_of(finalized)
        .checked_sub(place.epoch)
        .filter(|age| *age > 0)
    else {
        return keep(Reason::Newest);
    };
    let is_over = |epochs: Option<u64>| epochs.is_some_and(|epochs| age >= epochs);
    let (drop, cold) = (is_over(rules.keep_epochs), is_over(rules.cold_after_epochs));
    if !drop && !cold {
        return keep(Reason::Young);
    }
    if last_slot(place.epoch).saturating_add(LEFT_TO_THE_STREAM) > finalized {
        return keep(Reason::BesideTheStream);
    }
    if let Some(slot) = state.undecided.get(&place.epoch) {
        return keep(Reason::Undecided(*slot));
    }
    if let Some(note) = state.notes.get(place)
        && note.state == NoteState::Returning
    {
        return keep(Reason::Returning);
    }
    let mut reason = None;
    if drop {
        if !rules.require_archive {
            return (Deed::Drop(None), None);
        }
        match proof {
            Proof::Archived(archived) => return (Deed::Drop(Some(archived)), None),
            Proof::Lacking(why) => reason = Some(Reason::NotArchived(why)),
            Proof::Unknown => reason = Some(Reason::NotProven),
        }
    }
    if cold && partition.bytes_hot > 0 {
        return (Deed::Move, reason);
    }
    (Deed::Keep, reason.or(Some(Reason::Cold)))
}

/// Whether what an archive was found to hold is still all that the partition has: the note was written with the proof, and
/// since then nothing came in. So a drop that broke off half-way, when the rows are fewer than archived, can be ended.
pub fn was_proven(note: &Note, partition: &Partition, manifest_sha256: &str) -> bool {
    note.state == NoteState::Dropping
        && note.manifest_sha256 == manifest_sha256
        && !manifest_sha256.is_empty()
        && partition.newest_block <= note.newest_block
        && partition.rows <= note.rows
}

#[cfg(test)]
mod tests;
