//! The plain alternative to a shared index: every client's filters are looked at for every event, one after another.
//!
//! It is the cheapest such scan: one hash table per client, keyed by address, with a hash that only takes eight bytes of it. It
//! does nothing about commitment, queues or the network.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    hint::black_box,
    time::Instant,
};

/// Addresses are uniform already.
#[derive(Default)]
pub struct FirstEight(u64);

impl Hasher for FirstEight {
    fn finish(&self) -> u64 {
        self.0
    }

    // The length, which comes before the bytes, says nothing and is overwritten.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

/// One client's account filters: names by address.
pub struct ClientFilters {
    by_address: HashMap<[u8; 32], Vec<String>, BuildHasherDefault<FirstEight>>,
}

impl ClientFilters {
    pub fn of(address: [u8; 32]) -> Self {
        Self {
            by_address: HashMap::from_iter([(address, vec!["accounts".to_owned()])]),
        }
    }

    fn matching(&self, address: &[u8; 32]) -> &[String] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }
}

/// Seconds that one thread takes per million events, and how many matched.
pub fn seconds_per_million(clients: &[ClientFilters], events: &[[u8; 32]]) -> (f64, u64) {
    let begin = Instant::now();
    let mut matched = 0;
    for event in events {
        for client in clients {
            matched += black_box(client.matching(black_box(event))).len() as u64;
        }
    }
    let seconds = begin.elapsed().as_secs_f64() * 1e6 / events.len().max(1) as f64;
    (seconds, matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_whom_an_event_is_for() {
        let clients: Vec<ClientFilters> = (0..5).map(|n| ClientFilters::of([n; 32])).collect();
        let events: Vec<[u8; 32]> = [1, 4, 9, 4].map(|n| [n; 32]).to_vec();
        let (seconds, matched) = seconds_per_million(&clients, &events);
        assert_eq!(matched, 3);
        assert!(seconds > 0.0);
    }
}
