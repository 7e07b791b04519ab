//! What one connection may ask for, and what it has asked for so far.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    access::Key,
    subscription::{RpcError, Subscription},
};

/// The fan-out counts, operators look.
#[derive(Debug)]
pub struct Allowance {
    key: Arc<Key>,
    subscriptions_max: usize,
    subscriptions: AtomicUsize,
    addresses: AtomicUsize,
}

impl Allowance {
    /// `subscriptions_max` is everybody's; the key may have less.
    pub fn new(key: Arc<Key>, subscriptions_max: usize) -> Self {
        Self {
            key,
            subscriptions_max,
            subscriptions: AtomicUsize::new(0),
            addresses: AtomicUsize::new(0),
        }
    }

    pub fn key(&self) -> &str {
        &self.key.name
    }

    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    pub fn addresses(&self) -> usize {
        self.addresses.load(Ordering::Relaxed)
    }

    /// One more, if that is allowed. Called by the fan-out only.
    pub(super) fn take(&self, subscription: &Subscription) -> Result<(), RpcError> {
        let subscriptions = self.subscriptions() + 1;
        if subscriptions > self.subscriptions_max {
            return Err(RpcError::too_many_subscriptions());
        }
        let addresses = self.addresses() + subscription.addresses();
        let limits = self.key.limits;
        for (what, wanted, most) in [
            ("subscriptions", subscriptions, limits.filters_max),
            ("addresses", addresses, limits.accounts_max),
        ] {
            if most > 0 && wanted > most {
                let key = &self.key.name;
                let text = format!("key {key} may have {most} {what} on one connection");
                return Err(RpcError::subscription_refused(&text));
            }
        }
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
        self.addresses.store(addresses, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn give_back(&self, subscription: &Subscription) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        let addresses = subscription.addresses();
        self.addresses.fetch_sub(addresses, Ordering::Relaxed);
    }
}
