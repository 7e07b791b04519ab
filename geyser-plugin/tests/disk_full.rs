//! The disk is full while Kafka is away: callbacks return, nothing panics, what is lost is counted to the record; when there
//! is space again and Kafka comes, everything else is delivered in order.
//!
//! Files that may not grow stand for the full disk: a process of its own has its limit of file sizes set to nothing.

mod validator;

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;
use event_log::{EventLog, KafkaConfig, KafkaLog, ReaderSpec, Start};
use event_schema::{Kind, ObservedHeader, ObservedTopic, Topics};
use geyser_plugin::{Plugin, counters::Counters};
use local_services::{Kafka, KafkaOptions, free_port};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use validator::{ENTRIES, Size, run_slot};

/// Set: this is the process whose files do not grow.
const CONFINED: &str = "HELIOGRAPH_TEST_CONFINED";
const TEST: &str = "a_full_disk_costs_only_what_is_counted";
const PARTITIONS: [u32; 3] = [2, 2, 1];
const SIZE: Size = Size {
    transactions: 20,
    accounts: 30,
};
/// Of one slot: its content, metadata, and four statuses.
const CALLBACKS: u64 = 20 + 30 + ENTRIES + 1 + 4;

#[test]
fn a_full_disk_costs_only_what_is_counted() {
    if env::var_os(CONFINED).is_some() {
        return confined();
    }
    // Beyond its limit a process is killed by SIGXFSZ, unless it ignores that, as the shell can have it.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CONFINED, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn confined() {
    let dir = tempfile::tempdir().unwrap();
    let spill = dir.path().join("spill");
    let port = free_port();
    let config = dir.path().join("plugin.json");
    let text = format!(
        "{{ libpath: 'unused.so', validator_identity: 'So11111111111111111111111111111111111111112',
            kafka: {{ brokers: '127.0.0.1:{port}' }}, topic_prefix: 'full', metrics: {{ listen: null }},
            partitions: {{ accounts: {}, transactions: {}, slots: {} }},
            queue: {{ records: 8192, megabytes: 8, dir: null }},
            spill: {{ dir: '{}', megabytes: 64 }} }}",
        PARTITIONS[0],
        PARTITIONS[1],
        PARTITIONS[2],
        spill.display(),
    );
    fs::write(&config, text).unwrap();
    let mut plugin = Plugin::default();
    plugin.on_load(config.to_str().unwrap(), false).unwrap();
    let counters = Arc::clone(&plugin.instance().unwrap().counters);
    let mut slot = 100;
    let mut drive = |slots: u64| {
        for _ in 0..slots {
            run_slot(&plugin, slot, SIZE, false);
            slot += 1;
        }
    };

    drive(60);
    until("records go to disk", &counters, || {
        counters.spill_bytes.get() > 200_000
    });
    assert_eq!(counters.lost_total(), 0);

    // The segment that is written can take a few more frames, and part of one.
    let largest = segments(&spill).into_iter().max().unwrap();
    limit_files_to(Some(largest + 3_000));
    drive(10);
    until("a frame does not fit any more", &counters, || {
        counters.spill_errors.get() > 0
    });
    limit_files_to(Some(0));
    let start = Instant::now();
    let mut driven = 70;
    while counters.lost_total() < 2_000 {
        drive(1);
        driven += 1;
        assert!(start.elapsed() < Duration::from_secs(30), "{counters:?}");
    }
    // The worker tries again and again meanwhile; that must not fill the directory either.
    thread::sleep(Duration::from_millis(500));
    let files = segments(&spill).len();
    assert!(files < 10, "{files} segments of a disk that was full");
    assert_eq!(counters.panics.get(), 0);
    assert_eq!(counters.callbacks_total(), driven * CALLBACKS);

    limit_files_to(None);
    until("there is room again", &counters, || {
        counters.queue_records.get() < 4_000
    });
    let lost = counters.lost_total();
    drive(5);
    driven += 5;
    let kafka = Kafka::start(KafkaOptions {
        port: Some(port),
        ..KafkaOptions::default()
    })
    .unwrap();
    let accounted = || counters.delivered_total() + counters.lost_total();
    until("all is delivered", &counters, || {
        accounted() == driven * CALLBACKS
            && counters.spill_pending() == 0
            && counters.kafka_in_flight.get() == 0
            && counters.queue_records.get() == 0
    });
    assert_eq!(counters.lost_total(), lost, "with room, nothing is lost");
    plugin.on_unload();
    assert_eq!(counters.panics.get(), 0);
    assert_eq!(accounted(), driven * CALLBACKS);
    println!(
        "{} callbacks, {} delivered, {lost} lost, {} errors of the disk",
        driven * CALLBACKS,
        counters.delivered_total(),
        counters.spill_errors.get(),
    );
    let delivered = read_back(&kafka.brokers());
    assert_eq!(delivered, driven * CALLBACKS - lost);
}

fn limit_files_to(bytes: Option<u64>) {
    // What this process may set it back to.
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

/// Bytes of every segment.
fn segments(spill: &Path) -> Vec<u64> {
    fs::read_dir(spill)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect()
}

fn until(what: &str, counters: &Counters, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited too long until {what}: {counters:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Callbacks whose record is in the log. Each partition must begin at sequence 0 and go on without a hole; a record may come
/// again with the same bytes.
fn read_back(brokers: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let log = KafkaLog::new(KafkaConfig::new(brokers)).unwrap();
        let topics = Topics::new("full");
        let mut delivered = 0;
        for topic in ObservedTopic::ALL {
            let name = topics.observed(topic);
            let count = PARTITIONS[topic as usize - 1];
            let partitions = (0..count).map(|at| (Arc::clone(name), at, Start::Earliest));
            let spec = ReaderSpec {
                partitions: partitions.collect(),
                read_committed: false,
            };
            let mut reader = log.reader(spec).await.unwrap();
            let mut read: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
            loop {
                let records = reader.poll(1000, Duration::from_millis(200)).await.unwrap();
                if records.is_empty() && reader.lag().await.unwrap() == 0 {
                    break;
                }
                for record in records {
                    let header = ObservedHeader::decode(&record.header).unwrap();
                    let so_far = read.entry(record.position.partition).or_default();
                    let bytes = record.value.to_vec();
                    match so_far.get(header.sequence.0 as usize) {
                        Some(before) => assert_eq!(before, &bytes),
                        None => {
                            assert_eq!(header.sequence.0, so_far.len() as u64, "in order");
                            so_far.push(bytes);
                            delivered += u64::from(header.kind != Kind::Seal);
                        }
                    }
                }
            }
            assert_eq!(read.len(), count as usize);
        }
        delivered
    })
}
