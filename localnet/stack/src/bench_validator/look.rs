//! What a running validator has done so far: everything that only grows, read from outside.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use local_services::Child;
use serde_json::json;

use crate::rpc::Rpc;

/// Polls without pause whenever nobody else wants the core: its time says nothing.
const SCHEDULER_THREAD: &str = "solBnkTxSched";
const PLUGIN_THREADS: [&str; 3] = ["hg", "rdk:", "kafka-deliver"];

/// Everything that only grows, at one moment.
pub struct Look {
    /// Nanoseconds since 1970.
    pub at: u128,
    pub transactions: u64,
    pub cpu: Cpu,
    pub peak_rss_mib: f64,
    pub callbacks: u64,
    pub lost: u64,
}

impl Look {
    pub async fn take(
        validator: &Child,
        rpc: &Rpc,
        client: &reqwest::Client,
        metrics: Option<u16>,
    ) -> anyhow::Result<Self> {
        let (callbacks, lost) = match metrics {
            Some(port) => {
                let page = client
                    .get(format!("http://127.0.0.1:{port}/metrics"))
                    .send();
                let page = page.await.context("the plugin's metrics")?.text().await?;
                (sum(&page, "callbacks_total"), sum(&page, "lost_total"))
            }
            None => (0, 0),
        };
        let transactions = rpc
            .call("getTransactionCount", json!([{"commitment": "processed"}]))
            .await?
            .as_u64()
            .context("getTransactionCount: not a number")?;
        let pid = validator.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(Self {
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos()),
            transactions,
            cpu: Cpu::of(pid)?,
            peak_rss_mib: peak.unwrap_or(f64::NAN) / 1024.0,
            callbacks,
            lost,
        })
    }
}

fn sum(page: &str, name: &str) -> u64 {
    let start = format!("heliograph_plugin_{name}{{");
    page.lines()
        .filter(|line| line.starts_with(&start))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// In ticks.
pub struct Cpu {
    pub process: f64,
    pub scheduler: f64,
    pub plugin: BTreeMap<String, f64>,
}

impl Cpu {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let process = ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .context("/proc/PID/stat")?;
        let mut cpu = Self {
            process: process.1,
            scheduler: 0.0,
            plugin: BTreeMap::new(),
        };
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let stat = std::fs::read_to_string(task.path().join("stat"));
            // A thread may have ended since.
            let Some((name, spent)) = stat.ok().and_then(|stat| ticks(&stat)) else {
                continue;
            };
            if name == SCHEDULER_THREAD {
                cpu.scheduler += spent;
            } else if PLUGIN_THREADS.iter().any(|start| name.starts_with(start)) {
                // `rdk:broker1`, `rdk:broker2`: one kind.
                let kind = name.trim_end_matches(|end: char| end.is_ascii_digit());
                *cpu.plugin.entry(kind.to_owned()).or_default() += spent;
            }
        }
        Ok(cpu)
    }
}

/// Name, and time in user and kernel mode; the name may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<(String, f64)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((name, user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_with_an_odd_name_is_read_all_the_same() {
        let stat = "77 (rdk:br (1) x) S 1 77 77 0 -1 4194304 10 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(("rdk:br (1) x".to_owned(), 42.0)));
        assert_eq!(ticks("nonsense"), None);
        assert!(Cpu::of(std::process::id()).unwrap().process >= 0.0);
    }

    #[test]
    fn kinds_are_added_up() {
        let page = "heliograph_plugin_callbacks_total{kind=\"a\"} 3\nheliograph_plugin_callbacks_total{kind=\"b\"} 4\nheliograph_plugin_lost_total{reason=\"x\"} 1\n";
        assert_eq!(
            (sum(page, "callbacks_total"), sum(page, "lost_total")),
            (7, 1)
        );
    }
}
