//! Publishes blocks into the canonical topic as the router does.

use std::{sync::Arc, time::Duration};

use event_log::{Action, EventLog, NewRecord, TopicSpec, TransactionalWriter};
use event_schema::{
    Blockhash, CanonicalHeader, CanonicalSeal, Kind, Slot, Topics, partition_of_slot,
    proto::{
        Message as _, confirmed_block,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateBlockMeta, SubscribeUpdateSlot,
            SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
            subscribe_update::UpdateOneof,
        },
    },
};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;

const PARTITIONS: u32 = 4;

/// Block `n` has slot and height `n`.
pub struct TestChain {
    log: Arc<dyn EventLog>,
    topics: Topics,
    writer: tokio::sync::Mutex<Box<dyn TransactionalWriter>>,
}

const WRITER: &str = "test-router";

/// Blockhash of block `n`.
pub fn hash(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[31] = 1;
    bytes
}

impl TestChain {
    pub async fn new(log: Arc<dyn EventLog>) -> Self {
        let topics = Topics::new(Topics::DEFAULT_PREFIX);
        let spec = |name: &str, partitions| TopicSpec {
            name: name.to_owned(),
            partitions,
            compacted: false,
            config: Vec::new(),
            replication: 1,
        };
        log.ensure_topics(&[
            spec(&topics.canonical, PARTITIONS),
            spec(&topics.dead_letters, 1),
        ])
        .await
        .expect("topics");
        let writer = log.transactional_writer(WRITER).await.expect("a writer");
        Self {
            log,
            topics,
            writer: tokio::sync::Mutex::new(writer),
        }
    }

    pub async fn publish(&self, n: u64, transactions: &[&VersionedTransaction]) {
        let with_outcome: Vec<_> = transactions
            .iter()
            .map(|transaction| (*transaction, None))
            .collect();
        self.publish_fork(n, hash(n), &with_outcome).await;
    }

    /// A block with its own hash, whose transactions may have failed.
    pub async fn publish_fork(
        &self,
        n: u64,
        blockhash: [u8; 32],
        transactions: &[(&VersionedTransaction, Option<TransactionError>)],
    ) {
        let mut values: Vec<(Kind, Vec<u8>)> = Vec::new();
        for (index, (transaction, error)) in transactions.iter().enumerate() {
            let signature: [u8; 64] = transaction.signatures[0].into();
            let meta = confirmed_block::TransactionStatusMeta {
                err: error
                    .as_ref()
                    .map(|error| confirmed_block::TransactionError {
                        err: bincode::serialize(error).expect("serializes"),
                    }),
                ..Default::default()
            };
            let info = SubscribeUpdateTransactionInfo {
                signature: signature.to_vec(),
                meta: Some(meta),
                index: index as u64,
                ..Default::default()
            };
            let update = SubscribeUpdateTransaction {
                transaction: Some(info),
                slot: n,
            };
            values.push((
                Kind::Transaction,
                update_of(UpdateOneof::Transaction(update)),
            ));
        }
        let meta = SubscribeUpdateBlockMeta {
            slot: n,
            blockhash: Blockhash(blockhash).to_string(),
            block_height: Some(confirmed_block::BlockHeight { block_height: n }),
            parent_slot: n - 1,
            parent_blockhash: Blockhash(hash(n - 1)).to_string(),
            executed_transaction_count: transactions.len() as u64,
            ..Default::default()
        };
        values.push((Kind::BlockMeta, update_of(UpdateOneof::BlockMeta(meta))));
        let seal = CanonicalSeal {
            slot: n,
            blockhash: blockhash.to_vec(),
            parent_slot: n - 1,
            parent_blockhash: hash(n - 1).to_vec(),
            transactions: transactions.len() as u64,
            ..Default::default()
        };
        values.push((Kind::Seal, seal.encode_to_vec()));
        let records = values
            .into_iter()
            .enumerate()
            .map(|(index, (kind, value))| self.record(kind, n, blockhash, index as u32, value))
            .collect();
        self.append(records).await;
    }

    pub async fn status(&self, n: u64, blockhash: [u8; 32], status: SlotStatus) {
        let update = SubscribeUpdateSlot {
            slot: n,
            status: status.into(),
            ..Default::default()
        };
        let value = update_of(UpdateOneof::Slot(update));
        self.append(vec![self.record(Kind::Status, n, blockhash, 0, value)])
            .await;
    }

    pub async fn confirm(&self, n: u64) {
        self.status(n, hash(n), SlotStatus::SlotConfirmed).await;
    }

    pub async fn finalize(&self, n: u64) {
        self.confirm(n).await;
        self.status(n, hash(n), SlotStatus::SlotFinalized).await;
    }

    /// Empty finalized blocks.
    pub async fn grow(&self, blocks: std::ops::RangeInclusive<u64>) {
        for n in blocks {
            self.publish(n, &[]).await;
            self.finalize(n).await;
        }
    }

    /// Bytes that are no record of the canonical topic.
    pub async fn poison(&self, n: u64) {
        let mut record = self.record(Kind::BlockMeta, n, hash(n), 0, vec![0xff; 5]);
        record.key = b"poison".as_slice().into();
        self.append(vec![record]).await;
    }

    /// Records in the dead-letter topic.
    pub async fn dead_letters(&self) -> i64 {
        self.log
            .watermarks(&self.topics.dead_letters, 0)
            .await
            .expect("watermarks")
            .1
    }

    fn record(
        &self,
        kind: Kind,
        n: u64,
        blockhash: [u8; 32],
        index: u32,
        value: Vec<u8>,
    ) -> NewRecord {
        let header = CanonicalHeader {
            kind,
            slot: Slot(n),
            blockhash: Blockhash(blockhash),
            index,
        };
        NewRecord {
            topic: self.topics.canonical.clone(),
            partition: partition_of_slot(Slot(n), PARTITIONS),
            key: n.to_be_bytes().to_vec().into(),
            header: header.encode().to_vec().into(),
            value: value.into(),
        }
    }

    /// A commit that failed is made again by a new writer, as the router does: nobody has seen the failed one.
    async fn append(&self, records: Vec<NewRecord>) {
        let mut writer = self.writer.lock().await;
        loop {
            match writer.commit(records.clone()).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error.action(), Action::Retry, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Ok(again) = self.log.transactional_writer(WRITER).await {
                *writer = again;
            }
        }
    }
}

fn update_of(update: UpdateOneof) -> Vec<u8> {
    SubscribeUpdate {
        filters: Vec::new(),
        update_oneof: Some(update),
        created_at: None,
    }
    .encode_to_vec()
}
