//! The plain alternative to a shared index: every client's filters are looked at for every event, one after another.
//!
//! Of what such a server does per client, only the lookups are done: the addresses of the client's filters, and the owners. It does
//! nothing about commitment, other conditions, queues or the network.

use std::{collections::HashMap, hint::black_box, time::Instant};

/// One client's account filters: names by address, and by owner.
pub struct ClientFilters {
    by_address: HashMap<[u8; 32], Vec<String>>,
    by_owner: HashMap<[u8; 32], Vec<String>>,
}

impl ClientFilters {
    pub fn of(address: [u8; 32]) -> Self {
        Self {
            by_address: HashMap::from([(address, vec!["accounts".to_owned()])]),
            // Not empty, for an empty table is not even looked into.
            by_owner: HashMap::from([(address, vec!["owners".to_owned()])]),
        }
    }

    fn matching(&self, address: &[u8; 32], owner: &[u8; 32]) -> usize {
        let names = |found: Option<&Vec<String>>| found.map_or(0, Vec::len);
        names(self.by_address.get(address)) + names(self.by_owner.get(owner))
    }
}

/// Seconds that one thread takes per million events of accounts of one owner, and how many names matched.
pub fn seconds_per_million(
    clients: &[ClientFilters],
    events: &[[u8; 32]],
    owner: &[u8; 32],
) -> (f64, u64) {
    let begin = Instant::now();
    let mut matched = 0;
    for event in events {
        for client in clients {
            matched += black_box(client.matching(black_box(event), black_box(owner))) as u64;
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
        let (seconds, matched) = seconds_per_million(&clients, &events, &[7; 32]);
        assert_eq!(matched, 3);
        assert_eq!(seconds_per_million(&clients, &events, &[2; 32]).1, 7);
        assert!(seconds > 0.0);
    }
}
