//! How `Subscribe` reads and writes: a frame's three pieces become one message without an intermediate one, and a
//! request is read together with the fields that Yellowstone's own protocol does not have.
//!
//! ```text
//! SubscribeRequest { …; optional bytes cursor = 1001; repeated AccountsChange accounts_change = 1002; }
//! AccountsChange   { string filter = 1; repeated bytes add = 2; repeated bytes remove = 3; }
//! SubscribeUpdate  { …; bytes cursor = 1001; }
//! ```
//!
//! Others ignore these numbers, as protobuf wants it.

use bytes::{Buf, BufMut, Bytes};
use event_schema::proto::{Message, geyser::SubscribeRequest};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::yellowstone::outbox::Frame;

/// One message of a subscriber.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    pub request: SubscribeRequest,
    /// Resume after the update that carried this; empty: from now, with cursors.
    pub cursor: Option<Bytes>,
    pub accounts_change: Vec<AccountsChange>,
}

/// Keys to add to and remove from one `accounts` filter, without sending the others again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AccountsChange {
    #[prost(string, tag = "1")]
    pub filter: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub add: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub remove: Vec<Bytes>,
}

/// The fields of a request that are ours; all others are skipped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    /// An empty one is not an absent one.
    #[prost(bytes = "bytes", optional, tag = "1001")]
    pub cursor: Option<Bytes>,
    #[prost(message, repeated, tag = "1002")]
    pub accounts_change: Vec<AccountsChange>,
}

impl Call {
    pub fn decode(message: Bytes) -> Result<Self, prost::DecodeError> {
        let request = SubscribeRequest::decode(message.clone())?;
        let extension = Extension::decode(message)?;
        // A copy, so that a remembered cursor does not keep the whole request in memory.
        let cursor = extension
            .cursor
            .map(|cursor| Bytes::copy_from_slice(&cursor));
        Ok(Self {
            request,
            cursor,
            accounts_change: extension.accounts_change,
        })
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SubscribeCodec;

impl Codec for SubscribeCodec {
    type Encode = Frame;
    type Decode = Call;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SubscribeCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, message: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.reserve(frame.len());
        message.put_slice(&frame.head);
        message.put_slice(&frame.body);
        message.put_slice(&frame.tail);
        Ok(())
    }
}

impl Decoder for SubscribeCodec {
    type Item = Call;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Call>, Status> {
        let length = message.remaining();
        Call::decode(message.copy_to_bytes(length))
            .map(Some)
            .map_err(|error| {
                Status::invalid_argument(format!("not a geyser.SubscribeRequest: {error}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_fields_travel_beside_theirs() {
        let request = SubscribeRequest {
            from_slot: Some(7),
            ..SubscribeRequest::default()
        };
        let change = AccountsChange {
            filter: "mine".into(),
            add: vec![Bytes::from_static(&[1; 32])],
            remove: vec![Bytes::from_static(&[2; 32])],
        };
        let mut message = request.encode_to_vec();
        Extension {
            cursor: Some(Bytes::from_static(b"here")),
            accounts_change: vec![change.clone()],
        }
        .encode(&mut message)
        .unwrap();
        let call = Call::decode(message.clone().into()).unwrap();
        assert_eq!(call.request, request);
        assert_eq!(call.cursor.as_deref(), Some(&b"here"[..]));
        assert_eq!(call.accounts_change, [change]);
        // A server that does not know them reads the same request.
        assert_eq!(SubscribeRequest::decode(&message[..]).unwrap(), request);
    }

    #[test]
    fn a_plain_request_has_none_of_ours() {
        let call = Call::decode(SubscribeRequest::default().encode_to_vec().into()).unwrap();
        assert_eq!(call, Call::default());
    }

    proptest! {
        #[test]
        fn random_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(call) = Call::decode(bytes.into()) {
                // What was understood can be said again.
                let again = SubscribeRequest::decode(&call.request.encode_to_vec()[..]).unwrap();
                prop_assert_eq!(again, call.request);
            }
        }

        /// Damage deep within a valid request, where random bytes alone do not come.
        #[test]
        fn damaged_requests_are_a_request_or_an_error(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut request = SubscribeRequest { from_slot: Some(u64::MAX), ..Default::default() };
            let filter = request.accounts.entry("mine".into()).or_default();
            filter.account = vec![bs58::encode([7; 32]).into_string(); 3];
            request.transactions.entry("t".into()).or_default().vote = Some(false);
            let mut message = request.encode_to_vec();
            Extension { cursor: Some(Bytes::from_static(b"here")), accounts_change: vec![AccountsChange::default()] }
                .encode(&mut message)
                .unwrap();
            let at = at.index(message.len());
            message[at] = byte;
            message.truncate(cut.index(message.len() + 1));
            let _ = Call::decode(message.into());
        }
    }
}
