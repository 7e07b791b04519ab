//! A client that sends bytes as they are: what Yellowstone's client cannot say.

use bytes::{Buf, BufMut, Bytes};
use event_schema::proto::{
    Message,
    geyser::{SubscribeRequest, SubscribeUpdate},
};
use futures::Stream;
use stream_router::yellowstone::door::codec::{AccountsChange, Extension};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use crate::rig::Rig;

#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = SubscribeUpdate;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = SubscribeUpdate;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SubscribeUpdate>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        SubscribeUpdate::decode(bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

pub async fn channel(rig: &Rig) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", rig.address)).expect("address");
    endpoint.connect().await.expect("connection")
}

pub async fn stream(
    channel: Channel,
    path: &'static str,
    compression: Option<CompressionEncoding>,
    requests: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<SubscribeUpdate>, Status> {
    let mut grpc = Grpc::new(channel);
    if let Some(compression) = compression {
        grpc = grpc.send_compressed(compression);
    }
    grpc.ready().await.expect("ready");
    let path = PathAndQuery::from_static(path);
    let response = grpc
        .streaming(Request::new(requests), path, RawCodec)
        .await?;
    Ok(response.into_inner())
}

pub async fn subscribe(
    rig: &Rig,
    requests: impl Stream<Item = Bytes> + Send + 'static,
) -> Streaming<SubscribeUpdate> {
    let stream = stream(
        channel(rig).await,
        "/geyser.Geyser/Subscribe",
        None,
        requests,
    )
    .await;
    stream.expect("headers")
}

/// A request with the fields that only we have.
pub fn request(
    request: &SubscribeRequest,
    cursor: Option<&'static [u8]>,
    accounts_change: Vec<AccountsChange>,
) -> Bytes {
    let mut bytes = request.encode_to_vec();
    let extension = Extension {
        cursor: cursor.map(Bytes::from_static),
        accounts_change,
    };
    extension.encode(&mut bytes).expect("a vector grows");
    bytes.into()
}
