//! The ledger in PostgreSQL: one writer, many transactions of the chain per database transaction, the position in the
//! same one.
//!
//! Writing the same actions twice changes nothing: a block is recognised by slot and blockhash, a state moves only
//! forward, a gap is keyed by its offset. So after an ambiguous commit the caller simply repeats.

mod balances;
mod rows;

use std::collections::BTreeSet;
use std::str::FromStr;

use event_log::Position;
use event_schema::{Gap, GapReason};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Row, Transaction};
use thiserror::Error;

use crate::book::{Action, BlockId};
use crate::entry::BlockEntry;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    #[error("migrating the schema `ledger`: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error(
        "`database_url` is not a PostgreSQL address: {0}. Write postgres://user:password@host:port/database"
    )]
    Address(String),
    #[error("another ledger-sink has taken over this database. Run only one")]
    Fenced,
}

impl StoreError {
    /// Trying again can help: the server is away, starting or dropped the connection.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::Database(error)) => {
                // Connection failures, insufficient resources, operator intervention, serialization; and a database
                // that does not exist yet.
                let code = error.code().unwrap_or_default();
                ["08", "53", "57", "40"]
                    .iter()
                    .any(|class| code.starts_with(class))
                    || code == "3D000"
            }
            StoreError::Database(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::WorkerCrashed
            ),
            StoreError::Migration(sqlx::migrate::MigrateError::Execute(sqlx::Error::Io(_))) => true,
            StoreError::Migration(_) | StoreError::Address(_) | StoreError::Fenced => false,
        }
    }
}

/// What one commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub blocks: u64,
    pub transactions: u64,
    pub postings: u64,
    pub reversed_blocks: u64,
    /// Blocks that had been written before and were left alone.
    pub repeated_blocks: u64,
}

/// The connections of one ledger. Everything it does happens in the schema `ledger`.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

/// The right to write, until a newer writer takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(i64);

impl Store {
    /// Connects and brings the schema up to date.
    pub async fn open(database_url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(database_url)
            .map_err(|error| StoreError::Address(error.to_string()))?;
        let options = options
            .application_name("ledger-sink")
            .options([("search_path", "ledger")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        // Two starting at once would both find the schema missing. Released when this connection closes.
        sqlx::query("SELECT pg_advisory_lock(hashtext('heliograph ledger schema'))")
            .execute(&mut connection)
            .await?;
        sqlx::query("CREATE SCHEMA IF NOT EXISTS ledger")
            .execute(&mut connection)
            .await?;
        // `run` asks for a bound that no future spawned on a runtime can prove; this is what it calls.
        sqlx::migrate!("./migrations")
            .run_direct(None, &mut connection, false)
            .await?;
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .connect_with(options)
            .await?;
        Ok(Self { pool })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Becomes the writer; any older one fails at its next commit.
    pub async fn take_over(&self) -> Result<Epoch, StoreError> {
        let row = sqlx::query("UPDATE writer SET epoch = epoch + 1 RETURNING epoch")
            .fetch_one(&self.pool)
            .await?;
        Ok(Epoch(row.try_get(0)?))
    }

    /// The stored next offset per partition of the topic.
    pub async fn positions(&self, topic: &str) -> Result<Vec<(u32, i64)>, StoreError> {
        let rows = sqlx::query("SELECT partition, next_offset FROM positions WHERE topic = $1")
            .bind(topic)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get::<i32, _>(0)? as u32, row.try_get(1)?)))
            .collect()
    }

    /// Writes the actions and the positions that follow them, all or nothing.
    pub async fn commit(
        &self,
        epoch: Epoch,
        actions: &[(u32, Action)],
        positions: &[Position],
    ) -> Result<Written, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Held to the end: a newer writer waits for this commit, then an older one finds another epoch here.
        let current = sqlx::query("SELECT epoch FROM writer FOR UPDATE")
            .fetch_one(&mut *transaction)
            .await?;
        if current.try_get::<i64, _>(0)? != epoch.0 {
            return Err(StoreError::Fenced);
        }
        let mut written = post_blocks(&mut transaction, actions).await?;
        finalize(&mut transaction, actions).await?;
        written.reversed_blocks = reverse(&mut transaction, actions).await?;
        if let Some(topic) = positions.first().map(|position| &position.topic) {
            record_gaps(&mut transaction, topic, actions).await?;
        }
        for position in positions {
            sqlx::query(
                "INSERT INTO positions (topic, partition, next_offset) VALUES ($1, $2, $3)
                 ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = now()",
            )
            .bind(&*position.topic)
            .bind(position.partition as i32)
            .bind(position.offset)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(written)
    }
}

async fn post_blocks(
    transaction: &mut Transaction<'_, Postgres>,
    actions: &[(u32, Action)],
) -> Result<Written, StoreError> {
    let mut seen = BTreeSet::new();
    let blocks: Vec<&BlockEntry> = actions
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Post(entry) => Some(&**entry),
            _ => None,
        })
        .filter(|entry| seen.insert((entry.slot, entry.blockhash)))
        .collect();
    if blocks.is_empty() {
        return Ok(Written::default());
    }
    let ids = rows::insert_slots(transaction, &blocks).await?;
    let fresh: Vec<(i64, &BlockEntry)> = blocks
        .iter()
        .filter_map(|block| Some((*ids.get(&(block.slot, block.blockhash))?, *block)))
        .collect();
    rows::insert_transactions(transaction, &fresh).await?;
    let postings = rows::insert_postings(transaction, &fresh).await?;
    balances::add(transaction, &fresh).await?;
    Ok(Written {
        blocks: fresh.len() as u64,
        transactions: fresh
            .iter()
            .map(|(_, block)| block.transactions.len() as u64)
            .sum(),
        postings,
        reversed_blocks: 0,
        repeated_blocks: (blocks.len() - fresh.len()) as u64,
    })
}

async fn finalize(
    transaction: &mut Transaction<'_, Postgres>,
    actions: &[(u32, Action)],
) -> Result<(), StoreError> {
    let (slots, hashes) = ids(actions, |action| match action {
        Action::Finalize(id) => Some(id),
        _ => None,
    });
    if slots.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE slots SET state = 'finalized'
         FROM UNNEST($1::bigint[], $2::text[]) AS given (slot, blockhash)
         WHERE slots.slot = given.slot AND slots.blockhash = given.blockhash AND state = 'confirmed'",
    )
    .bind(&slots)
    .bind(&hashes)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Answers every posting of an abandoned block with its opposite. The entries themselves stay.
async fn reverse(
    transaction: &mut Transaction<'_, Postgres>,
    actions: &[(u32, Action)],
) -> Result<u64, StoreError> {
    let (slots, hashes) = ids(actions, |action| match action {
        Action::Abandon(id) => Some(id),
        _ => None,
    });
    if slots.is_empty() {
        return Ok(0);
    }
    let abandoned = sqlx::query(
        "UPDATE slots SET state = 'abandoned'
         FROM UNNEST($1::bigint[], $2::text[]) AS given (slot, blockhash)
         WHERE slots.slot = given.slot AND slots.blockhash = given.blockhash AND state = 'confirmed'
         RETURNING slots.id",
    )
    .bind(&slots)
    .bind(&hashes)
    .fetch_all(&mut **transaction)
    .await?;
    let blocks = abandoned
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<i64>, _>>()?;
    if blocks.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO postings (block_id, tx_index, reversal, ordinal, slot, account, asset, amount)
         SELECT block_id, tx_index, TRUE, ordinal, slot, account, asset, -amount
         FROM postings WHERE block_id = ANY($1) AND NOT reversal",
    )
    .bind(&blocks)
    .execute(&mut **transaction)
    .await?;
    balances::subtract(transaction, &blocks).await?;
    Ok(blocks.len() as u64)
}

async fn record_gaps(
    transaction: &mut Transaction<'_, Postgres>,
    topic: &str,
    actions: &[(u32, Action)],
) -> Result<(), StoreError> {
    for (partition, action) in actions {
        let Action::Gap { gap, offset } = action else {
            continue;
        };
        let Gap {
            first_slot,
            last_slot,
            records,
            reason,
            source,
            detail,
        } = gap;
        let reason = GapReason::try_from(*reason).unwrap_or(GapReason::Unknown);
        sqlx::query(
            "INSERT INTO gaps (topic, partition, log_offset, first_slot, last_slot, records, reason, source, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(topic)
        .bind(*partition as i32)
        .bind(offset)
        .bind(rows::bigint(*first_slot))
        .bind(rows::bigint(*last_slot))
        .bind(rows::bigint(*records))
        .bind(format!("{reason:?}"))
        .bind(source)
        .bind(detail)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

fn ids<'a>(
    actions: &'a [(u32, Action)],
    wanted: impl Fn(&'a Action) -> Option<&'a BlockId>,
) -> (Vec<i64>, Vec<String>) {
    actions
        .iter()
        .filter_map(|(_, action)| wanted(action))
        .map(|(slot, blockhash)| (rows::bigint(slot.0), blockhash.to_string()))
        .unzip()
}
