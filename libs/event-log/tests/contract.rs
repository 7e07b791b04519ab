//! One contract, two logs: every function in `suite` runs against the log in memory and against a real broker.

mod commit_outcome;
mod suite;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_log::producer::{Delivery, Producer, SendError};
use event_log::{
    Action, Error, EventLog, KafkaConfig, KafkaLog, MemoryLog, NewRecord, ReaderSpec, Start,
};
use local_services::{Kafka, KafkaOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    suite::all(&MemoryLog::new()).await;
}

/// One broker serves all of this test: starting one costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_keeps_the_contract() {
    let mut kafka = tokio::task::spawn_blocking(|| Kafka::start(KafkaOptions::default()))
        .await
        .unwrap()
        .unwrap();
    let config = KafkaConfig::new(kafka.brokers());
    let log = KafkaLog::new(config.clone()).unwrap();
    // First, because it counts threads: a transactional writer's ends a moment after the writer.
    synchronous_producer_delivers_everything(&log, &config).await;
    suite::all(&log).await;
    an_empty_value_is_a_tombstone(&log, &config).await;
    acknowledged_records_survive_a_killed_broker(&log, &mut kafka).await;
}

/// Otherwise a compacted topic keeps every key that was ever written.
async fn an_empty_value_is_a_tombstone(log: &KafkaLog, config: &KafkaConfig) {
    log.ensure_topics(&[suite::topic("tombstones", 1)])
        .await
        .unwrap();
    let record = NewRecord {
        topic: "tombstones".into(),
        partition: 0,
        key: Bytes::from_static(b"key"),
        header: Bytes::new(),
        value: Bytes::new(),
    };
    let writer = log.writer().await.unwrap();
    writer.append(vec![record]).await.unwrap();

    let brokers = config.brokers.clone();
    let is_null = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "unused")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions
            .add_partition_offset("tombstones", 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&partitions).unwrap();
        let message = consumer.poll(Duration::from_secs(30)).unwrap().unwrap();
        (message.key() == Some(b"key")) && message.payload().is_none()
    })
    .await
    .unwrap();
    assert!(is_null);
}

async fn synchronous_producer_delivers_everything(log: &KafkaLog, config: &KafkaConfig) {
    const RECORDS: usize = 20_000;
    log.ensure_topics(&[suite::topic("plugin", 2)])
        .await
        .unwrap();
    let threads_before = kafka_threads();
    let reported: Arc<Vec<AtomicUsize>> =
        Arc::new((0..RECORDS).map(|_| AtomicUsize::new(0)).collect());
    let producer = Producer::new(config, {
        let reported = reported.clone();
        move |delivery: Delivery| {
            assert!(delivery.outcome.is_ok(), "{delivery:?}");
            reported[delivery.tag as usize].fetch_add(1, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(kafka_threads() > threads_before);
    for tag in 0..RECORDS {
        let sent = || {
            producer.try_send(
                "plugin",
                (tag % 2) as u32,
                b"k",
                b"h",
                &tag.to_be_bytes(),
                tag as u64,
            )
        };
        while let Err(error) = sent() {
            assert_eq!(error, SendError::QueueFull);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(producer.flush(Duration::from_secs(30)));
    assert_eq!(producer.in_flight(), 0);
    assert!(
        reported
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1),
        "each tag is reported exactly once"
    );
    drop(producer);
    assert_eq!(
        kafka_threads(),
        threads_before,
        "nothing of the producer runs on"
    );

    let partitions = vec![
        ("plugin".into(), 0, Start::Earliest),
        ("plugin".into(), 1, Start::Earliest),
    ];
    let mut reader = log
        .reader(ReaderSpec {
            partitions,
            read_committed: true,
        })
        .await
        .unwrap();
    let records = suite::read_to_end(&mut *reader).await;
    assert_eq!(records.len(), RECORDS);
    for partition in 0..2 {
        let tags: Vec<usize> = records
            .iter()
            .filter(|record| record.position.partition == partition)
            .map(|record| usize::from_be_bytes(record.value[..].try_into().unwrap()))
            .collect();
        assert!(tags.is_sorted(), "in the order sent");
    }
}

async fn acknowledged_records_survive_a_killed_broker(log: &KafkaLog, kafka: &mut Kafka) {
    log.ensure_topics(&[suite::topic("durable", 1)])
        .await
        .unwrap();
    let spec = ReaderSpec {
        partitions: vec![("durable".into(), 0, Start::Earliest)],
        read_committed: true,
    };
    let mut reader = log.reader(spec).await.unwrap();
    let writer = log.writer().await.unwrap();
    writer
        .append(vec![suite::record("durable", 0, "before")])
        .await
        .unwrap();
    assert_eq!(suite::read(&mut *reader, 1).await, ["before"]);

    kafka.kill();
    let error = tokio::time::timeout(Duration::from_secs(30), log.partitions("durable"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.action(), Action::Retry, "{error}");
    let held = writer.append(vec![suite::record("durable", 0, "meanwhile")]);
    let (appended, restarted) = tokio::join!(held, async { kafka.restart() });
    restarted.unwrap();
    appended.unwrap();
    assert_eq!(
        suite::read(&mut *reader, 1).await,
        ["meanwhile"],
        "reader and writer go on by themselves"
    );
}

#[tokio::test]
async fn an_absent_broker_is_named_with_the_fix() {
    let port = local_services::free_port();
    let log = KafkaLog::new(KafkaConfig::new(format!("127.0.0.1:{port}"))).unwrap();
    let error = log.partitions("any").await.unwrap_err();
    assert_eq!(error.action(), Action::Retry);
    let message = error.to_string();
    assert!(
        message.contains(&port.to_string()) && message.contains("kafka.brokers"),
        "{message}"
    );
}

#[test]
fn an_unknown_option_is_named() {
    let mut config = KafkaConfig::default();
    config.options.insert("no.such.option".into(), "1".into());
    match KafkaLog::new(config) {
        Err(Error::Config { option, .. }) => assert_eq!(option, "no.such.option"),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_producer_without_broker_fills_up_and_lets_go() {
    let mut config = KafkaConfig::new(format!("127.0.0.1:{}", local_services::free_port()));
    config
        .options
        .insert("queue.buffering.max.messages".into(), "10".into());
    let failed = Arc::new(AtomicUsize::new(0));
    let producer = Producer::new(&config, {
        let failed = failed.clone();
        move |delivery: Delivery| {
            assert_eq!(delivery.outcome.unwrap_err().action, Action::Retry);
            failed.fetch_add(1, Ordering::Relaxed);
        }
    })
    .unwrap();
    let mut taken = 0;
    let full = loop {
        match producer.try_send("t", 0, b"k", b"h", b"v", taken) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::QueueFull);
    assert_eq!(producer.in_flight() as u64, taken);
    assert!(!producer.flush(Duration::from_millis(50)));
    let start = Instant::now();
    drop(producer);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(
        failed.load(Ordering::Relaxed) as u64,
        taken,
        "every record taken is reported, the discarded ones too"
    );
}

/// librdkafka's threads and ours, by name.
fn kafka_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("rdk:") || name.starts_with("kafka-deliver"))
        .count()
}
