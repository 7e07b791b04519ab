//! The HTTP interface: thin handlers over the modules that decide. `auth-edge/API.md` describes it for callers.

mod body;
mod login;
mod me;
mod register;
mod send;
mod signed_in;

use crate::edge::Edge;
use crate::refusal::Refusal;
use crate::{guard, page};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use std::sync::Arc;

/// The largest real request is a registration with an attestation chain, about 10 KiB.
const BODY_BYTES_MAX: usize = 128 * 1024;

pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/v1/register/begin", post(register::begin))
        .route("/v1/register/finish", post(register::finish))
        .route("/v1/login/begin", post(login::begin))
        .route("/v1/login/finish", post(login::finish))
        .route("/v1/logout", post(login::logout))
        .route("/v1/me", get(me::me))
        .route("/v1/faucet", post(me::faucet))
        .route("/v1/send/begin", post(send::begin))
        .route("/v1/send/finish", post(send::finish))
        .route("/v1/sends", get(send::list))
        .route("/v1/sends/{id}", get(send::show))
        .merge(page::router())
        .fallback(|| async { Refusal::not_found("page") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "wrong_method",
                "This address takes another method.",
                "See auth-edge/API.md.",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(edge.clone(), guard::check))
        .with_state(edge)
}
