//! Who is calling: a logged-in user, or a browser that has none yet.

use crate::edge::Edge;
use crate::refusal::Refusal;
use crate::sessions::{self, Cookie, Session, Token};
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;

/// A handler that takes this runs only for a live session.
pub struct SignedIn(pub Session);

impl FromRequestParts<Arc<Edge>> for SignedIn {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, Refusal> {
        let token = cookie(parts, edge, Cookie::Session).ok_or_else(Refusal::no_session)?;
        let session = sessions::find(&edge.store, &token, edge.config.session.idle_seconds).await?;
        session.map(Self).ok_or_else(Refusal::no_session)
    }
}

/// The random identity that binds a ceremony to the browser that began it, if it has one.
pub struct Browser(pub Option<Token>);

impl FromRequestParts<Arc<Edge>> for Browser {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, Infallible> {
        Ok(Self(cookie(parts, edge, Cookie::Browser)))
    }
}

fn cookie(parts: &Parts, edge: &Edge, cookie: Cookie) -> Option<Token> {
    // HTTP/2 clients may split the header; joined it reads the same.
    let values: Vec<&str> = parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    edge.cookies.find(cookie, &values.join("; "))
}
