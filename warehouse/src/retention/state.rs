//! What the warehouse holds, asked from it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use service_host::ConfigError;

use super::{
    journal,
    plan::{Partition, Place, SLOTS_PER_EPOCH, State, last_slot},
    policy::Policy,
};
use crate::{engine::quote_text, sink::Store};

/// Tables that are partitioned by epoch, and their storage policies.
pub async fn tables(store: &Store) -> anyhow::Result<BTreeMap<String, String>> {
    let sql = format!(
        "SELECT name, storage_policy FROM system.tables WHERE database = currentDatabase() \
         AND engine LIKE '%MergeTree' AND partition_key = 'intDiv(slot, {SLOTS_PER_EPOCH})'"
    );
    let rows = store.rows(&sql).await.context("cannot list the tables")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .map(|[name, policy]| (name, policy))
        .collect())
}

/// Whether a redecode may put back rows that it took out.
pub async fn is_redecoding(store: &Store) -> anyhow::Result<bool> {
    let rows: Vec<u8> = store.fetch("EXISTS TABLE redecode_staging").await?;
    Ok(rows.first() == Some(&1))
}

/// Disks of the volume that old epochs are moved to; none where no rule wants it.
pub async fn cold_disks(store: &Store, policy: &Policy) -> anyhow::Result<BTreeSet<String>> {
    if !policy.wants_cold() {
        return Ok(BTreeSet::new());
    }
    let rows = store
        .rows("SELECT policy_name, volume_name, arrayJoin(disks) FROM system.storage_policies")
        .await
        .context("cannot list the storage policies")?;
    let mut known = BTreeSet::new();
    let mut disks = BTreeSet::new();
    for row in &rows {
        if let [name, volume, disk] = row.as_slice() {
            known.insert(format!("{name} with {volume}"));
            if *name == policy.storage_policy && *volume == policy.cold_volume {
                disks.insert(disk.clone());
            }
        }
    }
    if disks.is_empty() {
        let known: Vec<String> = known.into_iter().collect();
        return Err(ConfigError::new(
            "storage_policy, cold_volume",
            format!(
                "the server has no storage policy {} with a volume {}; it has {}",
                policy.storage_policy,
                policy.cold_volume,
                known.join(", ")
            ),
            "Set engine.cold_path in the door's configuration, or name a policy and volume of the server",
        )
        .into());
    }
    Ok(disks)
}

/// Rows, bytes and stamp of every partition of these tables.
pub async fn partitions(
    store: &Store,
    tables: impl Iterator<Item = &String>,
    cold_disks: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<Place, Partition>> {
    let list = |names: &mut dyn Iterator<Item = &String>| {
        let quoted: Vec<String> = names.map(|name| quote_text(name)).collect();
        format!("['', {}]", quoted.join(", ")).replace(", ]", "]")
    };
    let mut tables = tables;
    let sql = format!(
        "SELECT table, partition, sum(rows), sum(bytes_on_disk), sumIf(bytes_on_disk, NOT has({}, disk_name)), \
         max(greatest(toInt64(max_block_number), toInt64(data_version))) \
         FROM system.parts WHERE active AND rows > 0 AND database = currentDatabase() AND has({}, table) GROUP BY table, partition",
        list(&mut cold_disks.iter()),
        list(&mut tables),
    );
    let rows = store.rows(&sql).await.context("cannot list the parts")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| match row.as_slice() {
            [table, epoch, rows, bytes, bytes_hot, newest_block] => Some((
                Place {
                    epoch: epoch.parse().ok()?,
                    table: table.clone(),
                },
                Partition {
                    rows: rows.parse().ok()?,
                    bytes: bytes.parse().ok()?,
                    bytes_hot: bytes_hot.parse().ok()?,
                    newest_block: newest_block.parse().ok()?,
                },
            )),
            _ => None,
        })
        .collect())
}

pub async fn read(
    store: &Store,
    tables: impl Iterator<Item = &String>,
    cold_disks: &BTreeSet<String>,
) -> anyhow::Result<State> {
    let partitions = partitions(store, tables, cold_disks).await?;
    let finalized: Vec<Option<u64>> = store
        .fetch("SELECT maxOrNull(slot) FROM slot_status FINAL WHERE status = 'finalized'")
        .await?;
    let epochs: BTreeSet<u64> = partitions.keys().map(|place| place.epoch).collect();
    let mut undecided = BTreeMap::new();
    for epoch in epochs {
        if let Some(slot) = first_undecided(store, epoch).await? {
            undecided.insert(epoch, slot);
        }
    }
    Ok(State {
        finalized: finalized.first().copied().flatten(),
        undecided,
        partitions,
        notes: journal::notes(store).await?,
    })
}

/// The first slot of the epoch of which is not known whether its block is on the chain.
async fn first_undecided(store: &Store, epoch: u64) -> anyhow::Result<Option<u64>> {
    let within = format!(
        "slot BETWEEN {} AND {}",
        epoch * SLOTS_PER_EPOCH,
        last_slot(epoch)
    );
    let sql = format!(
        "SELECT minOrNull(slot) FROM \
         (SELECT slot FROM slot_status FINAL WHERE {within} GROUP BY slot HAVING countIf(status = 'finalized') = 0 AND countIf(status != 'abandoned') > 0 \
          UNION ALL SELECT slot FROM blocks WHERE {within} AND slot NOT IN (SELECT slot FROM slot_status WHERE {within}))"
    );
    let rows: Vec<Option<u64>> = store
        .fetch(&sql)
        .await
        .with_context(|| format!("epoch {epoch}"))?;
    Ok(rows.first().copied().flatten())
}
