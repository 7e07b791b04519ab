//! The in-memory log against a model so plain that it can be checked by reading: a list of batches, each visible or
//! not.

use std::time::Duration;

use bytes::Bytes;
use event_log::{
    CommitFault, EventLog, MemoryLog, NewRecord, ReaderSpec, Start, TopicSpec, TransactionalWriter,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Commit(u8),
    Abort(u8),
    Crash(u8),
    TakeOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Append),
        (0..4u8).prop_map(Step::Commit),
        (1..4u8).prop_map(Step::Abort),
        (1..4u8).prop_map(Step::Crash),
        Just(Step::TakeOver),
    ]
}

/// What a `read_committed` reader of the one partition may see, in order; `None` hides what follows until a take-over.
#[derive(Default)]
struct Model {
    batches: Vec<(Vec<u32>, Visibility)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Visibility {
    Visible,
    Never,
    Undecided,
}

impl Model {
    fn visible(&self) -> Vec<u32> {
        self.batches
            .iter()
            .take_while(|(_, visibility)| *visibility != Visibility::Undecided)
            .filter(|(_, visibility)| *visibility == Visibility::Visible)
            .flat_map(|(values, _)| values.clone())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn readers_see_what_the_model_sees(steps in proptest::collection::vec(step(), 0..30), max in 1..5usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let log = MemoryLog::new();
            let spec = TopicSpec { name: "t".into(), partitions: 1, compacted: false, config: vec![], replication: 1 };
            log.ensure_topics(&[spec]).await.unwrap();
            let plain = log.writer().await.unwrap();
            let mut transactions = log.transactional_writer("id").await.unwrap();
            let spec = ReaderSpec { partitions: vec![("t".into(), 0, Start::Earliest)], read_committed: true };
            let mut live = log.reader(spec.clone()).await.unwrap();
            let (mut model, mut next, mut seen) = (Model::default(), 0u32, Vec::new());
            for step in steps {
                let mut batch = |count: u8| -> (Vec<u32>, Vec<NewRecord>) {
                    (0..count).map(|_| { next += 1; (next, record(next)) }).unzip()
                };
                match step {
                    Step::Append(count) => {
                        let (values, records) = batch(count);
                        plain.append(records).await.unwrap();
                        model.batches.push((values, Visibility::Visible));
                    }
                    Step::Commit(count) => {
                        let (values, records) = batch(count);
                        transactions.commit(records).await.unwrap();
                        model.batches.push((values, Visibility::Visible));
                    }
                    Step::Abort(count) => {
                        let (values, records) = batch(count);
                        fail(&log, &mut *transactions, CommitFault::Abort, records).await;
                        model.batches.push((values, Visibility::Never));
                    }
                    Step::Crash(count) => {
                        let (values, records) = batch(count);
                        fail(&log, &mut *transactions, CommitFault::Crash, records).await;
                        model.batches.push((values, Visibility::Undecided));
                    }
                    Step::TakeOver => {
                        transactions = log.transactional_writer("id").await.unwrap();
                        for (_, visibility) in &mut model.batches {
                            if *visibility == Visibility::Undecided {
                                *visibility = Visibility::Never;
                            }
                        }
                    }
                }
                for record in live.poll(max, Duration::ZERO).await.unwrap() {
                    seen.push(value(&record.value));
                }
                let visible = model.visible();
                prop_assert_eq!(&seen[..], &visible[..seen.len()]);
            }
            while live.lag().await.unwrap() > 0 {
                seen.extend(live.poll(max, Duration::ZERO).await.unwrap().iter().map(|record| value(&record.value)));
            }
            prop_assert_eq!(&seen, &model.visible());
            let mut fresh = log.reader(spec).await.unwrap();
            let mut again = Vec::new();
            while fresh.lag().await.unwrap() > 0 {
                again.extend(fresh.poll(100, Duration::ZERO).await.unwrap().iter().map(|record| value(&record.value)));
            }
            prop_assert_eq!(again, seen);
            Ok(())
        })?;
    }
}

async fn fail(
    log: &MemoryLog,
    writer: &mut dyn TransactionalWriter,
    fault: CommitFault,
    records: Vec<NewRecord>,
) {
    log.fail_next_commit(fault);
    writer.commit(records).await.unwrap_err();
}

fn record(value: u32) -> NewRecord {
    let empty = Bytes::new();
    NewRecord {
        topic: "t".into(),
        partition: 0,
        key: empty.clone(),
        header: empty,
        value: value.to_be_bytes().to_vec().into(),
    }
}

fn value(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
