//! The real validator with our plugin in it, real traffic, real clients. Skipped, loudly, where it has not been built.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn validator_is_built(test: &str) -> bool {
    let built = local_services::cache_dir()
        .join("target-validator/debug/localnet-validator")
        .is_file();
    if !built {
        eprintln!(
            "skipped: {test}: the validator is not built; `./heliograph build --validator` builds it"
        );
    }
    built
}

fn heliograph(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph-stack"));
    command
        .env("HELIOGRAPH_ROOT", repository())
        .arg("--dir")
        .arg(dir);
    command
}

/// Traffic of every kind, the router killed in the middle; every block equals the validator's own RPC.
#[test]
fn a_run_on_the_validator_loses_nothing_and_equals_its_rpc() {
    if !validator_is_built("a run on the validator") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report_file = dir.path().join("report.json");
    let output = heliograph(dir.path())
        .args([
            "up",
            "--source",
            "validator",
            "--once",
            "--slots",
            "100",
            "--free-ports",
            "--report",
        ])
        .arg(&report_file)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report_file).unwrap()).unwrap();
    for key in ["lost", "duplicated", "dead_letters", "block_mismatches"] {
        assert_eq!(report[key], 0, "{key}: {text}");
    }
    assert_eq!(report["router_kills"], 1);
    let blocks = report["blocks"].as_array().unwrap();
    assert!(blocks.len() >= 90, "{} blocks", blocks.len());
    let transactions: u64 = blocks
        .iter()
        .filter_map(|block| block["transactions_ledger"].as_u64())
        .sum();
    let unknown: u64 = blocks
        .iter()
        .filter_map(|block| block["token_identity"]["unknown"].as_u64())
        .sum();
    let reasons = report["identity_unknown_reasons"].as_object().unwrap();
    let reasoned: u64 = reasons.values().filter_map(Value::as_u64).sum();
    assert_eq!(
        unknown, reasoned,
        "every unknown identity has a reason: {reasons:?}"
    );
    assert!(
        transactions > 200,
        "there was traffic: {transactions} transactions"
    );
}

/// A stack that stays up until the test has asked its questions.
struct Running {
    up: Child,
    dir: tempfile::TempDir,
    ports: Value,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("up.log")).unwrap();
        let mut up = heliograph(dir.path())
            .args([
                "up",
                "--source",
                "validator",
                "--free-ports",
                "--no-traffic",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let begin = Instant::now();
        loop {
            let text = std::fs::read_to_string(dir.path().join("up.log")).unwrap();
            if text.contains("web page and API") {
                break;
            }
            assert!(up.try_wait().unwrap().is_none(), "{text}");
            assert!(begin.elapsed() < Duration::from_secs(180), "{text}");
            std::thread::sleep(Duration::from_millis(200));
        }
        let state = std::fs::read(dir.path().join("state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        Self {
            up,
            dir,
            ports: state["ports"].clone(),
        }
    }

    fn port(&self, name: &str) -> u64 {
        self.ports[name].as_u64().unwrap()
    }

    /// Runs a client script with the stack's addresses; its output when it was not satisfied is the failure.
    fn client(&self, program: &str, script: &str) {
        let clients = repository().join("localnet/clients");
        let rpc = self.port("rpc");
        let output = Command::new(program)
            .arg(clients.join(script))
            .current_dir(&clients)
            .env("HELIOGRAPH_RPC", format!("http://127.0.0.1:{rpc}"))
            .env("HELIOGRAPH_PUBSUB", format!("ws://127.0.0.1:{}", rpc + 1))
            .env(
                "HELIOGRAPH_ROUTER",
                format!("ws://127.0.0.1:{}", self.port("router")),
            )
            .env(
                "HELIOGRAPH_GRPC",
                format!("http://127.0.0.1:{}", self.port("grpc")),
            )
            .env(
                "HELIOGRAPH_EDGE",
                format!("http://localhost:{}", self.port("edge")),
            )
            .env(
                "HELIOGRAPH_LEDGER",
                format!("http://127.0.0.1:{}", self.port("ledger")),
            )
            .env(
                "HELIOGRAPH_DOOR",
                format!("http://127.0.0.1:{}", self.port("clickhouse")),
            )
            .env("HELIOGRAPH_MINT", self.dir.path().join("mint-keypair.json"))
            .env(
                "PYTHONPATH",
                local_services::cache_dir().join("python-clients"),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}:\n{}{}\nlogs of the stack:\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&self.verb(&["logs", "-n", "8"]).stdout)
        );
        eprintln!("{script}: satisfied");
    }

    fn verb(&self, arguments: &[&str]) -> std::process::Output {
        heliograph(self.dir.path())
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its services die with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// One stack for all of them: starting it is the expensive part.
#[test]
fn unmodified_clients_and_a_browser_are_satisfied() {
    if !validator_is_built("clients and browser against the validator") {
        return;
    }
    let mut stack = Running::start();
    stack.client("node", "web3js.mjs");
    stack.client("node", "kit.mjs");
    stack.client("node", "yellowstone.mjs");
    stack.client("node", "browser.mjs");
    stack.client("python3", "clickhouse_door.py");

    let status = stack.verb(&["status", "--json"]);
    assert!(status.status.success());
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    for service in status["services"].as_array().unwrap() {
        assert_eq!(service["ready"], true, "{status:#}");
    }
    assert_eq!(status["ledger_balanced"], true, "{status:#}");
    assert!(stack.verb(&["down"]).status.success());
    assert!(stack.up.wait().unwrap().success(), "a drain is a success");
}

/// The measurement itself is the bench's; here it must run through and say what it promises.
#[test]
fn the_bench_of_plugin_on_and_off_measures_both_sides() {
    if !validator_is_built("the bench with the plugin and without it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = heliograph(dir.path())
        .args([
            "bench",
            "validator",
            "--rounds",
            "1",
            "--seconds",
            "5",
            "--tps",
            "40",
            "--json",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["bench"], "validator");
    let figure = |name: &str| report["figures"][name].as_f64().unwrap_or_default();
    for side in ["off", "on"] {
        assert!(figure(&format!("slots_{side}")) > 5.0, "{report:#}");
        assert!(
            figure(&format!("transactions_per_second_{side}")) > 10.0,
            "{report:#}"
        );
        assert!(
            figure(&format!("commit_us_per_transaction_{side}")) > 0.0,
            "{report:#}"
        );
    }
    assert!(figure("plugin_callbacks_per_second") > 50.0, "{report:#}");
    assert!(text.contains("Not measured: replay"), "{text}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it cleans up"
    );
}
