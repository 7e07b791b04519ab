//! What every request passes before any handler: who may call from where, how often, and what browsers may do with the answer.

use crate::config::LimitsConfig;
use crate::edge::Edge;
use crate::refusal::{Refusal, RefusalCode};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Nothing but our own scripts, styles and images; no inline code, no frames, no forms to elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

pub struct RateLimits {
    clients: DefaultKeyedRateLimiter<IpAddr>,
    accounts: DefaultKeyedRateLimiter<Uuid>,
}

impl RateLimits {
    pub fn new(limits: &LimitsConfig) -> Self {
        let quota = |per_minute: u32| {
            Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN))
        };
        Self {
            clients: RateLimiter::keyed(quota(limits.client_requests_per_minute)),
            accounts: RateLimiter::keyed(quota(limits.account_sends_per_minute)),
        }
    }

    pub fn client(&self, address: IpAddr) -> Result<(), Refusal> {
        self.clients
            .check_key(&network_of(address))
            .map_err(|_| too_many())
    }

    pub fn account(&self, user: Uuid) -> Result<(), Refusal> {
        self.accounts.check_key(&user).map_err(|_| too_many())
    }

    /// Forgets those who have been quiet for long enough to have a full allowance again.
    pub fn sweep(&self) {
        self.clients.retain_recent();
        self.accounts.retain_recent();
    }
}

/// One IPv6 customer owns at least a /64 and must not get a fresh allowance per address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

fn too_many() -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "There were too many requests.",
        "Wait a few seconds and try again.",
    )
}

pub async fn check(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let is_api = request.uri().path().starts_with("/v1/");
    let outcome = admit(&edge, peer, request.method(), request.headers());
    let mut response = match outcome {
        Ok(()) => match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "It took too long.",
                "Try again.",
            )
            .into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    if let Some(RefusalCode(code)) = response.extensions().get::<RefusalCode>() {
        edge.metrics.refusals.with_label_values(&[code]).inc();
    }
    protect(response.headers_mut(), is_api, edge.cookies.https);
    response
}

fn admit(
    edge: &Edge,
    peer: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    check_origin(&edge.config.public_origin, headers)?;
    edge.rates.client(client_address(
        &edge.config.client_address_header,
        peer,
        headers,
    ))
}

/// Browsers name the calling page's origin on every POST. Requests without one do not come from our page.
fn check_origin(expected: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let refusal = |problem: &str| {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "wrong_origin",
            problem,
            format!(
                "Open {expected} in the browser; programs set the header `Origin: {expected}`."
            ),
        )
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if origin.as_bytes() == expected.as_bytes() => {}
        (None, _) => {
            return Err(refusal(
                "The request does not say which page it comes from.",
            ));
        }
        _ => return Err(refusal("The request comes from another page.")),
    }
    match headers.get("sec-fetch-site") {
        Some(site) if site.as_bytes() != b"same-origin" => {
            Err(refusal("The request comes from another site."))
        }
        _ => Ok(()),
    }
}

fn client_address(header_name: &str, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    if header_name.is_empty() {
        return peer.ip();
    }
    // A proxy appends the address it saw: the last one is the one it vouches for.
    let value = headers
        .get_all(header_name)
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|text| text.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or_else(|| peer.ip())
}

fn protect(headers: &mut HeaderMap, is_api: bool, https: bool) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    };
    set("content-security-policy", CONTENT_SECURITY_POLICY);
    set("x-content-type-options", "nosniff");
    set("x-frame-options", "DENY");
    set("referrer-policy", "no-referrer");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set(
        "permissions-policy",
        "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()",
    );
    if is_api {
        set("cache-control", "no-store");
    }
    if https {
        set("strict-transport-security", "max-age=63072000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn only_our_own_page_may_post() {
        let ok = |pairs: &[(&'static str, &str)]| {
            check_origin("http://localhost:8940", &headers(pairs)).is_ok()
        };
        assert!(ok(&[("origin", "http://localhost:8940")]));
        assert!(ok(&[
            ("origin", "http://localhost:8940"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!ok(&[]));
        assert!(!ok(&[("origin", "null")]));
        assert!(!ok(&[("origin", "http://localhost:8941")]));
        assert!(!ok(&[("origin", "http://localhost:8940.evil.example")]));
        assert!(!ok(&[
            ("origin", "http://localhost:8940"),
            ("origin", "http://localhost:8940")
        ]));
        assert!(!ok(&[
            ("origin", "http://localhost:8940"),
            ("sec-fetch-site", "same-site")
        ]));
    }

    #[test]
    fn allowances_are_per_network_and_do_not_mix() {
        let limits = LimitsConfig {
            client_requests_per_minute: 2,
            ..LimitsConfig::default()
        };
        let rates = RateLimits::new(&limits);
        let from = |address: &str| rates.client(address.parse().unwrap()).is_ok();
        assert!(from("10.0.0.1") && from("10.0.0.1"));
        assert!(!from("10.0.0.1"), "the third within a minute");
        assert!(
            !from("::ffff:10.0.0.1"),
            "the same client by another spelling"
        );
        assert!(from("10.0.0.2"));
        assert!(from("2001:db8::1") && from("2001:db8::2"));
        assert!(!from("2001:db8:0:0:ffff::3"), "the same /64");
        assert!(from("2001:db8:0:1::1"));
    }

    #[test]
    fn the_proxy_vouches_for_the_last_address_only() {
        let peer = "127.0.0.1:5".parse().unwrap();
        let address = |name: &str, value: &str| {
            client_address(name, peer, &headers(&[("x-forwarded-for", value)])).to_string()
        };
        assert_eq!(address("x-forwarded-for", "6.6.6.6, 10.0.0.9"), "10.0.0.9");
        assert_eq!(address("x-forwarded-for", "nonsense"), "127.0.0.1");
        assert_eq!(address("", "6.6.6.6"), "127.0.0.1");
    }
}
