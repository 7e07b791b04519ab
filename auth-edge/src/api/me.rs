//! The logged-in user's account at a glance, and the faucet of a local network.

use super::signed_in::SignedIn;
use crate::approvals;
use crate::edge::Edge;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn me(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
) -> Result<Json<Value>, Refusal> {
    // A silent RPC node must not hide the account: then the balance is unknown.
    let (balance, spent) = tokio::join!(
        edge.chain.balance(&session.wallet),
        approvals::spent(&edge.store, session.user)
    );
    let balance = match balance {
        Ok(lamports) => json!(lamports.to_string()),
        Err(error) => {
            tracing::warn!(%error, "the balance is unknown");
            Value::Null
        }
    };
    Ok(Json(json!({
        "user_name": session.user_name,
        "wallet": {"address": session.wallet, "balance_lamports": balance},
        "limits": {
            "daily_lamports": edge.config.limits.daily_lamports.to_string(),
            "spent_lamports": spent?.to_string(),
        },
        "faucet_lamports": (edge.config.faucet.lamports > 0).then(|| edge.config.faucet.lamports.to_string()),
    })))
}

pub async fn faucet(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
) -> Result<Json<Value>, Refusal> {
    let lamports = edge.config.faucet.lamports;
    if lamports == 0 {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no_faucet",
            "This network has no faucet.",
            "Send SOL to the wallet address from another wallet.",
        ));
    }
    edge.rates.account(session.user)?;
    let wallet = edge.custody.wallet(session.user);
    let signature = edge
        .chain
        .request_airdrop(&wallet, lamports)
        .await
        .map_err(|error| Refusal::upstream("The network's faucet", &error))?;
    Ok(Json(
        json!({"signature": signature, "lamports": lamports.to_string()}),
    ))
}
