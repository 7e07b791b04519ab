//! The connection to PostgreSQL: one pool, schema `edge`, migrations at start.

use anyhow::Context;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::str::FromStr;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// A pool that connects when used: the service can start and say what it waits for.
pub fn pool(url: &str, connections_max: u32) -> anyhow::Result<PgPool> {
    // The migrations' own table must live in the schema too: other services keep theirs in the same database.
    let options = PgConnectOptions::from_str(url)
        .context("configuration key `database_url`")?
        .application_name("auth-edge")
        .options([
            ("search_path", "edge"),
            ("statement_timeout", "10s"),
            ("lock_timeout", "5s"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_LIMIT)
        .connect_lazy_with(options))
}

/// Brings the schema up to date.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("CREATE SCHEMA IF NOT EXISTS edge")
        .execute(pool)
        .await
        .context("creating the schema edge")?;
    MIGRATIONS
        .run(pool)
        .await
        .context("migrating the schema edge")?;
    Ok(())
}

/// Remembers which master secret the wallets came from, and refuses any other: signing with it would strand the money.
pub async fn pin_custody(pool: &PgPool, fingerprint: [u8; 32]) -> anyhow::Result<()> {
    sqlx::query("INSERT INTO custody (fingerprint) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(fingerprint.as_slice())
        .execute(pool)
        .await?;
    let stored: Vec<u8> = sqlx::query_scalar("SELECT fingerprint FROM custody")
        .fetch_one(pool)
        .await?;
    anyhow::ensure!(
        stored == fingerprint,
        "custody.key_file holds another master secret than the one this database's wallets were made from: restore the \
         right file, or name another database in database_url"
    );
    Ok(())
}

/// Unix seconds of the database's clock: the only clock that limits and expiries go by.
pub async fn now_unix(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")
        .fetch_one(pool)
        .await
}
