//! The admin door. Liveness only says that the process answers: it never depends on Kafka or a database.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::TextEncoder;
use tokio::net::TcpListener;

use crate::Host;

pub(crate) async fn serve(listener: TcpListener, host: Host) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(startup))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(host);
    axum::serve(listener, router).await
}

async fn startup(State(host): State<Host>) -> (StatusCode, &'static str) {
    if host.has_started() {
        (StatusCode::OK, "started\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

async fn ready(State(host): State<Host>) -> (StatusCode, axum::Json<serde_json::Value>) {
    let status = if host.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "ready": host.is_ready(),
        "started": host.has_started(),
        "draining": host.draining(),
        "parts": host.readiness(),
    });
    (status, axum::Json(body))
}

async fn metrics(State(host): State<Host>) -> Response {
    match TextEncoder::new().encode_to_string(&host.metrics().gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
