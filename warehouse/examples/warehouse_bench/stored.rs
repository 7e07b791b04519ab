//! Recorded blocks, stored by the sink as final ones.

use std::{collections::BTreeSet, time::Duration};

use clickhouse::Client;
use event_log::{EventLog, MemoryLog};
use event_schema::{Topics, proto::geyser::SlotStatus};

use crate::{
    decode_proof::recorded,
    support::{block_of, create_topics, start_sink, status},
};

/// Gives transactions and votes among them.
pub async fn load(
    found: &recorded::Folder,
    client: &Client,
    url: &str,
) -> anyhow::Result<(u64, u64)> {
    let (log, topics) = (MemoryLog::new(), Topics::new("heliograph"));
    create_topics(&log, &topics).await?;
    let writer = log.writer().await?;
    let (mut transactions, mut votes) = (0, 0);
    let mut slots = BTreeSet::new();
    for (name, block) in &found.blocks {
        // One block lies there in several encodings.
        if !slots.insert(block.slot) {
            continue;
        }
        let prefix = format!("{name}#");
        let of_block: Vec<_> = found
            .transactions
            .iter()
            .filter(|recorded| recorded.place.starts_with(&prefix) && !recorded.rewritten)
            .map(|recorded| recorded.update.clone())
            .collect();
        transactions += of_block.len() as u64;
        votes += of_block.iter().filter(|update| update.is_vote).count() as u64;
        let mut records = block_of(&topics, block.slot, 1, of_block);
        records.extend(
            [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized]
                .map(|to| status(&topics, block.slot, 1, to)),
        );
        writer.append(records).await?;
    }
    let (host, sink) = start_sink(&log, url);
    let wanted = slots.len() as u64;
    for _ in 0..600 {
        let stored = client
            .query("SELECT count() FROM slot_status FINAL WHERE status = 'finalized'")
            .fetch_one::<u64>()
            .await;
        if stored.is_ok_and(|stored| stored == wanted) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    host.request_drain();
    sink.await??;
    let stored: u64 = client
        .query("SELECT count() FROM transactions")
        .fetch_one()
        .await?;
    anyhow::ensure!(
        stored == transactions,
        "{stored} of {transactions} transactions are stored"
    );
    Ok((transactions, votes))
}
