//! Records nobody could make sense of, kept whole with the reason.
//!
//! A dead letter carries the original key and value unchanged. Its header envelope holds the reason, where the record
//! came from and the original header; on Kafka these become the headers `reason`, `origin` and `h`, readable with any
//! Kafka tool. The in-memory log keeps the envelope as it is; [`DeadLetter::decode`] reads it from either.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{NewRecord, Position, Record};

/// First byte of the envelope. No Heliograph schema version uses it.
const MARK: u8 = 0xFF;

/// What the header of a dead letter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why the record was put aside.
    pub reason: String,
    /// Where it was read, `topic/partition@offset`.
    pub origin: String,
    /// The record's own header.
    pub header: Bytes,
}

impl DeadLetter {
    /// Packs the three parts into the one header of a [`NewRecord`].
    pub fn encode(&self) -> Bytes {
        let mut out =
            BytesMut::with_capacity(9 + self.reason.len() + self.origin.len() + self.header.len());
        out.put_u8(MARK);
        for part in [self.reason.as_bytes(), self.origin.as_bytes()] {
            out.put_u32(part.len() as u32);
            out.put_slice(part);
        }
        out.put_slice(&self.header);
        out.freeze()
    }

    /// `None` when the header is not that of a dead letter.
    pub fn decode(header: &Bytes) -> Option<Self> {
        if header.first() != Some(&MARK) {
            return None;
        }
        let mut at = 1;
        let mut part = || {
            let length = u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?) as usize;
            let text = header.get(at + 4..(at + 4).checked_add(length)?)?;
            at += 4 + length;
            String::from_utf8(text.to_vec()).ok()
        };
        let (reason, origin) = (part()?, part()?);
        Some(Self {
            reason,
            origin,
            header: header.slice(at..),
        })
    }
}

/// The record's dead letter, for partition 0 of the dead-letter topic that belongs to the record's topic.
pub fn dead_letter(record: &Record, reason: &str) -> NewRecord {
    NewRecord {
        topic: dead_letter_topic(&record.position).into(),
        partition: 0,
        key: record.key.clone(),
        header: DeadLetter {
            reason: reason.to_owned(),
            origin: record.position.to_string(),
            header: record.header.clone(),
        }
        .encode(),
        value: record.value.clone(),
    }
}

/// `PREFIX.dead-letters` for a topic `PREFIX.observed.…`, `PREFIX.canonical` or `PREFIX.router-state`.
pub fn dead_letter_topic(position: &Position) -> String {
    let topic: &str = &position.topic;
    let prefix = [".observed.", ".canonical", ".router-state", ".dead-letters"]
        .iter()
        .find_map(|part| topic.rfind(part).map(|at| &topic[..at]))
        .unwrap_or(topic);
    format!("{prefix}.dead-letters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(topic: &str) -> Record {
        Record {
            position: Position {
                topic: topic.into(),
                partition: 3,
                offset: 17,
            },
            key: Bytes::from_static(b"key"),
            header: Bytes::from_static(b"\x01header"),
            value: Bytes::from_static(b"\x00garbage"),
            timestamp_ms: 1,
        }
    }

    #[test]
    fn keeps_the_original_and_names_the_reason() {
        let letter = dead_letter(&record("my.prefix.observed.accounts"), "protobuf: bad tag");
        assert_eq!(&*letter.topic, "my.prefix.dead-letters");
        assert_eq!(letter.value, Bytes::from_static(b"\x00garbage"));
        assert_eq!(letter.key, Bytes::from_static(b"key"));
        let envelope = DeadLetter::decode(&letter.header).unwrap();
        assert_eq!(envelope.reason, "protobuf: bad tag");
        assert_eq!(envelope.origin, "my.prefix.observed.accounts/3@17");
        assert_eq!(envelope.header, Bytes::from_static(b"\x01header"));
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = DeadLetter::decode(&Bytes::from(bytes.clone()));
            let mut marked = vec![MARK];
            marked.extend(bytes);
            let _ = DeadLetter::decode(&Bytes::from(marked));
        }

        #[test]
        fn envelope_round_trips(reason in ".*", origin in ".*", header in proptest::collection::vec(any::<u8>(), 0..64)) {
            let letter = DeadLetter { reason, origin, header: header.into() };
            prop_assert_eq!(DeadLetter::decode(&letter.encode()), Some(letter));
        }
    }
}
