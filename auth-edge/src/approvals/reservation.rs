//! The daily limit: what a user sent in the last 24 hours, and the step that counts one more transfer against it. Rolling, by
//! the database's clock, so that no midnight, time zone or skewed host gives anybody a second allowance.

use super::{Approval, Problem, State, end, write_audit};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    Reserved,
    /// The approval has failed; what is still free, in lamports.
    OverLimit {
        free_lamports: u64,
    },
    /// Another request moved the approval.
    Moved,
}

/// asserted → reserved, counting the transfer and its fee against the user's limit over the last 24 hours.
pub async fn reserve(
    pool: &PgPool,
    approval: &Approval,
    daily_lamports: u64,
) -> Result<Reservation, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // Everything below is serial per user. NO KEY UPDATE lets inserts that refer to the user go on.
    sqlx::query("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE")
        .bind(approval.user)
        .fetch_one(&mut *transaction)
        .await?;
    let spent = spent_in(&mut transaction, approval.user).await?;
    let free = u128::from(daily_lamports).saturating_sub(spent);
    let wanted = u128::from(approval.lamports) + u128::from(approval.fee_lamports);
    if wanted > free {
        let problem = Problem::new(
            "daily_limit",
            "The transfer is above what is left of the daily limit.",
        );
        let moved = end(
            &mut transaction,
            approval,
            State::Asserted,
            State::Failed,
            &problem,
        )
        .await?;
        transaction.commit().await?;
        let free_lamports = u64::try_from(free).unwrap_or(u64::MAX);
        return Ok(if moved {
            Reservation::OverLimit { free_lamports }
        } else {
            Reservation::Moved
        });
    }
    let done =
        sqlx::query("UPDATE approvals SET state = 'reserved' WHERE id = $1 AND state = 'asserted'")
            .bind(approval.id)
            .execute(&mut *transaction)
            .await?;
    if done.rows_affected() == 0 {
        return Ok(Reservation::Moved);
    }
    sqlx::query("INSERT INTO reservations (approval_id, user_id, lamports) VALUES ($1, $2, $3::text::numeric)")
        .bind(approval.id)
        .bind(approval.user)
        .bind(wanted.to_string())
        .execute(&mut *transaction)
        .await?;
    let detail = json!({"lamports": wanted.to_string(), "spent_before": spent.to_string(), "limit": daily_lamports.to_string()});
    write_audit(
        &mut transaction,
        "approval.reserved",
        "edge",
        approval.id,
        detail,
    )
    .await?;
    transaction.commit().await?;
    Ok(Reservation::Reserved)
}

/// Lamports that count against the user's limit now.
pub async fn spent(pool: &PgPool, user: Uuid) -> Result<u128, sqlx::Error> {
    spent_in(&mut *pool.acquire().await?, user).await
}

async fn spent_in(connection: &mut PgConnection, user: Uuid) -> Result<u128, sqlx::Error> {
    let text: String = sqlx::query_scalar(
        "SELECT coalesce(sum(lamports), 0)::text FROM reservations
         WHERE user_id = $1 AND released_at IS NULL AND reserved_at > clock_timestamp() - interval '24 hours'",
    )
    .bind(user)
    .fetch_one(connection)
    .await?;
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
