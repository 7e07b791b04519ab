//! What is stored of a range of slots, as counts and hashes.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;

use crate::{
    retention::{self, Dropped},
    sink::{BlockRows, Store, StoreError, pending_migration},
};

/// Slots, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// Slots looked at in one query.
const PIECE: u64 = 20_000;

impl Range {
    /// Ranges of at most `length` slots, in order.
    pub fn pieces(self, length: u64) -> impl Iterator<Item = Self> {
        let starts = (self.from..=self.to).step_by(length.max(1) as usize);
        starts.map(move |from| Self {
            from,
            to: from.saturating_add(length.max(1) - 1).min(self.to),
        })
    }

    pub fn slots(self) -> u64 {
        self.to - self.from + 1
    }

    pub fn contains(self, slot: u64) -> bool {
        (self.from..=self.to).contains(&slot)
    }

    fn condition(self) -> String {
        format!("slot BETWEEN {} AND {}", self.from, self.to)
    }
}

/// What the tables hold of one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub block: Option<StoredBlock>,
    /// Distinct transactions.
    pub transactions: u64,
    /// Instructions that these say they have, and distinct ones that are stored.
    pub instructions_stated: u64,
    pub instructions: u64,
    /// Distinct transactions in their raw form.
    pub raw: u64,
    /// Whether any table has rows of the slot.
    pub rows: bool,
    /// Hash and status of every block known of the slot.
    pub statuses: Vec<([u8; 32], Standing)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    pub blockhash: [u8; 32],
    pub parent_slot: u64,
    /// Zeros: not known.
    pub parent_blockhash: [u8; 32],
    pub transactions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Confirmed,
    Finalized,
    Abandoned,
}

impl Stored {
    pub fn is_finalized(&self, blockhash: [u8; 32]) -> bool {
        self.statuses.contains(&(blockhash, Standing::Finalized))
    }
}

/// By slot; slots of which nothing is stored are not there.
pub type Shelf = BTreeMap<u64, Stored>;

#[derive(Row, Deserialize)]
struct BlockRow {
    slot: u64,
    #[serde(with = "serde_bytes")]
    blockhash: Vec<u8>,
    parent_slot: u64,
    #[serde(with = "serde_bytes")]
    parent_blockhash: Vec<u8>,
    transactions: u32,
}

#[derive(Row, Deserialize)]
struct StatusRow {
    slot: u64,
    #[serde(with = "serde_bytes")]
    blockhash: Vec<u8>,
    status: String,
}

/// Refuses a server without our schema, or with an older one.
pub async fn schema_is_current(store: &Store) -> anyhow::Result<()> {
    let pending = pending_migration(store).await?;
    anyhow::ensure!(
        pending.is_none(),
        "the schema is behind this program (migration {}): start warehouse-sink once, with migrations = \"apply\"",
        pending.unwrap_or_default()
    );
    Ok(())
}

/// The newest stored slot of the stream; `None`: no sink ever stored a block.
pub async fn newest(store: &Store) -> Result<Option<u64>, StoreError> {
    let rows = store
        .rows("SELECT max(highest_slot) FROM sink_batches WHERE phase = 'done' AND highest_slot IS NOT NULL")
        .await?;
    let text = rows.first().and_then(|row| row.first());
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Epochs of the range whose blocks retention dropped from some table. What no source tells again is not meant.
pub async fn dropped(store: &Store, range: Range) -> Result<Dropped, StoreError> {
    let fetched: Vec<&str> = BlockRows::TABLES
        .iter()
        .copied()
        .filter(|table| *table != "account_updates")
        .collect();
    let notes = retention::notes(store).await?;
    Ok(Dropped::of(&notes)
        .among(&fetched)
        .within(range.from, range.to))
}

pub async fn look(store: &Store, range: Range) -> Result<Shelf, StoreError> {
    let mut shelf = Shelf::new();
    for piece in range.pieces(PIECE) {
        look_at(store, piece, &mut shelf).await?;
    }
    Ok(shelf)
}

async fn look_at(store: &Store, range: Range, shelf: &mut Shelf) -> Result<(), StoreError> {
    let within = range.condition();
    // By way of hex: CAST of a FixedString to String cuts zeros at its end.
    let blocks = format!(
        "SELECT slot, unhex(hex(blockhash)) AS blockhash, parent_slot, unhex(hex(parent_blockhash)) AS parent_blockhash, transactions FROM blocks FINAL WHERE {within}"
    );
    for row in store.fetch::<BlockRow>(&blocks).await? {
        shelf.entry(row.slot).or_default().block = Some(StoredBlock {
            blockhash: hash(&row.blockhash),
            parent_slot: row.parent_slot,
            parent_blockhash: hash(&row.parent_blockhash),
            transactions: row.transactions.into(),
        });
    }
    let statuses = format!(
        "SELECT slot, unhex(hex(blockhash)) AS blockhash, CAST(status AS String) AS status FROM slot_status FINAL WHERE {within}"
    );
    for row in store.fetch::<StatusRow>(&statuses).await? {
        let standing = match row.status.as_str() {
            "finalized" => Standing::Finalized,
            "abandoned" => Standing::Abandoned,
            _ => Standing::Confirmed,
        };
        let stored = shelf.entry(row.slot).or_default();
        stored.statuses.push((hash(&row.blockhash), standing));
    }
    for table in BlockRows::TABLES {
        let slots = format!("SELECT DISTINCT slot FROM {table} WHERE {within}");
        for slot in store.fetch::<u64>(&slots).await? {
            shelf.entry(slot).or_default().rows = true;
        }
    }
    for (what, sql) in [
        (
            Count::Transactions,
            format!(
                "SELECT slot, uniqExact(tx_index), toUInt64(sum(instructions) - sum(instructions_unresolved)) FROM transactions FINAL WHERE {within} GROUP BY slot"
            ),
        ),
        (
            Count::Raw,
            format!(
                "SELECT slot, uniqExact(tx_index), toUInt64(0) FROM transactions_raw WHERE {within} GROUP BY slot"
            ),
        ),
        (
            Count::Instructions,
            format!(
                "SELECT slot, uniqExact(tx_index, path), toUInt64(0) FROM instructions WHERE {within} GROUP BY slot"
            ),
        ),
    ] {
        for (slot, count, more) in store.fetch::<(u64, u64, u64)>(&sql).await? {
            let stored = shelf.entry(slot).or_default();
            match what {
                Count::Transactions => {
                    stored.transactions = count;
                    stored.instructions_stated = more;
                }
                Count::Raw => stored.raw = count,
                Count::Instructions => stored.instructions = count,
            }
        }
    }
    Ok(())
}

enum Count {
    Transactions,
    Raw,
    Instructions,
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once() {
        let pieces = |from, to, length| Range { from, to }.pieces(length).collect::<Vec<_>>();
        assert_eq!(pieces(5, 5, 10), [Range { from: 5, to: 5 }]);
        assert_eq!(
            pieces(0, 7, 3),
            [
                Range { from: 0, to: 2 },
                Range { from: 3, to: 5 },
                Range { from: 6, to: 7 }
            ]
        );
        assert_eq!(pieces(u64::MAX - 1, u64::MAX, 9).len(), 1);
    }
}
