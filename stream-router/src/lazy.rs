//! Values that are decoded when somebody looks into them, once for everyone who shares them.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use event_schema::proto::{
    Message,
    geyser::{
        SubscribeUpdate, SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo,
        subscribe_update::UpdateOneof,
    },
};

/// What an update is about.
pub trait Subject: Default {
    fn of(update: UpdateOneof) -> Option<Self>;
}

impl Subject for SubscribeUpdateAccountInfo {
    fn of(update: UpdateOneof) -> Option<Self> {
        match update {
            UpdateOneof::Account(update) => update.account,
            _ => None,
        }
    }
}

impl Subject for SubscribeUpdateTransactionInfo {
    fn of(update: UpdateOneof) -> Option<Self> {
        match update {
            UpdateOneof::Transaction(update) => update.transaction,
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Lazy<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    /// The whole update; empty when the value was made here.
    update: Bytes,
    // In a box of its own: most are never decoded, and decoded ones are large.
    value: OnceLock<Box<T>>,
}

impl<T: Subject> Lazy<T> {
    /// Of an update that is known to decode to this: see [`crate::scan`].
    pub fn scanned(update: Bytes) -> Self {
        Self(Arc::new(Inner {
            update,
            value: OnceLock::new(),
        }))
    }

    /// The update's bytes, while nobody has had the value decoded.
    pub fn undecoded(&self) -> Option<&Bytes> {
        self.0.value.get().is_none().then_some(&self.0.update)
    }
}

impl<T: Subject> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let Inner { update, value } = &*self.0;
        value.get_or_init(|| {
            let decoded = SubscribeUpdate::decode(update.clone());
            debug_assert!(decoded.is_ok(), "what is scanned decodes: {decoded:?}");
            let subject = decoded.ok().and_then(|update| update.update_oneof);
            Box::new(subject.and_then(T::of).unwrap_or_default())
        })
    }
}

impl<T> From<T> for Lazy<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(Inner {
            update: Bytes::new(),
            value: OnceLock::from(Box::new(value)),
        }))
    }
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
