//! What the runs say together: the table, and the object that every bench ends with.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::{
    Options,
    run::Figures,
    statistics::{self, Interval, mean, quantile},
};

/// What the plugin may cost.
const SLOT_TIME_PERCENT_MAX: f64 = 1.0;

/// By how many percent a figure is larger with the plugin, pair by pair.
fn percent_more(pairs: &[(Figures, Figures)], figure: impl Fn(&Figures) -> f64) -> Interval {
    let more: Vec<f64> = pairs
        .iter()
        .map(|(off, on)| (figure(on) / figure(off) - 1.0) * 100.0)
        .collect();
    statistics::interval(&more)
}

/// Of the plugin, by kind of thread, in milliseconds per slot.
fn threads(pairs: &[(Figures, Figures)]) -> BTreeMap<String, f64> {
    let mut threads: BTreeMap<String, f64> = BTreeMap::new();
    for (_, on) in pairs {
        for (kind, spent) in &on.plugin_cpu_ms_per_slot {
            *threads.entry(kind.clone()).or_default() += spent / pairs.len() as f64;
        }
    }
    threads.retain(|_, spent| *spent >= 0.005);
    threads
}

/// What was not there to measure is null.
fn rounded(value: f64) -> Value {
    json!(value.is_finite().then(|| (value * 1000.0).round() / 1000.0))
}

/// The object that ends the bench's output.
pub fn new(options: &Options, plugin: &Path, pairs: &[(Figures, Figures)]) -> Value {
    let mut figures = serde_json::Map::new();
    let mut figure = |name: String, value: f64| {
        figures.insert(name, rounded(value));
    };
    let side = |on: bool| {
        pairs
            .iter()
            .map(move |pair| if on { &pair.1 } else { &pair.0 })
    };
    for (on, word) in [(false, "off"), (true, "on")] {
        let slots: Vec<f64> = side(on)
            .flat_map(|run| run.slot_ms.iter().copied())
            .collect();
        let average = |of: fn(&Figures) -> f64| mean(&side(on).map(of).collect::<Vec<_>>());
        figure(format!("slots_{word}"), slots.len() as f64);
        figure(format!("slot_mean_{word}_ms"), mean(&slots));
        figure(format!("slot_p50_{word}_ms"), quantile(&slots, 0.50));
        figure(format!("slot_p99_{word}_ms"), quantile(&slots, 0.99));
        figure(
            format!("transactions_per_second_{word}"),
            average(|run| run.transactions_per_second),
        );
        figure(
            format!("commit_us_per_transaction_{word}"),
            average(|run| run.commit_us_per_transaction),
        );
        figure(
            format!("validator_cpu_ms_per_slot_{word}"),
            average(|run| run.validator_cpu_ms_per_slot),
        );
        figure(
            format!("peak_rss_mib_{word}"),
            average(|run| run.peak_rss_mib),
        );
    }
    figure(
        "plugin_cpu_ms_per_slot".into(),
        threads(pairs).values().sum(),
    );
    figure(
        "plugin_callbacks_per_second".into(),
        mean(
            &side(true)
                .map(|run| run.callbacks_per_second)
                .collect::<Vec<_>>(),
        ),
    );
    figure(
        "plugin_lost".into(),
        side(true).map(|run| run.lost as f64).sum(),
    );
    figures.insert(
        "plugin_threads_cpu_ms_per_slot".into(),
        json!(threads(pairs)),
    );
    let mut figure = |name: String, value: f64| {
        figures.insert(name, rounded(value));
    };
    let slot_time = percent_more(pairs, |run| mean(&run.slot_ms));
    for (name, more) in [
        ("slot_time", slot_time),
        (
            "transactions_per_second",
            percent_more(pairs, |run| run.transactions_per_second),
        ),
        (
            "commit_us_per_transaction",
            percent_more(pairs, |run| run.commit_us_per_transaction),
        ),
    ] {
        figure(format!("{name}_difference_percent"), more.mean);
        figure(format!("{name}_difference_ci95_low_percent"), more.low);
        figure(format!("{name}_difference_ci95_high_percent"), more.high);
    }
    let lost: u64 = side(true).map(|run| run.lost).sum();
    let at_most = |name: &str, value: f64, target: f64| json!({"name": name, "value": (value * 1000.0).round() / 1000.0, "op": "<=", "target": target, "ok": value <= target});
    json!({
        "bench": "validator",
        "commit": commit(),
        "machine": machine(),
        "params": {
            "rounds": options.rounds, "seconds": options.seconds, "tps": options.tps,
            "plugin": plugin, "validator": "solana-test-validator 4.2.2, one node that leads every slot, development build",
            "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
            "not_measured": "replay of another leader's blocks (single node)",
        },
        "figures": figures,
        "checks": [
            at_most("slot time with the plugin, percent more", slot_time.mean, SLOT_TIME_PERCENT_MAX),
            at_most("the same, upper end of the 95 % confidence interval", slot_time.high, SLOT_TIME_PERCENT_MAX),
            at_most("callbacks lost", lost as f64, 0.0),
        ],
    })
}

/// The same for people.
pub fn table(report: &Value) -> String {
    let figures = &report["figures"];
    let shown = |name: &str| match figures[name].as_f64() {
        Some(value) => format!("{value:.2}"),
        None => "–".to_owned(),
    };
    let mut text = format!(
        "{:<32}{:>12}{:>12}   {}\n",
        "", "off", "on", "with the plugin, 95 % interval"
    );
    for (row, name, difference) in [
        ("slots", "slots", None),
        ("slot, mean ms", "slot_mean", Some("slot_time")),
        ("slot, p50 ms", "slot_p50", None),
        ("slot, p99 ms", "slot_p99", None),
        (
            "transactions per second",
            "transactions_per_second",
            Some("transactions_per_second"),
        ),
        (
            "commit, µs per transaction",
            "commit_us_per_transaction",
            Some("commit_us_per_transaction"),
        ),
        (
            "validator's CPU, ms per slot",
            "validator_cpu_ms_per_slot",
            None,
        ),
        ("peak memory, MiB", "peak_rss_mib", None),
    ] {
        let unit = if name.starts_with("slot_") { "_ms" } else { "" };
        let difference = difference.map_or(String::new(), |name| {
            let part = |end: &str| shown(&format!("{name}_difference_{end}"));
            format!(
                "{} % ({} to {})",
                part("percent"),
                part("ci95_low_percent"),
                part("ci95_high_percent")
            )
        });
        let (off, on) = (
            shown(&format!("{name}_off{unit}")),
            shown(&format!("{name}_on{unit}")),
        );
        text += &format!("{row:<32}{off:>12}{on:>12}   {difference}\n");
    }
    let threads: Vec<String> = figures["plugin_threads_cpu_ms_per_slot"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(kind, spent)| format!("{kind} {:.2}", spent.as_f64().unwrap_or_default()))
        .collect();
    text += &format!(
        "the plugin's threads: {} ms CPU per slot ({}); {} callbacks per second, {} lost\n\
         Not measured: replay of another leader's blocks, because this node leads every slot itself.\n",
        shown("plugin_cpu_ms_per_slot"),
        threads.join(", "),
        shown("plugin_callbacks_per_second"),
        shown("plugin_lost"),
    );
    for check in report["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"] == true { "✓" } else { "✗" };
        let name = check["name"].as_str().unwrap_or_default();
        text += &format!(
            "{mark} {name}: {} {} {}\n",
            check["value"],
            check["op"].as_str().unwrap_or_default(),
            check["target"]
        );
    }
    text
}

fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = text
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{processor}, {cores} cores")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn figures(slot_ms: f64) -> Figures {
        Figures {
            slot_ms: vec![slot_ms; 10],
            transactions_per_second: 50.0,
            commit_us_per_transaction: 80.0,
            validator_cpu_ms_per_slot: 100.0,
            plugin_cpu_ms_per_slot: [("hgWorker".to_owned(), 3.0)].into(),
            peak_rss_mib: 500.0,
            callbacks_per_second: 900.0,
            lost: 0,
        }
    }

    #[test]
    fn a_validator_that_gets_slower_misses_its_check() {
        let options = Options::try_parse_from(["bench", "--rounds", "3"]).unwrap();
        let with = |on: [f64; 3]| {
            let pairs: Vec<_> = on.iter().map(|on| (figures(400.0), figures(*on))).collect();
            new(&options, Path::new("p.so"), &pairs)
        };
        let same = with([400.0, 401.0, 400.4]);
        assert_eq!(same["checks"][0]["ok"], true, "{same:#}");
        assert_eq!(same["figures"]["slots_on"], 30.0);
        let slower = with([420.0, 421.0, 420.0]);
        assert_eq!(slower["checks"][0]["ok"], false, "{slower:#}");
        // One bad pair among good ones widens the interval.
        let unsure = with([400.0, 400.0, 408.0]);
        assert_eq!(unsure["checks"][0]["ok"], true, "{unsure:#}");
        assert_eq!(unsure["checks"][1]["ok"], false, "{unsure:#}");
        for member in ["bench", "commit", "machine", "params", "figures", "checks"] {
            assert!(same.get(member).is_some(), "{member}");
        }
        assert!(table(&same).contains("Not measured: replay"));
        assert!(!table(&same).contains('–'), "{}", table(&same));
        // One pair alone proves nothing, and says so.
        let single = new(
            &options,
            Path::new("p.so"),
            &[(figures(400.0), figures(400.0))],
        );
        assert_eq!(single["figures"]["slot_time_difference_percent"], 0.0);
        assert_eq!(
            single["figures"]["slot_time_difference_ci95_high_percent"],
            Value::Null
        );
        assert_eq!(single["checks"][1]["ok"], false, "{single:#}");
    }
}
