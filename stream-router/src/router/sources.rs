//! What is known of each source: which of its records were read, how far it is, where its coverage begins.

use std::{collections::BTreeMap, ops::RangeInclusive};

use event_schema::{Slot, SourceId};
use foldhash::HashMap;

use crate::{
    observation::{Lane, Place},
    sequence::{Seen, SequenceTrack},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Sources {
    views: BTreeMap<SourceId, SourceView>,
    tracks: HashMap<(SourceId, Lane), SequenceTrack>,
    /// Whether reading the partition began at its first record.
    read_whole: BTreeMap<Lane, bool>,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct SourceView {
    pub root: Slot,
    pub highest_sealed: Slot,
    /// Accounts of the state it loaded at start.
    pub startup: u64,
    /// The lowest slot of which it wrote block metadata: its coverage begins there.
    pub lowest_covered: Option<Slot>,
}

impl Sources {
    pub fn observe(&mut self, place: Place, source: SourceId, sequence: u64) -> Seen {
        // A partition read from its very beginning shows every source from its first record on.
        let whole = *self
            .read_whole
            .entry(place.lane)
            .or_insert(place.offset == 0);
        self.tracks
            .entry((source, place.lane))
            .or_insert_with(|| SequenceTrack::starting(whole))
            .observe(sequence)
    }

    /// The sequences of the range that were not read.
    pub fn missing(
        &self,
        source: SourceId,
        lane: Lane,
        range: RangeInclusive<u64>,
    ) -> Vec<RangeInclusive<u64>> {
        self.tracks
            .get(&(source, lane))
            .map(|track| track.missing_in(range))
            .unwrap_or_default()
    }

    pub fn view(&self, source: SourceId) -> SourceView {
        self.views.get(&source).copied().unwrap_or_default()
    }

    pub fn view_mut(&mut self, source: SourceId) -> &mut SourceView {
        self.views.entry(source).or_default()
    }

    pub fn cover(&mut self, source: SourceId, slot: Slot) {
        let view = self.view_mut(source);
        view.lowest_covered = Some(view.lowest_covered.map_or(slot, |known| known.min(slot)));
    }

    pub fn ids(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.views.keys().copied()
    }
}
