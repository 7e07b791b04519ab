//! A set of addresses, built once and then only read: a plain array for a handful, a hash table for more.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use event_schema::Pubkey;

use super::FilterError;

/// Entries of one list. A million hold about 75 MB.
const KEYS_MAX: usize = 1_000_000;
/// Up to here, comparing one by one is faster than hashing (`examples/filter_cost.rs`).
const FEW: usize = 4;

#[derive(Debug)]
pub(super) enum KeySet {
    Few(Box<[Key]>),
    Many(HashMap<Key, u32, KeyedFold>),
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
        let mut positions = HashMap::with_hasher(KeyedFold::default());
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

/// Multiply-and-fold under a secret, two words at a time: a third of SipHash's time for 32 bytes.
///
/// Addresses that arrive may be chosen by anyone. Two things keep their cost bounded: the secret is drawn when the
/// filter is compiled and shows nowhere, and what is in the table is the operator's alone, so that no stranger can
/// lengthen its chains.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedFold {
    first: u64,
    second: u64,
}

impl Default for KeyedFold {
    fn default() -> Self {
        // The standard library's source of secrets. Its thread-local has no destructor, and this is the thread that
        // loads the plugin, not one that calls back.
        Self {
            first: RandomState::new().hash_one(1),
            second: RandomState::new().hash_one(2),
        }
    }
}

impl BuildHasher for KeyedFold {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher {
            state: self.first,
            secret: self.second,
        }
    }
}

pub(super) struct FoldHasher {
    state: u64,
    secret: u64,
}

impl FoldHasher {
    fn mix(&mut self, low: u64, high: u64) {
        let product = u128::from(self.state ^ low) * u128::from(self.secret ^ high);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let (pairs, odd) = words.as_chunks::<2>();
        for [low, high] in pairs {
            self.mix(u64::from_le_bytes(*low), u64::from_le_bytes(*high));
        }
        // Never so for a key; a hasher should hash all it is given.
        for word in odd {
            self.mix(u64::from_le_bytes(*word), 8);
        }
        for &byte in rest {
            self.mix(byte.into(), 1);
        }
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests;
