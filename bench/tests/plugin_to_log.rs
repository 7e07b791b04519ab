//! Our plugin, loaded as a validator loads it, with a broker: from callback to reader, and through a stall.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// `None`, with the reason said, when only this crate was built.
fn our_plugin() -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.ancestors().nth(2).unwrap().join("libgeyser_plugin.so");
    if !path.is_file() {
        eprintln!("skipped: {} is not built (cargo build)", path.display());
        return None;
    }
    Some(path)
}

fn report(plugin: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_heliograph-bench"))
        .args(["plugin", "--json", "--plugin"])
        .arg(plugin)
        .arg("--blocks")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{problems}");
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn held(report: &Value, name: &str) -> bool {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no check {name}"))["ok"] == true
}

#[test]
fn what_the_reader_gets_is_every_callback_in_the_bytes_of_prost() {
    let Some(plugin) = our_plugin() else { return };
    let report = report(
        &plugin,
        &[
            "--throughput",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--callers",
            "2",
        ],
    );
    assert!(held(&report, "lost"), "{report}");
    assert!(held(&report, "late_or_repeated"), "{report}");
    assert!(held(&report, "ways_that_say_other_than_ours"), "{report}");
    assert!(report["figures"]["values_compared"].as_u64() > Some(1_000));
    assert!(report["figures"]["heliograph"]["received"].as_u64() > Some(1_000));
}

#[test]
fn a_stall_fills_the_plugin_and_every_callback_is_accounted_for() {
    let Some(plugin) = our_plugin() else { return };
    let report = report(&plugin, &["--stall", "2", "--rate", "50000"]);
    assert!(held(&report, "unaccounted_callbacks"), "{report}");
    assert!(held(&report, "queue_and_spill_were_full"), "{report}");
    let figure = |name: &str| report["figures"][name].as_u64().unwrap();
    assert!(figure("lost") > 0 && figure("delivered") > 0);
    assert!(report["figures"]["stalled"]["count"].as_u64() > Some(10_000));
}
