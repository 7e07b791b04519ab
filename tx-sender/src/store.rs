//! Transactions in PostgreSQL, schema `sender`: written before they are answered, resumed after a restart.
//!
//! Everything the outside sees is read from here. The engine's writes carry the stream positions in the same database
//! transaction as the states they led to.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use event_schema::{Blockhash, Pubkey, Signature};
use sqlx::{
    PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use uuid::Uuid;

use crate::{
    book::{DeliveryId, Entry},
    delivery::{Attempt, Delivery, Landing, Lifetime, Proof, State},
    transaction::SignedTransaction,
};

mod rows;

use rows::{key_of, lifetime_of, signed, status_of, unsigned};

/// A transaction as [`rows::status_of`] reads it.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT *, error::text AS error_text, recent_attempts::text AS attempts_text,",
            " (extract(epoch FROM accepted_at) * 1000)::bigint AS accepted_ms,",
            " (extract(epoch FROM landed_at) * 1000)::bigint AS landed_ms",
            " FROM sender.transactions ",
            $which
        )
    };
}

/// Why a transaction could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The key stands for another transaction.
    #[error("idempotencyKey {key:?} already stands for transaction {signature}")]
    KeyTaken { key: String, signature: Signature },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What accepting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub id: DeliveryId,
    /// False: it had been accepted before.
    pub new: bool,
    /// Unix milliseconds.
    pub accepted_at_ms: u64,
}

/// What a caller may know of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub id: DeliveryId,
    pub signature: Signature,
    pub state: State,
    pub settled: bool,
    pub landing: Option<Landing>,
    pub proof: Option<String>,
    pub version: Option<i16>,
    pub fee_payer: Pubkey,
    pub recent_blockhash: Blockhash,
    pub last_valid_block_height: Option<u64>,
    pub attempts: u64,
    pub attempts_acked: u64,
    pub recent_attempts: serde_json::Value,
    /// Unix milliseconds.
    pub accepted_at_ms: u64,
    pub landed_at_ms: Option<u64>,
}

/// How a transaction is named by its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Id(DeliveryId),
    Signature(Signature),
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse::<Uuid>() {
            return Ok(Self::Id(DeliveryId(id)));
        }
        text.parse().map(Self::Signature).map_err(|error| {
            format!("{text:?} is neither an id (UUID) nor a transaction signature: {error}")
        })
    }
}

/// See the module. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// Does not connect yet: the first use does.
    pub fn new(database_url: &str, connections: u32) -> anyhow::Result<Self> {
        let options: PgConnectOptions = database_url
            .parse::<PgConnectOptions>()
            .context("database_url: expected postgres://USER@HOST:PORT/DATABASE")?
            .application_name("tx-sender")
            // An answer promises that the transaction is on disk, whatever the server's default is.
            .options([("synchronous_commit", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Creates the schema, or brings it up to this release.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let mut migrator = sqlx::migrate!("./migrations");
        // Services share a database: each keeps its own record of migrations, in its own schema.
        migrator.create_schema("sender");
        migrator.dangerous_set_table_name("sender.migrations");
        migrator
            .run(&self.pool)
            .await
            .context("migrating schema sender")
    }

    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1")
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Stores a transaction for good, unless it is there. The same signature is the same transaction; the same key with
    /// another transaction is refused.
    pub async fn accept(
        &self,
        transaction: &SignedTransaction,
        key: Option<&str>,
    ) -> Result<Accepted, AcceptError> {
        let Some(key) = key else {
            // One statement is one transaction.
            let mut connection = self.pool.acquire().await?;
            return Ok(insert(&mut connection, transaction).await?);
        };
        let mut tx = self.pool.begin().await?;
        refuse_taken(&mut tx, key, &transaction.signature).await?;
        let accepted = insert(&mut tx, transaction).await?;
        sqlx::query(
            "INSERT INTO sender.idempotency_keys (key, transaction_id) VALUES ($1, $2)
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(accepted.id.0)
        .execute(&mut *tx)
        .await?;
        // Another request may have taken the key since the first look: its row is visible now.
        refuse_taken(&mut tx, key, &transaction.signature).await?;
        tx.commit().await?;
        Ok(accepted)
    }

    pub async fn status(&self, name: Name) -> Result<Option<Status>, sqlx::Error> {
        let row = match name {
            Name::Id(id) => {
                sqlx::query(select!("WHERE id = $1"))
                    .bind(id.0)
                    .fetch_optional(&self.pool)
                    .await?
            }
            Name::Signature(signature) => {
                sqlx::query(select!("WHERE signature = $1"))
                    .bind(&signature.0[..])
                    .fetch_optional(&self.pool)
                    .await?
            }
        };
        row.as_ref().map(status_of).transpose()
    }

    /// Newest first. `before` is the id of the last one of the previous page.
    pub async fn list(
        &self,
        state: Option<State>,
        before: Option<DeliveryId>,
        limit: i64,
    ) -> Result<Vec<Status>, sqlx::Error> {
        let rows = sqlx::query(select!(
            "WHERE ($1::text IS NULL OR state = $1)
               AND ($2::uuid IS NULL OR (accepted_at, id) <
                   (SELECT accepted_at, id FROM sender.transactions WHERE id = $2))
             ORDER BY accepted_at DESC, id DESC LIMIT $3"
        ))
        .bind(state.map(State::as_str))
        .bind(before.map(|id| id.0))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(status_of).collect()
    }

    /// Everything an earlier process left open, oldest first.
    pub async fn open_deliveries(&self) -> Result<Vec<(DeliveryId, Entry)>, sqlx::Error> {
        let rows = sqlx::query(select!("WHERE NOT settled ORDER BY accepted_at"))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let status = status_of(row)?;
                let wire: Vec<u8> = row.try_get("wire")?;
                let mut delivery =
                    Delivery::new(status.signature, status.recent_blockhash, lifetime_of(row)?);
                delivery.attempts = status.attempts;
                delivery.acked = status.attempts_acked;
                delivery.recent = serde_json::from_value::<Vec<Attempt>>(status.recent_attempts)
                    .unwrap_or_default()
                    .into();
                if let Some(landing) = status.landing {
                    delivery.landed(landing);
                }
                let entry = Entry {
                    delivery,
                    wire: Bytes::from(wire),
                    accepted_at_ms: status.accepted_at_ms,
                };
                Ok((status.id, entry))
            })
            .collect()
    }

    /// Where to begin reading, per partition.
    pub async fn positions(&self, topic: &str) -> Result<BTreeMap<u32, i64>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT partition, \"offset\" FROM sender.positions WHERE topic = $1")
                .bind(topic)
                .fetch_all(&self.pool)
                .await?;
        rows.iter()
            .map(|row| {
                let partition: i32 = row.try_get("partition")?;
                Ok((partition.unsigned_abs(), row.try_get("offset")?))
            })
            .collect()
    }

    /// States and the positions they go with, in one transaction.
    pub async fn write(
        &self,
        deliveries: &[(DeliveryId, Delivery)],
        topic: &str,
        positions: &BTreeMap<u32, i64>,
    ) -> Result<(), sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        if !deliveries.is_empty() {
            update(&mut tx, deliveries).await?;
        }
        if !positions.is_empty() {
            let partitions: Vec<i32> = positions
                .keys()
                .map(|partition| i32::try_from(*partition).unwrap_or(i32::MAX))
                .collect();
            let offsets: Vec<i64> = positions.values().copied().collect();
            sqlx::query(
                "INSERT INTO sender.positions (topic, partition, \"offset\")
                 SELECT $1, * FROM unnest($2::integer[], $3::bigint[])
                 ON CONFLICT (topic, partition) DO UPDATE SET \"offset\" = EXCLUDED.\"offset\"",
            )
            .bind(topic)
            .bind(partitions)
            .bind(offsets)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await
    }
}

/// Inserts it, or finds it.
async fn insert(
    connection: &mut PgConnection,
    transaction: &SignedTransaction,
) -> Result<Accepted, sqlx::Error> {
    let accepted = |row: &PgRow, new| {
        Ok(Accepted {
            id: DeliveryId(row.try_get("id")?),
            new,
            accepted_at_ms: unsigned(row.try_get("accepted_ms")?),
        })
    };
    let inserted = sqlx::query(
        "INSERT INTO sender.transactions
            (id, signature, wire, version, fee_payer, recent_blockhash, nonce_account)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (signature) DO NOTHING
         RETURNING id, (extract(epoch FROM accepted_at) * 1000)::bigint AS accepted_ms",
    )
    .bind(Uuid::now_v7())
    .bind(&transaction.signature.0[..])
    .bind(&transaction.wire[..])
    .bind(transaction.version.map(i16::from))
    .bind(&transaction.fee_payer.0[..])
    .bind(&transaction.blockhash.0[..])
    .bind(transaction.nonce_account.as_ref().map(|key| &key.0[..]))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = inserted {
        return accepted(&row, true);
    }
    let row = sqlx::query(
        "SELECT id, (extract(epoch FROM accepted_at) * 1000)::bigint AS accepted_ms
         FROM sender.transactions WHERE signature = $1",
    )
    .bind(&transaction.signature.0[..])
    .fetch_one(&mut *connection)
    .await?;
    accepted(&row, false)
}

async fn refuse_taken(
    tx: &mut sqlx::PgTransaction<'_>,
    key: &str,
    signature: &Signature,
) -> Result<(), AcceptError> {
    let holder = sqlx::query(
        "SELECT t.signature FROM sender.idempotency_keys k
         JOIN sender.transactions t ON t.id = k.transaction_id WHERE k.key = $1",
    )
    .bind(key)
    .fetch_optional(&mut **tx)
    .await?;
    match holder {
        Some(row) => {
            let holder: Signature = key_of(&row, "signature")?;
            if holder == *signature {
                return Ok(());
            }
            Err(AcceptError::KeyTaken {
                key: key.to_owned(),
                signature: holder,
            })
        }
        None => Ok(()),
    }
}

/// One statement for the whole batch.
async fn update(
    tx: &mut sqlx::PgTransaction<'_>,
    deliveries: &[(DeliveryId, Delivery)],
) -> Result<(), sqlx::Error> {
    let column = |f: &dyn Fn(&Delivery) -> Option<i64>| -> Vec<Option<i64>> {
        deliveries.iter().map(|(_, delivery)| f(delivery)).collect()
    };
    let text = |f: &dyn Fn(&Delivery) -> Option<String>| -> Vec<Option<String>> {
        deliveries.iter().map(|(_, delivery)| f(delivery)).collect()
    };
    let flag = |f: &dyn Fn(&Delivery) -> bool| -> Vec<bool> {
        deliveries.iter().map(|(_, delivery)| f(delivery)).collect()
    };
    let blocks = |delivery: &Delivery| match delivery.lifetime {
        Lifetime::Blocks {
            first,
            last_valid,
            exact,
        } => Some((signed(first), signed(last_valid), exact)),
        Lifetime::Unknown | Lifetime::Nonce(_) => None,
    };
    sqlx::query(
        "UPDATE sender.transactions t SET
            state = u.state,
            settled = u.settled,
            first_block_height = u.first_block_height,
            last_valid_block_height = u.last_valid_block_height,
            lifetime_exact = u.lifetime_exact,
            slot = u.slot,
            blockhash = u.blockhash,
            commitment = u.commitment,
            error = u.error::jsonb,
            expiry_proof = u.expiry_proof,
            attempts = u.attempts,
            attempts_acked = u.attempts_acked,
            recent_attempts = u.recent_attempts::jsonb,
            landed_at = CASE WHEN u.slot IS NULL THEN NULL ELSE coalesce(t.landed_at, clock_timestamp()) END,
            settled_at = CASE WHEN u.settled THEN coalesce(t.settled_at, clock_timestamp()) END
         FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bigint[],
                     $8::bytea[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[])
            AS u(id, state, settled, first_block_height, last_valid_block_height, lifetime_exact, slot,
                 blockhash, commitment, error, expiry_proof, attempts, attempts_acked, recent_attempts)
         WHERE t.id = u.id AND NOT t.settled",
    )
    .bind(deliveries.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
    .bind(text(&|d| Some(d.state().as_str().to_owned())))
    .bind(flag(&Delivery::settled))
    .bind(column(&|d| blocks(d).map(|blocks| blocks.0)))
    .bind(column(&|d| blocks(d).map(|blocks| blocks.1)))
    .bind(flag(&|d| blocks(d).is_some_and(|blocks| blocks.2)))
    .bind(column(&|d| d.landing().map(|landing| signed(landing.slot.0))))
    .bind(
        deliveries
            .iter()
            .map(|(_, d)| d.landing().map(|landing| landing.blockhash.0.to_vec()))
            .collect::<Vec<_>>(),
    )
    .bind(text(&|d| d.landing().map(|landing| landing.commitment.as_str().to_owned())))
    .bind(text(&|d| d.landing()?.error.as_ref().map(ToString::to_string)))
    .bind(text(&|d| d.proof().map(|proof| proof.as_str().to_owned())))
    .bind(column(&|d| Some(signed(d.attempts))))
    .bind(column(&|d| Some(signed(d.acked))))
    .bind(text(&|d| serde_json::to_string(&d.recent).ok()))
    .execute(&mut **tx)
    .await
    .map(|_| ())
}

/// How the row's proof reads for a person.
pub fn explain(proof: &str) -> &'static str {
    match proof {
        p if p == Proof::Stream.as_str() => {
            "every finalized block that could hold it was read, and none does; sign it again with a new blockhash"
        }
        _ => {
            "the validator's history does not know it, past the last block that could hold it; sign it again with a new blockhash"
        }
    }
}
