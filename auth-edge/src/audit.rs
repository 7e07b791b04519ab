//! Who did what, in a table that can only grow. Each row's hash covers the row and the hash before it, so an edited,
//! deleted or moved row is found by [`verify`]. A row is written in the same database transaction as the step it records.
//!
//! Deliberately not here: proof against removing the newest rows. For that, ship the head ([`Head`], also a metric label)
//! to a place that the database's owner cannot write.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Row};

/// Serialises writers: the chain has one end.
const CHAIN_LOCK: i64 = 0x6865_6c69_6f61_7564;
const VERIFY_BATCH: i64 = 1000;

/// One thing that happened.
pub struct Entry<'a> {
    /// Stable name, such as `approval.asserted`.
    pub event: &'a str,
    /// The user id, or `edge` for the service itself, or `anonymous`.
    pub actor: &'a str,
    /// What it happened to: an approval, a credential, an account.
    pub subject: &'a str,
    /// Never secrets, tokens or keys.
    pub detail: Value,
}

/// The chain's end: how many rows, and the hash of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub hash: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum AuditFault {
    #[error("audit row {seq}: {problem}")]
    Broken { seq: i64, problem: &'static str },
    #[error(transparent)]
    Store(#[from] sqlx::Error),
}

/// Appends inside the caller's transaction. Call it last: it holds the chain's lock until the commit.
pub async fn append(connection: &mut PgConnection, entry: Entry<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(CHAIN_LOCK)
        .execute(&mut *connection)
        .await?;
    let at: i64 =
        sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&mut *connection)
            .await?;
    let last = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let (seq, previous) = match last {
        Some(row) => (
            row.try_get::<i64, _>("seq")? + 1,
            row.try_get::<Vec<u8>, _>("hash")?,
        ),
        None => (1, vec![0; 32]),
    };
    let detail = entry.detail.to_string();
    let hash = row_hash(
        seq,
        at,
        [entry.event, entry.actor, entry.subject, &detail],
        &previous,
    );
    sqlx::query("INSERT INTO audit (seq, at_unix_ms, event, actor, subject, detail, previous, hash) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)")
        .bind(seq)
        .bind(at)
        .bind(entry.event)
        .bind(entry.actor)
        .bind(entry.subject)
        .bind(detail)
        .bind(previous)
        .bind(hash.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Appends in a transaction of its own, for what changes nothing else, such as a refused login.
pub async fn record(pool: &PgPool, entry: Entry<'_>) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    append(&mut transaction, entry).await?;
    transaction.commit().await
}

/// Walks the whole chain and names the first row that does not fit.
pub async fn verify(pool: &PgPool) -> Result<Head, AuditFault> {
    let mut head = Head {
        seq: 0,
        hash: [0; 32],
    };
    loop {
        let rows = sqlx::query(
            "SELECT seq, at_unix_ms, event, actor, subject, detail, previous, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(head.seq)
        .bind(VERIFY_BATCH)
        .fetch_all(pool)
        .await?;
        if rows.is_empty() {
            return Ok(head);
        }
        for row in rows {
            let seq: i64 = row.try_get("seq")?;
            let broken = |problem| AuditFault::Broken { seq, problem };
            if seq != head.seq + 1 {
                return Err(broken("the row before it is missing"));
            }
            if row.try_get::<Vec<u8>, _>("previous")? != head.hash {
                return Err(broken("it does not follow the row before it"));
            }
            let text = |column: &str| row.try_get::<String, _>(column);
            let (event, actor, subject, detail) = (
                text("event")?,
                text("actor")?,
                text("subject")?,
                text("detail")?,
            );
            let hash = row_hash(
                seq,
                row.try_get("at_unix_ms")?,
                [&event, &actor, &subject, &detail],
                &head.hash,
            );
            if row.try_get::<Vec<u8>, _>("hash")? != hash {
                return Err(broken("it was changed after it was written"));
            }
            head = Head { seq, hash };
        }
    }
}

/// SHA-256 over sequence, time and the length-prefixed texts, then the previous hash.
fn row_hash(seq: i64, at_unix_ms: i64, texts: [&str; 4], previous: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"heliograph/audit/v1\0");
    hash.update(seq.to_be_bytes());
    hash.update(at_unix_ms.to_be_bytes());
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.update(previous);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_text_between_columns_changes_the_hash() {
        let hash = |texts| row_hash(1, 2, texts, &[0; 32]);
        assert_ne!(hash(["ab", "c", "", ""]), hash(["a", "bc", "", ""]));
        assert_ne!(hash(["a", "b", "c", "d"]), hash(["a", "b", "d", "c"]));
        assert_ne!(
            row_hash(1, 2, [""; 4], &[0; 32]),
            row_hash(1, 2, [""; 4], &[1; 32])
        );
    }
}
