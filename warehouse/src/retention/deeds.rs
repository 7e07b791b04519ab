//! Partitions dropped and moved.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;

use super::{
    journal,
    plan::{Archived, Decision, Deed, Note, NoteState, Partition, Place, Reason, State},
    policy::Policy,
    state,
};
use crate::{
    engine::{quote_identifier, quote_text},
    sink::{Store, StoreError},
};

/// How often, and after which wait, a partition that is being merged is tried to be moved.
const MOVES: u32 = 30;
const BETWEEN_MOVES: Duration = Duration::from_secs(1);

pub struct Doer<'s> {
    pub store: &'s Store,
    pub policy: &'s Policy,
    /// By table, as they are now.
    pub storage_policies: BTreeMap<String, String>,
    pub cold_disks: BTreeSet<String>,
}

impl Doer<'_> {
    /// Does it, and gives back what was done.
    pub async fn execute(&mut self, decision: Decision, state: &State) -> anyhow::Result<Decision> {
        let place = &decision.place;
        let told = || format!("epoch {} of {}", place.epoch, place.table);
        match &decision.deed {
            Deed::Keep => {}
            Deed::Finish => {
                if let Some(note) = state.notes.get(place) {
                    journal::advance(self.store, place, note, NoteState::Dropped).await?;
                }
            }
            Deed::Drop(archived) => {
                let before = state.partitions.get(place).cloned().unwrap_or_default();
                let known = state.notes.get(place);
                if !self
                    .drop_partition(place, &before, archived.as_ref(), known)
                    .await
                    .with_context(told)?
                {
                    return Ok(Decision {
                        deed: Deed::Keep,
                        reason: Some(Reason::Changed),
                        ..decision
                    });
                }
            }
            Deed::Move => self.move_partition(place).await.with_context(told)?,
        }
        Ok(decision)
    }

    /// `false`: it is no more what was looked at, and stays.
    async fn drop_partition(
        &self,
        place: &Place,
        before: &Partition,
        archived: Option<&Archived>,
        known: Option<&Note>,
    ) -> anyhow::Result<bool> {
        let tables = [place.table.clone()];
        let now = state::partitions(self.store, tables.iter(), &self.cold_disks).await?;
        let newest_block = now.get(place).map_or(0, |now| now.newest_block);
        if newest_block > before.newest_block || state::is_redecoding(self.store).await? {
            return Ok(false);
        }
        let archived = archived.cloned().unwrap_or_default();
        let mut note = Note {
            state: NoteState::Dropping,
            rows: before.rows,
            bytes: before.bytes,
            newest_block: before.newest_block,
            archive: archived.folder,
            manifest_sha256: archived.manifest_sha256,
        };
        match known {
            // A run that broke off had begun: what it saw is what there was.
            Some(known)
                if known.state == NoteState::Dropping
                    && known.manifest_sha256 == note.manifest_sha256
                    && known.newest_block >= note.newest_block
                    && known.rows >= note.rows =>
            {
                note = known.clone();
            }
            _ => journal::write(self.store, place, &note).await?,
        }
        eprintln!("dropping epoch {} of {}", place.epoch, place.table);
        // The server's guard against dropping much by mistake; here an archive was compared.
        self.store
            .execute(&format!(
                "ALTER TABLE {} DROP PARTITION ID {} SETTINGS max_partition_size_to_drop = 0",
                quote_identifier(&place.table),
                quote_text(&place.epoch.to_string())
            ))
            .await?;
        journal::advance(self.store, place, &note, NoteState::Dropped).await?;
        Ok(true)
    }

    async fn move_partition(&mut self, place: &Place) -> anyhow::Result<()> {
        let table = quote_identifier(&place.table);
        let wanted = &self.policy.storage_policy;
        if self.storage_policies.get(&place.table) != Some(wanted) {
            self.store
                .execute(&format!(
                    "ALTER TABLE {table} MODIFY SETTING storage_policy = {}",
                    quote_text(wanted)
                ))
                .await
                .with_context(|| {
                    format!("storage_policy = {wanted:?} must have the volumes, by name, that the table's present policy has")
                })?;
            self.storage_policies
                .insert(place.table.clone(), wanted.clone());
        }
        eprintln!("moving epoch {} of {}", place.epoch, place.table);
        let sql = format!(
            "ALTER TABLE {table} MOVE PARTITION ID {} TO VOLUME {}",
            quote_text(&place.epoch.to_string()),
            quote_text(&self.policy.cold_volume)
        );
        for attempt in 1.. {
            match self.store.execute(&sql).await {
                Ok(()) => break,
                Err(error) if attempt < MOVES && is_being_merged(&error) => {
                    tokio::time::sleep(BETWEEN_MOVES).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_being_merged(error: &StoreError) -> bool {
    error.to_string().contains("PART_IS_TEMPORARILY_LOCKED")
}
