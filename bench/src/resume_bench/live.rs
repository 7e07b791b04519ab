//! A subscriber at the head of the stream, whose latency tells whether others disturb it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::fanout_bench::{
    stamp::Clock,
    subscriber::{RequestExtension, Subscriber, all_accounts, connect},
};

/// When the first update of each slot came, on the clock.
pub type Arrivals = Arc<Mutex<Vec<(u64, u64)>>>;

/// Reads until the stream ends.
pub async fn listen(address: SocketAddr, clock: Clock, arrivals: Arrivals) -> anyhow::Result<()> {
    let channel = connect(address).await?;
    let extension = RequestExtension::default();
    let mut subscriber = Subscriber::subscribe(&channel, &all_accounts(), &extension).await?;
    while let Some(update) = subscriber.next().await? {
        if let Some(account) = update.account() {
            let now = clock.now();
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if arrivals
                .last()
                .is_none_or(|(slot, _)| *slot != account.slot)
            {
                arrivals.push((account.slot, now));
            }
        }
    }
    Ok(())
}

/// Pure: nanoseconds from the report of each slot to its first update, of slots reported between the two times.
pub fn latencies(
    reported: &[(event_schema::Slot, u64)],
    arrivals: &[(u64, u64)],
    between: std::ops::Range<u64>,
) -> Vec<u64> {
    let arrived: std::collections::HashMap<u64, u64> = arrivals.iter().rev().copied().collect();
    let mut latencies: Vec<u64> = reported
        .iter()
        .filter(|(_, at)| between.contains(at))
        .filter_map(|(slot, at)| Some(arrived.get(&slot.0)?.saturating_sub(*at)))
        .collect();
    latencies.sort_unstable();
    latencies
}

/// Of sorted values; 0 of none.
pub fn quantile(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use event_schema::Slot;

    use super::*;

    #[test]
    fn the_first_arrival_of_a_slot_counts() {
        let reported = [(Slot(1), 10), (Slot(2), 20), (Slot(3), 30)];
        let arrivals = [(1, 15), (2, 24), (1, 90), (3, 33)];
        assert_eq!(latencies(&reported, &arrivals, 0..30), [4, 5]);
        assert_eq!(quantile(&[4, 5], 0.5), 4);
        assert_eq!(quantile(&[4, 5], 0.99), 5);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
