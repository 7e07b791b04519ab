//! A router on a log of its own that is fed block by block.

use std::{collections::BTreeMap, sync::Arc};

use event_log::{EventLog, MemoryLog, Record};
use event_schema::{AsOf, Slot, proto::geyser::SlotStatus};
use rand::{SeedableRng, rngs::StdRng};
use stream_router::{archive::Archive, publication::Publication, slot_tree::BlockId};

use super::reading::{States, folded, records_of, states_of};
use super::{CANONICAL, PARTITIONS, records, settings};
use crate::{
    chain::{TrueBlock, blockhash},
    source::{Source, interleave},
};

/// A router on a log of its own that is fed block by block.
pub struct Rig {
    pub log: Arc<dyn EventLog>,
    pub publication: Publication,
    pub archive: Archive,
    pub source: Source,
    pub at: BTreeMap<(Arc<str>, u32), i64>,
}

impl Rig {
    pub async fn new(addresses: u8) -> Self {
        Self::on(Arc::new(MemoryLog::new()), addresses).await
    }

    pub async fn on(log: Arc<dyn EventLog>, addresses: u8) -> Self {
        let archive = Archive::new(Arc::clone(&log), settings().topics.canonical, CANONICAL);
        let opened = Publication::open(log.as_ref(), settings()).await;
        let publication = opened.expect("opens");
        let mut source = Source::new(1);
        source.addresses = Some(addresses);
        Self {
            log,
            publication,
            archive,
            source,
            at: BTreeMap::new(),
        }
    }

    /// As after SIGKILL.
    pub async fn next_life(&mut self) {
        let opened = Publication::open(self.log.as_ref(), settings()).await;
        self.publication = opened.expect("opens");
    }

    /// What the source has written since the last time.
    pub async fn feed(&mut self, log_ms: i64) {
        let lanes = interleave(&mut StdRng::seed_from_u64(1), &[&self.source]);
        self.source.written.clear();
        let records: Vec<Record> = records(&lanes)
            .into_iter()
            .map(|record| {
                let key = (record.topic.clone(), record.partition);
                let offset = self.at.entry(key).or_default();
                *offset += 1;
                Record {
                    position: event_log::Position {
                        topic: record.topic,
                        partition: record.partition,
                        offset: *offset - 1,
                    },
                    key: record.key,
                    header: record.header,
                    value: record.value,
                    timestamp_ms: log_ms,
                }
            })
            .collect();
        self.publication.absorb(&records);
        let _ = self.publication.tick(log_ms);
        self.commit().await;
    }

    pub async fn commit(&mut self) {
        loop {
            self.publication.commit().await.expect("committed");
            if !self.publication.has_pending() {
                return;
            }
            let settled = self
                .publication
                .settle(self.log.as_ref(), &self.archive)
                .await;
            settled.expect("the log is there");
        }
    }

    pub async fn state(&self) -> (States, AsOf, Vec<Record>) {
        let records = records_of(self.log.as_ref(), &settings().topics.accounts, PARTITIONS).await;
        let (reader, as_of) = folded(&records).expect("a state");
        (states_of(&reader), as_of, records)
    }

    pub fn block(&mut self, slot: u64, fork: u8, parent: BlockId, accounts: u64) -> BlockId {
        let block = TrueBlock {
            id: BlockId::new(Slot(slot), blockhash(slot, fork)),
            parent,
            on_chain: true,
            accounts,
            transactions: 1,
            entries: 1,
        };
        self.source.block(&block);
        block.id
    }

    pub fn confirm(&mut self, block: BlockId) {
        self.source
            .status(block.slot, None, SlotStatus::SlotConfirmed);
    }

    pub fn root(&mut self, block: BlockId, parent: BlockId) {
        self.source
            .status(block.slot, Some(parent.slot), SlotStatus::SlotFinalized);
    }
}
