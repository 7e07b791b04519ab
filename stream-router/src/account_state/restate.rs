//! When a confirmed block proves abandoned: the states that its accounts had before, found in the accounts topic itself.
//!
//! The topic keeps everything for longer than finality takes (`min.compaction.lag.ms`), so the state before is there. The
//! whole topic is read, twice: that takes a while, and has never been needed on mainnet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use event_log::{EventLog, ReaderSpec, Record, Start};
use event_schema::{AccountState, AccountStateReader, CanonicalHeader, Pubkey};
use tracing::warn;

use crate::slot_tree::BlockId;

const POLL: Duration = Duration::from_millis(100);
const RECORDS: usize = 4_000;

/// The accounts that the undone blocks wrote, with their newest states that no undone block wrote.
pub async fn states_before(
    log: &dyn EventLog,
    topic: &Arc<str>,
    partitions: u32,
    undone: &[BlockId],
) -> anyhow::Result<HashMap<Pubkey, Option<AccountState>>> {
    let mut touched = HashSet::new();
    read(log, topic, partitions, |record| {
        let address = record.key.get(..Pubkey::LENGTH);
        if is_of(&record, undone)
            && let Some(Ok(account)) = address.map(Pubkey::try_from)
        {
            touched.insert(account);
        }
    })
    .await?;
    let is_touched = |account: &Pubkey, _: &AccountState| touched.contains(account);
    let mut states = AccountStateReader::new(partitions, is_touched);
    read(log, topic, partitions, |record| {
        if is_of(&record, undone) {
            return;
        }
        let position = record.position.clone();
        let parts = (record.key, record.header, record.value);
        if let Err(error) = states.push(position.partition, parts) {
            warn!(%position, %error, "a record of the accounts topic is passed over");
        }
    })
    .await?;
    let mut states = states.into_accounts();
    let before = |account| (account, states.remove(&account));
    Ok(touched.iter().copied().map(before).collect())
}

async fn read(
    log: &dyn EventLog,
    topic: &Arc<str>,
    partitions: u32,
    mut take: impl FnMut(Record),
) -> anyhow::Result<()> {
    let all = (0..partitions).map(|partition| (topic.clone(), partition, Start::Earliest));
    let spec = ReaderSpec {
        partitions: all.collect(),
        read_committed: true,
    };
    let mut reader = log
        .reader(spec)
        .await
        .context("reading the accounts topic")?;
    loop {
        let records = reader.poll(RECORDS, POLL).await?;
        if records.is_empty() && reader.lag().await? == 0 {
            return Ok(());
        }
        records.into_iter().for_each(&mut take);
    }
}

fn is_of(record: &Record, blocks: &[BlockId]) -> bool {
    CanonicalHeader::decode(&record.header)
        .is_ok_and(|header| blocks.contains(&BlockId::new(header.slot, header.blockhash)))
}
