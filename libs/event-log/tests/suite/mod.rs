//! What every log must do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use event_log::{
    Action, DeadLetter, Error, EventLog, LogReader, NewRecord, Position, ReaderSpec, Record, Start,
    TopicSpec, dead_letter,
};

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

pub async fn all(log: &dyn EventLog) {
    topics_are_made_once_and_checked(log).await;
    records_come_back_whole_and_in_order(log).await;
    a_reader_starts_and_seeks_where_it_is_told(log).await;
    a_poll_waits_wakes_and_can_be_cancelled(log).await;
    a_transaction_is_seen_whole_or_not_at_all(log).await;
    an_older_writer_is_fenced(log).await;
    dead_letters_keep_the_original(log).await;
    several_topics_in_one_reader(log).await;
}

pub fn topic(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        compacted: false,
        config: Vec::new(),
        replication: 1,
    }
}

pub fn record(topic: &str, partition: u32, value: &str) -> NewRecord {
    NewRecord {
        topic: topic.into(),
        partition,
        key: Bytes::from_static(b"key"),
        header: Bytes::from_static(b"header"),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.value).into_owned())
        .collect()
}

/// Polls until `count` records have come, or panics.
pub async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<String> {
    let deadline = Instant::now() + LONG;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(
            Instant::now() < deadline,
            "only {} of {count} records came",
            records.len()
        );
        records.extend(reader.poll(count - records.len(), SOON).await.unwrap());
    }
    values(&records)
}

/// Polls until the reader says that it is at the end.
pub async fn read_to_end(reader: &mut dyn LogReader) -> Vec<Record> {
    let deadline = Instant::now() + LONG;
    let mut records = Vec::new();
    while reader.lag().await.unwrap() > 0 {
        assert!(
            Instant::now() < deadline,
            "the end was never reached after {} records",
            records.len()
        );
        records.extend(reader.poll(1000, SOON).await.unwrap());
    }
    records
}

pub async fn reader(
    log: &dyn EventLog,
    name: &str,
    start: Start,
    read_committed: bool,
) -> Box<dyn LogReader> {
    log.reader(ReaderSpec {
        partitions: vec![(name.into(), 0, start)],
        read_committed,
    })
    .await
    .unwrap()
}

async fn topics_are_made_once_and_checked(log: &dyn EventLog) {
    assert_eq!(
        log.partitions("made").await.unwrap_err(),
        Error::UnknownTopic {
            topic: "made".into()
        }
    );
    let mut spec = topic("made", 3);
    spec.config = vec![("retention.ms".into(), "3600000".into())];
    log.ensure_topics(&[spec.clone(), topic("made-too", 1)])
        .await
        .unwrap();
    log.ensure_topics(&[spec]).await.unwrap();
    assert_eq!(log.partitions("made").await.unwrap(), 3);
    assert_eq!(log.watermarks("made", 2).await.unwrap(), (0, 0));
    let error = log.ensure_topics(&[topic("made", 4)]).await.unwrap_err();
    assert_eq!(
        error,
        Error::PartitionCount {
            topic: "made".into(),
            expected: 4,
            found: 3
        }
    );
    assert_eq!(error.action(), Action::Stop);
    let error = log.watermarks("made", 3).await.unwrap_err();
    assert_eq!(
        error,
        Error::UnknownPartition {
            topic: "made".into(),
            partition: 3
        }
    );
    let spec = ReaderSpec {
        partitions: vec![("absent".into(), 0, Start::Earliest)],
        read_committed: true,
    };
    assert_eq!(
        log.reader(spec).await.err(),
        Some(Error::UnknownTopic {
            topic: "absent".into()
        })
    );
}

async fn records_come_back_whole_and_in_order(log: &dyn EventLog) {
    log.ensure_topics(&[topic("plain", 2)]).await.unwrap();
    let writer = log.writer().await.unwrap();
    let batch: Vec<NewRecord> = (0..500)
        .map(|n| record("plain", n % 2, &n.to_string()))
        .collect();
    let positions = writer.append(batch).await.unwrap();
    assert_eq!(
        positions[0],
        Position {
            topic: "plain".into(),
            partition: 0,
            offset: 0
        }
    );
    assert_eq!(
        positions[499],
        Position {
            topic: "plain".into(),
            partition: 1,
            offset: 249
        }
    );
    assert_eq!(log.watermarks("plain", 1).await.unwrap(), (0, 250));
    let both = [("plain".into(), 1), ("plain".into(), 0)];
    assert_eq!(log.ends(&both).await.unwrap(), [250, 250]);
    assert!(log.ends(&[]).await.unwrap().is_empty());
    writer.append(vec![record("plain", 0, "")]).await.unwrap();

    let mut reader = reader(log, "plain", Start::Earliest, true).await;
    let records = read_to_end(&mut *reader).await;
    assert_eq!(records.len(), 251);
    for (offset, record) in records.iter().enumerate() {
        assert_eq!(
            record.position,
            Position {
                topic: "plain".into(),
                partition: 0,
                offset: offset as i64
            }
        );
        assert_eq!(
            (&record.key[..], &record.header[..]),
            (&b"key"[..], &b"header"[..])
        );
    }
    assert_eq!(records[249].value, Bytes::from_static(b"498"));
    assert!(records[250].value.is_empty());
    assert!(records[0].timestamp_ms > 1_600_000_000_000);

    let error = writer
        .append(vec![record("plain", 9, "x")])
        .await
        .unwrap_err();
    assert_eq!(
        error,
        Error::UnknownPartition {
            topic: "plain".into(),
            partition: 9
        }
    );
    let huge = NewRecord {
        value: vec![0; 17 << 20].into(),
        ..record("plain", 0, "")
    };
    let error = writer.append(vec![huge]).await.unwrap_err();
    assert_eq!(error.action(), Action::Drop, "{error}");
}

async fn a_reader_starts_and_seeks_where_it_is_told(log: &dyn EventLog) {
    log.ensure_topics(&[topic("seek", 1)]).await.unwrap();
    let writer = log.writer().await.unwrap();
    writer
        .append((0..10).map(|n| record("seek", 0, &n.to_string())).collect())
        .await
        .unwrap();

    let mut middle = reader(log, "seek", Start::At(7), true).await;
    assert_eq!(read(&mut *middle, 2).await, ["7", "8"]);
    assert_eq!(middle.positions()[0].offset, 9);
    assert_eq!(middle.lag().await.unwrap(), 1);
    let back = Position {
        topic: "seek".into(),
        partition: 0,
        offset: 3,
    };
    middle.seek(&back).await.unwrap();
    assert_eq!(middle.positions(), [back.clone()]);
    assert_eq!(read(&mut *middle, 3).await, ["3", "4", "5"]);
    let elsewhere = Position {
        partition: 1,
        ..back.clone()
    };
    assert!(middle.seek(&elsewhere).await.is_err());

    let spec = ReaderSpec {
        partitions: vec![("seek".into(), 0, Start::Earliest)],
        read_committed: true,
    };
    let mut lookup = log.lookup_reader(spec).await.unwrap();
    assert_eq!(read(&mut *lookup, 2).await, ["0", "1"]);
    lookup.rest().await.unwrap();
    assert!(lookup.poll(10, SOON).await.unwrap().is_empty());
    for _ in 0..2 {
        lookup.seek(&back).await.unwrap();
        assert_eq!(read(&mut *lookup, 3).await, ["3", "4", "5"]);
    }

    let mut latest = reader(log, "seek", Start::Latest, true).await;
    assert_eq!(latest.lag().await.unwrap(), 0);
    writer.append(vec![record("seek", 0, "10")]).await.unwrap();
    assert_eq!(read(&mut *latest, 1).await, ["10"]);

    // What a crash leaves: stored positions, a new reader.
    let stored = middle.positions()[0].offset;
    drop(middle);
    let mut resumed = reader(log, "seek", Start::At(stored), true).await;
    assert_eq!(
        values(&read_to_end(&mut *resumed).await),
        ["6", "7", "8", "9", "10"]
    );
}

async fn a_poll_waits_wakes_and_can_be_cancelled(log: &dyn EventLog) {
    log.ensure_topics(&[topic("wait", 1)]).await.unwrap();
    let mut reader = reader(log, "wait", Start::Earliest, true).await;
    let start = Instant::now();
    assert!(reader.poll(10, SOON).await.unwrap().is_empty());
    assert!(start.elapsed() >= SOON);

    let writer = log.writer().await.unwrap();
    let (polled, _) = tokio::join!(reader.poll(10, LONG), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        writer
            .append(vec![record("wait", 0, "late")])
            .await
            .unwrap();
    });
    assert_eq!(values(&polled.unwrap()), ["late"]);
    assert!(start.elapsed() < LONG / 2, "a record wakes the reader");

    writer
        .append((0..50).map(|n| record("wait", 0, &n.to_string())).collect())
        .await
        .unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + LONG;
    while seen.len() < 50 && Instant::now() < deadline {
        // Given up at odd moments, a poll must not swallow records.
        if let Ok(batch) =
            tokio::time::timeout(Duration::from_micros(700), reader.poll(3, LONG)).await
        {
            seen.extend(values(&batch.unwrap()));
        }
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
}

/// Exactly these records come, and then the end. A commit returns when it is decided; the broker makes it visible a
/// moment later.
pub async fn only(reader: &mut dyn LogReader, expected: &[&str]) {
    assert_eq!(read(reader, expected.len()).await, expected);
    assert!(read_to_end(reader).await.is_empty());
}

async fn a_transaction_is_seen_whole_or_not_at_all(log: &dyn EventLog) {
    log.ensure_topics(&[topic("whole", 1)]).await.unwrap();
    let mut writer = log.transactional_writer("whole").await.unwrap();
    let mut committed = reader(log, "whole", Start::Earliest, true).await;
    assert!(writer.commit(Vec::new()).await.unwrap().is_empty());

    let positions = writer
        .commit(vec![record("whole", 0, "a"), record("whole", 0, "b")])
        .await
        .unwrap();
    assert_eq!(
        positions
            .iter()
            .map(|position| position.offset)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    only(&mut *committed, &["a", "b"]).await;
    let (_, high) = log.watermarks("whole", 0).await.unwrap();
    assert_eq!(high, 3, "the marker has an offset of its own");
    assert_eq!(log.ends(&[("whole".into(), 0)]).await.unwrap(), [3]);

    let huge = NewRecord {
        value: vec![0; 17 << 20].into(),
        ..record("whole", 0, "")
    };
    let error = writer
        .commit(vec![record("whole", 0, "never"), huge])
        .await
        .unwrap_err();
    assert_eq!(error.action(), Action::Drop, "{error}");
    assert!(read_to_end(&mut *committed).await.is_empty());

    let positions = writer.commit(vec![record("whole", 0, "c")]).await.unwrap();
    only(&mut *committed, &["c"]).await;
    assert!(committed.positions()[0].offset > positions[0].offset);
    // The position at the end is one to resume from.
    let mut resumed = reader(
        log,
        "whole",
        Start::At(committed.positions()[0].offset),
        true,
    )
    .await;
    writer.commit(vec![record("whole", 0, "d")]).await.unwrap();
    only(&mut *resumed, &["d"]).await;
    let mut again = reader(log, "whole", Start::Earliest, true).await;
    only(&mut *again, &["a", "b", "c", "d"]).await;
}

async fn an_older_writer_is_fenced(log: &dyn EventLog) {
    log.ensure_topics(&[topic("fence", 1)]).await.unwrap();
    let mut older = log.transactional_writer("fence").await.unwrap();
    older
        .commit(vec![record("fence", 0, "older")])
        .await
        .unwrap();
    let mut newer = log.transactional_writer("fence").await.unwrap();
    let mut other = log.transactional_writer("fence-not").await.unwrap();
    let error = older
        .commit(vec![record("fence", 0, "zombie")])
        .await
        .unwrap_err();
    assert_eq!(
        error,
        Error::Fenced {
            transactional_id: "fence".into()
        }
    );
    assert_eq!(error.action(), Action::Stop);
    newer
        .commit(vec![record("fence", 0, "newer")])
        .await
        .unwrap();
    other
        .commit(vec![record("fence", 0, "other")])
        .await
        .unwrap();
    assert!(
        older
            .commit(vec![record("fence", 0, "zombie")])
            .await
            .is_err()
    );
    let mut committed = reader(log, "fence", Start::Earliest, true).await;
    only(&mut *committed, &["older", "newer", "other"]).await;
}

async fn dead_letters_keep_the_original(log: &dyn EventLog) {
    log.ensure_topics(&[topic("x.canonical", 1), topic("x.dead-letters", 1)])
        .await
        .unwrap();
    let writer = log.writer().await.unwrap();
    writer
        .append(vec![record("x.canonical", 0, "poison")])
        .await
        .unwrap();
    let poison = read_to_end(&mut *reader(log, "x.canonical", Start::Earliest, true).await)
        .await
        .remove(0);
    writer
        .append(vec![dead_letter(&poison, "no such kind: 99")])
        .await
        .unwrap();
    let letters =
        read_to_end(&mut *reader(log, "x.dead-letters", Start::Earliest, true).await).await;
    assert_eq!(
        (&letters[0].key, &letters[0].value),
        (&poison.key, &poison.value)
    );
    let envelope = DeadLetter::decode(&letters[0].header).unwrap();
    assert_eq!(envelope.reason, "no such kind: 99");
    assert_eq!(envelope.origin, "x.canonical/0@0");
    assert_eq!(envelope.header, poison.header);
}

async fn several_topics_in_one_reader(log: &dyn EventLog) {
    log.ensure_topics(&[topic("multi.a", 2), topic("multi.b", 2)])
        .await
        .unwrap();
    let writer = log.writer().await.unwrap();
    let batch = (0..40)
        .map(|n| {
            record(
                if n % 2 == 0 { "multi.a" } else { "multi.b" },
                n / 2 % 2,
                "x",
            )
        })
        .collect();
    writer.append(batch).await.unwrap();
    let partitions = ["multi.a", "multi.b"]
        .iter()
        .flat_map(|name| (0..2).map(|partition| ((*name).into(), partition, Start::Earliest)))
        .collect();
    let mut reader = log
        .reader(ReaderSpec {
            partitions,
            read_committed: false,
        })
        .await
        .unwrap();
    assert_eq!(read_to_end(&mut *reader).await.len(), 40);
    assert!(
        reader
            .positions()
            .iter()
            .all(|position| position.offset == 10)
    );
}
