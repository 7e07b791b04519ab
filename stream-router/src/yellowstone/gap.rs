//! A gap as subscribers are told of it: a `ping`, which every client of Yellowstone ignores or answers, with the gap beside it.
//! An update of no kind would end clients that take it for damage.

use bytes::Bytes;
use event_schema::{
    Gap,
    proto::{
        Message,
        geyser::{SubscribeUpdate, SubscribeUpdatePing, subscribe_update::UpdateOneof},
    },
};

/// Field of `SubscribeUpdate` that carries a gap, message `Gap`; clients that do not know it skip it.
pub const GAP_FIELD: u32 = 1002;

/// The update, without its time and cursor.
pub fn update(gap: &Gap) -> Bytes {
    let ping = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Ping(SubscribeUpdatePing {})),
        ..SubscribeUpdate::default()
    };
    let mut out = ping.encode_to_vec();
    prost::encoding::message::encode(GAP_FIELD, gap, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_know_the_field_read_it_and_others_see_a_ping() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Extension {
            #[prost(message, optional, tag = "1002")]
            gap: Option<Gap>,
        }
        let gap = Gap {
            first_slot: 5,
            last_slot: 6,
            records: 7,
            reason: 3,
            source: "somebody".into(),
            detail: "for people".into(),
        };
        let update = update(&gap);
        assert_eq!(Extension::decode(update.clone()).unwrap().gap, Some(gap));
        assert_eq!(
            SubscribeUpdate::decode(update).unwrap().update_oneof,
            Some(UpdateOneof::Ping(SubscribeUpdatePing {}))
        );
    }
}
