//! Pure: where a WebSocket client puts its token.

use axum::{
    extract::Query,
    http::{HeaderMap, Uri, header::AUTHORIZATION},
};
use serde::Deserialize;

use crate::access::TOKEN;

/// Browsers can set no header, so there is a parameter, too.
#[derive(Debug, Deserialize)]
struct Parameters {
    token: Option<String>,
}

/// Of the header `x-token`, of `Authorization: Bearer`, of `?token=`: the first there is.
pub fn token(headers: &HeaderMap, uri: &Uri) -> Option<Vec<u8>> {
    if let Some(token) = headers.get(TOKEN) {
        return Some(token.as_bytes().to_vec());
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().as_bytes().to_vec())
    });
    bearer.or_else(|| {
        let Query(parameters) = Query::<Parameters>::try_from_uri(uri).ok()?;
        parameters.token.map(String::into_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&str, &str)], uri: &str) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = axum::http::HeaderName::try_from(*name).unwrap();
            map.insert(name, value.parse().unwrap());
        }
        token(&map, &uri.parse().unwrap()).map(|token| String::from_utf8(token).unwrap())
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found(&[("x-token", "a")], "/?token=b"), some("a"));
        assert_eq!(found(&[("authorization", "bearer a")], "/"), some("a"));
        assert_eq!(
            found(&[("authorization", "Basic a")], "/x?token=b%20c"),
            some("b c")
        );
        assert_eq!(found(&[], "/?tokens=b"), None);
        assert_eq!(found(&[], "/"), None);
    }
}
