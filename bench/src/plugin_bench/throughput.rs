//! `--throughput`: callbacks → plugin → Kafka → reader, all on this machine, beside plain ways to Kafka in the same run.
//!
//! The reader holds the driver back: only so many callbacks are ahead of it. So nothing is lost for want of room, and what is
//! measured is what the whole way carries. Our plugin begins to spill when more than half of its queue's 65,536 places are
//! taken; a greater lead measures that instead.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_log::{EventLog as _, KafkaConfig, KafkaLog, LogReader, ReaderSpec, Start, TopicSpec};
use event_schema::{ObservedTopic, Topics};
use serde_json::{Value, json};

use super::{
    baseline::Baseline,
    broker::Broker,
    drive::{Pace, Plan, Until, Window, drive},
    host_process::FIRST_SLOT,
    options::Variant,
    plain_kafka::{Batching, PlainKafka},
    plugin_metrics,
    probe::Latencies,
    process_figures::{cpu_seconds, thread_use},
    subject::{Origin, Settings, Subject},
    tally::{Contents, Tally},
    workload::Workload,
};
use crate::{
    plugin_library::LoadedPlugin,
    report::{Check, Report},
};

/// Partitions of each topic of the plain ways; our plugin has its default.
const PLAIN_PARTITIONS: u32 = 4;
/// Records per look at the log, and how long a look waits.
const POLL_RECORDS: usize = 20_000;
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Without a record for so long after the last callback, what is missing is lost.
const SILENCE: Duration = Duration::from_secs(10);
const TOPICS_LIMIT: Duration = Duration::from_secs(60);

const EVENTS_PER_SECOND: f64 = 100_000.0;
const TIMES_PLAIN: f64 = 3.0;

/// What is compared.
pub struct Way {
    name: String,
    plugin: LoadedPlugin,
    reader: Box<dyn LogReader>,
    /// Our plugin numbers its records; the plain ways do not.
    numbered: bool,
    next_slot: u64,
    runs: Vec<Run>,
    metrics: Option<SocketAddr>,
    /// Processor seconds of the threads that outlive a run: those of the plugin and of the log's clients, by name.
    threads: BTreeMap<String, f64>,
}

/// One run of one way.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    events_per_second: f64,
    callbacks: u64,
    received: u64,
    /// Sequences that never came, came after a later one, and came again.
    missing: u64,
    late: u64,
    repeated: u64,
    contents: Contents,
    /// Of driver, plugin and reader together, and of the broker.
    cpu_seconds: f64,
    broker_cpu_seconds: f64,
}

pub struct Options<'a> {
    pub plugin: &'a Path,
    /// Our plugin, configured otherwise.
    pub variants: &'a [Variant],
    pub blocks: PathBuf,
    pub rounds: usize,
    pub seconds: u64,
    pub threads: usize,
    /// Callbacks that may be ahead of the reader.
    pub ahead_max: u64,
}

pub fn run(options: &Options<'_>, broker: &Broker, scratch: &Path) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let workload = Workload::load(&options.blocks)?;
    let mut ways = vec![ours(
        "heliograph",
        json!({}),
        options.plugin,
        broker,
        scratch,
        &runtime,
    )?];
    for Variant { name, others } in options.variants {
        let others = others.clone();
        ways.push(ours(
            name,
            others,
            options.plugin,
            broker,
            scratch,
            &runtime,
        )?);
    }
    for (name, batching) in [
        ("plain_client_default", Batching::ClientDefault),
        ("plain_one_per_request", Batching::OneMessagePerRequest),
    ] {
        ways.push(plain(name, batching, broker, &runtime)?);
    }
    let plan = |until| Plan {
        threads: options.threads,
        pace: Pace::Busy,
        until,
        touched: false,
    };
    let mut contents = Vec::new();
    for way in &mut ways {
        eprintln!("warming {}, and reading what it says", way.name);
        // The same callbacks for all.
        let warm = way.drive(
            &workload,
            plan(Until::Passes(1)),
            options.ahead_max,
            broker,
            &runtime,
        )?;
        contents.push(warm.contents);
    }
    for round in 0..options.rounds.max(1) {
        for way in &mut ways {
            let run = way.drive(
                &workload,
                plan(Until::Milliseconds(options.seconds * 1_000)),
                options.ahead_max,
                broker,
                &runtime,
            )?;
            eprintln!(
                "round {}: {} {:.0} events/s",
                round + 1,
                way.name,
                run.events_per_second
            );
            way.runs.push(run);
        }
    }
    let mut report = report(options, &ways);
    print(&ways);
    // Our plugin's bytes are those that prost writes from the plain structs.
    let differing = contents.iter().filter(|said| **said != contents[0]).count();
    let values = contents[0].values;
    println!("{values} values compared: {differing} of the other ways differ from ours");
    report.figure("values_compared", values);
    report.checks.push(Check::at_most(
        "ways_that_say_other_than_ours",
        differing as f64,
        0.0,
    ));
    Ok(report)
}

fn ours(
    name: &str,
    others: Value,
    plugin: &Path,
    broker: &Broker,
    scratch: &Path,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Way> {
    let settings = Settings {
        brokers: broker.address().into(),
        others,
    };
    let subject = Subject::ours(name, plugin, scratch, &settings)?;
    let (Origin::SharedObject { so, config }, Some(prefix)) =
        (subject.origin, subject.topic_prefix)
    else {
        bail!("our plugin is a shared object, and has topics");
    };
    Ok(Way {
        name: name.into(),
        plugin: LoadedPlugin::open(&so, &config)?,
        reader: runtime.block_on(reader(broker.address(), &prefix))?,
        numbered: true,
        metrics: subject.metrics,
        next_slot: FIRST_SLOT,
        runs: Vec::new(),
        threads: BTreeMap::new(),
    })
}

fn plain(
    name: &'static str,
    batching: Batching,
    broker: &Broker,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Way> {
    let prefix = format!("bench-{name}");
    runtime.block_on(make_topics(broker.address(), &prefix))?;
    let sink = PlainKafka::new(broker.address(), &prefix, PLAIN_PARTITIONS, batching)?;
    Ok(Way {
        name: name.into(),
        plugin: LoadedPlugin::in_process(Box::new(Baseline::new(sink))),
        reader: runtime.block_on(reader(broker.address(), &prefix))?,
        numbered: false,
        metrics: None,
        next_slot: FIRST_SLOT,
        runs: Vec::new(),
        threads: BTreeMap::new(),
    })
}

async fn make_topics(brokers: &str, prefix: &str) -> anyhow::Result<()> {
    let topics = Topics::new(prefix);
    let specs = ObservedTopic::ALL.map(|topic| TopicSpec {
        name: topics.observed(topic).to_string(),
        partitions: PLAIN_PARTITIONS,
        compacted: false,
        config: vec![("max.message.bytes".into(), "16777216".into())],
        replication: 1,
    });
    Ok(KafkaLog::new(KafkaConfig::new(brokers))?
        .ensure_topics(&specs)
        .await?)
}

/// Of every observed topic under the prefix, from now on; waits for the topics.
pub(super) async fn reader(brokers: &str, prefix: &str) -> anyhow::Result<Box<dyn LogReader>> {
    let log = KafkaLog::new(KafkaConfig::new(brokers))?;
    let topics = Topics::new(prefix);
    let mut partitions = Vec::new();
    let begin = Instant::now();
    for topic in ObservedTopic::ALL {
        let name: &Arc<str> = topics.observed(topic);
        let count = loop {
            match log.partitions(name).await {
                Ok(count) => break count,
                Err(e) if begin.elapsed() > TOPICS_LIMIT => {
                    return Err(e).with_context(|| format!("topic {name} was not made"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        partitions.extend((0..count).map(|number| (name.clone(), number, Start::Latest)));
    }
    Ok(log
        .reader(ReaderSpec {
            partitions,
            read_committed: false,
        })
        .await?)
}

impl Way {
    /// Drives for the plan's time and reads until everything has come.
    fn drive(
        &mut self,
        workload: &Workload,
        plan: Plan,
        ahead_max: u64,
        broker: &Broker,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<Run> {
        let window = Window::new(ahead_max);
        let mut tally = Tally::default();
        let mut contents = Contents::default();
        // Only of a round in which all ways are driven with the same.
        let compared = matches!(plan.until, Until::Passes(_));
        let mut received = 0;
        let own = std::process::id();
        let cpu = cpu_seconds(own);
        let by_thread = thread_use(own);
        let broker_cpu = broker.pid().map_or(0.0, cpu_seconds);
        let begin = Instant::now();
        let mut last = begin;
        let first_slot = self.next_slot;
        let plugin = self.plugin.get();
        let driven = thread::scope(|scope| -> anyhow::Result<_> {
            let driver = scope.spawn(|| {
                drive(
                    plugin,
                    workload,
                    plan,
                    first_slot,
                    Some(&window),
                    Latencies::default,
                )
            });
            loop {
                // Looked at before the log is read: then everything there is has been issued.
                let ended = driver.is_finished();
                let records = runtime.block_on(self.reader.poll(POLL_RECORDS, POLL_WAIT))?;
                if !records.is_empty() {
                    last = Instant::now();
                }
                if compared {
                    records.iter().for_each(|record| contents.add(record));
                }
                if self.numbered {
                    records.iter().for_each(|record| tally.add(record));
                    received = tally.observations;
                } else {
                    received += records.len() as u64;
                }
                window.received.store(received, Ordering::Relaxed);
                let issued = window.issued.load(Ordering::Relaxed);
                if ended && (received >= issued || last.elapsed() > SILENCE) {
                    break;
                }
            }
            Ok(driver.join())
        })?;
        let Ok((driven, _, next_slot)) = driven else {
            bail!("{}: the plugin panicked in a callback", self.name);
        };
        if driven.refused > 0 {
            bail!("{}: refused {} callbacks", self.name, driven.refused);
        }
        self.next_slot = next_slot;
        for (name, now) in thread_use(own) {
            let used = now.since(by_thread.get(&name).copied().unwrap_or_default());
            *self.threads.entry(name).or_default() += used.cpu_seconds;
        }
        Ok(Run {
            events_per_second: received as f64 / (last - begin).as_secs_f64(),
            callbacks: driven.callbacks,
            received,
            missing: tally.missing() + tally.unreadable,
            late: tally.late,
            repeated: tally.repeated,
            contents,
            cpu_seconds: cpu_seconds(own) - cpu,
            broker_cpu_seconds: broker.pid().map_or(0.0, cpu_seconds) - broker_cpu,
        })
    }

    fn median_events_per_second(&self) -> f64 {
        let mut rates: Vec<f64> = self.runs.iter().map(|run| run.events_per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    }

    fn sum(&self) -> Run {
        self.runs.iter().fold(Run::default(), |sum, run| Run {
            events_per_second: 0.0,
            callbacks: sum.callbacks + run.callbacks,
            received: sum.received + run.received,
            missing: sum.missing + run.missing,
            late: sum.late + run.late,
            repeated: sum.repeated + run.repeated,
            contents: Contents::default(),
            cpu_seconds: sum.cpu_seconds + run.cpu_seconds,
            broker_cpu_seconds: sum.broker_cpu_seconds + run.broker_cpu_seconds,
        })
    }
}

fn print(ways: &[Way]) {
    println!(
        "{:<24}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>14}{:>14}",
        "callback → log → reader",
        "events/s",
        "callbacks",
        "lost",
        "missing",
        "late",
        "repeated",
        "CPU-s/million",
        "broker's"
    );
    for way in ways {
        let sum = way.sum();
        let per_million = |seconds: f64| seconds * 1e6 / sum.callbacks.max(1) as f64;
        println!(
            "{:<24}{:>12.0}{:>12}{:>10}{:>10}{:>10}{:>10}{:>14.2}{:>14.2}",
            way.name,
            way.median_events_per_second(),
            sum.callbacks,
            sum.callbacks.saturating_sub(sum.received),
            sum.missing,
            sum.late,
            sum.repeated,
            per_million(sum.cpu_seconds),
            per_million(sum.broker_cpu_seconds),
        );
    }
    for way in ways {
        let mut threads: Vec<_> = way.threads.iter().collect();
        threads.sort_by(|left, right| right.1.total_cmp(left.1));
        let busiest: Vec<String> = threads
            .iter()
            .filter(|(_, seconds)| **seconds >= 0.05)
            .map(|(name, seconds)| format!("{name} {seconds:.2}"))
            .collect();
        if let Some(Ok(balance)) = way.metrics.map(plugin_metrics::read) {
            println!("{}: its own account: {balance:?}", way.name);
        }
        println!("{}: CPU-s by thread: {}", way.name, busiest.join(", "));
    }
}

fn report(options: &Options<'_>, ways: &[Way]) -> Report {
    let mut report = Report::new(
        "plugin --throughput",
        json!({
            "blocks": options.blocks, "rounds": options.rounds, "seconds": options.seconds,
            "threads": options.threads, "ahead_max": options.ahead_max, "account_mix": super::table::mix(),
        }),
    );
    for way in ways {
        let sum = way.sum();
        let figures: Value = json!({
            "events_per_second": way.median_events_per_second().round(),
            "callbacks": sum.callbacks,
            "received": sum.received,
            "missing_sequences": sum.missing,
            "late_sequences": sum.late,
            "repeated_sequences": sum.repeated,
            "cpu_seconds": sum.cpu_seconds,
            "broker_cpu_seconds": sum.broker_cpu_seconds,
            "cpu_seconds_by_thread": way.threads,
        });
        report.figure(&way.name, figures);
    }
    let Some((ours, plain)) = ways.split_first() else {
        return report;
    };
    let (rate, sum) = (ours.median_events_per_second(), ours.sum());
    report.checks.push(Check::at_least(
        "events_per_second",
        rate.round(),
        EVENTS_PER_SECOND,
    ));
    let lost = sum.callbacks.abs_diff(sum.received) + sum.missing;
    report.checks.push(Check::at_most("lost", lost as f64, 0.0));
    // A reader bears both, but with a broker in good health there is no reason for either.
    let disordered = sum.late + sum.repeated;
    report
        .checks
        .push(Check::at_most("late_or_repeated", disordered as f64, 0.0));
    for way in plain.iter().filter(|way| !way.numbered) {
        let times = rate / way.median_events_per_second().max(1.0);
        report.checks.push(Check::at_least(
            format!("times_{}", way.name),
            (times * 100.0).round() / 100.0,
            TIMES_PLAIN,
        ));
    }
    report
}
