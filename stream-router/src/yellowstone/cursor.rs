//! Where a subscriber is in the canonical stream: what it sends back to go on without a gap and without a repetition.
//!
//! Every telling of the router (a block published, confirmed, finalized) has a number that grows across its lives. A cursor
//! is the number, and how many items of that telling are behind the subscriber. To clients it is opaque.

use bytes::{BufMut, Bytes, BytesMut};

use crate::subscription::Level;

const VERSION: u8 = 1;
const LENGTH: usize = 14;

/// Field of `SubscribeUpdate` (and of `SubscribeRequest`) that carries a cursor, `bytes`; clients that do not know it skip it.
pub const CURSOR_FIELD: u32 = 1001;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub level: Level,
    pub number: u64,
    /// The first item of that telling which the subscriber does not have.
    pub next: u32,
}

/// Why a cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    #[error("the cursor has {0} bytes, expected 14; send back the bytes of an update unchanged")]
    Length(usize),
    #[error("the cursor's version {0} is not known to this release")]
    Version(u8),
    #[error("the cursor's commitment {0} is none")]
    Level(u8),
}

impl Cursor {
    /// Begins after the telling.
    pub fn after(level: Level, number: u64) -> Self {
        Self {
            level,
            number,
            next: u32::MAX,
        }
    }

    pub fn encode(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        out[0] = VERSION;
        out[1] = self.level as u8;
        out[2..10].copy_from_slice(&self.number.to_le_bytes());
        out[10..14].copy_from_slice(&self.next.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CursorError> {
        let Ok(bytes) = <&[u8; LENGTH]>::try_from(bytes) else {
            return Err(CursorError::Length(bytes.len()));
        };
        let [version, level, rest @ ..] = bytes;
        if *version != VERSION {
            return Err(CursorError::Version(*version));
        }
        let level = Level::ALL
            .into_iter()
            .find(|known| *known as u8 == *level)
            .ok_or(CursorError::Level(*level))?;
        let (mut number, mut next) = ([0; 8], [0; 4]);
        number.copy_from_slice(&rest[..8]);
        next.copy_from_slice(&rest[8..]);
        Ok(Self {
            level,
            number: u64::from_le_bytes(number),
            next: u32::from_le_bytes(next),
        })
    }

    /// The cursor as a field of the update.
    pub fn field(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LENGTH + 3);
        prost::encoding::encode_key(
            CURSOR_FIELD,
            prost::encoding::WireType::LengthDelimited,
            &mut out,
        );
        prost::encoding::encode_varint(LENGTH as u64, &mut out);
        out.put_slice(&self.encode());
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_survive(level in 0usize..3, number: u64, next: u32) {
            let cursor = Cursor { level: Level::ALL[level], number, next };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Cursor::decode(&bytes);
        }
    }

    #[test]
    fn clients_that_know_the_field_read_it_and_others_skip_it() {
        use event_schema::proto::{Message, geyser::SubscribeUpdate};
        #[derive(Clone, PartialEq, prost::Message)]
        struct Extension {
            #[prost(bytes = "vec", optional, tag = "1001")]
            cursor: Option<Vec<u8>>,
        }
        let cursor = Cursor::after(Level::Confirmed, 7);
        let field = cursor.field();
        assert_eq!(
            Extension::decode(field.clone()).unwrap().cursor.as_deref(),
            Some(cursor.encode().as_slice())
        );
        assert_eq!(
            SubscribeUpdate::decode(field).unwrap(),
            SubscribeUpdate::default()
        );
    }

    #[test]
    fn refusals_name_the_problem() {
        assert_eq!(Cursor::decode(b"x"), Err(CursorError::Length(1)));
        let mut bytes = Cursor::after(Level::Processed, 1).encode();
        bytes[1] = 9;
        assert_eq!(Cursor::decode(&bytes), Err(CursorError::Level(9)));
        bytes[0] = 2;
        assert_eq!(Cursor::decode(&bytes), Err(CursorError::Version(2)));
    }
}
