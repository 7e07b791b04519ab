//! Subscribers that are cut off at random points, and a router that is killed: with the cursor of its last update, each goes on
//! where it was.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_schema::Slot;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use yellowstone_grpc_proto::geyser::CommitmentLevel;

use super::{
    Scene,
    ledger::{Balance, Ledger},
    replay::{everything, name_of},
};
use crate::{
    fanout_bench::subscriber::{RequestExtension, Subscriber, connect},
    report::{Check, Report},
};

/// Of the chain.
const PACE: Duration = Duration::from_millis(60);
/// A connection lives up to so long.
const LIFE_MS: u64 = 900;
const RETRY: Duration = Duration::from_millis(50);
/// How long the last updates are waited for.
const LIMIT: Duration = Duration::from_secs(30);
const LEVELS: [CommitmentLevel; 3] = [
    CommitmentLevel::Processed,
    CommitmentLevel::Confirmed,
    CommitmentLevel::Finalized,
];
/// Blocks of forks come out of the order of slots; only those clearly behind the first one are due.
const CLEARLY_BEHIND: u64 = 8;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of each subscriber.
    pub reconnects: usize,
    pub kills: usize,
}

/// One subscriber's ledger, shared with who asks.
#[derive(Default)]
struct Client {
    ledger: Mutex<Ledger>,
    reconnected: AtomicUsize,
    /// Connections that the other side ended, or that could not be made.
    broken: AtomicUsize,
    last_words: Mutex<String>,
}

pub fn run(scene: &mut Scene<'_>, options: Options, report: &mut Report) -> anyhow::Result<()> {
    let address = scene.router.grpc;
    let (stage, reporter) = (scene.stage, &mut *scene.reporter);
    let stop = AtomicBool::new(false);
    let rest = Arc::new(AtomicBool::new(false));
    let handle = scene.runtime.handle().clone();
    let mut clients = Vec::new();
    let mut following = Vec::new();
    for (level, nth) in LEVELS.into_iter().zip(0..) {
        let client = Arc::new(Client::default());
        following.push(scene.runtime.spawn(follow(
            address,
            level,
            scene.seed + nth,
            Arc::clone(&client),
            Arc::clone(&rest),
        )));
        clients.push((level, client));
    }
    let random = &mut StdRng::seed_from_u64(scene.seed);
    let mut kills = 0;
    thread::scope(|scope| {
        let reporting = scope.spawn(|| handle.block_on(reporter.go_on(stage, PACE, &stop)));
        let outcome = (|| {
            let total = options.reconnects as u64 * LIFE_MS / 2;
            let between = Duration::from_millis(total / (options.kills as u64 + 1));
            for _ in 0..options.kills {
                thread::sleep(between.mul_f64(random.random_range(0.5..1.4)));
                scene.router.must_run()?;
                scene.router.kill_and_respawn()?;
                kills += 1;
            }
            let begin = Instant::now();
            let reconnected = || {
                clients
                    .iter()
                    .map(|(_, c)| c.reconnected.load(Ordering::Relaxed))
            };
            while reconnected().min().unwrap_or(0) < options.reconnects
                && begin.elapsed() < LIMIT + Duration::from_millis(total)
            {
                thread::sleep(RETRY);
            }
            anyhow::Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        rest.store(true, Ordering::Relaxed);
        reporting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome
    })?;
    scene.runtime.block_on(reporter.finish(stage))?;
    let balances = settle(scene, &clients);
    following.iter().for_each(|task| task.abort());
    scene.router.must_run()?;
    println!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>12}{:>10}{:>10}{:>10}",
        format!("{kills} SIGKILLs of the router"),
        "reconnects",
        "broken off",
        "updates",
        "due",
        "missing",
        "repeated",
        "foreign"
    );
    let mut figures = serde_json::Map::new();
    for ((level, client), balance) in clients.iter().zip(balances) {
        let name = name_of(*level);
        let reconnected = client.reconnected.load(Ordering::Relaxed);
        let broken = client.broken.load(Ordering::Relaxed);
        let updates = lock(&client.ledger).updates;
        println!(
            "{name:<28}{reconnected:>12}{broken:>12}{updates:>12}{:>12}{:>10}{:>10}{:>10}",
            balance.due, balance.missing, balance.repeated, balance.foreign
        );
        let last_words = lock(&client.last_words).clone();
        if !last_words.is_empty() {
            eprintln!("{name} was told last: {last_words}");
        }
        figures.insert(
            name.to_owned(),
            json!({"reconnects": reconnected, "broken_off": broken, "updates": updates, "balance": balance}),
        );
        let checks = &mut report.checks;
        checks.push(Check::at_least(
            format!("reconnect_{name}_reconnects"),
            reconnected as f64,
            options.reconnects as f64,
        ));
        checks.push(Check::at_least(
            format!("reconnect_{name}_events_due"),
            balance.due as f64,
            1.0,
        ));
        for (fault, count) in [
            ("gaps", balance.missing),
            ("repetitions", balance.repeated),
            ("foreign", balance.foreign),
        ] {
            let name = format!("reconnect_{name}_{fault}");
            checks.push(Check::at_most(name, count as f64, 0.0));
        }
    }
    report.figure(
        "reconnect",
        json!({"router_kills": kills, "levels": figures}),
    );
    report.checks.push(Check::at_least(
        "reconnect_router_kills",
        kills as f64,
        options.kills as f64,
    ));
    Ok(())
}

/// Waits until nothing is missing, and what comes twice has had time to.
fn settle(scene: &Scene<'_>, clients: &[(CommitmentLevel, Arc<Client>)]) -> Vec<Balance> {
    let truth = &scene.reporter.truth;
    let last = scene.reporter.newest();
    let balances = || -> Vec<Balance> {
        clients
            .iter()
            .map(|(level, client)| {
                let ledger = lock(&client.ledger);
                let first = ledger
                    .first_slot()
                    .map_or(last, |first| Slot(first.0 + CLEARLY_BEHIND).min(last));
                ledger.balance(truth, *level, first..=last, false)
            })
            .collect()
    };
    let begin = Instant::now();
    while begin.elapsed() < LIMIT && balances().iter().any(|balance| balance.missing > 0) {
        thread::sleep(Duration::from_millis(500));
    }
    thread::sleep(Duration::from_secs(2));
    balances()
}

/// Connects, reads for a random time, lets go without a word; again with the cursor. Stays connected once `rest` is set.
async fn follow(
    address: SocketAddr,
    level: CommitmentLevel,
    seed: u64,
    client: Arc<Client>,
    rest: Arc<AtomicBool>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    // An empty one asks for cursors from now on.
    let mut cursor = Bytes::new();
    loop {
        let resting = rest.load(Ordering::Relaxed);
        let life = Duration::from_millis(random.random_range(1..LIFE_MS));
        let reading = read(address, level, &client, &mut cursor);
        let ended = if resting {
            Some(reading.await)
        } else {
            tokio::time::timeout(life, reading).await.ok()
        };
        match ended {
            None => {
                client.reconnected.fetch_add(1, Ordering::Relaxed);
            }
            Some(ended) => {
                client.broken.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = ended {
                    *lock(&client.last_words) = format!("{error:#}");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn read(
    address: SocketAddr,
    level: CommitmentLevel,
    client: &Client,
    cursor: &mut Bytes,
) -> anyhow::Result<()> {
    let channel = connect(address).await?;
    let extension = RequestExtension {
        cursor: Some(cursor.clone()),
        ..RequestExtension::default()
    };
    let request = everything(level, false);
    let mut subscriber = Subscriber::subscribe(&channel, &request, &extension).await?;
    while let Some(update) = subscriber.next().await? {
        // Both or none: there is no point in between at which it may be cut off.
        lock(&client.ledger).add(&update.update);
        if let Some(reached) = update.cursor {
            *cursor = reached;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whoever panicked with it has only counted.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
