//! Pure: effects → records of the canonical, the state and the dead-letter topic.

use bytes::Bytes;
use event_log::{DeadLetter, NewRecord};
use event_schema::{
    Blockhash, CanonicalHeader, CanonicalSeal, Gap, Kind, Slot, Topics, partition_of_slot,
    proto::{
        Message,
        geyser::{SlotStatus, SubscribeUpdate, SubscribeUpdateSlot, subscribe_update::UpdateOneof},
    },
};

use crate::{
    assembly::Block,
    commitment::{Change, Standing},
    observation::Content,
};

/// Writes canonical records: contiguous per block, each in the partition of its slot.
#[derive(Debug, Clone)]
pub struct CanonicalWriter {
    topics: Topics,
    partitions: u32,
}

impl CanonicalWriter {
    pub fn new(topics: Topics, partitions: u32) -> Self {
        Self { topics, partitions }
    }

    pub fn block(&self, block: &Block, out: &mut Vec<NewRecord>) {
        let mut index = 0;
        let mut push = |kind, value| {
            out.push(self.record(kind, block.id.slot, block.id.blockhash, index, value));
            index += 1;
        };
        for content in &block.contents {
            push(content.kind(), content.bytes.clone());
        }
        let seal = CanonicalSeal {
            slot: block.id.slot.0,
            blockhash: block.id.blockhash.0.to_vec(),
            parent_slot: block.parent.slot.0,
            parent_blockhash: block.parent.blockhash.0.to_vec(),
            transactions: block.transactions,
            entries: block.entries,
            accounts: block.accounts,
            sources: vec![block.source.to_string()],
            repaired: false,
        };
        push(Kind::Seal, Bytes::from(seal.encode_to_vec()));
    }

    pub fn standing(&self, change: Change) -> Option<NewRecord> {
        let status = match change.standing {
            Standing::Processed => return None,
            Standing::Confirmed => SlotStatus::SlotConfirmed,
            Standing::Finalized => SlotStatus::SlotFinalized,
            Standing::Abandoned => SlotStatus::SlotDead,
        };
        let update = SubscribeUpdate {
            update_oneof: Some(UpdateOneof::Slot(SubscribeUpdateSlot {
                slot: change.block.slot.0,
                status: status as i32,
                ..SubscribeUpdateSlot::default()
            })),
            ..SubscribeUpdate::default()
        };
        Some(self.record(
            Kind::Status,
            change.block.slot,
            change.block.blockhash,
            0,
            update.encode_to_vec().into(),
        ))
    }

    pub fn gap(&self, gap: &Gap) -> NewRecord {
        self.record(
            Kind::Gap,
            Slot(gap.first_slot),
            Blockhash::default(),
            0,
            gap.encode_to_vec().into(),
        )
    }

    /// A record that came too late for its block, kept with the reason.
    pub fn late(&self, slot: Slot, source: &str, content: &Content, reason: &str) -> NewRecord {
        let letter = DeadLetter {
            reason: reason.to_owned(),
            origin: format!("{} of slot {slot} from {source}", content.kind().as_str()),
            header: Bytes::new(),
        };
        NewRecord {
            topic: self.topics.dead_letters.clone(),
            partition: 0,
            key: key_of(slot),
            header: letter.encode(),
            value: content.bytes.clone(),
        }
    }

    fn record(
        &self,
        kind: Kind,
        slot: Slot,
        blockhash: Blockhash,
        index: u32,
        value: Bytes,
    ) -> NewRecord {
        let header = CanonicalHeader {
            kind,
            slot,
            blockhash,
            index,
        };
        NewRecord {
            topic: self.topics.canonical.clone(),
            partition: partition_of_slot(slot, self.partitions),
            key: key_of(slot),
            header: Bytes::copy_from_slice(&header.encode()),
            value,
        }
    }
}

fn key_of(slot: Slot) -> Bytes {
    Bytes::copy_from_slice(&slot.0.to_be_bytes())
}
