//! Follows the canonical topic of a run and remembers what it says of every block.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use event_log::{EventLog, LogReader, ReaderSpec, Start};
use event_schema::{
    Blockhash, CanonicalEvent, Commitment, GapReason, Slot, SlotAssembler, SlotBlock,
};

use crate::{count::Tally, report::GapRow};

/// What the canonical stream says of one block (a slot on one fork).
#[derive(Debug, Default)]
pub struct Published {
    pub transactions: Tally,
    /// The newest publication; one is all there may be.
    pub block: Option<Arc<SlotBlock>>,
    pub publications: u64,
    pub finalized: bool,
    pub abandoned: bool,
}

/// Read-committed, from the beginning, all partitions.
pub struct CanonicalWatch {
    reader: Box<dyn LogReader>,
    assemblers: Vec<SlotAssembler>,
    blocks: BTreeMap<(Slot, Blockhash), Published>,
    pub gaps: Vec<GapRow>,
    pub broken: Vec<String>,
    pub records: u64,
}

const POLL_MAX: usize = 4096;

impl CanonicalWatch {
    pub async fn open(log: &dyn EventLog, topic: &Arc<str>) -> anyhow::Result<Self> {
        let partitions = log.partitions(topic).await.context("canonical topic")?;
        let reader = log
            .reader(ReaderSpec {
                partitions: (0..partitions)
                    .map(|partition| (topic.clone(), partition, Start::Earliest))
                    .collect(),
                read_committed: true,
            })
            .await?;
        Ok(Self {
            reader,
            assemblers: (0..partitions).map(|_| SlotAssembler::new()).collect(),
            blocks: BTreeMap::new(),
            gaps: Vec::new(),
            broken: Vec::new(),
            records: 0,
        })
    }

    /// Takes in what has been published by now.
    pub async fn advance(&mut self) -> anyhow::Result<()> {
        loop {
            let records = self
                .reader
                .poll(POLL_MAX, Duration::from_millis(300))
                .await?;
            if records.is_empty() {
                return Ok(());
            }
            for record in records {
                self.records += 1;
                let Some(assembler) = self.assemblers.get_mut(record.position.partition as usize)
                else {
                    continue;
                };
                match assembler.push(record.position.offset, &record.header, &record.value) {
                    Ok(None) => {}
                    Ok(Some(event)) => self.take(event),
                    Err(error) => self.broken.push(format!("{}: {error}", record.position)),
                }
            }
        }
    }

    fn take(&mut self, event: CanonicalEvent) {
        match event {
            CanonicalEvent::Block(block) => {
                let published = self
                    .blocks
                    .entry((block.slot, block.blockhash))
                    .or_default();
                for transaction in &block.transactions {
                    published.transactions.add(&transaction.signature);
                }
                published.publications += 1;
                published.block = Some(block);
            }
            CanonicalEvent::Status {
                slot,
                blockhash,
                commitment,
                ..
            } => {
                let published = self.blocks.entry((slot, blockhash)).or_default();
                match commitment {
                    Commitment::Confirmed => {}
                    Commitment::Finalized => published.finalized = true,
                    Commitment::Abandoned => published.abandoned = true,
                }
            }
            CanonicalEvent::Gap { gap, .. } => self.gaps.push(GapRow {
                first_slot: gap.first_slot,
                last_slot: gap.last_slot,
                records: gap.records,
                reason: format!(
                    "{:?}",
                    GapReason::try_from(gap.reason).unwrap_or(GapReason::Unknown)
                ),
                source: gap.source,
                detail: gap.detail,
            }),
        }
    }

    /// The finalized block of the slot, else any that was not abandoned.
    pub fn block(&self, slot: u64) -> Option<&Published> {
        let of_slot = || {
            self.blocks
                .range((Slot(slot), Blockhash([0; 32]))..=(Slot(slot), Blockhash([0xff; 32])))
                .map(|(_, published)| published)
                .filter(|published| !published.abandoned)
        };
        of_slot()
            .find(|published| published.finalized)
            .or_else(|| of_slot().next())
    }

    pub fn is_final(&self, slot: u64) -> bool {
        self.block(slot)
            .is_some_and(|block| block.finalized && block.block.is_some())
    }

    /// The smallest slot with a block.
    pub fn oldest(&self) -> Option<u64> {
        self.blocks.keys().next().map(|(slot, _)| slot.0)
    }
}
