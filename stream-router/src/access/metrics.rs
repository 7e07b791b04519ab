//! What either door counts of those who come. Names are promises; labels come from closed sets.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::Refused;

#[derive(Debug, Clone)]
pub struct Arrivals {
    pub connections: IntGauge,
    refused: IntCounterVec,
}

impl Arrivals {
    /// `door` is part of the metrics' names: `grpc` or `websocket`.
    pub fn new(door: &'static str, registry: &Registry) -> anyhow::Result<Self> {
        let arrivals = Self {
            connections: IntGauge::new(
                format!("router_{door}_connections"),
                "Open connections, those included that wait to be told that they are too many",
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    format!("router_{door}_refused_total"),
                    "Connections, calls and requests turned away, by reason",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(arrivals.connections.clone()))?;
        registry.register(Box::new(arrivals.refused.clone()))?;
        Ok(arrivals)
    }

    pub fn refused(&self, why: Refused) {
        self.refused.with_label_values(&[why.as_str()]).inc();
    }
}
