//! Rows ↔ values.

use std::sync::Arc;

use event_schema::{Pubkey, Slot};
use sqlx::{Row, postgres::PgRow};

use super::Status;
use crate::{
    book::DeliveryId,
    delivery::{Commitment, Landing, Lifetime, State},
};

pub(super) fn status_of(row: &PgRow) -> Result<Status, sqlx::Error> {
    let state: String = row.try_get("state")?;
    let commitment: Option<String> = row.try_get("commitment")?;
    let slot: Option<i64> = row.try_get("slot")?;
    let error: Option<String> = row.try_get("error_text")?;
    let attempts: String = row.try_get("attempts_text")?;
    let landing = match (slot, commitment.as_deref().and_then(Commitment::parse)) {
        (Some(slot), Some(commitment)) => Some(Landing {
            slot: Slot(unsigned(slot)),
            blockhash: key_of(row, "blockhash")?,
            commitment,
            error: error.map(Arc::from),
        }),
        _ => None,
    };
    Ok(Status {
        id: DeliveryId(row.try_get("id")?),
        signature: key_of(row, "signature")?,
        state: State::parse(&state)
            .ok_or_else(|| decode_error(format!("state {state:?} is not known to this release")))?,
        settled: row.try_get("settled")?,
        landing,
        proof: row.try_get("expiry_proof")?,
        version: row.try_get("version")?,
        fee_payer: key_of(row, "fee_payer")?,
        recent_blockhash: key_of(row, "recent_blockhash")?,
        last_valid_block_height: row
            .try_get::<Option<i64>, _>("last_valid_block_height")?
            .map(unsigned),
        attempts: unsigned(row.try_get("attempts")?),
        attempts_acked: unsigned(row.try_get("attempts_acked")?),
        recent_attempts: serde_json::from_str(&attempts).map_err(decode_error)?,
        accepted_at_ms: unsigned(row.try_get("accepted_ms")?),
        landed_at_ms: row.try_get::<Option<i64>, _>("landed_ms")?.map(unsigned),
    })
}

pub(super) fn lifetime_of(row: &PgRow) -> Result<Lifetime, sqlx::Error> {
    let nonce: Option<Vec<u8>> = row.try_get("nonce_account")?;
    if let Some(nonce) = nonce {
        let account = Pubkey::try_from(&nonce[..]).map_err(decode_error)?;
        return Ok(Lifetime::Nonce(account));
    }
    let first: Option<i64> = row.try_get("first_block_height")?;
    let last_valid: Option<i64> = row.try_get("last_valid_block_height")?;
    Ok(match (first, last_valid) {
        (Some(first), Some(last_valid)) => Lifetime::Blocks {
            first: unsigned(first),
            last_valid: unsigned(last_valid),
            exact: row.try_get("lifetime_exact")?,
        },
        _ => Lifetime::Unknown,
    })
}

pub(super) fn key_of<K>(row: &PgRow, column: &str) -> Result<K, sqlx::Error>
where
    K: for<'a> TryFrom<&'a [u8], Error = event_schema::ParseIdentityError>,
{
    let bytes: Vec<u8> = row.try_get(column)?;
    K::try_from(&bytes[..]).map_err(decode_error)
}

fn decode_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// Slots, heights and counters fit: 2⁶³ slots of 200 ms are 58 thousand million years.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
