//! Every thread that loading starts has stepped back, those of Kafka's client included; the validator's own thread has not.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin as _;
use geyser_plugin::Plugin;

/// Name and nice value of each thread of this process.
fn nice_values() -> BTreeMap<String, (String, i32)> {
    let mut found = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        // One that ends meanwhile is none of the plugin's.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let Some((head, fields)) = stat.rsplit_once(')') else {
            continue;
        };
        let name = head.split_once('(').unwrap().1.to_owned();
        // Field 19 of the line, and the third is the first behind the name.
        let nice = fields.split_whitespace().nth(16).unwrap();
        let number = thread.file_name().into_string().unwrap();
        found.insert(number, (name, nice.parse().unwrap()));
    }
    found
}

#[test]
fn whatever_loading_starts_has_stepped_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plugin.json");
    let config = "{ libpath: 'unused', validator_identity: 'So11111111111111111111111111111111111111112',
        kafka: { brokers: '127.0.0.1:1' }, metrics: { listen: '127.0.0.1:0' }, unload_seconds: 1, threads: { nice: 4 } }";
    fs::write(&file, config).unwrap();
    let before = nice_values();
    let mut plugin = Plugin::default();
    plugin.on_load(file.to_str().unwrap(), false).unwrap();
    let named = |after: &BTreeMap<String, (String, i32)>, name: &str| {
        after.values().any(|(of, _)| of == name)
    };
    // A thread gives itself its name, a moment after it was started.
    let begin = Instant::now();
    let mut after = nice_values();
    for name in ["hgWorker", "hgMetrics", "rdk:main", "kafka-deliverie"] {
        while !named(&after, name) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "no {name}: {after:?}"
            );
            thread::sleep(Duration::from_millis(5));
            after = nice_values();
        }
    }
    plugin.on_unload();
    let own = fs::read_link("/proc/thread-self").unwrap();
    let own = own.file_name().unwrap().to_str().unwrap();
    let nice = before[own].1;
    for (number, (name, of_before)) in &before {
        assert!(
            after.get(number).is_none_or(|(_, now)| now == of_before),
            "{name}"
        );
    }
    let started: Vec<&(String, i32)> = after
        .iter()
        .filter(|(number, _)| !before.contains_key(*number))
        .map(|(_, thread)| thread)
        .collect();
    let stepped_back = (nice + 4).min(19);
    assert!(
        started.iter().all(|(_, nice)| *nice == stepped_back),
        "{started:?}"
    );
}
