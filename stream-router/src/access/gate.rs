//! Who may come in, and how much of it: tokens, and the limits of their keys.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{ByteRate, Refusal, Refused};
use crate::yellowstone::{
    config::{ANONYMOUS, GrpcConfig, KeyLimits},
    filter::FilterLimits,
};

/// One who may come in: a token's holder, or all without a token together.
#[derive(Debug)]
pub struct Key {
    pub name: String,
    pub limits: KeyLimits,
    /// What its Yellowstone filters may ask for.
    pub filters: Arc<FilterLimits>,
    /// Of both doors together.
    pub rate: Option<ByteRate>,
    /// Streams and WebSocket connections that are open.
    places: AtomicUsize,
    pub grpc_bytes: IntCounter,
    pub websocket_bytes: IntCounter,
}

/// How much somebody asks for, on one stream or connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Filters, or subscriptions.
    pub filters: usize,
    /// Keys named one by one, in all filters.
    pub accounts: usize,
}

/// One key, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    pub name: String,
    /// `Subscribe` streams and WebSocket connections that are open.
    pub connections: usize,
    /// Sent since the process began, before compression.
    pub grpc_bytes_sent: u64,
    pub websocket_bytes_sent: u64,
    pub limits: KeyLimits,
}

/// The keys, shared by both doors.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    /// By the SHA-256 of the token.
    keys: Vec<([u8; 32], Arc<Key>)>,
    anonymous: Arc<Key>,
    anonymous_allowed: bool,
}

impl Gate {
    /// The metrics' labels are the names of the configuration.
    pub fn new(config: &GrpcConfig, registry: &Registry) -> anyhow::Result<Self> {
        let counters = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["key"]);
        let grpc = counters(
            "router_grpc_bytes_sent_total",
            "Bytes of updates handed to the network, before compression, by key",
        )?;
        let websocket = counters(
            "router_websocket_bytes_sent_total",
            "Bytes of messages handed to the network, by key",
        )?;
        registry.register(Box::new(grpc.clone()))?;
        registry.register(Box::new(websocket.clone()))?;
        let key = |name: &str, limits: KeyLimits| {
            Arc::new(Key {
                name: name.to_owned(),
                limits,
                filters: Arc::new(filters(config, limits)),
                rate: (limits.bytes_per_second > 0).then(|| ByteRate::new(limits.bytes_per_second)),
                places: AtomicUsize::new(0),
                grpc_bytes: grpc.with_label_values(&[name]),
                websocket_bytes: websocket.with_label_values(&[name]),
            })
        };
        let keys = config
            .x_tokens
            .iter()
            .filter_map(|token| Some((token.digest()?, key(&token.name, token.limits()))))
            .collect();
        Ok(Self(Arc::new(Keys {
            keys,
            anonymous: key(ANONYMOUS, config.anonymous.limits()),
            anonymous_allowed: config.anonymous.allowed,
        })))
    }

    pub fn caller(&self, token: Option<&[u8]>) -> Result<Arc<Key>, Refusal> {
        let token = token.unwrap_or_default();
        // Clients that always send a token are welcome where nobody needs one.
        if token.is_empty() || self.0.keys.is_empty() {
            if self.0.anonymous_allowed {
                return Ok(self.anonymous());
            }
            return Err(Refusal::new(
                Refused::TokenMissing,
                "no token; send yours as x-token: as metadata over gRPC, as a header or ?token= over WebSocket",
            ));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        // All keys are compared to the end, so that time does not tell how much of one was right.
        let mut found = None;
        for (own, key) in &self.0.keys {
            if own.ct_eq(&digest).into() {
                found = Some(key);
            }
        }
        found.cloned().ok_or_else(|| {
            let text = "the token is not known here; ask the operator (grpc.x_tokens)";
            Refusal::new(Refused::TokenUnknown, text)
        })
    }

    /// Who comes without a token, whether that is allowed or not.
    pub fn anonymous(&self) -> Arc<Key> {
        Arc::clone(&self.0.anonymous)
    }

    pub fn views(&self) -> Vec<KeyView> {
        let keys = self.0.keys.iter().map(|(_, key)| key);
        keys.chain([&self.0.anonymous])
            .map(|key| KeyView {
                name: key.name.clone(),
                connections: key.places.load(Ordering::Relaxed),
                grpc_bytes_sent: key.grpc_bytes.get(),
                websocket_bytes_sent: key.websocket_bytes.get(),
                limits: key.limits,
            })
            .collect()
    }
}

impl Key {
    /// A place for one more stream or connection, given back when dropped.
    pub fn place(self: &Arc<Self>) -> Result<Place, Refusal> {
        let open = self.places.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        let most = self.limits.connections_max;
        if most > 0 && open >= most {
            let text = format!(
                "key {} has {most} streams and connections open, its limit; close one first",
                self.name
            );
            return Err(Refusal::new(Refused::KeyConnections, text));
        }
        Ok(place)
    }

    /// Whether a stream or connection of this key may ask for that much.
    pub fn allows(&self, size: Size) -> Result<(), Refusal> {
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
                return Err(Refusal::new(why, text));
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

/// One stream's or connection's place among those its key may have.
#[derive(Debug)]
pub struct Place(Arc<Key>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
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
        Gate::new(&config, &Registry::new()).unwrap()
    }

    #[test]
    fn tokens_are_known_or_refused() {
        let gate = gate(false, &["one", "two"]);
        assert_eq!(gate.caller(Some(b"two")).unwrap().name, "key-two");
        for (token, why) in [
            (Some(&b"three"[..]), Refused::TokenUnknown),
            (Some(b"twO"), Refused::TokenUnknown),
            (Some(b""), Refused::TokenMissing),
            (None, Refused::TokenMissing),
        ] {
            assert_eq!(gate.caller(token).unwrap_err().why, why);
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
        let first = key.place().unwrap();
        let _second = key.place().unwrap();
        for _ in 0..3 {
            assert_eq!(key.place().unwrap_err().why, Refused::KeyConnections);
        }
        assert_eq!(gate.views()[0].connections, 2);
        drop(first);
        key.place().unwrap();
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
        let refusal = key
            .allows(Size {
                filters: 1,
                accounts: 11,
            })
            .unwrap_err();
        assert_eq!(refusal.why, Refused::KeyAccounts);
        assert_eq!(
            refusal.text,
            "the request has 11 accounts; key key-one may have 10 on one stream"
        );
    }
}
