//! What the stream says of a slot whose rows are wrong, and which batches took it in: where to look for the cause.

use std::{collections::BTreeSet, time::Duration};

use event_log::{EventLog, ReaderSpec, Start};
use event_schema::{
    CanonicalHeader, Kind, Slot, Topics, partition_of_slot,
    proto::{Message as _, geyser::SubscribeUpdate, geyser::subscribe_update::UpdateOneof},
};

use super::audit::Door;
use crate::support::PARTITIONS;

/// Batches printed at most.
const BATCHES: usize = 400;

/// Prints to standard error, for people.
pub async fn tell(
    log: &dyn EventLog,
    topics: &Topics,
    door: &Door,
    slots: &BTreeSet<u64>,
) -> anyhow::Result<()> {
    for slot in slots {
        let partition = partition_of_slot(Slot(*slot), PARTITIONS);
        eprintln!("slot {slot}, partition {partition}, as the stream has it:");
        let spec = ReaderSpec {
            partitions: vec![(topics.canonical.clone(), partition, Start::Earliest)],
            read_committed: true,
        };
        let mut reader = log.reader(spec).await?;
        loop {
            let records = reader.poll(1_000, Duration::from_millis(500)).await?;
            if records.is_empty() && reader.lag().await? == 0 {
                break;
            }
            for record in records {
                let Ok(header) = CanonicalHeader::decode(&record.header) else {
                    continue;
                };
                let is_told = matches!(header.kind, Kind::Status | Kind::Seal | Kind::Gap)
                    || header.index == 0;
                if header.slot.0 == *slot && is_told {
                    eprintln!(
                        "  offset {}: {:?} {} of {}{}",
                        record.position.offset,
                        header.kind,
                        header.index,
                        header.blockhash,
                        status(header.kind, &record.value)
                    );
                }
            }
        }
        let sql = format!(
            "SELECT batch_id, phase, rows, substring(owner, 1, 8), JSONExtractRaw(partitions, '{partition}'), recorded_at FROM sink_batches ORDER BY recorded_at, batch_id LIMIT {BATCHES}"
        );
        eprintln!("  its partition's batches:\n{}", door.ask_text(&sql).await?);
    }
    Ok(())
}

fn status(kind: Kind, value: &[u8]) -> String {
    if kind != Kind::Status {
        return String::new();
    }
    match SubscribeUpdate::decode(value).map(|update| update.update_oneof) {
        Ok(Some(UpdateOneof::Slot(slot))) => format!(", {:?}", slot.status()),
        _ => ", damaged".into(),
    }
}
