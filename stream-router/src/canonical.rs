//! Pure: effects → records of the canonical and the dead-letter topic, none longer than a broker takes by default.

use bytes::{Bytes, BytesMut};
use event_log::{DeadLetter, NewRecord};
use event_schema::{
    Blockhash, CHUNK_BYTES_MAX, CanonicalHeader, CanonicalSeal, Gap, Kind, Slot, SourceId, Topics,
    chunks_of, partition_of_slot,
    proto::{
        Message,
        geyser::{SlotStatus, SubscribeUpdate, SubscribeUpdateSlot, subscribe_update::UpdateOneof},
    },
};

use crate::{
    assembly::Block,
    commitment::{Change, Standing},
    slot_tree::BlockId,
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
        let partition = partition_of_slot(block.id.slot, self.partitions);
        let key = key_of(block.id.slot);
        // The headers of a block lie in one piece of memory.
        let records = block.contents.len() + 1;
        let mut headers = BytesMut::with_capacity(records * CanonicalHeader::LENGTH);
        out.reserve(records);
        let mut push = |kind, value| {
            let header = CanonicalHeader {
                kind,
                slot: block.id.slot,
                blockhash: block.id.blockhash,
                index,
            };
            headers.extend_from_slice(&header.encode());
            out.push(NewRecord {
                topic: self.topics.canonical.clone(),
                partition,
                key: key.clone(),
                header: headers.split().freeze(),
                value,
            });
            index += 1;
        };
        for content in &block.contents {
            cut(content.kind(), &content.bytes, &mut push);
        }
        let seal = CanonicalSeal {
            slot: block.id.slot.0,
            blockhash: block.id.blockhash.0.to_vec(),
            parent_slot: block.parent.slot.0,
            parent_blockhash: block.parent.blockhash.0.to_vec(),
            transactions: block.transactions,
            entries: block.entries,
            accounts: block.accounts,
            sources: block.origins(),
            repaired: block.is_repaired(),
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
        let value = update.encode_to_vec();
        Some(self.alone(Kind::Status, change.block, value.into()))
    }

    pub fn gap(&self, gap: &Gap) -> NewRecord {
        let nameless = BlockId::new(Slot(gap.first_slot), Blockhash::default());
        self.alone(Kind::Gap, nameless, gap.encode_to_vec().into())
    }

    /// A record that came too late for its block or cannot be read, kept with the reason.
    pub fn dead_letters(
        &self,
        (slot, source): (Slot, SourceId),
        kind: Kind,
        bytes: &Bytes,
        reason: &str,
    ) -> Vec<NewRecord> {
        let mut values = Vec::new();
        cut(kind, bytes, |_, value| values.push(value));
        let count = values.len();
        let letters = values.into_iter().enumerate().map(|(index, value)| {
            let part = match count {
                1 => String::new(),
                _ => format!(", chunk {index} of {count}"),
            };
            let letter = DeadLetter {
                reason: reason.to_owned(),
                origin: format!("{} of slot {slot} from {source}{part}", kind.as_str()),
                header: Bytes::new(),
            };
            NewRecord {
                topic: self.topics.dead_letters.clone(),
                partition: 0,
                key: key_of(slot),
                header: letter.encode(),
                value,
            }
        });
        letters.collect()
    }

    /// A record that is in no block.
    fn alone(&self, kind: Kind, BlockId { slot, blockhash }: BlockId, value: Bytes) -> NewRecord {
        let header = CanonicalHeader {
            kind,
            slot,
            blockhash,
            index: 0,
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

/// Hands on the value as it is, or in chunks.
fn cut(kind: Kind, value: &Bytes, mut record: impl FnMut(Kind, Bytes)) {
    if value.len() > CHUNK_BYTES_MAX
        && let Ok(chunks) = chunks_of(kind, value)
    {
        for chunk in chunks {
            let mut out = Vec::with_capacity(CHUNK_BYTES_MAX);
            chunk.write(&mut out);
            record(Kind::Chunk, out.into());
        }
        return;
    }
    // What may not be cut is a foreign record of a broker that takes more: it takes this one, too.
    record(kind, value.clone());
}

fn key_of(slot: Slot) -> Bytes {
    Bytes::copy_from_slice(&slot.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::{Reassembler, reassembly::Whole};

    #[test]
    fn a_long_dead_letter_comes_in_chunks_that_join() {
        let value: Bytes = (0..2_000_000).map(|at| (at / 11) as u8).collect();
        let writer = CanonicalWriter::new(Topics::new("t"), 1);
        let slot = Slot(5);
        let letters =
            writer.dead_letters((slot, SourceId::default()), Kind::Account, &value, "late");
        assert_eq!(letters.len(), 3);
        let mut reassembler = Reassembler::new();
        let mut wholes = Vec::new();
        for (position, letter) in (0..).zip(&letters) {
            let header = DeadLetter::decode(&letter.header).unwrap();
            assert!(header.origin.ends_with(&format!(", chunk {position} of 3")));
            let pushed = reassembler.push(Kind::Chunk, slot, position, &letter.value);
            assert_eq!(pushed.broken, None);
            wholes.extend(pushed.whole);
        }
        assert!(
            wholes
                == [Whole {
                    kind: Kind::Account,
                    value,
                    positions: 0..=2
                }]
        );
    }
}
