//! Our plugin's own account of itself: its Prometheus page, as far as the bench needs it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const PREFIX: &str = "heliograph_plugin_";
const LIMIT: Duration = Duration::from_secs(5);

/// One reading. All counts are since the plugin was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// That had to be recorded: without those that a filter left out, and once per output that records it.
    pub callbacks: u64,
    /// Acknowledged by Kafka, seals not counted.
    pub delivered: u64,
    /// Waiting in the spill.
    pub spill_pending: u64,
    pub lost: u64,
    /// Between callbacks and Kafka's client, and in it.
    pub queued: u64,
    pub in_flight: u64,
    /// Written to the spill so far, whether or not it still waits.
    pub spilled: u64,
    pub kafka_errors: u64,
}

impl Balance {
    /// Every callback has come to its end, and nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.callbacks == self.accounted() && self.queued == 0 && self.in_flight == 0
    }

    pub fn accounted(&self) -> u64 {
        self.delivered + self.spill_pending + self.lost
    }

    /// What was counted since `earlier`; what waits is that of now.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            callbacks: self.callbacks - earlier.callbacks,
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            ..*self
        }
    }
}

pub fn read(address: SocketAddr) -> io::Result<Balance> {
    Ok(balance(&page(address)?))
}

fn page(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn balance(page: &str) -> Balance {
    let all = |metric: &str| sum(page, metric, "");
    Balance {
        callbacks: (all("callbacks_total") + all("copies_total"))
            .saturating_sub(all("filtered_total")),
        delivered: all("delivered_total") - sum(page, "delivered_total", "kind=\"seal\""),
        spill_pending: all("spilled_total").saturating_sub(all("drained_total")),
        lost: all("lost_total"),
        queued: all("queue_records"),
        in_flight: all("kafka_in_flight"),
        spilled: all("spilled_total"),
        kafka_errors: all("kafka_errors_total"),
    }
}

/// The sum over a metric's lines whose labels contain `label`.
fn sum(page: &str, metric: &str, label: &str) -> u64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(PREFIX)?.strip_prefix(metric))
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_summed_by_their_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP heliograph_plugin_lost_total x\n\
            heliograph_plugin_callbacks_total{plugin=\"a\",kind=\"account\"} 10\n\
            heliograph_plugin_callbacks_total{plugin=\"a\",kind=\"slot\"} 5\n\
            heliograph_plugin_delivered_total{plugin=\"a\",kind=\"account\"} 7\n\
            heliograph_plugin_delivered_total{plugin=\"a\",kind=\"seal\"} 3\n\
            heliograph_plugin_lost_total{plugin=\"a\",reason=\"panic\"} 2\n\
            heliograph_plugin_lost_unplaced_total{plugin=\"a\"} 9\n\
            heliograph_plugin_spilled_total{plugin=\"a\"} 8\n\
            heliograph_plugin_drained_total{plugin=\"a\"} 2\n\
            heliograph_plugin_queue_records{plugin=\"a\"} 0\n";
        let balance = balance(page);
        assert_eq!(
            balance,
            Balance {
                callbacks: 15,
                delivered: 7,
                spill_pending: 6,
                lost: 2,
                queued: 0,
                in_flight: 0,
                spilled: 8,
                kafka_errors: 0,
            }
        );
        assert!(balance.is_settled());
        assert!(!Balance { lost: 1, ..balance }.is_settled());
    }
}
