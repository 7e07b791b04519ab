//! More clients than there may be, on real sockets: those that may are served, the others are told, and who was there before
//! notices nothing. The clients are the example `crowd_of_websocket_clients`, a process of its own.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

use crate::{
    crowd_of::{WANTED, clients, resident_mib, sockets_max},
    rig::Rig,
};

/// How many of them are too many.
const REFUSED: usize = 500;
/// A debug build on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(300);

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections() {
    let count = WANTED.min(sockets_max());
    // One of them was there before.
    let served = count - REFUSED;
    let rig = Rig::with(|websocket, _| websocket.connections_max = served + 1).await;
    let mut before = rig.client().await;
    before.ask("slotSubscribe", json!([])).await;
    let at_rest = resident_mib(std::process::id());
    let mut child = Command::new(clients("crowd_of_websocket_clients"))
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
        resident_mib(std::process::id())
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
