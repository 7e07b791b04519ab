//! A set of addresses, built once and then only read: a plain array for a handful, a hash table for more.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use ahash::RandomState;
use event_schema::Pubkey;

use super::FilterError;

/// Entries of one list. A million hold about 75 MB.
const KEYS_MAX: usize = 1_000_000;
/// Up to here, comparing one by one is as fast as hashing.
const FEW: usize = 4;

#[derive(Debug)]
pub(super) enum KeySet {
    Few(Box<[Key]>),
    /// Addresses that arrive may be chosen by anyone: a secret keys the hash, at a fourth of SipHash's time. And what is
    /// in the table is the operator's alone, so that no stranger can lengthen its chains.
    Many(HashMap<Key, u32, RandomState>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Hash for Key {
    // All keys are of one length: no length prefix.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl KeySet {
    /// `name` is the list's path under `filters`. Repeated keys count once.
    pub fn compile(name: &str, keys: &[Pubkey]) -> Result<Self, FilterError> {
        if keys.len() > KEYS_MAX {
            return Err(FilterError::new(
                name,
                format!("has {} addresses", keys.len()),
                format!("write at most {KEYS_MAX}, or filter by owner"),
            ));
        }
        let mut positions = HashMap::with_hasher(RandomState::new());
        let mut distinct = Vec::new();
        for &Pubkey(key) in keys {
            positions.entry(Key(key)).or_insert_with(|| {
                distinct.push(Key(key));
                // At most a million.
                (distinct.len() - 1) as u32
            });
        }
        Ok(if distinct.len() <= FEW {
            Self::Few(distinct.into())
        } else {
            positions.shrink_to_fit();
            Self::Many(positions)
        })
    }

    pub fn empty() -> Self {
        Self::Few(Box::default())
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Few(keys) => keys.len(),
            Self::Many(positions) => positions.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, key: &[u8; 32]) -> bool {
        self.position(key).is_some()
    }

    /// A number below `len` that no other key of the set has.
    pub fn position(&self, key: &[u8; 32]) -> Option<u32> {
        match self {
            Self::Few(keys) => keys
                .iter()
                .position(|Key(listed)| listed == key)
                .map(|position| position as u32),
            Self::Many(positions) => positions.get(&Key(*key)).copied(),
        }
    }

    /// In bytes; the table's free places included.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Few(keys) => size_of_val::<[Key]>(keys),
            // `capacity` is 7/8 of the places; each costs an entry and a control byte.
            Self::Many(positions) => positions.capacity() * 8 / 7 * (size_of::<(Key, u32)>() + 1),
        }
    }
}

#[cfg(test)]
mod tests;
