//! Entries for a recorded block.
//!
//! The recorded formats carry transactions but no entries, while a validator reports both and a reader counts both to know
//! that a slot is whole. So the host makes them, and says so: one entry per at most [`TRANSACTIONS_PER_ENTRY`] transactions,
//! then [`TICKS`] ticks. Indices and counts are those a validator would state for such entries; the hash chain is SHA-256
//! from the parent's blockhash over the signatures, and its last link is the recorded blockhash, as on the chain.

use sha2::{Digest, Sha256};
use solana_hash::Hash;

use crate::block_file::Block;

/// What a leader packs at most into one entry.
pub const TRANSACTIONS_PER_ENTRY: usize = 64;
/// Ticks per slot on the public clusters.
pub const TICKS: usize = 64;
/// Hashes between two ticks. Any positive number would do here: nobody can recompute the chain without the real entries.
const HASHES_PER_TICK: u64 = 62_500;

/// One entry, in the fields of `ReplicaEntryInfoV2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub index: usize,
    pub num_hashes: u64,
    pub hash: Hash,
    pub executed_transaction_count: u64,
    pub starting_transaction_index: usize,
}

pub fn synthesise(block: &Block) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut hash = block.parent_blockhash;
    let mut starting_transaction_index = 0;
    for chunk in block.transactions.chunks(TRANSACTIONS_PER_ENTRY) {
        let mut hasher = Sha256::new();
        hasher.update(hash.as_ref());
        for transaction in chunk {
            for signature in &transaction.transaction.signatures {
                hasher.update(signature.as_ref());
            }
        }
        hash = Hash::new_from_array(hasher.finalize().into());
        entries.push(Entry {
            index: entries.len(),
            num_hashes: 1,
            hash,
            executed_transaction_count: chunk.len() as u64,
            starting_transaction_index,
        });
        starting_transaction_index += chunk.len();
    }
    for tick in 1..=TICKS {
        hash = if tick == TICKS {
            block.blockhash
        } else {
            Hash::new_from_array(Sha256::digest(hash.as_ref()).into())
        };
        entries.push(Entry {
            index: entries.len(),
            num_hashes: HASHES_PER_TICK,
            hash,
            executed_transaction_count: 0,
            starting_transaction_index,
        });
    }
    entries
}
