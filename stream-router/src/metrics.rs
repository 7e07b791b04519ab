//! Names are promises: add, supersede, never repurpose.

use std::time::Duration;

use event_schema::{Kind, ObservedTopic};
use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

use crate::{
    account_state::LostCounts,
    router::{Effect, Router},
};

/// The router's metrics.
#[derive(Clone)]
pub struct Metrics {
    events: IntCounterVec,
    blocks: IntGaugeVec,
    lag: IntGaugeVec,
    heads: IntGaugeVec,
    totals: IntGaugeVec,
    open_slots: IntGauge,
    open_bytes: IntGauge,
    commits: Histogram,
    pub subscribers: IntGauge,
    pub subscriptions: IntGauge,
    pub queue_bytes: IntGauge,
    pub notifications: IntCounterVec,
    pub disconnects: IntCounterVec,
    /// By [`crate::repair::Happening`].
    pub repairs: IntCounterVec,
    lost_accounts: IntGaugeVec,
}

impl Metrics {
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        let gauges =
            |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            events: counters(
                "router_events_published_total",
                "Events published, by kind",
                "kind",
            )?,
            blocks: gauges(
                "router_standings_told",
                "Blocks published, confirmed, finalized, abandoned in this life",
                "standing",
            )?,
            lag: gauges(
                "router_topic_lag_records",
                "Offsets between the reader and the end, by observed topic",
                "topic",
            )?,
            heads: gauges(
                "router_head_slot",
                "Highest slot, by commitment",
                "commitment",
            )?,
            totals: gauges(
                "router_records",
                "Records and slots in this life, by what became of them",
                "outcome",
            )?,
            open_slots: IntGauge::new("router_open_slots", "Slots not yet complete, per source")?,
            open_bytes: IntGauge::new(
                "router_open_bytes",
                "Memory held by slots not yet complete",
            )?,
            commits: Histogram::with_opts(
                HistogramOpts::new("router_commit_seconds", "Time of one Kafka transaction")
                    .buckets(vec![
                        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
                    ]),
            )?,
            subscribers: IntGauge::new("router_subscribers", "Open WebSocket connections")?,
            subscriptions: IntGauge::new("router_subscriptions", "Live subscriptions")?,
            queue_bytes: IntGauge::new(
                "router_subscriber_queue_bytes",
                "Notifications not yet handed to the network, all subscribers",
            )?,
            notifications: counters(
                "router_notifications_total",
                "Notifications queued, by method",
                "method",
            )?,
            disconnects: counters(
                "router_disconnects_total",
                "Connections ended by the router, by reason",
                "reason",
            )?,
            repairs: counters(
                "router_repairs_total",
                "Slots that no source had, by what became of them at RPC nodes; refused counts replies",
                "outcome",
            )?,
            lost_accounts: gauges(
                "router_lost_accounts",
                "Accounts that blocks without account updates may have written in this life, by what became of them; waiting is now",
                "outcome",
            )?,
        };
        let all: [Box<dyn Collector>; 15] = [
            Box::new(metrics.events.clone()),
            Box::new(metrics.blocks.clone()),
            Box::new(metrics.lag.clone()),
            Box::new(metrics.heads.clone()),
            Box::new(metrics.totals.clone()),
            Box::new(metrics.open_slots.clone()),
            Box::new(metrics.open_bytes.clone()),
            Box::new(metrics.commits.clone()),
            Box::new(metrics.subscribers.clone()),
            Box::new(metrics.subscriptions.clone()),
            Box::new(metrics.queue_bytes.clone()),
            Box::new(metrics.notifications.clone()),
            Box::new(metrics.disconnects.clone()),
            Box::new(metrics.repairs.clone()),
            Box::new(metrics.lost_accounts.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    pub fn effects(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => {
                    self.blocks.with_label_values(&["published"]).inc();
                    for (kind, count) in [
                        (Kind::Account, block.accounts),
                        (Kind::Transaction, block.transactions),
                        (Kind::Entry, block.entries),
                        (Kind::BlockMeta, 1),
                    ] {
                        self.events
                            .with_label_values(&[kind.as_str()])
                            .inc_by(count);
                    }
                }
                Effect::Standing(change) => {
                    let standing = format!("{:?}", change.standing).to_lowercase();
                    self.blocks.with_label_values(&[&standing]).inc();
                }
                _ => {}
            }
        }
    }

    pub fn lost_accounts(&self, counts: &LostCounts, waiting: usize) {
        for (outcome, count) in [
            ("lost", counts.lost),
            ("told", counts.told),
            ("written", counts.written),
            ("failed", counts.failed),
            ("refused", counts.refused),
            ("waiting", waiting as u64),
        ] {
            let gauge = self.lost_accounts.with_label_values(&[outcome]);
            gauge.set(count as i64);
        }
    }

    pub fn lag(&self, topic: ObservedTopic, records: u64) {
        let topic = format!("{topic:?}").to_lowercase();
        self.lag.with_label_values(&[&topic]).set(records as i64);
    }

    pub fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    pub fn router(&self, router: &Router, dead_letters: u64) {
        let heads = router.heads();
        for (commitment, slot) in [
            ("processed", heads.processed),
            ("confirmed", heads.confirmed),
            ("finalized", heads.finalized),
        ] {
            self.heads
                .with_label_values(&[commitment])
                .set(slot.0 as i64);
        }
        let totals = router.totals();
        for (outcome, count) in [
            ("duplicate", totals.duplicates),
            ("gap", totals.gaps),
            ("late", totals.late),
            ("damaged", totals.damaged),
            ("startup", totals.startup),
            ("forgotten_slot", totals.forgotten),
            ("covered_slot", totals.covered),
            ("repaired_block", totals.repaired),
            ("fetched_block", totals.fetched),
            ("dead_letter", dead_letters),
        ] {
            self.totals.with_label_values(&[outcome]).set(count as i64);
        }
        self.open_slots.set(router.open_slots() as i64);
        self.open_bytes.set(router.open_bytes() as i64);
    }
}
