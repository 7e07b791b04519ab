//! One transaction: what it gathers, what it carries, what readers know after it.

use std::collections::BTreeMap;

use event_log::{NewRecord, Position, TransactionalWriter};

use crate::{observation::Lane, router::Effect};

/// What the next transaction carries.
#[derive(Debug, Default)]
pub struct Pending {
    pub(super) records: Vec<NewRecord>,
    pub(super) bytes: usize,
    pub(super) told: Vec<Telling>,
}

impl Pending {
    pub(super) fn push(&mut self, record: NewRecord) {
        self.add(|out| out.push(record));
    }

    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<NewRecord>)) {
        let before = self.records.len();
        write(&mut self.records);
        let added = self.records.get(before..).unwrap_or_default();
        self.bytes += added
            .iter()
            .map(|record| record.value.len() + record.header.len() + record.key.len())
            .sum::<usize>();
    }
}

/// What canonical readers will know after the transaction.
#[derive(Debug)]
pub struct Telling {
    pub(super) effect: Effect,
    pub(super) number: u64,
    /// The first of its records, by its place in the transaction.
    pub(super) first: usize,
}

/// One transaction.
#[derive(Debug)]
pub struct Batch {
    pub(super) records: Vec<NewRecord>,
    pub(super) positions: BTreeMap<Lane, i64>,
    pub(super) told: Vec<Telling>,
}

impl Batch {
    /// Records that tell nothing.
    pub fn bare(records: Vec<NewRecord>) -> Self {
        Self {
            records,
            positions: BTreeMap::new(),
            told: Vec::new(),
        }
    }
}

/// An effect that is on the log: every reader of committed records sees it.
#[derive(Debug, Clone)]
pub struct Told {
    pub effect: Effect,
    /// Grows with every telling, across lives.
    pub number: u64,
    /// A block's first record, in its partition of the canonical topic.
    pub offset: Option<i64>,
}

/// Writes transactions, one after another; it may do so while the publication goes on.
pub struct Committer {
    pub(super) writer: Box<dyn TransactionalWriter>,
}

impl Committer {
    /// One transaction. After an error whose action is `Retry`, call again with the same batch; after any other, drop this
    /// and the publication, and open new ones.
    pub async fn commit(&mut self, batch: &Batch) -> event_log::Result<Vec<Position>> {
        self.writer.commit(batch.records.clone()).await
    }
}
