//! A Yellowstone subscriber that sees the bytes: so it reads the cursor, which the published messages do not have, and asks by
//! fields that they do not have.
//!
//! `SubscribeUpdate { …; bytes cursor = 1001; }`,
//! `SubscribeRequest { …; bytes cursor = 1001; repeated AccountsChange accounts_change = 1002; }`. To protobuf, one message
//! after the other is their sum.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::channel::mpsc;
use prost::Message;
use yellowstone_grpc_proto::{
    geyser::{
        CommitmentLevel, SubscribeRequest, SubscribeRequestFilterAccounts, SubscribeRequestPing,
        SubscribeUpdate, SubscribeUpdateAccount, subscribe_update::UpdateOneof,
    },
    tonic::{
        Request, Status, Streaming,
        client::Grpc,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
        codegen::http::uri::PathAndQuery,
        transport::{Channel, Endpoint},
    },
};

use super::stamp::Stamp;

const MESSAGE_BYTES_MAX: usize = 256 << 20;
const LIMIT: Duration = Duration::from_secs(20);
/// Number of the ping that follows the first request.
const JOINED: i32 = 1;

/// What a request says beyond the published fields.
#[derive(Clone, PartialEq, Message)]
pub struct RequestExtension {
    /// Resume behind the update that carried it; empty: begin now, and send cursors.
    #[prost(bytes = "bytes", optional, tag = "1001")]
    pub cursor: Option<Bytes>,
    #[prost(message, repeated, tag = "1002")]
    pub accounts_change: Vec<AccountsChange>,
}

/// Addresses that come and go in one filter.
#[derive(Clone, PartialEq, Message)]
pub struct AccountsChange {
    #[prost(string, tag = "1")]
    pub filter: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub add: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub remove: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct UpdateExtension {
    #[prost(bytes = "bytes", optional, tag = "1001")]
    cursor: Option<Bytes>,
}

/// One update.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub update: SubscribeUpdate,
    pub cursor: Option<Bytes>,
}

impl Update {
    pub fn account(&self) -> Option<&SubscribeUpdateAccount> {
        match &self.update.update_oneof {
            Some(UpdateOneof::Account(account)) => Some(account),
            _ => None,
        }
    }

    pub fn stamp(&self) -> Option<Stamp> {
        stamp_of(&self.update)
    }

    pub fn pong(&self) -> Option<i32> {
        match &self.update.update_oneof {
            Some(UpdateOneof::Pong(pong)) => Some(pong.id),
            _ => None,
        }
    }
}

/// Of an account update.
pub fn stamp_of(update: &SubscribeUpdate) -> Option<Stamp> {
    match &update.update_oneof {
        Some(UpdateOneof::Account(account)) => Stamp::read(&account.account.as_ref()?.data),
        _ => None,
    }
}

/// A stream of updates, and the way back.
pub struct Subscriber {
    requests: mpsc::UnboundedSender<Bytes>,
    updates: Streaming<Bytes>,
}

/// One connection, for one subscriber or several.
pub async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(LIMIT);
    endpoint
        .connect()
        .await
        .context("the router's gRPC door does not answer")
}

impl Subscriber {
    /// A filter of accounts that nobody has, in requests of those who call [`Subscriber::joined`].
    pub const JOINED: &str = "joined";

    pub async fn subscribe(
        channel: &Channel,
        request: &SubscribeRequest,
        extension: &RequestExtension,
    ) -> Result<Self, Status> {
        let (requests, waiting) = mpsc::unbounded();
        // Nobody else has the other end.
        let _ = requests.unbounded_send(encoded(request, extension));
        let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/geyser.Geyser/Subscribe");
        let response = grpc.streaming(Request::new(waiting), path, Raw).await?;
        Ok(Self {
            requests,
            updates: response.into_inner(),
        })
    }

    /// Of everything that an ended stream would have told, the next update tells.
    pub fn send(&self, request: &SubscribeRequest, extension: &RequestExtension) {
        let _ = self.requests.unbounded_send(encoded(request, extension));
    }

    pub fn ping(&self, id: i32) {
        let request = SubscribeRequest {
            ping: Some(SubscribeRequestPing { id }),
            ..SubscribeRequest::default()
        };
        self.send(&request, &RequestExtension::default());
    }

    /// Returns when the subscription is in force: what is reported from now on is told. A pong alone says that the request was
    /// read; one behind a change of [`Subscriber::JOINED`] says that the router's engine has taken both.
    pub async fn joined(mut self) -> anyhow::Result<Self> {
        let change = AccountsChange {
            filter: Self::JOINED.to_owned(),
            add: vec![vec![2; 32]],
            remove: Vec::new(),
        };
        let extension = RequestExtension {
            accounts_change: vec![change],
            ..RequestExtension::default()
        };
        let ping = SubscribeRequest {
            ping: Some(SubscribeRequestPing { id: JOINED }),
            ..SubscribeRequest::default()
        };
        self.send(&ping, &extension);
        loop {
            let next = tokio::time::timeout(LIMIT, self.next()).await;
            match next.context("no pong")?? {
                None => bail!("the router ended the stream"),
                Some(update) if update.pong() == Some(JOINED) => return Ok(self),
                Some(_) => {}
            }
        }
    }

    /// `None` when the server has ended the stream without an error.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        let Some(bytes) = self.updates.message().await? else {
            return Ok(None);
        };
        let damaged = |error: prost::DecodeError| Status::data_loss(error.to_string());
        let update = SubscribeUpdate::decode(bytes.clone()).map_err(damaged)?;
        let extension = UpdateExtension::decode(bytes).map_err(damaged)?;
        Ok(Some(Update {
            update,
            cursor: extension.cursor.filter(|cursor| !cursor.is_empty()),
        }))
    }
}

/// All account updates at *processed*.
pub fn all_accounts() -> SubscribeRequest {
    accounts(Vec::new(), CommitmentLevel::Processed)
}

/// The same, for one who calls [`Subscriber::joined`].
pub fn all_accounts_to_join() -> SubscribeRequest {
    let nobody = SubscribeRequestFilterAccounts {
        account: vec![bs58::encode([1; 32]).into_string()],
        ..SubscribeRequestFilterAccounts::default()
    };
    let mut request = all_accounts();
    request
        .accounts
        .insert(Subscriber::JOINED.to_owned(), nobody);
    request
}

/// These accounts, or all, in one filter named `accounts`.
pub fn accounts(addresses: Vec<String>, level: CommitmentLevel) -> SubscribeRequest {
    let filter = SubscribeRequestFilterAccounts {
        account: addresses,
        ..SubscribeRequestFilterAccounts::default()
    };
    SubscribeRequest {
        accounts: HashMap::from([("accounts".to_owned(), filter)]),
        commitment: Some(level as i32),
        ..SubscribeRequest::default()
    }
}

fn encoded(request: &SubscribeRequest, extension: &RequestExtension) -> Bytes {
    let mut bytes = BytesMut::with_capacity(request.encoded_len() + extension.encoded_len());
    bytes.put_slice(&request.encode_to_vec());
    bytes.put_slice(&extension.encode_to_vec());
    bytes.freeze()
}

/// Hands on messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_messages_and_their_extension_are_one() {
        let extension = RequestExtension {
            cursor: Some(Bytes::from_static(b"here")),
            accounts_change: vec![AccountsChange {
                filter: "accounts".into(),
                add: vec![vec![1; 32]],
                remove: Vec::new(),
            }],
        };
        let bytes = encoded(&all_accounts(), &extension);
        let old = SubscribeRequest::decode(bytes.clone()).unwrap();
        assert_eq!(old, all_accounts());
        assert_eq!(RequestExtension::decode(bytes).unwrap(), extension);
    }
}
