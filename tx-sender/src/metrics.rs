//! What the sender counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::delivery::{Outcome, State};

/// Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By result: `new`, `repeated`, `refused`, `failed`.
    pub requests: IntCounterVec,
    /// By outcome.
    pub attempts: IntCounterVec,
    pub attempt_seconds: Histogram,
    /// Transitions into each state.
    pub states: IntCounterVec,
    pub seconds_to_land: Histogram,
    pub open: IntGauge,
    pub connections: IntGauge,
    pub stream_lag: IntGauge,
    pub dead_letters: IntCounter,
    pub finalized_height: IntGauge,
}

impl Metrics {
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "heliograph_sender_requests_total",
                    "sendTransaction requests by result: new, repeated, refused, failed",
                ),
                &["result"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new(
                    "heliograph_sender_attempts_total",
                    "Sends of a transaction to a leader, by what became of them",
                ),
                &["outcome"],
            )?,
            attempt_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "heliograph_sender_ack_seconds",
                    "From handing a transaction to QUIC to the leader's acknowledgement",
                )
                .buckets(vec![
                    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8,
                ]),
            )?,
            states: IntCounterVec::new(
                Opts::new(
                    "heliograph_sender_states_total",
                    "Transactions that entered a state",
                ),
                &["state"],
            )?,
            seconds_to_land: Histogram::with_opts(
                HistogramOpts::new(
                    "heliograph_sender_seconds_to_land",
                    "From accepting a transaction to reading it in a published block",
                )
                .buckets(vec![
                    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 60.0,
                    90.0,
                ]),
            )?,
            open: IntGauge::new(
                "heliograph_sender_open",
                "Transactions that are not settled yet",
            )?,
            connections: IntGauge::new(
                "heliograph_sender_leaders",
                "Leaders that a connection is kept to",
            )?,
            stream_lag: IntGauge::new(
                "heliograph_sender_stream_lag_records",
                "Records of the canonical stream not read yet",
            )?,
            dead_letters: IntCounter::new(
                "heliograph_sender_dead_letters_total",
                "Records of the canonical stream that could not be understood",
            )?,
            finalized_height: IntGauge::new(
                "heliograph_sender_finalized_block_height",
                "Height of the highest finalized block read",
            )?,
        };
        for result in ["new", "repeated", "refused", "failed"] {
            metrics.requests.with_label_values(&[result]);
        }
        for outcome in Outcome::ALL {
            metrics.attempts.with_label_values(&[outcome.as_str()]);
        }
        for state in State::ALL {
            metrics.states.with_label_values(&[state.as_str()]);
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.attempt_seconds.clone()))?;
        registry.register(Box::new(metrics.states.clone()))?;
        registry.register(Box::new(metrics.seconds_to_land.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.stream_lag.clone()))?;
        registry.register(Box::new(metrics.dead_letters.clone()))?;
        registry.register(Box::new(metrics.finalized_height.clone()))?;
        Ok(metrics)
    }
}
