//! Two routers of one stream: one publishes, the other stands by and takes over. Killed, drained and restarted in turns,
//! they leave the canonical topic exactly as one router would.

use std::{
    collections::BTreeMap,
    io::{Read, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use event_log::{EventLog, KafkaConfig, KafkaLog, LogWriter, MemoryLog, ReaderSpec, Start};
use event_schema::Slot;
use local_services::{Child, ChildSpec, Kafka, KafkaOptions, free_port};
use rand::{Rng, SeedableRng, rngs::StdRng};
use service_host::Host;
use stream_router::{
    account_state::AccountsTopicConfig,
    board::Board,
    config::Config,
    leadership::{LeadershipConfig, Notice},
    metrics::Metrics,
    observation::Lane,
    pipeline::{self, Outlets, Stream},
    publication::Publication,
    router::Effect,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    chain::{History, TrueBlock},
    crash::{Canonical, assert_exactly, read_canonical},
    on_the_log::{new_record, settings},
    source::{Source, Written, interleave},
};

pub const CANONICAL: u32 = 2;
/// Longer than a test: what comes late is not given up.
pub const NO_GAPS_MS: u64 = 60_000;

/// A router inside this process.
pub struct Router {
    host: Host,
    /// What its WebSocket subscribers are told.
    pub effects: Arc<Mutex<Vec<Effect>>>,
    /// While it is set, its WebSocket subscribers take nothing.
    pub stuck: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Router {
    fn start(log: &MemoryLog, name: &str) -> Self {
        Self::serving(log, name, None, AccountsTopicConfig::default(), NO_GAPS_MS)
    }

    pub fn serving(
        log: &MemoryLog,
        name: &str,
        stream: Option<Stream>,
        accounts_topic: AccountsTopicConfig,
        gap_after_ms: u64,
    ) -> Self {
        let log = Arc::new(log.clone());
        Self::on(log, name, stream, accounts_topic, gap_after_ms)
    }

    pub fn on(
        log: Arc<dyn EventLog>,
        name: &str,
        stream: Option<Stream>,
        accounts_topic: AccountsTopicConfig,
        gap_after_ms: u64,
    ) -> Self {
        let wanted = settings();
        let mut config = Config {
            topic_prefix: "t".to_owned(),
            topics: wanted.partitions,
            accounts_topic,
            leadership: LeadershipConfig {
                name: name.to_owned(),
                lease_ms: 600,
            },
            ..Config::default()
        };
        config.limits.gap_after_ms = gap_after_ms;
        config.limits.settle_ms = 100;
        config.check().expect("a good configuration");
        let host = Host::detached();
        host.started();
        host.ready("log", false);
        let (fanout, mut queue) = mpsc::channel(16);
        let effects = Arc::new(Mutex::new(Vec::new()));
        let stuck = Arc::new(AtomicBool::new(false));
        let (heard, waits) = (Arc::clone(&effects), Arc::clone(&stuck));
        tokio::spawn(async move {
            while let Some(batch) = queue.recv().await {
                while waits.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                heard.lock().expect("no panic").extend(batch);
            }
        });
        let outlets = Outlets {
            fanout,
            stream,
            board: Board::default(),
            metrics: Metrics::new(host.metrics()).expect("metrics"),
            asks: None,
        };
        let running = host.clone();
        let task =
            tokio::spawn(async move { pipeline::run(&config, log, outlets, None, running).await });
        Self {
            host,
            effects,
            stuck,
            task,
        }
    }

    pub fn publishes(&self) -> bool {
        let families = self.host.metrics().gather();
        let mut families = families.iter();
        families.any(|family| {
            family.name() == "router_publishing"
                && family.get_metric()[0].get_gauge().get_value() == 1.0
        })
    }

    /// It publishes, or serves what another does.
    pub async fn ready(&self) {
        while !self.host.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As SIGKILL does: nothing is finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn drain(self) {
        self.host.request_drain();
        self.task.await.expect("no panic").expect("drains");
    }
}

pub async fn publisher(routers: &[Option<Router>]) -> usize {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let publishing = |router: &Option<Router>| router.as_ref().is_some_and(Router::publishes);
        if let Some(at) = routers.iter().position(publishing) {
            return at;
        }
        assert!(Instant::now() < end, "nobody publishes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The history's records, part by part.
pub struct Feed {
    lanes: BTreeMap<Lane, Vec<Written>>,
    at: BTreeMap<Lane, usize>,
}

impl Feed {
    pub fn new(rng: &mut StdRng, history: &History) -> Self {
        Self::without(rng, history, |_| false)
    }

    /// Of validators that both missed some blocks.
    pub fn without(
        rng: &mut StdRng,
        history: &History,
        missed: impl Fn(&TrueBlock) -> bool,
    ) -> Self {
        let mut one = Source::chunking(1, rng);
        one.addresses = Some(12);
        let mut two = one.alike(2);
        one.observe(history, |block| !missed(block));
        two.observe(history, |block| !missed(block));
        Self {
            lanes: interleave(rng, &[&one, &two]),
            at: BTreeMap::new(),
        }
    }

    pub async fn append(&mut self, writer: &dyn LogWriter, part: usize, parts: usize) {
        let topics = settings().topics;
        for (lane, records) in &self.lanes {
            let to = records.len() * part / parts;
            let from = self.at.insert(*lane, to).unwrap_or(0);
            let batch = records[from..to].iter();
            let batch = batch.map(|record| new_record(&topics, record)).collect();
            writer.append(batch).await.expect("appended");
        }
    }
}

/// Everything, once it is there and its fate sealed; or what there is after a minute.
pub async fn settled(log: &dyn EventLog, history: &History) -> Canonical {
    let slots: std::collections::BTreeSet<Slot> =
        history.blocks.iter().map(|block| block.id.slot).collect();
    let started = Instant::now();
    loop {
        let canonical = read_canonical(log, &settings().topics, CANONICAL).await;
        let sealed = |fates: &Vec<_>| fates.last() != Some(&event_schema::Commitment::Confirmed);
        let done = canonical.blocks.len() >= slots.len()
            && canonical.fates.len() >= slots.len()
            && canonical.fates.values().all(sealed);
        if done || started.elapsed() > Duration::from_secs(60) {
            return canonical;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Who claimed, in order.
pub async fn claims(log: &dyn EventLog) -> Vec<(u64, String)> {
    let spec = ReaderSpec {
        partitions: vec![(settings().topics.leadership, 0, Start::Earliest)],
        read_committed: true,
    };
    let mut reader = log.reader(spec).await.expect("a reader");
    let mut claims = Vec::new();
    loop {
        let records = reader.poll(1_000, Duration::from_millis(50)).await;
        let records = records.expect("records");
        if records.is_empty() && reader.lag().await.expect("lag") == 0 {
            return claims;
        }
        for notice in records.iter().filter_map(Notice::read) {
            if let Notice::Claim(claim) = notice
                && !claim.released
            {
                claims.push((claim.turn, claim.by.name));
            }
        }
    }
}

/// A history, and a log that has its topics but nothing of it yet.
pub async fn empty_log(rng: &mut StdRng) -> (History, Feed, MemoryLog, Box<dyn LogWriter>) {
    let history = History::random(rng, 60, 1_000);
    let feed = Feed::new(rng, &history);
    let log = MemoryLog::new();
    settings().make_topics(&log).await.expect("topics");
    let writer = log.writer().await.expect("a writer");
    (history, feed, log, writer)
}

async fn turns(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let (history, mut feed, log, writer) = empty_log(rng).await;
    let names = ["north", "south"];
    let mut routers = names.map(|name| Some(Router::start(&log, name)));
    const PARTS: usize = 8;
    for part in 1..=PARTS {
        feed.append(writer.as_ref(), part, PARTS).await;
        let leader = publisher(&routers).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..150))).await;
        // Mostly the publisher goes; sometimes the standby, which must change nothing.
        let victim = if rng.random_bool(0.8) {
            leader
        } else {
            1 - leader
        };
        if let Some(router) = routers[victim].take() {
            if rng.random_bool(0.5) {
                router.kill().await;
            } else {
                router.drain().await;
            }
        }
        if rng.random_bool(0.5) {
            // Before its next life, the other is alone.
            let _ = publisher(&routers).await;
        }
        routers[victim] = Some(Router::start(&log, names[victim]));
    }
    let canonical = settled(&log, &history).await;
    assert_exactly(&canonical, &history);
    for router in routers.into_iter().flatten() {
        router.drain().await;
    }
    let claims = claims(&log).await;
    // Two that claim at the same moment, as at the start, may name the same turn: the later record counts.
    let in_order = |pair: &[(u64, String)]| {
        pair[0].0 < pair[1].0 || (pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
    };
    assert!(claims.windows(2).all(in_order), "{claims:?}");
    // At most one more claim than there were ends and starts.
    assert!(claims.len() <= 2 * PARTS + 2, "{claims:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_that_die_and_return_in_turns_lose_nothing_and_repeat_nothing() {
    let seeds: Vec<u64> = match std::env::var("ROUTER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROUTER_SEED is a number")],
        Err(_) => (0..4).collect(),
    };
    for seed in seeds {
        println!("seed {seed} (replay with ROUTER_SEED={seed})");
        turns(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_over_from_a_publisher_that_is_idle() {
    let log = MemoryLog::new();
    let one = Router::start(&log, "north");
    let routers = [Some(one), None];
    publisher(&routers).await;
    let two = Router::start(&log, "south");
    // Many leases.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!two.publishes());
    assert!(two.host.is_ready(), "a standby serves");
    assert_eq!(claims(&log).await, [(1, "north".to_owned())]);
    let [one, _] = routers;
    let drained = Instant::now();
    one.expect("runs").drain().await;
    publisher(&[Some(two)]).await;
    // It need not wait for the lease.
    assert!(
        drained.elapsed() < Duration::from_millis(600),
        "{:?}",
        drained.elapsed()
    );
}

/// A router of its own process, which others see by its admin address.
struct Process {
    child: Child,
    admin: u16,
}

impl Process {
    fn start(dir: &Path, brokers: &str, name: &str) -> Self {
        let [listen, admin] = [free_port(), free_port()];
        let config = format!(
            "listen = \"127.0.0.1:{listen}\"\ntopic_prefix = \"t\"\n[kafka]\nbrokers = \"{brokers}\"\n\
             [topics]\naccounts = 3\ntransactions = 3\nslots = 1\ncanonical = {CANONICAL}\n\
             [leadership]\nname = \"{name}\"\nlease_ms = 1500\n\
             [limits]\ngap_after_ms = 60000\n\
             [grpc]\nenabled = false\n[host]\nadmin = \"127.0.0.1:{admin}\"\n"
        );
        let file = dir.join(format!("{name}.toml"));
        std::fs::write(&file, config).expect("a config file");
        let spec = ChildSpec::new(
            "stream-router",
            env!("CARGO_BIN_EXE_stream-router"),
            dir.join(format!("{name}.log")),
        )
        .arg("--config")
        .arg(file);
        let child = Child::spawn(spec).expect("the router starts");
        Self { child, admin }
    }

    fn publishes(&self) -> bool {
        page(self.admin, "/leadership").is_some_and(|page| page.contains("\"publishes\":true"))
    }
}

fn page(admin: u16, path: &str) -> Option<String> {
    let limit = Some(Duration::from_secs(2));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", admin)).ok()?;
    stream.set_read_timeout(limit).ok()?;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.replace(' ', ""))
}

/// When `old` was killed: the time until another publishes.
async fn taken_over(processes: &[Process], old: Option<usize>) -> (usize, Duration) {
    let started = Instant::now();
    loop {
        for (at, process) in processes.iter().enumerate() {
            if Some(at) != old && process.publishes() {
                return (at, started.elapsed());
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "nobody publishes:\n{}\n{}",
            processes[0].child.log_tail(20),
            processes[1].child.log_tail(20)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_a_real_broker_take_over_from_each_other() {
    const KILLS: usize = 8;
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let dir = tempfile::tempdir().expect("a directory");
    let rng = &mut StdRng::seed_from_u64(20_261_128);
    let history = History::random(rng, 240, 1_000);
    let mut feed = Feed::new(rng, &history);
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    drop(Publication::open(&log, settings()).await.expect("topics"));
    let writer = log.writer().await.expect("a writer");
    let mut processes =
        ["north", "south"].map(|name| Process::start(dir.path(), &kafka.brokers(), name));
    let (mut leader, _) = taken_over(&processes, None).await;
    let mut times = Vec::new();
    let parts = 3 * KILLS;
    for part in 1..=parts {
        feed.append(writer.as_ref(), part, parts).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..250))).await;
        if part % 3 == 0 {
            processes[leader].child.kill();
            let (next, took) = taken_over(&processes, Some(leader)).await;
            processes[leader].child.respawn().expect("starts again");
            times.push(took);
            leader = next;
            // Some work for each.
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
        }
    }
    let canonical = settled(&log, &history).await;
    times.sort();
    println!(
        "{KILLS} SIGKILLs of the publisher; another published after {:?} (median), {:?} (longest), lease 1.5 s; {} blocks, {} duplicated",
        times[times.len() / 2],
        times[times.len() - 1],
        canonical.blocks.len(),
        canonical.duplicates,
    );
    assert_exactly(&canonical, &history);
    for process in &mut processes {
        assert!(process.child.is_running(), "{}", process.child.log_tail(20));
    }
    // One that ends in order is not waited for.
    let (next, started) = (1 - leader, Instant::now());
    processes[leader].child.terminate();
    let (taken, took) = taken_over(&processes, Some(leader)).await;
    println!("after SIGTERM: {took:?}");
    assert_eq!(taken, next);
    let ended = processes[leader].child.wait(Duration::from_secs(15));
    println!("ended after {:?}", started.elapsed());
    let status = processes[leader].child.exit_status();
    assert!(
        ended && status.is_some_and(|status| status.success()),
        "{}",
        processes[leader].child.log_tail(20)
    );
    if took > Duration::from_secs(4) {
        println!("{}", processes[next].child.log_tail(12));
    }
    let claims = claims(&log).await;
    assert!(
        claims.len() <= KILLS + 2,
        "nobody claims without need: {claims:?}"
    );
}
