//! The life of one transfer, as rows.
//!
//! ```text
//! created ─▶ asserted ─▶ reserved ─▶ signed ─▶ handed ─▶ landed
//!    │          │           │          │         │ ◀─fork─ │
//!    └──────────┴───────────┴──────────┴─────────┴─────────┴─▶ failed | expired
//! ```
//! Every step is one `UPDATE … WHERE state = …`: of two racing requests one moves the row and the other sees that it did
//! not. The step to *reserved* counts against the user's limit in the same transaction, under the user's row lock. What was
//! reserved is released only when the transfer provably did not happen. A trigger refuses steps that are not in the picture.

use crate::audit::{self, Entry};
use crate::challenge::ApprovalTerms;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

mod reservation;

pub use reservation::{Reservation, reserve, spent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Asserted,
    Reserved,
    Signed,
    Handed,
    Landed,
    Failed,
    Expired,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Asserted => "asserted",
            Self::Reserved => "reserved",
            Self::Signed => "signed",
            Self::Handed => "handed",
            Self::Landed => "landed",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    fn read(text: &str) -> Option<Self> {
        use State::*;
        [
            Created, Asserted, Reserved, Signed, Handed, Landed, Failed, Expired,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// Why a transfer ended badly: a stable code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: String,
    pub text: String,
}

impl Problem {
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            text: text.into(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Approval {
    pub id: Uuid,
    pub user: Uuid,
    pub session_hash: Vec<u8>,
    pub state: State,
    pub destination: String,
    pub lamports: u64,
    pub fee_lamports: u64,
    pub message: Vec<u8>,
    pub intent: String,
    pub genesis: [u8; 32],
    pub nonce: [u8; 16],
    pub policy_version: [u8; 32],
    /// Unix seconds of the database clock.
    pub expires_unix: i64,
    pub last_valid_block_height: i64,
    pub signature: Option<String>,
    pub wire: Option<Vec<u8>>,
    pub slot: Option<i64>,
    pub commitment: Option<String>,
    pub problem: Option<Problem>,
    pub hand_attempts: i32,
    pub created_unix: i64,
}

const COLUMNS: &str = "id, user_id, session_hash, state, destination, lamports::text AS lamports, fee_lamports::text AS fee_lamports,
     message, intent, genesis, nonce, policy_version, expires_unix, last_valid_block_height, signature, wire, slot, commitment,
     problem_code, problem, hand_attempts, floor(extract(epoch FROM created_at))::bigint AS created_unix";

impl Approval {
    fn read(row: PgRow) -> Result<Self, sqlx::Error> {
        let amount = |column: &str| {
            row.try_get::<String, _>(column)?
                .parse::<u64>()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))
        };
        let state: String = row.try_get("state")?;
        let problem = match (
            row.try_get::<Option<String>, _>("problem_code")?,
            row.try_get::<Option<String>, _>("problem")?,
        ) {
            (Some(code), Some(text)) => Some(Problem { code, text }),
            _ => None,
        };
        Ok(Self {
            id: row.try_get("id")?,
            user: row.try_get("user_id")?,
            session_hash: row.try_get("session_hash")?,
            state: State::read(&state)
                .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {state}").into()))?,
            destination: row.try_get("destination")?,
            lamports: amount("lamports")?,
            fee_lamports: amount("fee_lamports")?,
            message: row.try_get("message")?,
            intent: row.try_get("intent")?,
            genesis: row.try_get("genesis")?,
            nonce: row.try_get("nonce")?,
            policy_version: row.try_get("policy_version")?,
            expires_unix: row.try_get("expires_unix")?,
            last_valid_block_height: row.try_get("last_valid_block_height")?,
            signature: row.try_get("signature")?,
            wire: row.try_get("wire")?,
            slot: row.try_get("slot")?,
            commitment: row.try_get("commitment")?,
            problem,
            hand_attempts: row.try_get("hand_attempts")?,
            created_unix: row.try_get("created_unix")?,
        })
    }

    /// The terms as stored; the challenge is made from them anew, so a row changed behind our back fails its assertion.
    pub fn terms(&self) -> ApprovalTerms<'_> {
        ApprovalTerms {
            genesis: self.genesis,
            approval: self.id,
            nonce: self.nonce,
            user: self.user,
            policy_version: self.policy_version,
            expires_unix: self.expires_unix,
            message: &self.message,
            intent: &self.intent,
        }
    }
}

pub async fn create(pool: &PgPool, new: &Approval) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "INSERT INTO approvals (id, user_id, session_hash, destination, lamports, fee_lamports, message, intent, genesis, nonce,
             policy_version, expires_unix, last_valid_block_height)
         VALUES ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(new.id)
    .bind(new.user)
    .bind(&new.session_hash)
    .bind(&new.destination)
    .bind(new.lamports.to_string())
    .bind(new.fee_lamports.to_string())
    .bind(&new.message)
    .bind(&new.intent)
    .bind(new.genesis.as_slice())
    .bind(new.nonce.as_slice())
    .bind(new.policy_version.as_slice())
    .bind(new.expires_unix)
    .bind(new.last_valid_block_height)
    .execute(&mut *transaction)
    .await?;
    let detail = json!({
        "to": new.destination, "lamports": new.lamports.to_string(), "challenge": hex::encode(new.terms().challenge()),
        "policy": hex::encode(new.policy_version),
    });
    write_audit(
        &mut transaction,
        "approval.created",
        &new.user.to_string(),
        new.id,
        detail,
    )
    .await?;
    transaction.commit().await
}

/// Finds a user's own approval; another user's does not exist for them.
pub async fn find(pool: &PgPool, id: Uuid, user: Uuid) -> Result<Option<Approval>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM approvals WHERE id = $1 AND user_id = $2"
    ));
    sqlx::query(sql)
        .bind(id)
        .bind(user)
        .fetch_optional(pool)
        .await?
        .map(Approval::read)
        .transpose()
}

/// The user's newest approvals that got as far as an assertion, or ended.
pub async fn list(pool: &PgPool, user: Uuid, limit: i64) -> Result<Vec<Approval>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM approvals WHERE user_id = $1 AND evidence IS NOT NULL ORDER BY created_at DESC LIMIT $2"
    ));
    sqlx::query(sql)
        .bind(user)
        .bind(limit)
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(Approval::read)
        .collect()
}

/// created → asserted, inside the transaction that also stores the passkey's new counter. False when somebody else was
/// faster, or time is up.
pub async fn assert(
    connection: &mut PgConnection,
    approval: &Approval,
    evidence: &Value,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE approvals SET state = 'asserted', evidence = $2
         WHERE id = $1 AND state = 'created' AND expires_unix > extract(epoch FROM clock_timestamp())",
    )
    .bind(approval.id)
    .bind(Json(evidence))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    write_audit(
        connection,
        "approval.asserted",
        &approval.user.to_string(),
        approval.id,
        evidence.clone(),
    )
    .await?;
    Ok(true)
}

/// reserved → signed. The signed bytes are durable before anybody else sees them.
pub async fn sign(
    pool: &PgPool,
    approval: &Approval,
    signature: &str,
    wire: &[u8],
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query("UPDATE approvals SET state = 'signed', signature = $2, wire = $3 WHERE id = $1 AND state = 'reserved'")
        .bind(approval.id)
        .bind(signature)
        .bind(wire)
        .execute(&mut *transaction)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    write_audit(
        &mut transaction,
        "approval.signed",
        "edge",
        approval.id,
        json!({"signature": signature}),
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// signed → handed: the sender has it.
pub async fn hand(pool: &PgPool, approval: &Approval) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query("UPDATE approvals SET state = 'handed', hand_attempts = hand_attempts + 1 WHERE id = $1 AND state = 'signed'")
        .bind(approval.id)
        .execute(&mut *transaction)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    write_audit(
        &mut transaction,
        "approval.handed",
        "edge",
        approval.id,
        json!({}),
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// The sender could not be reached; it will be tried again, later each time.
pub async fn count_hand_attempt(pool: &PgPool, approval: &Approval) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE approvals SET hand_attempts = hand_attempts + 1 WHERE id = $1 AND state = 'signed'",
    )
    .bind(approval.id)
    .execute(pool)
    .await?;
    Ok(())
}

/// → landed, or a landed one's stronger commitment.
pub async fn land(
    pool: &PgPool,
    approval: &Approval,
    slot: Option<i64>,
    commitment: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query(
        "UPDATE approvals SET state = 'landed', slot = coalesce($2, slot), commitment = coalesce($3, commitment)
         WHERE id = $1 AND state IN ('signed', 'handed', 'landed') AND commitment IS DISTINCT FROM 'finalized'
           AND (state <> 'landed' OR slot IS DISTINCT FROM coalesce($2, slot) OR commitment IS DISTINCT FROM coalesce($3, commitment))",
    )
    .bind(approval.id)
    .bind(slot)
    .bind(commitment)
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let detail = json!({"slot": slot, "commitment": commitment});
    write_audit(
        &mut transaction,
        "approval.landed",
        "edge",
        approval.id,
        detail,
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// landed → handed: the block went away with its fork.
pub async fn take_back(pool: &PgPool, approval: &Approval) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query(
        "UPDATE approvals SET state = 'handed', slot = NULL, commitment = NULL
         WHERE id = $1 AND state = 'landed' AND commitment IS DISTINCT FROM 'finalized'",
    )
    .bind(approval.id)
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let detail = json!({"slot": approval.slot, "commitment": approval.commitment});
    write_audit(
        &mut transaction,
        "approval.abandoned",
        "edge",
        approval.id,
        detail,
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// → failed or expired, giving back what was reserved. Call it only with proof that the transfer did not and cannot happen.
pub async fn settle_badly(
    pool: &PgPool,
    approval: &Approval,
    to: State,
    problem: &Problem,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let moved = end(&mut transaction, approval, approval.state, to, problem).await?;
    transaction.commit().await?;
    Ok(moved)
}

async fn end(
    connection: &mut PgConnection,
    approval: &Approval,
    from: State,
    to: State,
    problem: &Problem,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE approvals SET state = $3, problem_code = $4, problem = $5
         WHERE id = $1 AND state = $2 AND commitment IS DISTINCT FROM 'finalized'",
    )
    .bind(approval.id)
    .bind(from.as_str())
    .bind(to.as_str())
    .bind(&problem.code)
    .bind(&problem.text)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE reservations SET released_at = clock_timestamp() WHERE approval_id = $1 AND released_at IS NULL")
        .bind(approval.id)
        .execute(&mut *connection)
        .await?;
    let event = if to == State::Expired {
        "approval.expired"
    } else {
        "approval.failed"
    };
    let detail = json!({"from": from.as_str(), "code": problem.code, "problem": problem.text});
    write_audit(connection, event, "edge", approval.id, detail).await?;
    Ok(true)
}

/// Approvals that need attention, leased to the caller until their next check: several edges share the work.
pub async fn lease_due(pool: &PgPool, batch: i64) -> Result<Vec<Approval>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "UPDATE approvals SET next_check_at = clock_timestamp() + CASE
             WHEN state = 'signed' THEN make_interval(secs => least(15, 0.5 * power(2, least(hand_attempts, 6))))
             WHEN state = 'landed' THEN interval '1 second'
             ELSE interval '0.5 seconds' END
         WHERE id IN (
             SELECT id FROM approvals WHERE next_check_at <= clock_timestamp() AND (
                 (state = 'created' AND expires_unix < extract(epoch FROM clock_timestamp()))
                 OR (state = 'asserted' AND changed_at < clock_timestamp() - interval '30 seconds')
                 OR (state = 'reserved' AND changed_at < clock_timestamp() - interval '2 seconds')
                 OR state IN ('signed', 'handed')
                 OR (state = 'landed' AND commitment IS DISTINCT FROM 'finalized'))
             ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING {COLUMNS}"
    ));
    sqlx::query(sql)
        .bind(batch)
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(Approval::read)
        .collect()
}

async fn write_audit(
    connection: &mut PgConnection,
    event: &str,
    actor: &str,
    approval: Uuid,
    detail: Value,
) -> Result<(), sqlx::Error> {
    audit::append(
        connection,
        Entry {
            event,
            actor,
            subject: &approval.to_string(),
            detail,
        },
    )
    .await
}
