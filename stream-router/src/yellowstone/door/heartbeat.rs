//! Pings and pongs as frames.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_schema::proto::{
    Message,
    geyser::{
        SubscribeUpdate, SubscribeUpdatePing, SubscribeUpdatePong, subscribe_update::UpdateOneof,
    },
};

use crate::yellowstone::outbox::Frame;

pub fn ping(now: SystemTime) -> Frame {
    frame(UpdateOneof::Ping(SubscribeUpdatePing {}), now)
}

pub fn pong(id: i32, now: SystemTime) -> Frame {
    frame(UpdateOneof::Pong(SubscribeUpdatePong { id }), now)
}

fn frame(update: UpdateOneof, now: SystemTime) -> Frame {
    let mut message = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let created = message.created_at.get_or_insert_default();
    created.seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    // Below 10⁹.
    created.nanos = since.subsec_nanos() as i32;
    Frame {
        body: message.encode_to_vec().into(),
        ..Frame::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_repeats_the_number() {
        let now = UNIX_EPOCH + Duration::new(3, 4);
        let update = SubscribeUpdate::decode(pong(9, now).body).unwrap();
        let pong = UpdateOneof::Pong(SubscribeUpdatePong { id: 9 });
        assert_eq!(update.update_oneof, Some(pong));
        let created = update.created_at.unwrap();
        assert_eq!((created.seconds, created.nanos), (3, 4));
    }
}
