//! What a client is told when something is refused: always the same JSON shape, with a stable code, the offending field and
//! what to do about it. Details that help an attacker stay in the log and the audit.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub field: Option<&'static str>,
    pub fix: String,
}

/// Travels in the response's extensions so that metrics can count refusals by code.
#[derive(Clone, Copy)]
pub struct RefusalCode(pub &'static str);

impl Refusal {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
            fix: fix.into(),
        }
    }

    pub fn bad_field(
        field: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            field: Some(field),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_field",
                message,
                fix,
            )
        }
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("There is no such {what}."),
            "Check the address you called.",
        )
    }

    pub fn no_session() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "no_session",
            "You are not logged in, or the session has ended.",
            "Log in again.",
        )
    }

    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong here; nothing was done.",
            "Try again; if it stays, tell the operator the time of this message.",
        )
    }

    /// A service that the edge needs does not answer.
    pub fn upstream(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "{what} is not available");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "upstream_unavailable",
            format!("{what} does not answer; nothing was done."),
            "Try again in a moment.",
        )
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self {
            code: "store_unavailable",
            ..Self::upstream("The database", &error)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message, "field": self.field, "fix": self.fix}});
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(RefusalCode(self.code));
        response
    }
}
