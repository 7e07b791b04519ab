//! One run: a fresh validator, with the plugin or without, under traffic; what it showed within the measured span.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use event_schema::Pubkey;
use local_services::{Child, ChildSpec, workspace_binary};

use super::{
    look::{Cpu, Look},
    statistics::{mean, quantile},
    validator_log,
};
use crate::{
    configs::{self, Wiring},
    layout::{Ports, RunDir},
    progress::Say,
    rpc::Rpc,
};

const START_LIMIT: Duration = Duration::from_secs(180);
/// The traffic's wallets, mints and tables.
const SCENE_LIMIT: Duration = Duration::from_secs(120);
/// Between the first steady traffic and the measurement.
const SETTLE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Linux counts processor time in hundredths of a second, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
pub struct Round<'a> {
    pub dir: &'a RunDir,
    pub validator: &'a Path,
    /// `None`: without.
    pub plugin: Option<&'a Path>,
    pub brokers: &'a str,
    pub seconds: u64,
    pub tps: u32,
    pub seed: u64,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Every slot's duration.
    pub slot_ms: Vec<f64>,
    /// Votes included.
    pub transactions_per_second: f64,
    /// Account callbacks run in it.
    pub commit_us_per_transaction: f64,
    /// Without the scheduler's polling and without the plugin's threads.
    pub validator_cpu_ms_per_slot: f64,
    /// By thread; threads of one kind together.
    pub plugin_cpu_ms_per_slot: BTreeMap<String, f64>,
    pub peak_rss_mib: f64,
    pub callbacks_per_second: f64,
    pub lost: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} slots of {:.2} ms (p99 {:.1}), {:.0} transactions/s, commit {:.0} µs, {:.0} callbacks/s",
            self.slot_ms.len(),
            mean(&self.slot_ms),
            quantile(&self.slot_ms, 0.99),
            self.transactions_per_second,
            self.commit_us_per_transaction,
            self.callbacks_per_second
        )
    }
}

impl Round<'_> {
    pub async fn run(&self, say: &Say) -> anyhow::Result<Figures> {
        let ports = Ports::free();
        let ledger = self.dir.data(&format!("ledger-{}", self.name));
        let mint = self.dir.data(&format!("mint-{}.json", self.name));
        say.step(&format!("run {}: validator", self.name));
        let mut validator = self.start_validator(&ports, &ledger, &mint)?;
        let log = validator.spec().log.clone();
        self.wait_for_first_slot(&mut validator).await?;

        let mut traffic = self.start_traffic(&ports, &mint)?;
        self.wait_for_scene(&mut traffic, &mut validator).await?;
        tokio::time::sleep(SETTLE).await;
        say.step(&format!("run {}: measuring", self.name));
        let client = reqwest::Client::new();
        let rpc = Rpc::new(ports.rpc)?;
        let before = Look::take(
            &validator,
            &rpc,
            &client,
            self.plugin.map(|_| ports.plugin_metrics),
        )
        .await?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let after = Look::take(
            &validator,
            &rpc,
            &client,
            self.plugin.map(|_| ports.plugin_metrics),
        )
        .await?;
        for child in [&mut traffic, &mut validator] {
            if let Some(status) = child.exit_status() {
                return Err(child.failure(&format!("ended in the middle ({status})")));
            }
        }
        traffic.stop(STOP_LIMIT);
        validator.stop(STOP_LIMIT);
        let text = std::fs::read(&log).with_context(|| log.display().to_string())?;
        let seen = validator_log::read(&String::from_utf8_lossy(&text), before.at, after.at);
        let _ = std::fs::remove_dir_all(ledger);

        ensure!(
            seen.slot_ms.len() as u64 > self.seconds,
            "only {} slots in {} s: the validator stands still; see {}",
            seen.slot_ms.len(),
            self.seconds,
            log.display()
        );
        ensure!(
            seen.transactions > self.seconds * u64::from(self.tps) / 4,
            "only {} transactions in {} s: the traffic of {} per second does not arrive",
            seen.transactions,
            self.seconds,
            self.tps
        );
        Ok(figures(&seen, &before, &after))
    }

    fn start_validator(&self, ports: &Ports, ledger: &Path, mint: &Path) -> anyhow::Result<Child> {
        let mut spec = ChildSpec::new(
            "validator",
            self.validator,
            self.dir.log(&format!("validator-{}", self.name)),
        )
        .output(self.note())
        .env("RUST_LOG", validator_log::FILTER);
        for (flag, value) in [
            ("--ledger", ledger.display().to_string()),
            ("--mint-keypair", mint.display().to_string()),
            ("--rpc-port", ports.rpc.to_string()),
            ("--gossip-port", ports.gossip.to_string()),
            ("--dynamic-port", ports.validator_range.to_string()),
        ] {
            spec = spec.arg(flag).arg(value);
        }
        if let Some(plugin) = self.plugin {
            let wiring = Wiring {
                ports: *ports,
                brokers: self.brokers.to_owned(),
                database_url: String::new(),
            };
            let spill = self.dir.data(&format!("spill-{}", self.name));
            let file = self.dir.config(&format!("plugin-{}.json", self.name));
            // Any key identifies the source; nobody reads these topics.
            let identity = Pubkey([7; 32]);
            let text = configs::plugin(
                &wiring,
                plugin,
                "bench",
                &identity,
                &spill,
                ports.plugin_metrics,
            );
            std::fs::write(&file, text)?;
            spec = spec.arg("--geyser-plugin-config").arg(file);
        }
        Child::spawn(spec)
    }

    fn note(&self) -> std::path::PathBuf {
        self.dir.data(&format!("validator-{}.out", self.name))
    }

    async fn wait_for_first_slot(&self, validator: &mut Child) -> anyhow::Result<()> {
        let begin = Instant::now();
        // Its only line that begins with a brace says that the first slot is there.
        while !std::fs::read_to_string(self.note())
            .unwrap_or_default()
            .contains('{')
        {
            if let Some(status) = validator.exit_status() {
                return Err(validator.failure(&format!("did not start ({status})")));
            }
            if begin.elapsed() > START_LIMIT {
                bail!(
                    "the validator has no first slot after {} s",
                    START_LIMIT.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn start_traffic(&self, ports: &Ports, mint: &Path) -> anyhow::Result<Child> {
        let mut spec = ChildSpec::new(
            "traffic",
            workspace_binary("localnet-traffic"),
            self.dir.log(&format!("traffic-{}", self.name)),
        );
        for argument in [
            "drive",
            "--rpc",
            &format!("http://127.0.0.1:{}", ports.rpc),
            "--tps",
            &self.tps.to_string(),
            "--seed",
            &self.seed.to_string(),
            "--mint-keypair",
        ] {
            spec = spec.arg(argument);
        }
        Child::spawn(spec.arg(mint))
    }

    async fn wait_for_scene(
        &self,
        traffic: &mut Child,
        validator: &mut Child,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let said = std::fs::read_to_string(&traffic.spec().log).unwrap_or_default();
            if said.contains("the scene stands") {
                return Ok(());
            }
            for child in [&mut *traffic, &mut *validator] {
                if let Some(status) = child.exit_status() {
                    return Err(
                        child.failure(&format!("ended before the traffic flowed ({status})"))
                    );
                }
            }
            if begin.elapsed() > SCENE_LIMIT {
                bail!("no traffic after {} s", SCENE_LIMIT.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn figures(seen: &validator_log::Seen, before: &Look, after: &Look) -> Figures {
    let seconds = (after.at - before.at) as f64 / 1e9;
    let slots = seconds * 1000.0 / mean(&seen.slot_ms);
    let per_slot = |ticks: f64| ticks / TICKS_PER_SECOND * 1000.0 / slots;
    let others = |cpu: &Cpu| cpu.process - cpu.scheduler - cpu.plugin.values().sum::<f64>();
    let plugin_cpu_ms_per_slot = after
        .cpu
        .plugin
        .iter()
        .map(|(kind, ticks)| {
            let earlier = before.cpu.plugin.get(kind).copied().unwrap_or_default();
            (kind.clone(), per_slot(ticks - earlier))
        })
        .collect();
    Figures {
        slot_ms: seen.slot_ms.clone(),
        transactions_per_second: (after.transactions - before.transactions) as f64 / seconds,
        commit_us_per_transaction: seen.commit_us as f64 / seen.transactions as f64,
        validator_cpu_ms_per_slot: per_slot(others(&after.cpu) - others(&before.cpu)),
        plugin_cpu_ms_per_slot,
        peak_rss_mib: after.peak_rss_mib,
        callbacks_per_second: (after.callbacks - before.callbacks) as f64 / seconds,
        lost: after.lost,
    }
}
