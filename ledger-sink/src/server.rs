//! The ledger's HTTP API, read-only. Amounts are strings.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use event_schema::{Pubkey, Signature};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;

mod queries;

/// The routes, for `axum::serve`.
pub fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/v1/check", get(check))
        .route("/v1/slots/{slot}", get(slot))
        .route("/v1/transactions/{signature}", get(transaction))
        .route("/v1/accounts/{account}", get(account))
        .fallback(|| async { Refusal::NotFound("no such path; see /v1/check, /v1/slots/SLOT, /v1/transactions/SIGNATURE, /v1/accounts/PUBKEY".into()) })
        .with_state(pool)
}

/// An answer that is not a result.
enum Refusal {
    BadRequest(String),
    NotFound(String),
    Unavailable(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Refusal::BadRequest(message) => (StatusCode::BAD_REQUEST, message),
            Refusal::NotFound(message) => (StatusCode::NOT_FOUND, message),
            Refusal::Unavailable(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
        };
        (status, Json(json!({ "error": message }))).into_response()
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        tracing::warn!("answering a request: {error}");
        Refusal::Unavailable("the database did not answer; try again".into())
    }
}

type Answer = Result<Json<Value>, Refusal>;

#[derive(Deserialize)]
struct CheckDepth {
    /// Also recompute every balance from its postings and the sum of every entry. Reads the whole ledger.
    #[serde(default)]
    deep: bool,
}

async fn check(State(pool): State<PgPool>, Query(depth): Query<CheckDepth>) -> Answer {
    Ok(Json(queries::check(&pool, depth.deep).await?))
}

async fn slot(State(pool): State<PgPool>, Path(slot): Path<String>) -> Answer {
    let slot: i64 = slot.parse().ok().filter(|slot| *slot >= 0).ok_or_else(|| {
        Refusal::BadRequest(format!("`{slot}` is not a slot: write a whole number"))
    })?;
    let found = queries::slot(&pool, slot).await?;
    found
        .map(Json)
        .ok_or_else(|| Refusal::NotFound(format!("slot {slot} is not in the ledger")))
}

async fn transaction(State(pool): State<PgPool>, Path(text): Path<String>) -> Answer {
    let signature: Signature = text
        .parse()
        .map_err(|error| Refusal::BadRequest(format!("`{text}` is not a signature: {error}")))?;
    let found = queries::transaction(&pool, &signature.to_string()).await?;
    found
        .map(Json)
        .ok_or_else(|| Refusal::NotFound(format!("transaction {signature} is not in the ledger")))
}

async fn account(State(pool): State<PgPool>, Path(text): Path<String>) -> Answer {
    let contra = text.starts_with("network:") || text.starts_with("token:");
    if !contra && let Err(error) = text.parse::<Pubkey>() {
        return Err(Refusal::BadRequest(format!(
            "`{text}` is not an account: {error}"
        )));
    }
    let found = queries::account(&pool, &text).await?;
    found
        .map(Json)
        .ok_or_else(|| Refusal::NotFound(format!("account {text} has no entry in the ledger")))
}
