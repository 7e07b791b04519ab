//! Pure: an invented chain. What a slot holds follows from its number, so that a validator that executes it again, and who
//! judges the outcome, know it without being told.

use solana_hash::Hash;
use solana_signature::Signature;

/// Threads that update accounts, and how many each updates in a slot.
pub const ACCOUNT_THREADS: u64 = 2;
pub const ACCOUNTS_PER_THREAD: u64 = 24;
pub const TRANSACTIONS: u64 = 16;
pub const ENTRIES: u64 = 4;
/// *CreatedBank*, *Processed*, *Confirmed*, *Rooted*.
pub const STATUSES: u64 = 4;

pub const ACCOUNTS: u64 = ACCOUNT_THREADS * ACCOUNTS_PER_THREAD;
pub const CALLBACKS: u64 = ACCOUNTS + TRANSACTIONS + ENTRIES + 1 + STATUSES;

/// One slot in so many has an account that is too large for one record.
const LARGE_EVERY: u64 = 24;
pub const LARGE_BYTES: usize = 1_300_000;
/// One slot in so many was led by the validator itself, which then counts no entries.
const LED_EVERY: u64 = 9;

/// Bytes of the account's data.
pub fn account_bytes(slot: u64, index: u64) -> usize {
    if index == 0 && slot.is_multiple_of(LARGE_EVERY) {
        return LARGE_BYTES;
    }
    [165, 0, 165, 1_000][((slot + index) % 4) as usize]
}

pub fn account_key(index: u64) -> [u8; 32] {
    mixed(1, 0, index)
}

pub fn entry_hash(slot: u64, index: u64) -> Hash {
    Hash::new_from_array(mixed(2, slot, index))
}

/// The hash of the block's last entry.
pub fn blockhash(slot: u64) -> Hash {
    entry_hash(slot, ENTRIES - 1)
}

pub fn signature(slot: u64, index: u64) -> Signature {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&mixed(3, slot, index));
    bytes[32..].copy_from_slice(&mixed(4, slot, index));
    Signature::from(bytes)
}

/// As the block's metadata states it.
pub fn entries_stated(slot: u64) -> u64 {
    if slot.is_multiple_of(LED_EVERY) {
        0
    } else {
        ENTRIES
    }
}

/// Different for different arguments, and spread over partitions.
fn mixed(what: u8, slot: u64, index: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[what]);
    hasher.update(&slot.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_differ_and_large_accounts_are_rare() {
        let hashes: HashSet<Hash> = (1..200)
            .flat_map(|slot| (0..ENTRIES).map(move |index| entry_hash(slot, index)))
            .collect();
        assert_eq!(hashes.len() as u64, 199 * ENTRIES);
        let large = (1..=LARGE_EVERY * 10)
            .flat_map(|slot| (0..ACCOUNTS).map(move |index| account_bytes(slot, index)))
            .filter(|bytes| *bytes == LARGE_BYTES);
        assert_eq!(large.count(), 10);
    }
}
