//! Bench `fanout`: from a validator's callback to Yellowstone gRPC subscribers, through Kafka and the router, as they are
//! deployed.
//!
//! ```text
//! driver (stamps accounts) ─▶ the real plugin ─▶ broker of its own ─▶ the real router ─▶ gRPC ─▶ subscribers in this process
//! ```
//!
//! Reading order: [`stamp`], [`driver`], [`subscriber`], [`numbers`]; the parts, each by itself or all in turn: [`latency`];
//! [`crowd`] and [`scan`]; [`large_filter`]; [`stall`].

pub mod crowd;
pub mod driver;
pub mod large_filter;
pub mod latency;
pub mod numbers;
pub mod scan;
pub mod stall;
pub mod stamp;
pub mod subscriber;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use local_services::{Kafka, KafkaOptions};
use serde_json::json;
use tokio::runtime::Runtime;

use self::driver::Driver;
use crate::{
    observed::services::{Router, RouterOptions, built},
    plugin_bench::{
        subject::{Origin, Settings, Subject},
        table,
    },
    plugin_library::LoadedPlugin,
    report::Report,
};

/// Arguments of the bench.
#[derive(Debug, Clone, Args)]
pub struct FanoutArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Everything small, so that it takes seconds: for tests, its figures say little
    #[arg(long)]
    quick: bool,
    /// The plugin [default: libgeyser_plugin.so beside this program]
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// The router [default: stream-router beside this program]
    #[arg(long)]
    router: Option<PathBuf>,
    /// Only the parts that are named: callback → subscriber, at so many accounts per second in turn
    #[arg(long, value_name = "RATES", value_delimiter = ',', num_args = 0.., default_missing_values = ["10", "5000", "20000"])]
    latency: Option<Vec<u32>>,
    /// Seconds of each measurement
    #[arg(long)]
    seconds: Option<u64>,
    /// Only the parts that are named: so many subscribers in turn whose filters match nothing
    #[arg(long, value_name = "SUBSCRIBERS", value_delimiter = ',', num_args = 0.., default_missing_values = ["1", "100", "1000"])]
    crowd: Option<Vec<usize>>,
    /// Rounds of --crowd; figures are medians
    #[arg(long)]
    rounds: Option<usize>,
    /// Only the parts that are named: one filter of so many addresses
    #[arg(long, value_name = "ADDRESSES", num_args = 0..=1, default_missing_value = "100000")]
    large_filter: Option<usize>,
    /// Only the parts that are named: a subscriber that stops reading for so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "600")]
    stall: Option<u64>,
    /// A librdkafka option for the plugin's producer, such as linger.ms=0; repeat for each [default: as the plugin has it]
    #[arg(long, value_name = "KEY=VALUE")]
    kafka_option: Vec<String>,
    /// Accounts per second of --crowd and --stall
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
}

/// What the parts have in common.
pub struct Scene<'a> {
    pub runtime: &'a Runtime,
    pub router: &'a mut Router,
    pub driver: &'a mut Driver,
}

/// The topics' prefix follows from the plugin's name.
const NAME: &str = "fanout";
const PREFIX: &str = "bench-fanout";

pub fn run(args: &FanoutArgs) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: a development build says little about a deployed one; build with --release"
        );
    }
    let binary = built(args.router.as_deref(), "stream-router", "stream-router")?;
    let so = built(
        args.plugin.as_deref(),
        "libgeyser_plugin.so",
        "geyser-plugin",
    )?;
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-fanout-")
        .tempdir()?;
    let runtime = Runtime::new()?;
    let broker = Kafka::start(KafkaOptions {
        heap_mb: 768,
        ..KafkaOptions::default()
    })?;
    let brokers = broker.brokers();
    let plugin = plugin(&so, &brokers, scratch.path(), &args.kafka_option)?;
    let options = RouterOptions::new(&binary, &brokers, PREFIX, scratch.path());
    let mut router = Router::start(&options)?;
    let mut scene = Scene {
        runtime: &runtime,
        router: &mut router,
        driver: &mut Driver::new(plugin),
    };
    let parts = args.parts();
    let mut report = Report::new(
        "fanout",
        json!({"quick": args.quick, "rate": args.rate, "kafka_options": args.kafka_option}),
    );
    if let Some(options) = &parts.latency {
        latency::run(&mut scene, options, &mut report).context("latency")?;
    }
    if let Some(options) = &parts.crowd {
        crowd::run(&mut scene, options, &mut report).context("crowd")?;
    }
    if let Some(addresses) = parts.large_filter {
        large_filter::run(&mut scene, addresses, &mut report).context("large filter")?;
    }
    if let Some(options) = &parts.stall {
        stall::run(&mut scene, options, &mut report).context("stall")?;
    }
    print!("\n{}", table::checks(&report));
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// As an operator loads it, but for its name and where the broker is.
fn plugin(
    so: &Path,
    brokers: &str,
    scratch: &Path,
    kafka_options: &[String],
) -> anyhow::Result<LoadedPlugin> {
    let mut options = serde_json::Map::new();
    for option in kafka_options {
        let Some((key, value)) = option.split_once('=') else {
            bail!(
                "--kafka-option {option}: no `=` in it. Fix: write KEY=VALUE, such as linger.ms=0"
            );
        };
        options.insert(key.into(), value.into());
    }
    let settings = Settings {
        brokers: brokers.into(),
        others: json!({"kafka": {"options": options}}),
    };
    let subject = Subject::ours(NAME, so, scratch, &settings)?;
    let Origin::SharedObject { so, config } = subject.origin else {
        bail!("our plugin is a shared object");
    };
    Ok(LoadedPlugin::open(&so, &config)?)
}

/// What is run, and how large.
struct Parts {
    latency: Option<latency::Options>,
    crowd: Option<crowd::Options>,
    large_filter: Option<usize>,
    stall: Option<stall::Options>,
}

impl FanoutArgs {
    /// Those that are named; all when none is.
    fn parts(&self) -> Parts {
        let named = [
            self.latency.is_some(),
            self.crowd.is_some(),
            self.large_filter.is_some(),
            self.stall.is_some(),
        ];
        let all = !named.contains(&true);
        let quick = self.quick;
        let or = |seconds, quickly| {
            self.seconds
                .unwrap_or(if quick { quickly } else { seconds })
        };
        let rate = if quick {
            self.rate.min(2_000)
        } else {
            self.rate
        };
        let rates = if quick {
            vec![20, 1_000]
        } else {
            vec![10, 5_000, 20_000]
        };
        let crowds = if quick {
            vec![1, 20]
        } else {
            vec![1, 100, 1_000]
        };
        let addresses = if quick { 2_000 } else { 100_000 };
        let stalled = if quick { 3 } else { 20 };
        Parts {
            latency: chosen(&self.latency, all, rates).map(|rates| latency::Options {
                rates,
                seconds: or(12, 2),
            }),
            crowd: chosen(&self.crowd, all, crowds).map(|subscribers| crowd::Options {
                subscribers,
                seconds: or(6, 2),
                rounds: self.rounds.unwrap_or(if quick { 1 } else { 2 }),
                rate,
            }),
            large_filter: chosen(&self.large_filter, all, addresses),
            stall: chosen(&self.stall, all, stalled).map(|stalled| stall::Options {
                seconds: or(8, 2),
                stalled_seconds: stalled,
                rate,
            }),
        }
    }
}

fn chosen<T: Clone>(named: &Option<T>, all: bool, default: T) -> Option<T> {
    named.clone().or(all.then_some(default))
}
