//! Public keys: sets of them, read from what clients send.

use std::collections::BTreeSet;

use event_schema::Pubkey;

use super::error::{FilterError, Place, quoted};

pub type Key = [u8; 32];
pub type KeySet = foldhash::HashSet<Key>;

/// A field that should be a key; whatever has another length equals no key.
pub fn key(bytes: &[u8]) -> Option<&Key> {
    bytes.try_into().ok()
}

pub fn key_from_text(text: &str) -> Option<Key> {
    // Agave's own parser: several times faster than a general base58 decoder, which 100,000 keys make felt.
    text.parse::<solana_pubkey::Pubkey>()
        .ok()
        .map(|key| key.to_bytes())
}

/// A list of keys in base58. The same key twice is one.
pub fn key_set(
    place: Place<'_>,
    field: &'static str,
    texts: &[String],
    max: Option<usize>,
    reject: &BTreeSet<Pubkey>,
) -> Result<KeySet, FilterError> {
    place.at_most(field, texts.len(), max)?;
    let mut keys = KeySet::with_capacity_and_hasher(texts.len(), Default::default());
    for (index, text) in texts.iter().enumerate() {
        let key = key_from_text(text).ok_or_else(|| {
            place.error(
                format_args!("{field}[{index}]"),
                format!("{} is not a public key", quoted(text)),
                "send its 32 bytes in base58",
            )
        })?;
        refuse_rejected(place, field, &key, reject)?;
        keys.insert(key);
    }
    Ok(keys)
}

pub fn refuse_rejected(
    place: Place<'_>,
    field: &'static str,
    key: &Key,
    reject: &BTreeSet<Pubkey>,
) -> Result<(), FilterError> {
    let key = Pubkey(*key);
    if !reject.is_empty() && reject.contains(&key) {
        return Err(place.error(
            field,
            format!("{key} may not be asked for here"),
            "leave it out",
        ));
    }
    Ok(())
}

/// Whether a set and sorted keys have one in common: by the shorter side.
pub fn intersects(set: &KeySet, sorted: &[Key]) -> bool {
    if set.len() < sorted.len() {
        set.iter().any(|key| sorted.binary_search(key).is_ok())
    } else {
        sorted.iter().any(|key| set.contains(key))
    }
}

/// Whether all of a set are among sorted, distinct keys.
pub fn is_subset(set: &KeySet, sorted: &[Key]) -> bool {
    set.len() <= sorted.len() && set.iter().all(|key| sorted.binary_search(key).is_ok())
}
