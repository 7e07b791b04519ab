//! Names are promises: add, supersede, never repurpose.

use prometheus::{IntCounter, IntGauge, Registry};

/// The engine's metrics.
#[derive(Clone)]
pub struct EngineMetrics {
    pub subscribers: IntGauge,
    pub catching_up: IntGauge,
    pub catch_ups: IntCounter,
    pub fell_behind: IntCounter,
    pub recent_bytes: IntGauge,
    pub updates: IntCounter,
}

impl EngineMetrics {
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let metrics = Self {
            subscribers: IntGauge::new("router_grpc_subscribers", "Yellowstone subscriptions")?,
            catching_up: IntGauge::new(
                "router_grpc_catching_up",
                "Yellowstone subscriptions that read from the log",
            )?,
            catch_ups: IntCounter::new(
                "router_grpc_catch_ups_total",
                "Times a subscription began to read from the log",
            )?,
            fell_behind: IntCounter::new(
                "router_grpc_fell_behind_total",
                "Times a subscription's queue was full",
            )?,
            recent_bytes: IntGauge::new(
                "router_grpc_recent_bytes",
                "Memory held by blocks that are not finalized",
            )?,
            updates: IntCounter::new(
                "router_grpc_updates_total",
                "Updates queued for live subscriptions",
            )?,
        };
        registry.register(Box::new(metrics.subscribers.clone()))?;
        registry.register(Box::new(metrics.catching_up.clone()))?;
        registry.register(Box::new(metrics.catch_ups.clone()))?;
        registry.register(Box::new(metrics.fell_behind.clone()))?;
        registry.register(Box::new(metrics.recent_bytes.clone()))?;
        registry.register(Box::new(metrics.updates.clone()))?;
        Ok(metrics)
    }
}
