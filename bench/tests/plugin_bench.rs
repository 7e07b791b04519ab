//! The bench `plugin` as it is started: its host processes, its counter of allocations, its table and its last line.

use std::{
    alloc::{Layout, alloc, dealloc},
    hint::black_box,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bench::plugin_bench::{
    allocations::AllocationReader,
    drive::{Pace, Plan, Until},
    host_process::{Measure, Order, Round},
    mix::Kind,
};
use serde_json::Value;

fn example(name: &str) -> PathBuf {
    // target/PROFILE/deps/plugin_bench-… → target/PROFILE/examples
    let exe = std::env::current_exe().unwrap();
    let path = exe.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        path.is_file(),
        "{}: cargo builds examples with the tests",
        path.display()
    );
    path
}

fn shipped_blocks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks")
}

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_heliograph-bench"))
}

/// One round in a host with these arguments.
fn round(arguments: &[&str], preload: Option<&Path>, order: Order) -> (Value, Round) {
    let mut command = bench();
    command
        .args(["plugin-host", "--blocks"])
        .arg(shipped_blocks());
    command.args(arguments);
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let mut host = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = host.stdin.take().unwrap();
    // Twice: the first one warms.
    for _ in 0..2 {
        writeln!(orders, "{}", serde_json::to_string(&order).unwrap()).unwrap();
    }
    drop(orders);
    let lines: Vec<String> = BufReader::new(host.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert!(host.wait().unwrap().success());
    assert_eq!(lines.len(), 3, "{lines:?}");
    let ready = serde_json::from_str(&lines[0]).unwrap();
    (ready, serde_json::from_str(&lines[2]).unwrap())
}

fn order(measure: Measure) -> Order {
    let plan = Plan {
        threads: 2,
        pace: Pace::Busy,
        until: Until::Passes(1),
        touched: true,
    };
    Order { plan, measure }
}

#[test]
fn a_foreign_plugin_is_driven_in_a_process_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.jsonl");
    let config = folder.path().join("recording.conf");
    std::fs::write(&config, out.to_str().unwrap()).unwrap();
    let (so, config) = (example("librecording_plugin.so"), config.to_str().unwrap());
    let arguments = ["--so", so.to_str().unwrap(), "--config", config];
    let (ready, round) = round(&arguments, None, order(Measure::Times));
    assert_eq!(ready["name"], "recording");
    assert_eq!(round.driven.refused, 0);
    let seen = std::fs::read_to_string(out).unwrap();
    let of = |name: &str| seen.lines().filter(|l| l.contains(name)).count() as u64;
    // Two rounds were driven, one of them was answered last.
    let transactions = round.latencies.of(Kind::VoteTransaction).count()
        + round.latencies.of(Kind::NonVoteTransaction).count();
    assert_eq!(transactions, ready["transactions"].as_u64().unwrap());
    assert_eq!(of("\"callback\":\"transaction\""), 2 * transactions);
    let entries = round.latencies.of(Kind::Entry).count();
    assert_eq!(of("\"callback\":\"entry\""), 2 * entries);
    assert!(round.latencies.of(Kind::Account165).quantile(0.5) > 0);
}

#[test]
fn allocations_are_counted_in_callbacks_and_nowhere_else() {
    let library = example("liballocation_counter.so");
    let (_, floor) = round(&[], Some(&library), order(Measure::Allocations));
    let all: u64 = floor.allocated.iter().map(|kind| kind.allocations).sum();
    assert_eq!(all, 0, "an empty callback allocates nothing");
    let called: u64 = floor.allocated.iter().map(|kind| kind.callbacks).sum();
    assert_eq!(called, floor.driven.callbacks);

    let (_, baseline) = round(&["--baseline"], Some(&library), order(Measure::Allocations));
    // An entry has one Vec, its encoding another; the channel makes a block now and then.
    let entries = baseline.allocated[Kind::Entry as usize];
    assert!(entries.allocations >= 2 * entries.callbacks, "{entries:?}");
    assert!(entries.per_callback() < 2.5, "{entries:?}");
}

/// Runs itself again under the counter, and there counts what is known.
#[test]
fn the_counter_counts_each_way_to_allocate_on_its_own_thread() {
    let Some(reader) = AllocationReader::find() else {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_counter_counts_each_way_to_allocate_on_its_own_thread",
            ])
            .env("LD_PRELOAD", example("liballocation_counter.so"))
            .output()
            .unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
        return;
    };
    let counted = |work: &mut dyn FnMut()| {
        let before = reader.on_this_thread();
        work();
        reader.on_this_thread() - before
    };
    assert_eq!(counted(&mut || ()), 0);
    assert_eq!(counted(&mut || drop(black_box(Box::new(7_u64)))), 1);
    assert_eq!(counted(&mut || drop(black_box(vec![0_u8; 5000]))), 1);
    let mut grown: Vec<u64> = Vec::with_capacity(4);
    assert_eq!(counted(&mut || grown.reserve_exact(black_box(1000))), 1);
    let aligned = Layout::from_size_align(256, 128).unwrap();
    let made = counted(&mut || allocate(aligned));
    assert_eq!(made, 1, "memory of a greater alignment");
    let elsewhere = counted(&mut || {
        // Nothing but the other thread's work lies between the two handshakes.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let before = reader.on_this_thread();
                for _ in 0..100_000 {
                    drop(black_box(Box::new(1_u8)));
                }
                reader.on_this_thread() - before
            });
            assert_eq!(other.join().unwrap(), 100_000);
        });
    });
    assert!(
        elsewhere < 100,
        "starting a thread takes a few: {elsewhere}"
    );
}

#[allow(unsafe_code)]
fn allocate(layout: Layout) {
    // SAFETY: the layout is not empty, and what was given with it is given back with it.
    unsafe { dealloc(black_box(alloc(layout)), layout) }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// What the bench says of one round of the recording plugin, which writes what it sees to `seen`.
fn recorded(arguments: &[&str], seen: &Path) -> String {
    let config = seen.with_extension("conf");
    std::fs::write(&config, seen.to_str().unwrap()).unwrap();
    let output = bench()
        .args(["plugin", "--json", "--without-ours", "--rounds", "1"])
        .args(arguments)
        // Nobody in this run delivers anything, so no broker is needed.
        .args(["--brokers", "127.0.0.1:1"])
        .arg("--blocks")
        .arg(shipped_blocks())
        .arg("--so")
        .arg(example("librecording_plugin.so"))
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_comparison_ends_with_a_table_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--threads", "1", "--transactions", "40"];
    let out = recorded(&arguments, &folder.path().join("seen"));
    assert!(out.contains("two readings of the clock cost"), "{out}");
    assert!(out.contains("account_165") && out.contains("paced_1_threads"));
    let report: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(report["bench"], "plugin");
    for subject in ["floor", "clock", "baseline", "recording_plugin-1"] {
        let run = &report["figures"][subject]["runs"]["busy_1_threads"];
        let p50 = &run["kinds"]["account_165"]["p50_ns"];
        assert!(p50.as_u64().is_some_and(|ns| ns > 0), "{subject}: {run}");
        let entries = &report["figures"][subject]["allocations"]["entry"];
        assert!(
            entries["callbacks"].as_u64() > Some(0),
            "{subject}: {entries}"
        );
    }
    let allocated = |subject: &str| {
        let entry = &report["figures"][subject]["allocations"]["entry"];
        entry["allocations"].as_u64().unwrap()
    };
    assert_eq!((allocated("floor"), allocated("clock")), (0, 0));
    assert!(allocated("recording_plugin-1") > 0);
}

#[test]
fn slots_of_a_small_cluster_come_whole_and_in_their_pace() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let said = recorded(
        &[
            "--validator-pace",
            "1",
            "--slot-callbacks",
            "74",
            "--slot-millis",
            "100",
        ],
        &seen,
    );
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let figures = &report["figures"]["recording_plugin-1"];
    // One second at 740 a second, and the slot that was under way.
    let callbacks = figures["callbacks"].as_u64().unwrap();
    assert!((1..=740 + 2 * 74).contains(&callbacks), "{figures}");
    assert_eq!(
        report["checks"].as_array().unwrap().len(),
        0,
        "nobody promised anything"
    );
    let seen = std::fs::read_to_string(seen).unwrap();
    let of = |name: &str| seen.lines().filter(|line| line.contains(name)).count();
    let slots = of("\"callback\":\"block\"");
    assert!(slots > 1, "{slots}");
    // 74, less what any slot has beside, is one with its accounts.
    assert_eq!(of("\"callback\":\"transaction\""), slots);
}

#[test]
fn variants_are_named_members_of_the_configuration() {
    for (variant, problem) in [
        ("x", "no `=` in it"),
        ("x={", "Fix: write NAME=JSON"),
        ("x=3", "no JSON object"),
    ] {
        let output = bench()
            .args(["plugin", "--variant", variant])
            .output()
            .unwrap();
        let said = text(&output);
        assert!(
            !output.status.success() && said.contains(problem),
            "{variant}: {said}"
        );
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_fix() {
    let refused = |arguments: &[&str]| {
        let output = bench().arg("plugin").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let blocks = shipped_blocks();
    let with = |arguments: &[&'static str]| {
        let mut all = vec!["--blocks", blocks.to_str().unwrap()];
        all.extend(arguments);
        refused(&all)
    };
    let said = with(&["--brokers", "127.0.0.1:1", "--so", "x.so"]);
    assert!(said.contains("1 --so but 0 --config"), "{said}");
    let said = with(&["--brokers", "127.0.0.1:1", "--plugin", "/nowhere.so"]);
    assert!(said.contains("cargo build --release"), "{said}");
    let said = refused(&["--blocks", "/nowhere", "--brokers", "127.0.0.1:1"]);
    assert!(said.contains("/nowhere: no such folder. Fix:"), "{said}");

    let list = bench().arg("list").output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("replay") && list.contains("plugin") && !list.contains("plugin-host"));
}
