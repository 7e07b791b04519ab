//! A record of an observed topic, read as far as its identity; the rest is decoded for whoever looks into it. A record that
//! cannot be read keeps its place (source, slot, sequence) when its header says so, so that the hole it leaves is known
//! exactly. A value that came in chunks is read once they are all there; until then each chunk keeps its own place.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{
    Blockhash, Kind, ObservedHeader, ObservedTopic, Pubkey, Seal, Signature, Slot, SourceId,
    WriteVersion,
    chunk::{self, Piece},
    proto::{
        Message,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta,
            SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
        },
    },
};

use crate::{
    dedup::EventId,
    lazy::Lazy,
    scan::{self, Scanned},
    slot_tree::BlockId,
};

/// One partition of an observed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    pub topic: ObservedTopic,
    pub partition: u32,
}

/// Where and when a record stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub lane: Lane,
    pub offset: i64,
    /// Milliseconds since the Unix epoch, as the log says.
    pub timestamp_ms: i64,
}

/// One validator's report.
#[derive(Debug, Clone)]
pub struct Observation {
    pub place: Place,
    pub source: SourceId,
    pub slot: Slot,
    pub sequence: u64,
    pub report: Report,
}

#[derive(Debug, Clone)]
pub enum Report {
    /// Belongs into the block.
    Content(Content),
    /// Part of one of the others.
    Chunk(ChunkRecord),
    Status(SlotReport),
    Seal(Box<Seal>),
    /// State loaded before the validator followed the chain; in no block.
    Startup,
    /// See [`Kind::is_beside_blocks`]: it has its place in the partition, and is told as it is.
    Beside(Kind, Bytes),
    /// Its value cannot be read; it was dead-lettered. `content`: it was part of the block.
    Damaged {
        content: bool,
    },
}

/// What a validator says about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotReport {
    pub status: SlotStatus,
    pub parent: Option<Slot>,
    /// Why the validator gave the slot up.
    pub dead_error: Option<String>,
}

/// A value that is part of a block, with the bytes to forward.
#[derive(Debug, Clone)]
pub struct Content {
    pub id: EventId,
    pub bytes: Bytes,
    pub body: Body,
    /// In how many records it was observed: more than one if it came in chunks.
    pub records: u64,
}

/// One chunk of a value, and the record's own bytes (the same memory).
#[derive(Debug, Clone)]
pub struct ChunkRecord {
    pub piece: Piece,
    pub bytes: Bytes,
}

/// Values, shared with live subscribers.
#[derive(Debug, Clone)]
pub enum Body {
    Account(Lazy<SubscribeUpdateAccountInfo>),
    Transaction(Lazy<SubscribeUpdateTransactionInfo>),
    Entry,
    BlockMeta(Arc<MetaView>),
}

/// Block metadata with its identities read.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaView {
    pub block: BlockId,
    pub parent: BlockId,
    pub transactions: u64,
    pub entries: u64,
    pub meta: SubscribeUpdateBlockMeta,
}

impl Content {
    pub fn kind(&self) -> Kind {
        match self.id {
            EventId::Account(..) => Kind::Account,
            EventId::Transaction(..) => Kind::Transaction,
            EventId::Entry(_) => Kind::Entry,
            EventId::BlockMeta => Kind::BlockMeta,
        }
    }
}

/// Why a record is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    #[error("header: {0}")]
    Header(#[from] event_schema::HeaderError),
    #[error("{kind} record: {problem}")]
    Value { kind: &'static str, problem: String },
}

/// Reads a record. The second value tells why the record is to be dead-lettered; without an observation its place in the
/// stream is not known either.
pub fn read(place: Place, header: &[u8], value: &Bytes) -> (Option<Observation>, Option<Poison>) {
    let header = match ObservedHeader::decode(header) {
        Ok(header) => header,
        Err(error) => return (None, Some(error.into())),
    };
    let (report, poison) = match report(&header, place.lane.topic, value) {
        Ok(report) => (report, None),
        Err(problem) => (
            Report::Damaged {
                content: matches!(
                    header.kind,
                    Kind::Account | Kind::Transaction | Kind::Entry | Kind::BlockMeta | Kind::Chunk
                ),
            },
            Some(Poison::Value {
                kind: header.kind.as_str(),
                problem,
            }),
        ),
    };
    let observation = Observation {
        place,
        source: header.source,
        slot: header.slot,
        sequence: header.sequence.0,
        report,
    };
    (Some(observation), poison)
}

/// What a whole set of chunks, in order, is a report of.
pub fn read_chunks(
    slot: Slot,
    topic: ObservedTopic,
    set: &[ChunkRecord],
) -> Result<Report, String> {
    let value = chunk::join(set.iter().map(|record| &record.piece)).map_err(|e| e.to_string())?;
    let kind = set.first().map_or(Kind::Chunk, |record| record.piece.kind);
    let mut report = update(kind, slot, topic, &value)?;
    if let Report::Content(content) = &mut report {
        content.records = set.len() as u64;
    }
    Ok(report)
}

/// A value of a published block.
pub fn read_canonical(kind: Kind, slot: Slot, value: &Bytes) -> Result<Content, String> {
    let topic = match kind {
        Kind::Account => ObservedTopic::Accounts,
        Kind::Transaction => ObservedTopic::Transactions,
        _ => ObservedTopic::Slots,
    };
    match update(kind, slot, topic, value)? {
        Report::Content(content) => Ok(content),
        _ => Err(format!("a {} is not part of a block", kind.as_str())),
    }
}

fn report(header: &ObservedHeader, topic: ObservedTopic, value: &Bytes) -> Result<Report, String> {
    match header.kind {
        Kind::Seal => {
            let seal = Seal::decode(value.clone()).map_err(|error| error.to_string())?;
            same_slot(header.slot, seal.slot)?;
            Ok(Report::Seal(Box::new(seal)))
        }
        Kind::Chunk => {
            let piece = Piece::read(value).map_err(|error| error.to_string())?;
            belongs(piece.kind, topic)?;
            let last = piece
                .first_position(header.sequence.0)
                .and_then(|first| first.checked_add(u64::from(piece.count)));
            if last.is_none() {
                return Err(format!(
                    "chunk {} of {} cannot have sequence {}",
                    piece.index, piece.count, header.sequence
                ));
            }
            let bytes = value.clone();
            Ok(Report::Chunk(ChunkRecord { piece, bytes }))
        }
        kind if kind.is_beside_blocks() => {
            belongs(kind, topic).map(|()| Report::Beside(kind, value.clone()))
        }
        kind => update(kind, header.slot, topic, value),
    }
}

fn belongs(kind: Kind, topic: ObservedTopic) -> Result<(), String> {
    let belongs = match kind {
        Kind::Account => topic == ObservedTopic::Accounts,
        Kind::Transaction | Kind::Deshred => topic == ObservedTopic::Transactions,
        Kind::Slot | Kind::Entry | Kind::BlockMeta | Kind::ContactInfo => {
            topic == ObservedTopic::Slots
        }
        Kind::Seal | Kind::Gap | Kind::Status | Kind::Chunk => false,
    };
    if belongs {
        return Ok(());
    }
    Err(format!("does not belong into the {topic:?} topic"))
}

/// What can be told without decoding. `None` says nothing about the value.
fn scanned(kind: Kind, slot: Slot, value: &Bytes) -> Option<Report> {
    let scanned = match kind {
        Kind::Account => scan::account(slot, value)?,
        Kind::Transaction => scan::transaction(slot, value)?,
        Kind::Entry => scan::entry(slot, value)?,
        _ => return None,
    };
    let id = match scanned {
        Scanned::Startup => return Some(Report::Startup),
        Scanned::Event(id) => id,
    };
    let body = match id {
        EventId::Account(..) => Body::Account(Lazy::scanned(value.clone())),
        EventId::Transaction(..) => Body::Transaction(Lazy::scanned(value.clone())),
        EventId::Entry(_) | EventId::BlockMeta => Body::Entry,
    };
    Some(Report::Content(Content {
        id,
        bytes: value.clone(),
        body,
        records: 1,
    }))
}

fn update(kind: Kind, slot: Slot, topic: ObservedTopic, value: &Bytes) -> Result<Report, String> {
    belongs(kind, topic)?;
    if let Some(report) = scanned(kind, slot, value) {
        return Ok(report);
    }
    let update = SubscribeUpdate::decode(value.clone()).map_err(|error| error.to_string())?;
    let (id, body) = match (kind, update.update_oneof) {
        (Kind::Account, Some(UpdateOneof::Account(update))) => {
            same_slot(slot, update.slot)?;
            if update.is_startup {
                return Ok(Report::Startup);
            }
            let account = update.account.ok_or("no account in the update")?;
            let pubkey = Pubkey::try_from(account.pubkey.as_slice()).map_err(|e| e.to_string())?;
            Pubkey::try_from(account.owner.as_slice()).map_err(|e| format!("owner: {e}"))?;
            (
                EventId::Account(WriteVersion(account.write_version), pubkey),
                Body::Account(account.into()),
            )
        }
        (Kind::Transaction, Some(UpdateOneof::Transaction(update))) => {
            same_slot(slot, update.slot)?;
            let transaction = update.transaction.ok_or("no transaction in the update")?;
            let signature =
                Signature::try_from(transaction.signature.as_slice()).map_err(|e| e.to_string())?;
            (
                EventId::Transaction(transaction.index, signature),
                Body::Transaction(transaction.into()),
            )
        }
        (Kind::Entry, Some(UpdateOneof::Entry(entry))) => {
            same_slot(slot, entry.slot)?;
            (EventId::Entry(entry.index), Body::Entry)
        }
        (Kind::BlockMeta, Some(UpdateOneof::BlockMeta(meta))) => {
            same_slot(slot, meta.slot)?;
            let hash = |what: &str, text: &str| {
                text.parse::<Blockhash>()
                    .map_err(|error| format!("{what}: {error}"))
            };
            let view = MetaView {
                block: BlockId::new(slot, hash("blockhash", &meta.blockhash)?),
                parent: BlockId::new(
                    Slot(meta.parent_slot),
                    hash("parent blockhash", &meta.parent_blockhash)?,
                ),
                transactions: meta.executed_transaction_count,
                entries: meta.entries_count,
                meta,
            };
            (EventId::BlockMeta, Body::BlockMeta(Arc::new(view)))
        }
        (Kind::Slot, Some(UpdateOneof::Slot(update))) => {
            same_slot(slot, update.slot)?;
            return Ok(Report::Status(SlotReport {
                status: update.status(),
                parent: update.parent.map(Slot),
                dead_error: update.dead_error,
            }));
        }
        _ => return Err("the value is not what the header says".to_owned()),
    };
    Ok(Report::Content(Content {
        id,
        bytes: value.clone(),
        body,
        records: 1,
    }))
}

fn same_slot(header: Slot, value: u64) -> Result<(), String> {
    if header.0 == value {
        return Ok(());
    }
    Err(format!(
        "the header says slot {header}, the value says {value}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::Sequence;

    fn place(topic: ObservedTopic) -> Place {
        Place {
            lane: Lane {
                topic,
                partition: 0,
            },
            offset: 0,
            timestamp_ms: 0,
        }
    }

    fn header(kind: Kind) -> [u8; ObservedHeader::LENGTH] {
        ObservedHeader {
            kind,
            slot: Slot(7),
            source: SourceId::default(),
            sequence: Sequence(3),
        }
        .encode()
    }

    #[test]
    fn a_damaged_value_keeps_its_place() {
        let value = Bytes::from_static(b"\xff\xff\xff");
        let (observation, poison) = read(
            place(ObservedTopic::Accounts),
            &header(Kind::Account),
            &value,
        );
        let observation = observation.expect("the header is fine");
        assert_eq!((observation.slot, observation.sequence), (Slot(7), 3));
        assert!(matches!(
            observation.report,
            Report::Damaged { content: true }
        ));
        assert!(poison.unwrap().to_string().starts_with("account record:"));
    }

    #[test]
    fn a_record_in_the_wrong_topic_is_poison() {
        let (_, poison) = read(
            place(ObservedTopic::Slots),
            &header(Kind::Account),
            &Bytes::new(),
        );
        assert!(poison.unwrap().to_string().contains("Slots topic"));
    }

    #[test]
    fn what_is_in_no_block_keeps_its_place_and_is_not_looked_into() {
        for (kind, home) in [
            (Kind::Deshred, ObservedTopic::Transactions),
            (Kind::ContactInfo, ObservedTopic::Slots),
        ] {
            for topic in ObservedTopic::ALL {
                let value = Bytes::from_static(b"\xff");
                let (observation, poison) = read(place(topic), &header(kind), &value);
                let observation = observation.expect("the header is fine");
                assert_eq!(observation.sequence, 3);
                let beside = matches!(observation.report, Report::Beside(..));
                let harmless = matches!(observation.report, Report::Damaged { content: false });
                assert!(if topic == home { beside } else { harmless });
                assert_eq!(poison.is_none(), topic == home);
            }
        }
    }

    #[test]
    fn without_a_header_nothing_is_known() {
        let (observation, poison) = read(place(ObservedTopic::Slots), b"?", &Bytes::new());
        assert!(observation.is_none());
        assert_eq!(
            poison.unwrap().to_string(),
            "header: header has 1 bytes, expected 62"
        );
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(kind in 1u8..=11, value: Vec<u8>) {
            let kind = Kind::try_from(kind).unwrap();
            for topic in ObservedTopic::ALL {
                read(place(topic), &header(kind), &Bytes::from(value.clone()));
            }
        }
    }
}
