//! The router's PubSub against the validator's own, on the traffic of every kind that `up` drives. Skipped, loudly, where
//! the validator has not been built.

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

/// A stack with traffic, for as long as this lives.
struct Running {
    up: Child,
    dir: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("up.log")).unwrap();
        let up = Command::new(env!("CARGO_BIN_EXE_heliograph-stack"))
            .env("HELIOGRAPH_ROOT", repository())
            .arg("--dir")
            .arg(dir.path())
            .args(["up", "--source", "validator", "--free-ports"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self { up, dir };
        let begin = Instant::now();
        while !running.log().contains("web page and API") {
            let ended = running.up.try_wait().unwrap();
            assert!(ended.is_none(), "{}", running.log());
            assert!(
                begin.elapsed() < Duration::from_secs(180),
                "{}",
                running.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        running
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("up.log")).unwrap()
    }

    fn port(&self, name: &str) -> u64 {
        let state = std::fs::read(self.dir.path().join("state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        state["ports"][name].as_u64().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its services die with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

#[test]
fn what_the_router_tells_is_what_the_validator_tells() {
    let validator = local_services::cache_dir().join("target-validator/debug/localnet-validator");
    if !validator.is_file() {
        eprintln!(
            "skipped: PubSub against the validator's own: the validator is not built; `./heliograph build --validator` builds it"
        );
        return;
    }
    let stack = Running::start();
    let clients = repository().join("localnet/clients");
    let rpc = stack.port("rpc");
    let output = Command::new("node")
        .arg("pubsub.mjs")
        .current_dir(&clients)
        .env("HELIOGRAPH_RPC", format!("http://127.0.0.1:{rpc}"))
        .env("HELIOGRAPH_PUBSUB", format!("ws://127.0.0.1:{}", rpc + 1))
        .env(
            "HELIOGRAPH_ROUTER",
            format!("ws://127.0.0.1:{}", stack.port("router")),
        )
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        stack.log()
    );
    let report: Value = serde_json::from_str(&text).unwrap();
    let kinds = report["kinds"].as_array().unwrap();
    for kind in kinds {
        assert_eq!(kind["differences"], 0, "{kind:#}");
        let name = kind["kind"].as_str().unwrap_or_default();
        eprintln!("{name}: {} compared, all equal", kind["compared"]);
    }
    let about = |method: &str| {
        let names = kinds.iter().filter_map(|kind| kind["kind"].as_str());
        names.filter(|name| name.starts_with(method)).count()
    };
    assert_eq!(
        [
            about("blockSubscribe"),
            about("transactionSubscribe"),
            about("voteSubscribe")
        ],
        [11, 6, 1]
    );
    assert!(
        about("slotsUpdatesSubscribe") >= 5,
        "completed, createdBank, frozen, optimisticConfirmation, root"
    );
}
