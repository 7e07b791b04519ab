//! What both doors' tests need: a key of the configuration, and what the metrics say.

use std::time::Duration;

use prometheus::{Registry, proto::Metric};
use sha2::{Digest, Sha256};
use stream_router::yellowstone::config::XToken;
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(20);

pub fn token(name: &str, token: &str) -> XToken {
    let digest = Sha256::digest(token);
    XToken {
        name: name.to_owned(),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ..XToken::default()
    }
}

/// The sum over all series that have these labels.
pub fn metric(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    family.map_or(0.0, |family| {
        let has = |metric: &&Metric| {
            labels.iter().all(|(name, value)| {
                let mut pairs = metric.get_label().iter();
                pairs.any(|pair| (pair.name(), pair.value()) == (*name, *value))
            })
        };
        let value =
            |metric: &Metric| metric.get_counter().get_value() + metric.get_gauge().get_value();
        family.get_metric().iter().filter(has).map(value).sum()
    })
}

/// Waits until the metric has the value.
pub async fn metric_becomes(registry: &Registry, name: &str, labels: &[(&str, &str)], value: f64) {
    let wait = async {
        while metric(registry, name, labels) != value {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(LONG, wait).await.is_err() {
        let is = metric(registry, name, labels);
        panic!("{name}{labels:?} is {is}, not {value}");
    }
}
