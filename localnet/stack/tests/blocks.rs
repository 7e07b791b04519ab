//! Recorded blocks through every real part, by the command that users run.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn heliograph(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heliograph-stack"))
        .env("HELIOGRAPH_ROOT", repository())
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run_once(blocks: &Path) -> (Output, Value) {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let output = heliograph(
        dir.path(),
        &[
            "up",
            "--source",
            "blocks",
            blocks.to_str().unwrap(),
            "--once",
            "--free-ports",
            "--report",
            report.to_str().unwrap(),
        ],
    );
    let report = std::fs::read(report).unwrap_or_default();
    (output, serde_json::from_slice(&report).unwrap_or_default())
}

fn assert_proven(output: &Output, report: &Value) {
    assert!(output.status.success(), "{}", said(output));
    for key in ["lost", "duplicated", "dead_letters"] {
        assert_eq!(report[key], 0, "{key}: {report:#}");
    }
    assert_eq!(report["gaps"], Value::Array(vec![]), "{report:#}");
    let blocks = report["blocks"].as_array().unwrap();
    assert!(!blocks.is_empty());
    for block in blocks {
        let in_file = block["transactions_file"].as_u64().unwrap();
        for stage in ["plugin", "canonical", "warehouse", "ledger"] {
            assert_eq!(block[format!("transactions_{stage}")], in_file, "{block:#}");
        }
        assert_eq!(block["lamport_identity"]["exact"], in_file, "{block:#}");
        assert_eq!(block["token_identity"]["broken"], 0, "{block:#}");
    }
}

#[test]
fn the_shipped_blocks_arrive_everywhere_exactly_once() {
    let (output, report) = run_once(&repository().join("localnet/blocks"));
    assert_proven(&output, &report);
    assert!(
        report["blocks"].as_array().unwrap().len() >= 20,
        "{report:#}"
    );
}

#[test]
fn recorded_mainnet_blocks_arrive_everywhere_exactly_once() {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA") else {
        eprintln!("skipped: HELIOGRAPH_DATA is not set (1 test on recorded mainnet blocks)");
        return;
    };
    let (output, report) = run_once(&Path::new(&data).join("blocks"));
    assert_proven(&output, &report);
}

#[test]
fn a_truncated_block_file_is_named_and_the_rest_still_arrives() {
    let blocks = tempfile::tempdir().unwrap();
    let mut shipped: Vec<PathBuf> = std::fs::read_dir(repository().join("localnet/blocks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .collect();
    shipped.sort();
    for path in &shipped[..2] {
        std::fs::copy(path, blocks.path().join(path.file_name().unwrap())).unwrap();
    }
    let whole = std::fs::read(&shipped[2]).unwrap();
    let cut = shipped[2].file_name().unwrap();
    std::fs::write(blocks.path().join(cut), &whole[..whole.len() / 2]).unwrap();

    let (output, report) = run_once(blocks.path());
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    let cut = cut.to_str().unwrap();
    assert!(text.contains(cut), "{text}");
    assert_eq!(report["failed"][0]["file"], cut, "{report:#}");
    assert_eq!(report["blocks"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}");
}

#[test]
fn bad_input_is_refused_with_its_name_and_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (
            vec!["up", "--source", "blocks", "/nonexistent/blocks", "--once"],
            vec!["/nonexistent/blocks", "no such folder"],
        ),
        (
            vec!["up", "--source", "kafka"],
            vec!["kafka", "--source blocks DIR"],
        ),
        (vec!["up", "--sauce", "blocks"], vec!["--sauce", "--source"]),
        (vec!["up", "--report", "r.json"], vec!["--once"]),
        (vec!["status"], vec!["nothing runs", "./heliograph up"]),
        (vec!["down"], vec!["nothing runs", "./heliograph up"]),
    ] {
        let output = heliograph(dir.path(), &arguments);
        let text = said(&output);
        assert!(!output.status.success(), "{arguments:?}");
        for word in words {
            assert!(
                text.contains(word),
                "{arguments:?} should say {word:?}:\n{text}"
            );
        }
    }
}

#[test]
fn a_port_in_use_names_the_service_the_port_and_the_fix() {
    // Whoever has the documented port: this test, or a stack that runs on the machine.
    let _held = std::net::TcpListener::bind("127.0.0.1:8910");
    let dir = tempfile::tempdir().unwrap();
    let blocks = repository().join("localnet/blocks");
    let output = heliograph(
        dir.path(),
        &[
            "up",
            "--source",
            "blocks",
            blocks.to_str().unwrap(),
            "--once",
        ],
    );
    let text = said(&output);
    assert!(!output.status.success());
    for word in ["8910", "stream-router", "--free-ports"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}
