//! More clients than there may be, on real sockets: those that may are served, the others are told, and who was there before
//! notices nothing. The clients are a process of their own, because each connection takes a file descriptor at both ends.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};
use tokio_tungstenite::{connect_async, tungstenite::Error};

use crate::rig::{Client, Rig};

/// Names the clients' process and tells it where to go.
const ADDRESS: &str = "HELIOGRAPH_CROWD_ADDRESS";
const CLIENTS: &str = "HELIOGRAPH_CROWD_CLIENTS";
/// As many as are wanted, and how many may come in.
const WANTED: usize = 10_000;
const REFUSED: usize = 500;
/// File descriptors of a process for other things.
const OTHERS: usize = 200;
/// Handshakes at a time.
const AT_ONCE: usize = 64;
/// A debug build on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(600);

/// How many sockets this process may have.
fn sockets_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    soft.unwrap_or(1_024) - OTHERS
}

#[derive(Debug, PartialEq, Eq)]
enum Welcome {
    /// Has its answer to `slotSubscribe`.
    Served,
    Told,
    Closed,
}

async fn come(address: &str) -> (Welcome, Option<Client>) {
    match connect_async(format!("ws://{address}/")).await {
        Ok((stream, _)) => {
            let mut client = Client(stream);
            let answer = client.ask("slotSubscribe", json!([])).await;
            assert!(answer["result"].is_u64(), "{answer}");
            (Welcome::Served, Some(client))
        }
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let text = String::from_utf8_lossy(&body);
            assert_eq!(response.status(), 503);
            assert!(text.contains("websocket.connections_max"), "{text}");
            (Welcome::Told, None)
        }
        Err(_) => (Welcome::Closed, None),
    }
}

/// The clients; does nothing unless it was started by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process of clients of ten_thousand_connections"]
async fn clients() {
    let (Ok(address), Ok(count)) = (std::env::var(ADDRESS), std::env::var(CLIENTS)) else {
        return;
    };
    let count: usize = count.parse().expect("a number");
    let coming = stream::iter(0..count).map(|_| come(&address));
    let came: Vec<_> = coming.buffer_unordered(AT_ONCE).collect().await;
    let of = |which: Welcome| came.iter().filter(|(welcome, _)| *welcome == which).count();
    println!(
        "\ncame {} {} {}",
        of(Welcome::Served),
        of(Welcome::Told),
        of(Welcome::Closed)
    );
    let served = came.into_iter().filter_map(|(_, client)| client);
    let hearing = served.map(async |mut client| {
        // This slot is the last that is told.
        while client.next().await["params"]["result"]["slot"] != u64::MAX {}
        client
    });
    let heard: Vec<Client> = stream::iter(hearing)
        .buffer_unordered(WANTED)
        .collect()
        .await;
    println!("\nheard {}", heard.len());
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
#[ignore = "opens as many connections as the process may, for a minute"]
async fn ten_thousand_connections() {
    let count = WANTED.min(sockets_max());
    // One of them was there before.
    let served = count - REFUSED;
    let rig = Rig::with(|websocket, _| websocket.connections_max = served + 1).await;
    let mut before = rig.client().await;
    before.ask("slotSubscribe", json!([])).await;
    let at_rest = resident_mib();
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["--ignored", "--exact", "crowd::clients", "--nocapture"])
        .env(ADDRESS, rig.address.to_string())
        .env(CLIENTS, count.to_string())
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
    assert_eq!((came[0], came[1] + came[2]), (served, REFUSED));
    assert!(came[1] > 0, "nobody was told");
    rig.slot(u64::MAX).await;
    assert_eq!(said(&mut lines, "heard").await, [served]);
    assert_eq!(before.next().await["params"]["result"]["slot"], u64::MAX);
    assert!(child.wait().await.expect("ends").success());
    // All places are given back.
    rig.metric_becomes("router_websocket_connections", &[], 1.0)
        .await;
    rig.metric_becomes("router_subscriptions", &[], 1.0).await;
}
