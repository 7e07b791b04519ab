//! The benches `router`, `fanout` and `resume` as they are started, small: they measure something, and what they say of
//! correctness holds. Times and shares of processors are not looked at: a development build on a busy machine has none to tell.

use std::process::{Command, Stdio};

use local_services::workspace_binary;
use serde_json::Value;

fn run(name: &str, arguments: &[&str]) -> Value {
    for (binary, package) in [
        ("libgeyser_plugin.so", "geyser-plugin"),
        ("stream-router", "stream-router"),
    ] {
        let path = workspace_binary(binary);
        assert!(
            path.is_file(),
            "{}: cargo build -p {package}, in the same profile, comes first",
            path.display()
        );
    }
    let output = Command::new(env!("CARGO_BIN_EXE_heliograph-bench"))
        .args([name, "--quick", "--json"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(output.status.success());
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["bench"], name);
    report
}

/// Speed, memory and processor time.
const MEASURED: [&str; 11] = [
    "_per_second",
    "_ms",
    "_percent_of_a_core",
    "_cost_of_one",
    "_cost_of_1",
    "_cost_of_taking",
    "_scan_adds",
    "_of_budget",
    "_growth",
    "_p99_of_before",
    "_p99_of_alone",
];

fn assert_held(report: &Value, named: &[&str]) {
    let checks = report["checks"].as_array().unwrap();
    let name = |check: &Value| check["name"].as_str().unwrap().to_owned();
    let missed: Vec<&Value> = checks
        .iter()
        .filter(|check| check["ok"] != true)
        .filter(|check| !MEASURED.iter().any(|part| name(check).ends_with(part)))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
    for expected in named {
        assert!(
            checks.iter().any(|check| name(check) == *expected),
            "{expected}"
        );
    }
}

#[test]
fn the_router_publishes_what_was_observed() {
    let report = run("router", &[]);
    let figure = |part: &str, name: &str| report["figures"][part][name].as_u64().unwrap();
    assert!(figure("kills", "router") + figure("kills", "broker") == 3);
    assert!(figure("kills", "events") > 500);
    assert!(figure("losses_1", "gaps_due") > 10);
    assert!(figure("forks", "blocks") > 100);
    assert_held(
        &report,
        &[
            "events_per_second",
            "kills_lost_events",
            "sources_output_unlike_one_source",
            "losses_1_gaps_told_exactly",
            "losses_2_repaired",
            "forks_wrong_rows",
            "idle_percent_of_a_core",
        ],
    );
}

#[test]
fn subscribers_get_every_update_once() {
    let report = run("fanout", &[]);
    assert!(
        report["figures"]["stall"]["stalled"]["due"]
            .as_u64()
            .unwrap()
            > 1_000
    );
    assert_held(
        &report,
        &[
            "latency_1000_per_second_p99_ms",
            "latency_20_per_second_missing_or_repeated",
            "crowd_still_connected",
            "large_filter_updates_missed_after_change",
            "stall_gaps",
            "stall_repetitions",
        ],
    );
}

#[test]
fn whoever_comes_back_has_no_gap() {
    let report = run("resume", &[]);
    assert_eq!(report["figures"]["reconnect"]["router_kills"], 1);
    assert_held(
        &report,
        &[
            "replay_finalized_faults",
            "reconnect_processed_gaps",
            "reconnect_confirmed_repetitions",
        ],
    );
}
