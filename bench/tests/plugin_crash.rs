//! The bench `plugin-crash` as it is started, with few kills: everything it promises of the plugin holds.

use std::process::{Command, Stdio};

use local_services::workspace_binary;
use serde_json::Value;

const KILLS: u64 = 8;

#[test]
fn kills_leave_no_callback_unaccounted() {
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
        .args(["plugin-crash", "--json", "--seed", "6", "--kills"])
        .arg(KILLS.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(output.status.success());
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();

    let figure = |name: &str| report["figures"][name].as_u64().unwrap();
    let killed = |what: &str| -> u64 {
        let kills = report["figures"][what].as_object().unwrap();
        kills.values().map(|count| count.as_u64().unwrap()).sum()
    };
    // It was not proven on nothing.
    assert_eq!(killed("host_kills") + killed("broker_kills"), KILLS);
    assert!(killed("broker_kills") > 0);
    assert!(figure("returned") > 10_000);
    assert!(figure("recovered") > 0 && figure("repetitions") > 0);
    assert!(figure("canonical_slots") > 100);

    let checks = report["checks"].as_array().unwrap();
    // Of a slot without a single record the router names no gap yet; the bench reports them.
    let missed: Vec<&Value> = checks
        .iter()
        .filter(|check| check["ok"] != true && check["name"] != "unnamed_holes_without_any_record")
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
    for name in [
        "unaccounted",
        "holes",
        "repetitions_with_other_bytes",
        "canonical_duplicates",
        "unnamed_holes",
    ] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
}
