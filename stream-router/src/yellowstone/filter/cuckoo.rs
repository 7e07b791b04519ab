//! Cuckoo sets: many accounts in two or three bytes each, with false positives but no false negatives. The layout is that
//! of `yellowstone_grpc_proto::cuckoo`: buckets of four 16-bit fingerprints, found by SipHash-2-4 with the set's seed.

#[allow(deprecated)]
// `DefaultHasher` replaces it where the algorithm does not matter. Here it is the wire format.
use std::hash::SipHasher;
use std::hash::{Hash, Hasher};

use event_schema::proto::geyser::{CuckooFilter, CuckooHashAlgorithm};

use super::{
    error::{FilterError, Place},
    keys::Key,
};

const ENTRIES: usize = 4;
const FINGERPRINT_BITS: u32 = 16;
const BUCKET_BYTES: usize = ENTRIES * 2;

#[derive(Debug, PartialEq, Eq)]
pub struct Cuckoo {
    pub seed: u64,
    /// Their number is a power of two.
    buckets: Box<[[u16; ENTRIES]]>,
}

/// What one key looks like under one seed: hashed once for all sets of that seed.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    hash: u64,
    fingerprint: u16,
    fingerprint_hash: u64,
}

impl Probe {
    pub fn new(seed: u64, key: &Key) -> Self {
        let hash = hash(seed, key);
        let fingerprint = ((hash >> 32) as u16).max(1);
        Self {
            hash,
            fingerprint,
            fingerprint_hash: self::hash(seed, &fingerprint),
        }
    }
}

#[allow(deprecated)]
fn hash(seed: u64, value: &impl Hash) -> u64 {
    let mut hasher = SipHasher::new_with_keys(seed, seed.rotate_left(32));
    value.hash(&mut hasher);
    hasher.finish()
}

impl Cuckoo {
    pub fn compile(
        place: Place<'_>,
        field: &'static str,
        sent: &CuckooFilter,
        bytes_max: Option<usize>,
    ) -> Result<Self, FilterError> {
        place.at_most(field, sent.data.len(), bytes_max)?;
        let refuse = |problem: String, fix: &str| Err(place.error(field, problem, fix));
        if sent.hash_algorithm != CuckooHashAlgorithm::SipHash as i32 {
            return refuse(
                format!("hash_algorithm {} is unknown", sent.hash_algorithm),
                "build it with SIP_HASH",
            );
        }
        if sent.data.is_empty() {
            return Ok(Self {
                seed: sent.hash_seed,
                buckets: vec![[0; ENTRIES]].into(),
            });
        }
        if sent.entries_per_bucket as usize != ENTRIES || sent.fingerprint_bits != FINGERPRINT_BITS
        {
            return refuse(
                format!(
                    "{} entries per bucket of {} bits",
                    sent.entries_per_bucket, sent.fingerprint_bits
                ),
                "build it with 4 entries per bucket of 16 bits",
            );
        }
        let buckets = sent.bucket_count as usize;
        if !buckets.is_power_of_two() || buckets * BUCKET_BYTES != sent.data.len() {
            return refuse(
                format!("{} bytes for {buckets} buckets", sent.data.len()),
                "send a power of two of buckets and 8 bytes for each",
            );
        }
        let buckets = sent
            .data
            .chunks_exact(BUCKET_BYTES)
            .map(|bucket| {
                std::array::from_fn(|at| u16::from_le_bytes([bucket[2 * at], bucket[2 * at + 1]]))
            })
            .collect();
        Ok(Self {
            seed: sent.hash_seed,
            buckets,
        })
    }

    /// `probe` must have been made with this set's seed.
    pub fn contains(&self, probe: &Probe) -> bool {
        let mask = self.buckets.len() - 1;
        let first = probe.hash as usize & mask;
        let second = first ^ (probe.fingerprint_hash as usize & mask);
        self.buckets[first].contains(&probe.fingerprint)
            || self.buckets[second].contains(&probe.fingerprint)
    }

    pub fn contains_any(&self, keys: &[Key]) -> bool {
        keys.iter()
            .any(|key| self.contains(&Probe::new(self.seed, key)))
    }
}
