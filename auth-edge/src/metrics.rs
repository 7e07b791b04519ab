//! What the edge counts. Names are promises: add, never repurpose.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

#[derive(Clone)]
pub struct Metrics {
    /// By outcome: ok, refused.
    pub registrations: IntCounterVec,
    pub logins: IntCounterVec,
    /// By state reached: created, reserved, handed, landed, failed, expired.
    pub sends: IntCounterVec,
    /// By refusal code.
    pub refusals: IntCounterVec,
    /// Seconds from an approval's arrival to its answer.
    pub finish_seconds: Histogram,
    /// 1 while the audit chain verifies, 0 when a row does not fit.
    pub audit_chain_intact: IntGauge,
    pub audit_rows_verified: IntGauge,
    pub sessions_swept: IntCounter,
}

impl Metrics {
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let vec = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        let metrics = Self {
            registrations: vec(
                "edge_registrations_total",
                "Finished registrations by outcome",
                "outcome",
            )?,
            logins: vec("edge_logins_total", "Finished logins by outcome", "outcome")?,
            sends: vec("edge_sends_total", "Transfers by state reached", "state")?,
            refusals: vec("edge_refusals_total", "Refused requests by code", "code")?,
            finish_seconds: Histogram::with_opts(HistogramOpts::new(
                "edge_send_finish_seconds",
                "Approval in, answer out",
            ))?,
            audit_chain_intact: IntGauge::new(
                "edge_audit_chain_intact",
                "1 while the audit chain verifies",
            )?,
            audit_rows_verified: IntGauge::new(
                "edge_audit_rows_verified",
                "Audit rows covered by the last verification",
            )?,
            sessions_swept: IntCounter::new(
                "edge_sessions_swept_total",
                "Ended sessions and ceremonies removed",
            )?,
        };
        registry.register(Box::new(metrics.registrations.clone()))?;
        registry.register(Box::new(metrics.logins.clone()))?;
        registry.register(Box::new(metrics.sends.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.finish_seconds.clone()))?;
        registry.register(Box::new(metrics.audit_chain_intact.clone()))?;
        registry.register(Box::new(metrics.audit_rows_verified.clone()))?;
        registry.register(Box::new(metrics.sessions_swept.clone()))?;
        Ok(metrics)
    }
}
