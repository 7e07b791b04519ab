//! The door: JSON-RPC at `POST /`, the same knowledge by REST at `/v1/transactions`.
//!
//! An answer to `sendTransaction` means: on disk, and it will be sent until it lands or is proven expired.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use event_schema::Blockhash;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    book::{DeliveryId, Entry},
    delivery::{self, Delivery, Lifetime},
    engine::EngineHandle,
    jsonrpc::{self, Body, Method, Request, RpcError},
    metrics::Metrics,
    store::{self, AcceptError, Name, Status, Store},
    transaction::{self, Encoding, SignedTransaction},
};

/// A full batch of the largest transactions in base64, with room for the envelopes.
const BODY_SIZE_MAX: usize = jsonrpc::BATCH_MAX * (transaction::BASE64_LENGTH_MAX + 1024);
/// Transactions per page.
const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 500;

/// What the door stands before.
#[derive(Clone)]
pub struct Door {
    pub store: Store,
    pub engine: EngineHandle,
    pub metrics: Metrics,
    pub open_transactions_max: usize,
}

pub fn router(door: Door) -> Router {
    Router::new()
        .route("/", post(rpc))
        .route("/v1/transactions", get(list))
        .route("/v1/transactions/{name}", get(one))
        .layer(DefaultBodyLimit::max(BODY_SIZE_MAX))
        .with_state(Arc::new(door))
}

async fn rpc(State(door): State<Arc<Door>>, body: Bytes) -> Response {
    match jsonrpc::parse(&body) {
        Body::Bad(error) => Json(jsonrpc::response(&Value::Null, Err(error))).into_response(),
        Body::One(request) => match answer(&door, request).await {
            Some(answer) => Json(answer).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
        Body::Batch(requests) => {
            let answers: Vec<Value> =
                join_all(requests.into_iter().map(|request| answer(&door, request)))
                    .await
                    .into_iter()
                    .flatten()
                    .collect();
            if answers.is_empty() {
                return StatusCode::NO_CONTENT.into_response();
            }
            Json(answers).into_response()
        }
    }
}

async fn answer(door: &Arc<Door>, request: Request) -> Option<Value> {
    let outcome = match request.method {
        Ok(Method::SendTransaction {
            transaction,
            encoding,
            idempotency_key,
        }) => send(door, transaction, encoding, idempotency_key).await,
        Ok(Method::GetSendStatus { name }) => status(door, &name).await,
        Err(error) => Err(error),
    };
    request.id.map(|id| jsonrpc::response(&id, outcome))
}

async fn send(
    door: &Arc<Door>,
    text: String,
    encoding: Encoding,
    key: Option<String>,
) -> Result<Value, RpcError> {
    let count = |result: &str| door.metrics.requests.with_label_values(&[result]).inc();
    let transaction = transaction::decode(&text, encoding).map_err(|refusal| {
        count("refused");
        RpcError::from(refusal)
    })?;
    if door.engine.open_count() >= door.open_transactions_max {
        count("failed");
        return Err(RpcError::new(
            jsonrpc::UNHEALTHY,
            format!(
                "{} transactions are open, which is the limit",
                door.open_transactions_max
            ),
            "send it again in a few seconds, or raise open_transactions_max",
        ));
    }
    let signature = transaction.signature;
    // On its own task: a caller who hangs up between the row and the engine must not leave the one without the other.
    let accepting = tokio::spawn(accept(door.clone(), transaction, key));
    let accepted = accepting.await.unwrap_or_else(|_| {
        Err(RpcError::new(
            jsonrpc::UNHEALTHY,
            "the sender is going down",
            "send it again",
        ))
    });
    match accepted {
        Ok(new) => {
            count(if new { "new" } else { "repeated" });
            Ok(json!(signature))
        }
        Err(error) => {
            let refused = error.code == jsonrpc::IDEMPOTENCY_KEY_CONFLICT;
            count(if refused { "refused" } else { "failed" });
            Err(error)
        }
    }
}

/// True when it had not been accepted before.
async fn accept(
    door: Arc<Door>,
    transaction: SignedTransaction,
    key: Option<String>,
) -> Result<bool, RpcError> {
    let accepted = door
        .store
        .accept(&transaction, key.as_deref())
        .await
        .map_err(refuse)?;
    if accepted.new {
        let lifetime = match transaction.nonce_account {
            Some(account) => Lifetime::Nonce(account),
            None => Lifetime::Unknown,
        };
        let entry = Entry {
            delivery: Delivery::new(transaction.signature, transaction.blockhash, lifetime),
            wire: transaction.wire,
            accepted_at_ms: accepted.accepted_at_ms,
        };
        door.engine.open(accepted.id, entry).await;
    }
    Ok(accepted.new)
}

fn refuse(error: AcceptError) -> RpcError {
    match error {
        AcceptError::KeyTaken { .. } => RpcError::new(
            jsonrpc::IDEMPOTENCY_KEY_CONFLICT,
            error.to_string(),
            "repeat a request with the same transaction; make a new key for a new intent, and only after the old transaction has expired or failed",
        ),
        AcceptError::Database(error) => unavailable(&error),
    }
}

fn unavailable(error: &sqlx::Error) -> RpcError {
    tracing::warn!(%error, "a request could not be served: PostgreSQL");
    RpcError::new(
        jsonrpc::UNHEALTHY,
        "the sender cannot reach its database; nothing was accepted by this request",
        "send the same transaction again shortly",
    )
}

async fn status(door: &Door, name: &str) -> Result<Value, RpcError> {
    let name: Name = name.parse().map_err(|problem: String| {
        RpcError::new(
            jsonrpc::INVALID_PARAMS,
            format!("Invalid params: {problem}"),
            "pass what sendTransaction returned",
        )
    })?;
    let status = door
        .store
        .status(name)
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(status.map_or(Value::Null, |status| describe(&status)))
}

async fn one(State(door): State<Arc<Door>>, Path(name): Path<String>) -> Response {
    let name: Name = match name.parse() {
        Ok(name) => name,
        Err(problem) => {
            return rest_error(
                StatusCode::BAD_REQUEST,
                &problem,
                "use the id or the signature",
            );
        }
    };
    match door.store.status(name).await {
        Ok(Some(status)) => Json(describe(&status)).into_response(),
        Ok(None) => rest_error(
            StatusCode::NOT_FOUND,
            "no such transaction was accepted here",
            "check the id or signature, or send the transaction",
        ),
        Err(error) => rest_unavailable(&error),
    }
}

async fn list(State(door): State<Arc<Door>>, RawQuery(query): RawQuery) -> Response {
    let page = match Page::parse(query.as_deref().unwrap_or_default()) {
        Ok(page) => page,
        Err((problem, fix)) => return rest_error(StatusCode::BAD_REQUEST, &problem, &fix),
    };
    match door.store.list(page.state, page.before, page.limit).await {
        Ok(rows) => {
            let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == page.limit);
            let next = rows.last().filter(|_| full).map(|last| last.id.0);
            let transactions: Vec<Value> = rows.iter().map(describe).collect();
            Json(json!({"transactions": transactions, "next": next})).into_response()
        }
        Err(error) => rest_unavailable(&error),
    }
}

/// `?state=…&limit=…&before=…`
#[derive(Debug, PartialEq, Eq)]
struct Page {
    state: Option<delivery::State>,
    before: Option<DeliveryId>,
    limit: i64,
}

impl Page {
    fn parse(query: &str) -> Result<Self, (String, String)> {
        let mut page = Self {
            state: None,
            before: None,
            limit: PAGE_DEFAULT,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |fix: String| (format!("{key}: {value:?} is not valid"), fix);
            match key {
                "state" => {
                    let states = delivery::State::ALL.map(delivery::State::as_str).join(", ");
                    let state = delivery::State::parse(value);
                    page.state = Some(state.ok_or_else(|| wrong(format!("use one of {states}")))?);
                }
                "limit" => {
                    page.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=PAGE_MAX).contains(limit))
                        .ok_or_else(|| wrong(format!("use a number from 1 to {PAGE_MAX}")))?;
                }
                "before" => {
                    let id = value
                        .parse()
                        .map_err(|_| wrong("use \"next\" of the page before".into()))?;
                    page.before = Some(DeliveryId(id));
                }
                _ => {
                    return Err((
                        format!("{key}: unknown parameter"),
                        "use state, limit and before".into(),
                    ));
                }
            }
        }
        Ok(page)
    }
}

fn rest_error(code: StatusCode, message: &str, fix: &str) -> Response {
    (
        code,
        Json(json!({"error": {"message": message, "fix": fix}})),
    )
        .into_response()
}

fn rest_unavailable(error: &sqlx::Error) -> Response {
    let error = unavailable(error);
    rest_error(
        StatusCode::SERVICE_UNAVAILABLE,
        &error.message,
        "ask again shortly",
    )
}

/// A transaction as callers see it. Field names are promises.
fn describe(status: &Status) -> Value {
    let landing = status.landing.as_ref();
    let error: Value = landing
        .and_then(|landing| landing.error.as_deref())
        .and_then(|error| serde_json::from_str(error).ok())
        .unwrap_or(Value::Null);
    json!({
        "id": status.id.0,
        "signature": status.signature,
        "state": status.state,
        "settled": status.settled,
        "slot": landing.map(|landing| landing.slot),
        "blockhash": landing
            .map(|landing| landing.blockhash)
            .filter(|blockhash| *blockhash != Blockhash::default()),
        "commitment": landing.map(|landing| landing.commitment),
        "error": error,
        "reason": status.proof.as_deref().map(store::explain),
        "version": status.version.map_or(json!("legacy"), |version| json!(version)),
        "feePayer": status.fee_payer,
        "recentBlockhash": status.recent_blockhash,
        "lastValidBlockHeight": status.last_valid_block_height,
        "attempts": status.attempts,
        "attemptsAcked": status.attempts_acked,
        "recentAttempts": status.recent_attempts,
        "acceptedAtMs": status.accepted_at_ms,
        "landedAtMs": status.landed_at_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_and_refused() {
        assert_eq!(Page::parse("").unwrap().limit, PAGE_DEFAULT);
        let page = Page::parse("state=landed&limit=7").unwrap();
        assert_eq!((page.state, page.limit), (Some(delivery::State::Landed), 7));
        for (query, named) in [
            ("state=flying", "state"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("before=1", "before"),
            ("colour=red", "colour"),
        ] {
            let (problem, fix) = Page::parse(query).unwrap_err();
            assert!(problem.contains(named) && !fix.is_empty(), "{problem}");
        }
    }
}
