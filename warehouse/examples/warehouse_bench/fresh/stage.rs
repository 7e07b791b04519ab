//! The real processes between the callbacks and the client, each with its defaults but for addresses and names.

use std::{path::Path, time::Duration};

use bench::{
    observed::services::{Router, RouterOptions, built},
    plugin_bench::{
        plugin_metrics::{self, Balance},
        process_figures,
        subject::{Settings, Subject},
    },
    plugin_library::LoadedPlugin,
};
use local_services::{
    Child, ChildSpec, ClickHouseDoor, DoorOptions, Kafka, KafkaOptions, free_port,
};
use serde_json::json;
use tokio::runtime::Runtime;

/// The topics' prefix follows from the plugin's name.
const NAME: &str = "fresh";
pub const PREFIX: &str = "bench-fresh";
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// See the module. Dropping it ends all of them, who writes before who is written to.
pub struct Stage {
    pub plugin: LoadedPlugin,
    subject: Subject,
    sink: Child,
    sink_admin: String,
    router: Router,
    door: ClickHouseDoor,
    broker: Kafka,
}

impl Stage {
    pub fn open(scratch: &Path, runtime: &Runtime) -> anyhow::Result<Self> {
        let router = built(None, "stream-router", "stream-router")?;
        let sink = built(None, "warehouse-sink", "warehouse")?;
        let so = built(None, "libgeyser_plugin.so", "geyser-plugin")?;
        let broker = Kafka::start(KafkaOptions {
            heap_mb: 768,
            ..KafkaOptions::default()
        })?;
        let brokers = broker.brokers();
        let door = ClickHouseDoor::start(DoorOptions::default())?;
        let settings = Settings {
            brokers: brokers.clone(),
            others: json!({}),
        };
        let subject = Subject::ours(NAME, &so, scratch, &settings)?;
        let plugin = subject.origin.load()?;
        let router = Router::start(&RouterOptions::new(&router, &brokers, PREFIX, scratch))?;
        let sink_admin = format!("127.0.0.1:{}", free_port());
        let config = scratch.join("sink.toml");
        let text = format!(
            "clickhouse_url = \"{}\"\ntopic_prefix = \"{PREFIX}\"\n[kafka]\nbrokers = \"{brokers}\"\n[host]\nadmin = \"{sink_admin}\"\n",
            door.url(),
        );
        std::fs::write(&config, text)?;
        let spec = ChildSpec::new("warehouse-sink", sink, scratch.join("sink.log"))
            .arg("--config")
            .arg(config);
        let mut stage = Self {
            plugin,
            subject,
            sink: Child::spawn(spec)?,
            sink_admin,
            router,
            door,
            broker,
        };
        let ready = format!("http://{}/readyz", stage.sink_admin);
        stage.sink.wait_ready(START_LIMIT, || {
            let page = runtime.block_on(reqwest::get(&ready));
            page.is_ok_and(|page| page.status().is_success())
        })?;
        Ok(stage)
    }

    pub fn door_url(&self) -> String {
        self.door.url()
    }

    pub fn brokers(&self) -> String {
        self.broker.brokers()
    }

    /// Processor seconds so far, by process; the plugin's are in those of the bench.
    pub fn cpu_seconds(&self) -> Vec<(&'static str, f64)> {
        let of = process_figures::cpu_seconds;
        vec![
            ("bench_and_plugin", of(std::process::id())),
            ("broker", of(self.broker.pid())),
            ("router", of(self.router.pid())),
            ("sink", of(self.sink.pid())),
            ("door", of(self.door.pid())),
        ]
    }

    pub fn door_cpu_seconds(&self) -> f64 {
        process_figures::cpu_seconds(self.door.pid())
    }

    /// The plugin's own account.
    pub fn balance(&self) -> Balance {
        let metrics = self.subject.metrics;
        metrics
            .and_then(|address| plugin_metrics::read(address).ok())
            .unwrap_or_default()
    }

    /// A figure of the sink's Prometheus page, summed over its labels.
    pub fn sink_figure(&self, runtime: &Runtime, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.sink_admin);
        let page = runtime.block_on(async { reqwest::get(url).await?.text().await });
        page.map_or(0.0, |page| sum(&page, name))
    }

    /// An error with the last words of one that has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        self.router.must_run()?;
        match self.sink.exit_status() {
            Some(status) => Err(self.sink.failure(&format!("ended ({status})"))),
            None => Ok(()),
        }
    }

    pub fn stop_sink(&mut self) -> bool {
        let status = self.sink.stop(STOP_LIMIT);
        status.is_some_and(|status| status.success())
    }
}

fn sum(page: &str, name: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
