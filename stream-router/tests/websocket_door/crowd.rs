//! More clients than there may be, on real sockets: those that may are served, the others are told, and who was there before
//! notices nothing. The clients are the example `crowd_of_clients`, a process of its own.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

use crate::rig::Rig;

/// As many as are wanted, and how many of them are too many.
const WANTED: usize = 10_000;
const REFUSED: usize = 500;
/// File descriptors of a process for other things.
const OTHERS: usize = 200;
/// A debug build on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(300);

/// How many sockets this process, and the clients' like it, may have.
fn sockets_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    soft.unwrap_or(1_024) - OTHERS
}

fn clients() -> PathBuf {
    // target/PROFILE/deps/websocket_door-… → target/PROFILE/examples
    let exe = std::env::current_exe().expect("this program");
    let profile = exe.ancestors().nth(2).expect("a target directory");
    let program = profile.join("examples/crowd_of_clients");
    assert!(
        program.is_file(),
        "{}: cargo builds examples with the tests",
        program.display()
    );
    program
}

/// The numbers of the line that begins with the word.
async fn said(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) -> Vec<usize> {
    let find = async {
        while let Some(line) = lines.next_line().await.expect("a pipe") {
            if let Some(numbers) = line.strip_prefix(word) {
                let numbers = numbers.split_whitespace().map(|number| number.parse());
                return numbers.collect::<Result<_, _>>().expect("numbers");
            }
        }
        panic!("the clients ended before they {word}");
    };
    timeout(VERY_LONG, find).await.expect("in time")
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections() {
    let count = WANTED.min(sockets_max());
    // One of them was there before.
    let served = count - REFUSED;
    let rig = Rig::with(|websocket, _| websocket.connections_max = served + 1).await;
    let mut before = rig.client().await;
    before.ask("slotSubscribe", json!([])).await;
    let at_rest = resident_mib();
    let mut child = Command::new(clients())
        .args([rig.address.to_string(), count.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the clients");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = Instant::now();
    let mut slot = 0;
    let mut slowest = Duration::ZERO;
    let mut coming = Box::pin(said(&mut lines, "came"));
    // Who was there before hears every slot in its turn, however many come.
    let came = loop {
        tokio::select! {
            came = &mut coming => break came,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        slot += 1;
        let told = Instant::now();
        rig.slot(slot).await;
        assert_eq!(before.next().await["params"]["result"]["slot"], slot);
        slowest = slowest.max(told.elapsed());
    };
    drop(coming);
    println!(
        "{count} clients in {:.1} s: {came:?} served, told, closed; router and rig {:.0} MiB, {at_rest:.0} before; slowest of \
         {slot} slots to the one before: {slowest:?}",
        begun.elapsed().as_secs_f64(),
        resident_mib()
    );
    assert_eq!(came, [served, REFUSED, 0], "each is served or told");
    rig.slot(u64::MAX).await;
    assert_eq!(said(&mut lines, "heard").await, [served]);
    assert_eq!(before.next().await["params"]["result"]["slot"], u64::MAX);
    assert!(child.wait().await.expect("ends").success());
    // All places are given back.
    rig.metric_becomes("router_websocket_connections", &[], 1.0)
        .await;
    rig.metric_becomes("router_subscriptions", &[], 1.0).await;
}
