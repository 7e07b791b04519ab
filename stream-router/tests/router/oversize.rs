//! Values longer than a record may be, through the router: on the in-memory log, and on a broker with default limits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_log::{EventLog, KafkaConfig, KafkaLog, MemoryLog, ReaderSpec, Start, TopicSpec};
use event_schema::{
    CanonicalHeader, Kind, ObservedTopic, Reassembler, SlotBlock, Topics,
    proto::{
        Message,
        geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};
use local_services::{Kafka, KafkaOptions};
use rand::{SeedableRng, rngs::StdRng};
use stream_router::publication::Publication;

use crate::{
    chain::{History, TrueBlock},
    crash::read_canonical,
    on_the_log::{new_record, settings},
    source::Source,
};

/// Kafka's own default for `message.max.bytes`.
const BROKER_DEFAULT_BYTES: &str = "1048588";

/// A validator that writes one block with an account of 10 MiB and 10,000 rewards.
fn source() -> Source {
    let history = History::sparse(&mut StdRng::seed_from_u64(4), 1);
    let block = TrueBlock {
        accounts: 2,
        transactions: 2,
        entries: 1,
        ..history.blocks[0].clone()
    };
    let mut source = Source::new(1);
    source.account_bytes = 10 << 20;
    source.rewards = 10_000;
    source.block(&block);
    let longest = source.written.iter().map(|record| record.value.len()).max();
    assert!(longest.is_some_and(|longest| longest <= event_schema::CHUNK_BYTES_MAX));
    for kind in [Kind::Account, Kind::BlockMeta] {
        let longest = source
            .values
            .iter()
            .filter(|value| value.kind == kind)
            .map(|value| value.bytes.len())
            .max();
        println!("{}: {} bytes", kind.as_str(), longest.unwrap_or(0));
    }
    source
}

/// Everything the source wrote goes through one router; what readers of the canonical topic get is compared byte by byte.
async fn goes_through(log: &dyn EventLog, source: &Source) {
    let topics = settings().topics;
    let mut publication = Publication::open(log, settings()).await.expect("opens");
    let writer = log.writer().await.expect("a writer");
    let records = source
        .written
        .iter()
        .map(|record| new_record(&topics, record));
    writer.append(records.collect()).await.expect("appended");
    for topic in ObservedTopic::ALL {
        let mut reader = log
            .reader(publication.reader_spec(topic))
            .await
            .expect("a reader");
        let due = source
            .written
            .iter()
            .filter(|record| record.lane.topic == topic)
            .count();
        let mut read = 0;
        let started = Instant::now();
        while read < due && started.elapsed() < Duration::from_secs(30) {
            let records = reader
                .poll(5, Duration::from_millis(100))
                .await
                .expect("records");
            read += records.len();
            publication.absorb(&records);
            publication.commit().await.expect("committed");
        }
        assert_eq!(read, due, "{topic:?}");
    }
    assert_eq!(publication.dead_letters(), 0);
    assert_eq!(publication.router().open_bytes(), 0);
    let canonical = read_canonical(log, &topics, settings().partitions.canonical).await;
    assert_eq!((canonical.blocks.len(), canonical.gaps.len()), (1, 0));
    let block = canonical.blocks.values().next().expect("the block");
    assert_same(source, block);
    let canonical = sorted(canonical_values(log, &topics).await);
    assert!(canonical == sorted(values_of(source)), "the same bytes");
}

fn values_of(source: &Source) -> Vec<(Kind, Bytes)> {
    let values = source.values.iter();
    values
        .map(|value| (value.kind, value.bytes.clone()))
        .collect()
}

fn sorted(mut values: Vec<(Kind, Bytes)>) -> Vec<(Kind, Bytes)> {
    values.sort();
    values
}

/// The assembler's block against what the source's values say.
fn assert_same(source: &Source, block: &SlotBlock) {
    let (mut accounts, mut transactions, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for value in &source.values {
        let update = SubscribeUpdate::decode(value.bytes.clone()).expect("an update");
        match update.update_oneof.expect("content") {
            UpdateOneof::Account(account) => accounts.push(account),
            UpdateOneof::Transaction(update) => transactions.extend(update.transaction),
            UpdateOneof::Entry(entry) => entries.push(entry),
            UpdateOneof::BlockMeta(meta) => {
                assert_eq!(meta.rewards.as_ref().map(|r| r.rewards.len()), Some(10_000));
                assert!(block.meta == meta);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accounts.len(), 2);
    assert!(block.accounts == accounts);
    assert!(block.transactions == transactions);
    assert!(block.entries == entries);
}

/// Whole values of the canonical topic, statuses and seals left out.
async fn canonical_values(log: &dyn EventLog, topics: &Topics) -> Vec<(Kind, Bytes)> {
    let mut values = Vec::new();
    for partition in 0..settings().partitions.canonical {
        let mut reader = log
            .reader(ReaderSpec {
                partitions: vec![(topics.canonical.clone(), partition, Start::Earliest)],
                read_committed: true,
            })
            .await
            .expect("a reader");
        let mut reassembler = Reassembler::new();
        loop {
            let records = reader
                .poll(100, Duration::from_millis(50))
                .await
                .expect("records");
            if records.is_empty() && reader.lag().await.expect("lag") == 0 {
                break;
            }
            for record in records {
                assert!(record.value.len() <= event_schema::CHUNK_BYTES_MAX);
                let header = CanonicalHeader::decode(&record.header).expect("a header");
                let pushed = reassembler.push(
                    header.kind,
                    header.slot,
                    u64::from(header.index),
                    &record.value,
                );
                assert_eq!(pushed.broken, None);
                let content = |whole: &event_schema::reassembly::Whole| {
                    !matches!(whole.kind, Kind::Seal | Kind::Status)
                };
                values.extend(
                    pushed
                        .whole
                        .filter(content)
                        .map(|whole| (whole.kind, whole.value)),
                );
            }
        }
    }
    values
}

#[tokio::test]
async fn oversize_values_come_out_as_they_went_in() {
    goes_through(&MemoryLog::new(), &source()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_default_limits_is_enough() {
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    // The test broker takes more; the topics are set to what a broker takes by default.
    let settings = settings();
    let topics = &settings.topics;
    let mut specs: Vec<(Arc<str>, u32)> = ObservedTopic::ALL
        .into_iter()
        .map(|topic| {
            (
                topics.observed(topic).clone(),
                settings.partitions_of(topic),
            )
        })
        .collect();
    specs.push((topics.canonical.clone(), settings.partitions.canonical));
    specs.push((topics.dead_letters.clone(), 1));
    let specs: Vec<TopicSpec> = specs
        .into_iter()
        .map(|(name, partitions)| TopicSpec {
            name: name.to_string(),
            partitions,
            compacted: false,
            config: vec![(
                "max.message.bytes".to_owned(),
                BROKER_DEFAULT_BYTES.to_owned(),
            )],
            replication: 1,
        })
        .collect();
    log.ensure_topics(&specs).await.expect("topics");
    // The limit is in force: the whole account is refused.
    let source = source();
    let account = source
        .values
        .iter()
        .find(|value| value.kind == Kind::Account)
        .expect("an account");
    let mut record = new_record(topics, &source.written[0]);
    record.topic = topics.dead_letters.clone();
    record.value = account.bytes.clone();
    record.partition = 0;
    let writer = log.writer().await.expect("a writer");
    let refused = writer.append(vec![record]).await;
    assert!(refused.is_err(), "{refused:?}");
    goes_through(&log, &source).await;
}
