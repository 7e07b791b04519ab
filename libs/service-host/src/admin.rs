//! The admin door. Liveness only says that the process answers: it never depends on Kafka or a database.

use axum::Router;
use axum::extract::{Path, State};
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
        .route("/{page}", get(page))
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

/// The service's own pages.
async fn page(State(host): State<Host>, Path(name): Path<String>) -> Response {
    match host.page_named(&name) {
        Some(page) => axum::Json(page().await).into_response(),
        None => {
            let mut known = vec!["livez", "readyz", "startupz", "metrics"];
            known.extend(host.page_names());
            let error = format!("no page {name}; there are: {}", known.join(", "));
            let body = serde_json::json!({ "error": error });
            (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
        }
    }
}

async fn metrics(State(host): State<Host>) -> Response {
    match TextEncoder::new().encode_to_string(&host.metrics().gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_service_may_have_pages_of_its_own() {
        let host = Host::detached();
        host.page("subscribers", || async { json!([{ "id": 1 }]) });
        let found = page(State(host.clone()), Path("subscribers".into())).await;
        assert_eq!(found.status(), StatusCode::OK);
        let missing = page(State(host), Path("nonsense".into())).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(missing.into_body(), 4_096).await;
        assert!(String::from_utf8_lossy(&body.unwrap()).contains("subscribers"));
    }
}
