//! A JSON request body, refused in our own words.

use crate::refusal::Refusal;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refusal(&rejection)),
        }
    }
}

fn refusal(rejection: &JsonRejection) -> Refusal {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "The request body is not declared as JSON.",
            "Set the header `Content-Type: application/json`.",
        ),
        JsonRejection::JsonDataError(error) => Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_body",
            error.body_text(),
            "Send the members that auth-edge/API.md lists for this address.",
        ),
        JsonRejection::JsonSyntaxError(error) => Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            error.body_text(),
            "Send one JSON object.",
        ),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The request body is too large.",
            "Send less than 128 KiB.",
        ),
        other => Refusal::new(
            other.status(),
            "invalid_body",
            other.body_text(),
            "Send one JSON object.",
        ),
    }
}
