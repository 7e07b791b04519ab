//! The host against a plugin that it loads by `dlopen`: what is called, by whom, and in which order.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn target_folder() -> PathBuf {
    // target/debug/deps/host-… → target/debug
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().to_path_buf()
}

fn recording_plugin() -> PathBuf {
    let path = target_folder().join("examples/librecording_plugin.so");
    assert!(
        path.is_file(),
        "{}: cargo builds examples with the tests",
        path.display()
    );
    path
}

/// The repository's own recorded blocks.
fn shipped_blocks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks")
}

fn replay(configs: &[&Path], blocks: &Path, plugin: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay-blocks"));
    command.arg("--plugin").arg(plugin).args(["--seed", "7"]);
    for config in configs {
        command.arg("--config").arg(config);
    }
    command.arg(blocks).output().unwrap()
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

struct Recording {
    config: PathBuf,
    out: PathBuf,
}

impl Recording {
    fn new(folder: &Path, name: &str) -> Self {
        let out = folder.join(format!("{name}.jsonl"));
        let config = folder.join(format!("{name}.conf"));
        std::fs::write(&config, out.to_str().unwrap()).unwrap();
        Self { config, out }
    }

    fn callbacks(&self) -> Vec<Value> {
        json_lines(&std::fs::read(&self.out).unwrap())
    }
}

fn of<'a>(callbacks: &'a [Value], kind: &str, slot: u64) -> Vec<&'a Value> {
    callbacks
        .iter()
        .filter(|c| c["callback"] == kind && c["slot"] == slot)
        .collect()
}

#[test]
fn every_block_arrives_whole_and_in_the_order_of_a_validator() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::new(folder.path(), "one");
    let output = replay(&[&recording.config], &shipped_blocks(), &recording_plugin());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = json_lines(&output.stdout);
    let callbacks = recording.callbacks();
    let blocks: Vec<&Value> = lines.iter().filter(|line| line["slot"].is_u64()).collect();
    assert!(!blocks.is_empty(), "the repository ships recorded blocks");
    let totals = lines.last().unwrap();
    assert_eq!(totals["done"], true);
    assert_eq!(totals["blocks"], blocks.len());

    let mut slots = Vec::new();
    let mut metadata_overtook = false;
    for line in blocks {
        let slot = line["slot"].as_u64().unwrap();
        slots.push(slot);
        let transactions = of(&callbacks, "transaction", slot);
        assert_eq!(transactions.len() as u64, line["transactions"]);
        assert!(
            transactions
                .iter()
                .enumerate()
                .all(|(i, t)| t["index"] == i)
        );
        assert!(
            transactions
                .iter()
                .all(|t| t["thread"] == "solTxStatusWrtr")
        );
        let votes = transactions.iter().filter(|t| t["is_vote"] == true).count();
        assert_eq!(votes as u64, line["votes"]);

        let [metadata] = of(&callbacks, "block", slot)[..] else {
            panic!("slot {slot}: one block metadata")
        };
        assert_eq!(metadata["thread"], "solReplayStage");
        assert_eq!(metadata["transactions"], line["transactions"]);
        let order = |c: &Value| c["order"].as_u64().unwrap();
        metadata_overtook |= transactions.iter().any(|t| order(t) > order(metadata));

        let entries = of(&callbacks, "entry", slot);
        assert_eq!(metadata["entries"], entries.len());
        assert!(entries.iter().all(|e| e["thread"] == "solEntryNotif"));
        let counted: u64 = entries
            .iter()
            .map(|e| e["transactions"].as_u64().unwrap())
            .sum();
        assert_eq!(counted, line["transactions"]);

        let statuses: HashMap<&str, &Value> = of(&callbacks, "slot", slot)
            .into_iter()
            .map(|c| (c["status"].as_str().unwrap(), c))
            .collect();
        let at = |status: &str| order(statuses[status]);
        let first = transactions.iter().chain(&entries).map(|c| order(c)).min();
        assert!(first.is_none_or(|first| at("created_bank") < first));
        let last = transactions.iter().map(|c| order(c)).max().unwrap_or(0);
        assert!(at("processed") > last.max(order(metadata)));
        assert!(at("confirmed") > at("processed") && at("rooted") > at("confirmed"));
        assert_eq!(statuses["rooted"]["parent"], line["parent_slot"]);
        assert_eq!(statuses["confirmed"]["parent"], Value::Null);
    }
    assert!(slots.is_sorted(), "slots ascend: {slots:?}");
    assert!(
        metadata_overtook,
        "with this seed some metadata precedes its transactions"
    );
    assert_eq!(callbacks.last().unwrap()["callback"], "on_unload");
}

#[test]
fn a_slot_met_again_goes_to_the_next_source() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks");
    std::fs::create_dir(&blocks).unwrap();
    let shipped = bench::replay::files(&shipped_blocks()).unwrap();
    let block = shipped
        .iter()
        .find(|file| bench::replay::read(file).is_ok())
        .expect("the repository ships recorded blocks");
    let name = block.file_name().unwrap().to_string_lossy().into_owned();
    for copy in ["a", "b", "c"] {
        std::fs::copy(block, blocks.join(format!("{copy}-{name}"))).unwrap();
    }
    let [one, two] = ["one", "two"].map(|name| Recording::new(folder.path(), name));
    let output = replay(&[&one.config, &two.config], &blocks, &recording_plugin());
    assert!(output.status.success());
    let lines = json_lines(&output.stdout);
    let sources: Vec<_> = lines
        .iter()
        .filter_map(|line| line["source"].as_u64())
        .collect();
    assert_eq!(sources, [1, 2]);
    assert!(lines[2]["skipped"].as_str().unwrap().contains("--config"));
    let content = |recording: &Recording| -> Vec<Value> {
        let mut seen: Vec<Value> = recording
            .callbacks()
            .into_iter()
            .filter(|c| c["callback"] == "transaction" || c["callback"] == "entry")
            .map(|mut c| {
                c["order"] = Value::Null;
                c
            })
            .collect();
        seen.sort_by_key(Value::to_string);
        seen
    };
    assert_eq!(content(&one), content(&two));
}

#[test]
fn a_damaged_file_is_named_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks");
    std::fs::create_dir(&blocks).unwrap();
    let shipped = bench::replay::files(&shipped_blocks()).unwrap();
    let block = shipped
        .iter()
        .find(|file| bench::replay::read(file).is_ok())
        .unwrap();
    let bytes = std::fs::read(block).unwrap();
    let name = block.file_name().unwrap().to_string_lossy().into_owned();
    std::fs::write(blocks.join(&name), &bytes).unwrap();
    std::fs::write(blocks.join("cut-1.json.zst"), &bytes[..bytes.len() / 2]).unwrap();
    let recording = Recording::new(folder.path(), "one");
    let output = replay(&[&recording.config], &blocks, &recording_plugin());
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&output.stdout);
    assert_eq!(lines[0]["file"], "cut-1.json.zst");
    assert!(lines[0]["error"].as_str().unwrap().contains("Fix:"));
    assert_eq!(lines[1]["file"], name);
    assert_eq!(lines[2]["failed"], 1);
    assert_eq!(lines[2]["blocks"], 1);
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("refuse.conf");
    std::fs::write(&config, "refuse").unwrap();
    let refusal = |plugin: &Path, config: &Path| {
        let output = replay(&[config], &shipped_blocks(), plugin);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refusal(&recording_plugin(), &config).contains("field out: told to refuse"));
    assert!(
        refusal(Path::new("/nowhere/plugin.so"), &config).contains("cargo build -p geyser-plugin")
    );
    assert!(refusal(&recording_plugin(), &folder.path().join("absent")).contains("--config"));
    let text = folder.path().join("text.so");
    std::fs::write(&text, "no ELF").unwrap();
    assert!(refusal(&text, &config).contains("not an object file"));
    // A program of the same compiler, but not a plugin.
    let program = Path::new(env!("CARGO_BIN_EXE_replay-blocks"));
    assert!(refusal(program, &config).contains("Fix: give a Geyser plugin"));

    // The same plugin, as another compiler would have signed it.
    let mut bytes = std::fs::read(recording_plugin()).unwrap();
    let mark = b"rustc version 1.";
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)
        .unwrap();
    bytes[at + mark.len()] = b'1';
    let other = folder.path().join("other.so");
    std::fs::write(&other, bytes).unwrap();
    let message = refusal(&other, &config);
    assert!(
        message.contains("rust-toolchain.toml") && message.contains("rustc version 1.1"),
        "{message}"
    );
}
