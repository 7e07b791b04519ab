//! Reads the canonical stream and tells the engine what it needs of it: blocks, their fate, how far was read.
//!
//! The stream is where outcomes come from; no validator is polled per transaction. Kafka being away is waited for, and
//! said; accepting and sending go on meanwhile.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use event_log::{Action, EventLog, LogReader, NewRecord, ReaderSpec, Record, Start};
use event_schema::{
    Blockhash, CanonicalEvent, Signature, Slot, SlotAssembler, SlotBlock,
    proto::confirmed_block::TransactionStatusMeta,
};
use solana_transaction_error::TransactionError;
use tokio::{sync::mpsc, time::Instant};

use crate::{chain::BlockSummary, config::StreamStart, delivery::Commitment, metrics::Metrics};

/// Records taken at once.
const POLL_RECORDS_MAX: usize = 2000;
const POLL_WAIT: Duration = Duration::from_millis(250);
const RETRY_WAIT: Duration = Duration::from_secs(1);
const LAG_ASKED_EVERY: Duration = Duration::from_secs(1);
/// Behind by more than this, landings would be reported late: not ready.
const LAG_READY_MAX: u64 = 20_000;

/// What the stream told, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Block(BlockSummary),
    /// `None`: abandoned.
    Status {
        slot: Slot,
        blockhash: Blockhash,
        commitment: Option<Commitment>,
    },
    /// Every record of the partition before this offset has been told.
    ReadUpTo {
        partition: u32,
        next_offset: i64,
    },
}

/// What to read, and where it was left.
pub struct Outcomes {
    pub log: Arc<dyn EventLog>,
    pub topic: Arc<str>,
    /// Where the last process would begin again.
    pub positions: BTreeMap<u32, i64>,
    pub start: StreamStart,
    pub metrics: Metrics,
}

impl Outcomes {
    /// Reads until cancelled, or until the log says that no retry helps. Batches go to `told`, which is bounded: when the
    /// engine is busy, reading waits.
    pub async fn follow(
        mut self,
        told: mpsc::Sender<Vec<Told>>,
        ready: impl Fn(bool) + Send,
    ) -> anyhow::Result<()> {
        ready(false);
        let mut reachable = true;
        loop {
            let error = match self.open().await {
                Ok(reader) => match self.read(reader, &told, &ready).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            ready(false);
            match error.action() {
                _ if missing_or_moved(&error) => {}
                Action::Retry => {}
                Action::Drop | Action::Stop => return Err(error.into()),
            }
            if reachable {
                tracing::warn!(%error, topic = %self.topic, "no outcomes until the canonical stream can be read; accepting and sending go on");
            }
            reachable = false;
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    async fn open(&self) -> event_log::Result<Box<dyn LogReader>> {
        let mut partitions = Vec::new();
        for partition in 0..self.log.partitions(&self.topic).await? {
            let (low, high) = self.log.watermarks(&self.topic, partition).await?;
            let start = match self.positions.get(&partition) {
                None if self.start == StreamStart::Latest => Start::Latest,
                None => Start::Earliest,
                Some(&offset) if (low..=high).contains(&offset) => Start::At(offset),
                Some(&offset) => {
                    tracing::warn!(
                        partition,
                        offset,
                        low,
                        high,
                        "the stored position is not on the log any more: reading what there is, asking the validator for the rest"
                    );
                    Start::Earliest
                }
            };
            partitions.push((self.topic.clone(), partition, start));
        }
        self.log
            .reader(ReaderSpec {
                partitions,
                read_committed: true,
            })
            .await
    }

    /// Ends without error when nobody listens any more.
    async fn read(
        &mut self,
        mut reader: Box<dyn LogReader>,
        told: &mpsc::Sender<Vec<Told>>,
        ready: &(impl Fn(bool) + Send),
    ) -> event_log::Result<()> {
        let mut assemblers: BTreeMap<u32, SlotAssembler> = BTreeMap::new();
        let mut lag_due = Instant::now();
        loop {
            let records = reader.poll(POLL_RECORDS_MAX, POLL_WAIT).await?;
            let mut batch = Vec::new();
            for record in &records {
                let partition = record.position.partition;
                let assembler = assemblers.entry(partition).or_default();
                match assembler.push(record.position.offset, &record.header, &record.value) {
                    Ok(None) => {}
                    Ok(Some(event)) => batch.extend(tell(partition, event)),
                    Err(error) => self.dead_letter(record, &error.to_string()).await,
                }
            }
            for position in reader.positions() {
                let open = assemblers
                    .get(&position.partition)
                    .and_then(SlotAssembler::open_since);
                let next_offset = open.unwrap_or(position.offset);
                // A reader that is made again, after an error, goes on here.
                if next_offset >= 0
                    && self.positions.insert(position.partition, next_offset) != Some(next_offset)
                {
                    batch.push(Told::ReadUpTo {
                        partition: position.partition,
                        next_offset,
                    });
                }
            }
            if Instant::now() >= lag_due {
                lag_due = Instant::now() + LAG_ASKED_EVERY;
                let lag = reader.lag().await?;
                self.metrics
                    .stream_lag
                    .set(i64::try_from(lag).unwrap_or(i64::MAX));
                ready(lag <= LAG_READY_MAX);
            }
            if !batch.is_empty() && told.send(batch).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn dead_letter(&self, record: &Record, reason: &str) {
        self.metrics.dead_letters.inc();
        tracing::warn!(position = %record.position, reason, "a canonical record is not understood; it goes to the dead letters, its block is left out");
        let letter: NewRecord = event_log::dead_letter(record, reason);
        let written = match self.log.writer().await {
            Ok(writer) => writer.append(vec![letter]).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(%error, position = %record.position, "the dead letter could not be written; the record stays in the canonical topic");
        }
    }
}

/// The topic may not be there yet, or retention has overtaken a slow reader: opening again settles both.
fn missing_or_moved(error: &event_log::Error) -> bool {
    matches!(
        error,
        event_log::Error::UnknownTopic { .. } | event_log::Error::OffsetOutOfRange { .. }
    )
}

fn tell(partition: u32, event: CanonicalEvent) -> Option<Told> {
    use event_schema::Commitment as Fate;
    match event {
        CanonicalEvent::Block(block) => Some(Told::Block(summary(partition, &block))),
        CanonicalEvent::Status {
            slot,
            blockhash,
            commitment,
            ..
        } => Some(Told::Status {
            slot,
            blockhash,
            commitment: match commitment {
                Fate::Confirmed => Some(Commitment::Confirmed),
                Fate::Finalized => Some(Commitment::Finalized),
                Fate::Abandoned => None,
            },
        }),
        // The chain notices the hole by itself: the block after it does not link.
        CanonicalEvent::Gap { gap, .. } => {
            tracing::warn!(
                first_slot = gap.first_slot,
                last_slot = gap.last_slot,
                detail = gap.detail,
                "the canonical stream has a hole; expiries across it are asked of the validator"
            );
            None
        }
    }
}

fn summary(partition: u32, block: &SlotBlock) -> BlockSummary {
    BlockSummary {
        slot: block.slot,
        blockhash: block.blockhash,
        // A parent that is not told breaks the link, which is what it should do.
        parent: Blockhash::try_from(&block.seal.parent_blockhash[..])
            .or_else(|_| Blockhash::from_str(&block.meta.parent_blockhash))
            .unwrap_or_default(),
        height: block.meta.block_height.map(|height| height.block_height),
        transactions: block
            .transactions
            .iter()
            .filter(|transaction| !transaction.is_vote)
            .filter_map(|transaction| {
                let signature = Signature::try_from(&transaction.signature[..]).ok()?;
                Some((signature, error_of(transaction.meta.as_ref())))
            })
            .collect(),
        partition,
        first_offset: block.first_offset,
        next_offset: block.next_offset,
    }
}

/// The error as Solana's JSON-RPC writes it.
fn error_of(meta: Option<&TransactionStatusMeta>) -> Option<Arc<str>> {
    let error = meta?.err.as_ref()?;
    let json = bincode::deserialize::<TransactionError>(&error.err)
        .ok()
        .and_then(|error| serde_json::to_string(&error).ok());
    // An error this release cannot name is still an error.
    Some(
        json.unwrap_or_else(|| {
            format!(
                "{{\"Unknown\":\"{}\"}}",
                bs58::encode(&error.err).into_string()
            )
        })
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::proto::confirmed_block;

    fn meta(err: Option<Vec<u8>>) -> TransactionStatusMeta {
        TransactionStatusMeta {
            err: err.map(|err| confirmed_block::TransactionError { err }),
            ..Default::default()
        }
    }

    #[test]
    fn errors_read_as_the_rpc_writes_them() {
        let bytes = bincode::serialize(&TransactionError::InsufficientFundsForFee).unwrap();
        assert_eq!(error_of(Some(&meta(None))), None);
        assert_eq!(
            error_of(Some(&meta(Some(bytes)))).as_deref(),
            Some("\"InsufficientFundsForFee\"")
        );
        let unknown = error_of(Some(&meta(Some(vec![0xff; 9])))).unwrap();
        assert!(unknown.contains("Unknown"), "{unknown}");
        serde_json::from_str::<serde_json::Value>(&unknown).unwrap();
    }
}
