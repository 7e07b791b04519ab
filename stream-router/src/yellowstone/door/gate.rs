//! Who may come in, and how much of it: tokens, and the limits of their keys.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prometheus::IntCounter;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{
    metrics::{DoorMetrics, Refused},
    pace::ByteRate,
    request::Size,
};
use crate::yellowstone::{
    config::{ANONYMOUS, GrpcConfig, KeyLimits},
    filter::FilterLimits,
};

/// Where clients put their token.
pub const TOKEN: &str = "x-token";

/// One who may come in: a token's holder, or all without a token together.
#[derive(Debug)]
pub struct Key {
    pub name: String,
    limits: KeyLimits,
    /// What its filters may ask for.
    pub filters: Arc<FilterLimits>,
    pub rate: Option<ByteRate>,
    streams: AtomicUsize,
    pub bytes: IntCounter,
}

#[derive(Debug)]
pub struct Gate {
    /// By the SHA-256 of the token.
    keys: Vec<([u8; 32], Arc<Key>)>,
    anonymous: Option<Arc<Key>>,
    metrics: DoorMetrics,
}

impl Gate {
    pub fn new(config: &GrpcConfig, metrics: &DoorMetrics) -> Self {
        let key = |name: &str, limits: KeyLimits| {
            Arc::new(Key {
                name: name.to_owned(),
                limits,
                filters: Arc::new(filters(config, limits)),
                rate: (limits.bytes_per_second > 0).then(|| ByteRate::new(limits.bytes_per_second)),
                streams: AtomicUsize::new(0),
                bytes: metrics.bytes_of(name),
            })
        };
        let keys = config
            .x_tokens
            .iter()
            .filter_map(|token| Some((token.digest()?, key(&token.name, token.limits()))))
            .collect();
        let anonymous = config
            .anonymous
            .allowed
            .then(|| key(ANONYMOUS, config.anonymous.limits()));
        Self {
            keys,
            anonymous,
            metrics: metrics.clone(),
        }
    }

    pub fn caller(&self, token: Option<&[u8]>) -> Result<Arc<Key>, Status> {
        let token = token.unwrap_or_default();
        let refuse = |why, text: &str| {
            self.metrics.refused(why);
            Err(Status::unauthenticated(text))
        };
        // Clients that always send a token are welcome where nobody needs one.
        if token.is_empty() || self.keys.is_empty() {
            return match &self.anonymous {
                Some(key) => Ok(Arc::clone(key)),
                None => refuse(
                    Refused::TokenMissing,
                    "no token; send yours as metadata x-token",
                ),
            };
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        // All keys are compared to the end, so that time does not tell how much of one was right.
        let mut found = None;
        for (own, key) in &self.keys {
            if same(own, &digest) {
                found = Some(key);
            }
        }
        match found {
            Some(key) => Ok(Arc::clone(key)),
            None => refuse(
                Refused::TokenUnknown,
                "the token in x-token is not known here",
            ),
        }
    }

    /// A place for one more stream, given back when dropped.
    pub fn place(&self, key: &Arc<Key>) -> Result<Place, Status> {
        let open = key.streams.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(key));
        let most = key.limits.connections_max;
        if most > 0 && open >= most {
            self.metrics.refused(Refused::KeyConnections);
            return Err(Status::resource_exhausted(format!(
                "key {} has {most} Subscribe streams open, its limit; close one first",
                key.name
            )));
        }
        Ok(place)
    }
}

impl Key {
    /// Whether a stream of this key may ask for that much.
    pub fn allows(&self, size: Size) -> Result<(), (Refused, Status)> {
        for (what, has, most, why) in [
            (
                "filters",
                size.filters,
                self.limits.filters_max,
                Refused::KeyFilters,
            ),
            (
                "accounts",
                size.accounts,
                self.limits.accounts_max,
                Refused::KeyAccounts,
            ),
        ] {
            if most > 0 && has > most {
                let text = format!(
                    "the request has {has} {what}; key {} may have {most} on one stream",
                    self.name
                );
                return Err((why, Status::invalid_argument(text)));
            }
        }
        Ok(())
    }
}

/// The engine holds a filter to the key's number of accounts, too, whatever was added and removed meanwhile.
fn filters(config: &GrpcConfig, limits: KeyLimits) -> FilterLimits {
    let mut filters = config.filters.clone();
    if limits.accounts_max > 0 {
        let most = filters.accounts.account_max.unwrap_or(usize::MAX);
        filters.accounts.account_max = Some(most.min(limits.accounts_max));
    }
    filters
}

/// One stream's place among those its key may have.
#[derive(Debug)]
pub struct Place(Arc<Key>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In the same time whether the first or the last byte differs.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::yellowstone::config::XToken;

    fn gate(anonymous: bool, tokens: &[&str]) -> Gate {
        let mut config = GrpcConfig::default();
        config.anonymous.allowed = anonymous;
        config.x_tokens = tokens
            .iter()
            .map(|token| XToken {
                name: format!("key-{token}"),
                sha256: Sha256::digest(token)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                connections_max: 2,
                filters_max: 3,
                accounts_max: 10,
                ..XToken::default()
            })
            .collect();
        config.check().unwrap();
        Gate::new(
            &config,
            &DoorMetrics::new(&prometheus::Registry::new()).unwrap(),
        )
    }

    #[test]
    fn tokens_are_known_or_refused() {
        let gate = gate(false, &["one", "two"]);
        assert_eq!(gate.caller(Some(b"two")).unwrap().name, "key-two");
        for token in [Some(&b"three"[..]), Some(b""), Some(b"twO"), None] {
            let status = gate.caller(token).unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
        }
    }

    #[test]
    fn without_a_token_one_is_anonymous_where_that_is_allowed() {
        let open = gate(true, &["one"]);
        assert_eq!(open.caller(None).unwrap().name, ANONYMOUS);
        // A wrong token is a mistake that should be told.
        assert!(open.caller(Some(b"three")).is_err());
        // Nobody has a token here, so nobody can have a wrong one.
        assert_eq!(
            gate(true, &[]).caller(Some(b"three")).unwrap().name,
            ANONYMOUS
        );
    }

    #[test]
    fn places_are_given_back() {
        let gate = gate(false, &["one"]);
        let key = gate.caller(Some(b"one")).unwrap();
        let first = gate.place(&key).unwrap();
        let _second = gate.place(&key).unwrap();
        for _ in 0..3 {
            assert_eq!(
                gate.place(&key).unwrap_err().code(),
                Code::ResourceExhausted
            );
        }
        drop(first);
        gate.place(&key).unwrap();
    }

    #[test]
    fn a_key_has_limits() {
        let gate = gate(false, &["one"]);
        let key = gate.caller(Some(b"one")).unwrap();
        key.allows(Size {
            filters: 3,
            accounts: 10,
        })
        .unwrap();
        let (why, status) = key
            .allows(Size {
                filters: 1,
                accounts: 11,
            })
            .unwrap_err();
        assert_eq!(why, Refused::KeyAccounts);
        assert_eq!(
            status.message(),
            "the request has 11 accounts; key key-one may have 10 on one stream"
        );
    }
}
