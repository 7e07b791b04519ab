//! One subscriber stops reading, another one does not: what the router's memory does meanwhile, what the other one notices, and
//! whether the first has everything, once, after it reads on. If it was disconnected, it comes back with its cursor.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;

use super::{
    Scene,
    latency::milliseconds,
    numbers::{Account, Numbers},
    stamp::Clock,
    subscriber::{RequestExtension, Subscriber, all_accounts_to_join, connect},
};
use crate::{
    plugin_bench::histogram::Histogram,
    report::{Check, Report},
};

/// What waits for one subscriber may take this much, as the router has it by default.
const QUEUE_KIB: u64 = 32 << 10;
const RESIDENT_GROWTH: f64 = 1.1;
const P99_OF_BEFORE: f64 = 1.05;
const LOOK: Duration = Duration::from_millis(200);
/// To catch up, at the least; and as long again as the stall.
const CATCH_UP: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Before the stall.
    pub seconds: u64,
    pub stalled_seconds: u64,
    pub rate: u32,
}

/// What the one that stalls has, shared with who asks.
struct Progress {
    numbers: Mutex<Numbers>,
    disconnected: AtomicU64,
    refused: Mutex<Option<String>>,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let address = scene.router.grpc;
    let clock = scene.driver.clock;
    let (pause, paused) = watch::channel(false);
    let first = scene.driver.next_number();
    let progress = Arc::new(Progress {
        numbers: Mutex::new(Numbers::starting_at(first)),
        disconnected: AtomicU64::new(0),
        refused: Mutex::default(),
    });
    // Both are there before anything is reported: what they are due is known exactly.
    let (stalled, other) = scene.runtime.block_on(async {
        tokio::try_join!(join(address, Some(Bytes::new())), join(address, None))
    })?;
    let stalling = scene
        .runtime
        .spawn(follow(address, stalled, paused, Arc::clone(&progress)));
    let phases: Arc<[Mutex<Histogram>; 2]> = Arc::default();
    let phase = Arc::new(AtomicU64::new(u64::MAX));
    let others = Arc::new(Mutex::new(Numbers::starting_at(first)));
    let reading = scene.runtime.spawn(read_on(
        other,
        clock,
        Arc::clone(&phases),
        Arc::clone(&phase),
        Arc::clone(&others),
    ));
    let stop = AtomicBool::new(false);
    let pid = scene.router.pid();
    let resident = |until: Duration| {
        let begin = Instant::now();
        let mut samples = Vec::new();
        while begin.elapsed() < until {
            samples.push(crate::plugin_bench::process_figures::resident_kib(pid));
            thread::sleep(LOOK);
        }
        samples
    };
    let (before, during, last) = thread::scope(|scope| {
        let driving = scope.spawn(|| {
            scene
                .driver
                .drive(options.rate, Duration::from_secs(86_400), &stop)
        });
        // Connections, caches and the first slots.
        thread::sleep(Duration::from_secs(2));
        phase.store(0, Ordering::Relaxed);
        let before = resident(Duration::from_secs(options.seconds));
        eprintln!("one subscriber stops reading");
        let _ = pause.send(true);
        phase.store(1, Ordering::Relaxed);
        let during = resident(Duration::from_secs(options.stalled_seconds));
        phase.store(u64::MAX, Ordering::Relaxed);
        eprintln!("it reads on");
        let _ = pause.send(false);
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let driven = driving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((before, during, driven.end - 1))
    })?;
    let limit = CATCH_UP + Duration::from_secs(options.stalled_seconds);
    let begin = Instant::now();
    let complete = |numbers: &Mutex<Numbers>| lock(numbers).is_complete_to(last);
    while begin.elapsed() < limit && !(complete(&progress.numbers) && complete(&others)) {
        thread::sleep(LOOK);
    }
    let caught_up = begin.elapsed();
    // What comes twice may come late.
    thread::sleep(Duration::from_secs(1));
    stalling.abort();
    reading.abort();
    scene.router.must_run()?;
    let seen = Seen {
        stalled: lock(&progress.numbers).account(last),
        other: lock(&others).account(last),
        disconnected: progress.disconnected.load(Ordering::Relaxed),
        refused: lock(&progress.refused).take(),
        caught_up,
        before,
        during,
        healthy: lock(&phases[0]).clone(),
        beside: lock(&phases[1]).clone(),
    };
    seen.print(options);
    seen.report(options, report);
    Ok(())
}

struct Seen {
    stalled: Account,
    other: Account,
    disconnected: u64,
    refused: Option<String>,
    caught_up: Duration,
    /// Resident KiB.
    before: Vec<u64>,
    during: Vec<u64>,
    healthy: Histogram,
    beside: Histogram,
}

impl Seen {
    fn print(&self, options: &Options) {
        println!(
            "\nstalled for {} s at {} accounts/s: disconnected {} times, caught up after {:.1} s, {:?}",
            options.stalled_seconds,
            options.rate,
            self.disconnected,
            self.caught_up.as_secs_f64(),
            self.stalled
        );
        if let Some(refused) = &self.refused {
            println!("what it was told last: {refused}");
        }
        println!(
            "the other one, ms: p50 {} p99 {} before, p50 {} p99 {} during; {:?}",
            milliseconds(self.healthy.quantile(0.5)),
            milliseconds(self.healthy.quantile(0.99)),
            milliseconds(self.beside.quantile(0.5)),
            milliseconds(self.beside.quantile(0.99)),
            self.other
        );
        let (first, last) = thirds(&self.during);
        println!(
            "router's resident MiB: {:.0} before; {:.0} in the first third of the stall, {:.0} in the last, at most {:.0}",
            mean(&self.before) / 1024.0,
            first / 1024.0,
            last / 1024.0,
            greatest(&self.during) / 1024.0
        );
    }

    fn report(&self, options: &Options, report: &mut Report) {
        let (first, last) = thirds(&self.during);
        let p99 = |of: &Histogram| milliseconds(of.quantile(0.99));
        report.figure(
            "stall",
            json!({
                "seconds": options.stalled_seconds, "rate": options.rate, "disconnected": self.disconnected,
                "told": self.refused, "caught_up_after_seconds": self.caught_up.as_secs_f64(),
                "stalled": self.stalled, "other": self.other,
                "p50_ms_before": milliseconds(self.healthy.quantile(0.5)), "p99_ms_before": p99(&self.healthy),
                "p50_ms_during": milliseconds(self.beside.quantile(0.5)), "p99_ms_during": p99(&self.beside),
                "resident_kib_before": mean(&self.before), "resident_kib_first_third": first,
                "resident_kib_last_third": last, "resident_kib_max": greatest(&self.during),
            }),
        );
        let mut at_most = |name: &str, value: f64, target: f64| {
            let value = (value * 1000.0).round() / 1000.0;
            report
                .checks
                .push(Check::at_most(name.to_owned(), value, target));
        };
        let budget = greatest(&self.before) + QUEUE_KIB as f64;
        at_most(
            "stall_resident_of_budget",
            greatest(&self.during) / budget,
            RESIDENT_GROWTH,
        );
        at_most(
            "stall_resident_growth",
            last / first.max(1.0),
            RESIDENT_GROWTH,
        );
        at_most(
            "stall_others_p99_of_before",
            p99(&self.beside) / p99(&self.healthy).max(0.001),
            P99_OF_BEFORE,
        );
        at_most("stall_gaps", self.stalled.missing as f64, 0.0);
        at_most("stall_repetitions", self.stalled.repeated as f64, 0.0);
        at_most(
            "stall_others_gaps_and_repetitions",
            (self.other.missing + self.other.repeated) as f64,
            0.0,
        );
        report.checks.push(Check::at_least(
            "stall_updates_due",
            self.stalled.due as f64,
            1.0,
        ));
    }
}

/// Reads unless it is paused; comes back with its cursor when the stream ends.
async fn follow(
    address: SocketAddr,
    first: Subscriber,
    mut paused: watch::Receiver<bool>,
    progress: Arc<Progress>,
) {
    let mut cursor = Bytes::new();
    let mut subscriber = Ok(first);
    loop {
        let ended = match subscriber {
            Ok(subscriber) => one_life(subscriber, &mut paused, &progress, &mut cursor).await,
            Err(refused) => Err(refused),
        };
        if let Err(error) = &ended {
            lock(&progress.refused).replace(format!("{error:#}"));
        }
        progress.disconnected.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(RETRY).await;
        subscriber = subscribe(address, Some(cursor.clone())).await;
    }
}

/// On a connection of its own: on a shared one, it would hold up others by itself. An empty cursor asks for cursors from now
/// on.
async fn subscribe(address: SocketAddr, cursor: Option<Bytes>) -> anyhow::Result<Subscriber> {
    let channel = connect(address).await?;
    let extension = RequestExtension {
        cursor,
        ..RequestExtension::default()
    };
    Ok(Subscriber::subscribe(&channel, &all_accounts_to_join(), &extension).await?)
}

async fn join(address: SocketAddr, cursor: Option<Bytes>) -> anyhow::Result<Subscriber> {
    subscribe(address, cursor).await?.joined().await
}

async fn one_life(
    mut subscriber: Subscriber,
    paused: &mut watch::Receiver<bool>,
    progress: &Progress,
    cursor: &mut Bytes,
) -> anyhow::Result<()> {
    loop {
        paused.wait_for(|paused| !paused).await?;
        let Some(update) = subscriber.next().await? else {
            bail!("the router ended the stream");
        };
        if let Some(stamp) = update.stamp() {
            lock(&progress.numbers).add(stamp.number);
        }
        if let Some(reached) = update.cursor {
            *cursor = reached;
        }
    }
}

/// Reads always.
async fn read_on(
    mut subscriber: Subscriber,
    clock: Clock,
    phases: Arc<[Mutex<Histogram>; 2]>,
    phase: Arc<AtomicU64>,
    numbers: Arc<Mutex<Numbers>>,
) -> anyhow::Result<()> {
    while let Some(update) = subscriber.next().await? {
        if let Some(stamp) = update.stamp() {
            let latency = clock.now().saturating_sub(stamp.at);
            if let Some(histogram) = phases.get(phase.load(Ordering::Relaxed) as usize) {
                lock(histogram).record(latency);
            }
            lock(&numbers).add(stamp.number);
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whoever panicked with it has only counted.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mean(samples: &[u64]) -> f64 {
    samples.iter().sum::<u64>() as f64 / samples.len().max(1) as f64
}

fn greatest(samples: &[u64]) -> f64 {
    samples.iter().copied().max().unwrap_or(0) as f64
}

/// Means of the first and the last third.
fn thirds(samples: &[u64]) -> (f64, f64) {
    let third = (samples.len() / 3).max(1).min(samples.len());
    (
        mean(&samples[..third]),
        mean(&samples[samples.len() - third..]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_are_means_of_the_ends() {
        assert_eq!(thirds(&[10, 20, 0, 0, 30, 50]), (15.0, 40.0));
        assert_eq!(thirds(&[]), (0.0, 0.0));
        assert_eq!(greatest(&[3, 9, 4]), 9.0);
    }
}
