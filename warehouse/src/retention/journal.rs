//! `retention_journal`: what was dropped, written before it goes, and what came back.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Note, NoteState, Place, epoch_of};
use crate::{
    engine::quote_text,
    sink::{Store, StoreError},
};

/// Whether this database has the journal: archives are also of databases that no sink made.
pub async fn exists(store: &Store) -> Result<bool, StoreError> {
    let rows: Vec<u8> = store.fetch("EXISTS TABLE retention_journal").await?;
    Ok(rows.first() == Some(&1))
}

/// The newest entry of every partition that has one.
pub async fn notes(store: &Store) -> Result<BTreeMap<Place, Note>, StoreError> {
    let rows = store
        .rows(
            "SELECT table_name, epoch, argMax((state, rows, bytes, newest_block, archive, manifest_sha256), recorded_at) AS newest, \
             newest.1, newest.2, newest.3, newest.4, newest.5, newest.6 FROM retention_journal GROUP BY table_name, epoch",
        )
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| match row.as_slice() {
            [
                table,
                epoch,
                _,
                state,
                rows,
                bytes,
                newest_block,
                archive,
                manifest_sha256,
            ] => Some((
                Place {
                    epoch: epoch.parse().ok()?,
                    table: table.clone(),
                },
                Note {
                    state: NoteState::parse(state)?,
                    rows: rows.parse().ok()?,
                    bytes: bytes.parse().ok()?,
                    newest_block: newest_block.parse().ok()?,
                    archive: archive.clone(),
                    manifest_sha256: manifest_sha256.clone(),
                },
            )),
            _ => None,
        })
        .collect())
}

pub async fn write(store: &Store, place: &Place, note: &Note) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO retention_journal (table_name, epoch, state, rows, bytes, newest_block, archive, manifest_sha256, recorded_at) \
         SETTINGS insert_deduplicate = 0, async_insert = 0 \
         SELECT {}, {}, '{}', {}, {}, {}, {}, {}, now64(6, 'UTC')",
        quote_text(&place.table),
        place.epoch,
        note.state.as_str(),
        note.rows,
        note.bytes,
        note.newest_block,
        quote_text(&note.archive),
        quote_text(&note.manifest_sha256),
    );
    store.execute(&sql).await
}

/// The same note, further on in its life.
pub async fn advance(
    store: &Store,
    place: &Place,
    note: &Note,
    state: NoteState,
) -> Result<(), StoreError> {
    let note = Note {
        state,
        ..note.clone()
    };
    write(store, place, &note).await
}

/// Tables that the policy took rows from, by epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped(BTreeMap<u64, BTreeSet<String>>);

impl Dropped {
    pub fn of(notes: &BTreeMap<Place, Note>) -> Self {
        let mut dropped = Self::default();
        for (place, _) in notes.iter().filter(|(_, note)| note.state.is_gone()) {
            dropped.insert(place.epoch, &place.table);
        }
        dropped
    }

    pub fn insert(&mut self, epoch: u64, table: &str) {
        self.0.entry(epoch).or_default().insert(table.to_owned());
    }

    /// Of these tables alone.
    pub fn among(mut self, tables: &[&str]) -> Self {
        self.0.retain(|_, dropped| {
            dropped.retain(|table| tables.contains(&table.as_str()));
            !dropped.is_empty()
        });
        self
    }

    /// In these slots alone.
    pub fn within(mut self, from: u64, to: u64) -> Self {
        self.0
            .retain(|epoch, _| (epoch_of(from)..=epoch_of(to)).contains(epoch));
        self
    }

    pub fn is_from(&self, table: &str, slot: u64) -> bool {
        let tables = self.0.get(&epoch_of(slot));
        tables.is_some_and(|tables| tables.contains(table))
    }

    pub fn touches(&self, slot: u64) -> bool {
        self.0.contains_key(&epoch_of(slot))
    }

    pub fn epochs(&self) -> impl Iterator<Item = (u64, &BTreeSet<String>)> {
        self.0.iter().map(|(epoch, tables)| (*epoch, tables))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_counts() {
        let note = |state| Note {
            state,
            rows: 1,
            bytes: 1,
            newest_block: 1,
            archive: String::new(),
            manifest_sha256: String::new(),
        };
        let place = |epoch, table: &str| Place {
            epoch,
            table: table.into(),
        };
        let notes = BTreeMap::from([
            (place(1, "swaps"), note(NoteState::Dropped)),
            (place(1, "routes"), note(NoteState::Returned)),
            (place(2, "swaps"), note(NoteState::Dropping)),
            (place(3, "swaps"), note(NoteState::Returning)),
            (place(4, "account_updates"), note(NoteState::Dropped)),
        ]);
        let dropped = Dropped::of(&notes);
        assert!(dropped.touches(432_000) && dropped.touches(863_999) && dropped.touches(864_000));
        assert!(!dropped.touches(0) && !dropped.touches(1_296_000));
        assert!(dropped.is_from("swaps", 432_001) && !dropped.is_from("routes", 432_001));
        let of_blocks = dropped.clone().among(&["swaps"]);
        assert!(dropped.touches(1_728_000) && !of_blocks.touches(1_728_000));
        assert_eq!(of_blocks.within(0, 863_999).epochs().count(), 1);
    }
}
