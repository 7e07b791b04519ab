//! Pure: what follows every event: when it was sent, and where it stands.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::{subscription::Level, yellowstone::cursor::Cursor};

/// `SubscribeUpdate.created_at`, a `google.protobuf.Timestamp`.
const CREATED_AT: u32 = 11;

/// A moment, encoded once for all who are told in it.
#[derive(Debug, Clone)]
pub struct Stamp(Bytes);

impl Stamp {
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut time = BytesMut::with_capacity(16);
        encode_key(1, WireType::Varint, &mut time);
        encode_varint(since.as_secs(), &mut time);
        if since.subsec_nanos() > 0 {
            encode_key(2, WireType::Varint, &mut time);
            encode_varint(u64::from(since.subsec_nanos()), &mut time);
        }
        let mut out = BytesMut::with_capacity(20);
        encode_key(CREATED_AT, WireType::LengthDelimited, &mut out);
        encode_varint(time.len() as u64, &mut out);
        out.put(time);
        Self(out.freeze())
    }

    /// For subscribers without cursors.
    pub fn tail(&self) -> Bytes {
        self.0.clone()
    }

    /// For an update after which a subscriber goes on at item `next` of the telling.
    pub fn tail_with(&self, level: Level, number: u64, next: u32) -> Bytes {
        let cursor = Cursor {
            level,
            number,
            next,
        };
        let field = cursor.field();
        let mut out = BytesMut::with_capacity(self.0.len() + field.len());
        out.put_slice(&self.0);
        out.put_slice(&field);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::proto::{Message, geyser::SubscribeUpdate};

    #[test]
    fn clients_read_the_time() {
        let update = SubscribeUpdate::decode(Stamp::now().tail()).unwrap();
        let created_at = update.created_at.unwrap();
        assert!(created_at.seconds > 1_700_000_000);
        let with_cursor = Stamp::now().tail_with(Level::Processed, 1, 2);
        assert!(
            SubscribeUpdate::decode(with_cursor)
                .unwrap()
                .created_at
                .is_some()
        );
    }
}
