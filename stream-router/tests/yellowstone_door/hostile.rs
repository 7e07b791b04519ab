//! What nobody should send.

use std::time::{Duration, Instant};

use bytes::Bytes;
use event_schema::proto::geyser::{SubscribeRequest, SubscribeRequestFilterAccounts};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use stream_router::yellowstone::outbox::Pushed;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, codec::CompressionEncoding};
use yellowstone_grpc_client::GeyserGrpcClientError;

use crate::{
    raw,
    rig::{LONG, Rig, accounts, end, frame, slot, slots},
};

/// How every HTTP/2 client begins, with empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A client that came before still gets its updates, and new ones are welcome.
async fn all_is_well(rig: &mut Rig) {
    let mut client = rig.client().await;
    assert_eq!(client.ping(9).await.expect("pong").count, 9);
    let mut stream = client.subscribe_once(slots()).await.expect("stream");
    let subscriber = rig.connected().await;
    assert_eq!(subscriber.outbox.push(frame(1, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 1);
}

#[tokio::test]
async fn malformed_filters_are_refused_with_the_reason() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    let filter = SubscribeRequestFilterAccounts {
        account: vec!["not a key".into()],
        ..SubscribeRequestFilterAccounts::default()
    };
    let bad_account = SubscribeRequest {
        accounts: [("broken".to_owned(), filter)].into(),
        ..SubscribeRequest::default()
    };
    let bad_commitment = SubscribeRequest {
        commitment: Some(77),
        ..slots()
    };
    for (request, word) in [(bad_account, "broken"), (bad_commitment, "commitment")] {
        let mut stream = client.subscribe_once(request).await.unwrap();
        let status = end(&mut stream).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(word), "{}", status.message());
        rig.disconnected().await;
    }
    assert_eq!(
        rig.metric("router_grpc_refused_total", &[("reason", "filters")]),
        2.0
    );
    assert_eq!(
        rig.metric("router_grpc_streams_ended_total", &[("reason", "refused")]),
        2.0
    );
    all_is_well(&mut rig).await;
}

#[tokio::test]
async fn requests_that_are_too_long_are_refused_without_a_retry() {
    let mut rig = Rig::with(|config| config.request_bytes_max = 100_000).await;
    let mut client = rig.client().await;
    let mut stream = client.subscribe_once(accounts(10_000)).await.unwrap();
    let status = end(&mut stream).await;
    // Not OUT_OF_RANGE, on which clients come back.
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("100000 bytes"),
        "{}",
        status.message()
    );
    rig.disconnected().await;
    // Short on the wire, long afterwards.
    let bomb = Bytes::from(vec![0; 50_000_000]);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let requests = futures::stream::iter([bomb.clone()]);
        let path = "/geyser.Geyser/Subscribe";
        let stream = raw::stream(raw::channel(&rig).await, path, Some(encoding), requests).await;
        let status = end(&mut stream.expect("headers")).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        rig.disconnected().await;
    }
    assert_eq!(
        rig.metric("router_grpc_refused_total", &[("reason", "request_size")]),
        3.0
    );
    all_is_well(&mut rig).await;
}

#[tokio::test]
async fn random_requests_are_refused_or_understood() {
    let mut rig = Rig::open().await;
    let mut random = StdRng::seed_from_u64(2_026);
    for _ in 0..40 {
        let length = random.random_range(1..300);
        let mut request = vec![0; length];
        random.fill_bytes(&mut request);
        // A tag that is not protobuf's, so that none of them is a request.
        request[0] = 0x07;
        let mut stream = raw::subscribe(&rig, futures::stream::iter([request.into()])).await;
        let status = end(&mut stream).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        rig.disconnected().await;
    }
    all_is_well(&mut rig).await;
}

#[tokio::test]
async fn random_bytes_on_the_port_disturb_nobody() {
    let mut rig = Rig::open().await;
    let mut listening = rig.client().await.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    let mut random = StdRng::seed_from_u64(4);
    for round in 0..60 {
        let mut noise = vec![0; random.random_range(1..4_000)];
        random.fill_bytes(&mut noise);
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        // Half of them say hello first, so that their noise is read as frames.
        let hello = if round % 2 == 0 { GREETING } else { b"" };
        // It may be closed before all of it is written.
        let _ = stream.write_all(&[hello, &noise].concat()).await;
        if round % 3 == 0 {
            let _ = stream.shutdown().await;
        }
    }
    assert_eq!(subscriber.outbox.push(frame(2, 0)), Pushed::Queued);
    assert_eq!(slot(&mut listening).await, 2);
    all_is_well(&mut rig).await;
}

/// How long until the server closes it.
async fn closed_after(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let closed = async {
        let mut buffer = [0; 1_024];
        // What it says meanwhile does not matter; a reset is an end, too.
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    timeout(LONG, closed).await.expect("closed in time");
    begun.elapsed()
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed() {
    let mut rig = Rig::with(|config| config.first_request_seconds = 1).await;
    // A client that has made a call may be idle.
    let mut idle = rig.client().await;
    idle.ping(1).await.unwrap();
    for said in [&b""[..], b"PRI * HT", GREETING] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let took = closed_after(stream).await;
        assert!(
            (500..6_000).contains(&took.as_millis()),
            "{said:?}: {took:?}"
        );
    }
    // One byte now and then does not help.
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (read, mut write) = stream.into_split();
    let drip = tokio::spawn(async move {
        for byte in GREETING {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        write
    });
    let stream = read;
    let begun = Instant::now();
    let mut stream = stream;
    let mut buffer = [0; 1_024];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    drip.abort();
    assert_eq!(
        rig.metric("router_grpc_refused_total", &[("reason", "silent")]),
        4.0
    );
    assert_eq!(idle.ping(2).await.unwrap().count, 2);
    all_is_well(&mut rig).await;
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_noticed() {
    let rig = Rig::with(|config| {
        config.keepalive_seconds = 1;
        config.keepalive_timeout_seconds = 1;
        config.first_request_seconds = 600;
    })
    .await;
    // It never answers a ping.
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(GREETING).await.unwrap();
    let took = closed_after(stream).await;
    assert!((1_000..8_000).contains(&took.as_millis()), "{took:?}");
    rig.metric_becomes("router_grpc_connections", &[], 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_told() {
    let mut rig = Rig::with(|config| config.connections_max = 10).await;
    let mut within = Vec::new();
    for _ in 0..10 {
        let mut client = rig.client().await;
        client.ping(1).await.unwrap();
        within.push(client);
    }
    let mut stream = within[0].subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    let mut beyond = Vec::new();
    for _ in 0..200 {
        let mut client = rig.client().await;
        match client.ping(1).await {
            Err(GeyserGrpcClientError::TonicStatus(status)) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(
                    status.message().contains("connections_max"),
                    "{}",
                    status.message()
                );
            }
            other => panic!("instead of a refusal: {other:?}"),
        }
        beyond.push(client);
    }
    assert_eq!(
        rig.metric("router_grpc_refused_total", &[("reason", "connections")]),
        200.0
    );
    // Those within notice nothing.
    assert_eq!(subscriber.outbox.push(frame(1, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 1);
    within.pop();
    // The refused ones take no place: one has become free.
    rig.metric_becomes("router_grpc_connections", &[], 9.0)
        .await;
    rig.client().await.ping(1).await.unwrap();
    drop(beyond);
}

/// So many that not all can be served far enough to be refused.
#[tokio::test]
async fn a_flood_is_told_in_a_few_bytes() {
    let mut rig = Rig::with(|config| config.connections_max = 2).await;
    let mut client = rig.client().await;
    client.ping(1).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(TcpStream::connect(rig.address).await.unwrap());
    }
    rig.metric_becomes(
        "router_grpc_refused_total",
        &[("reason", "flood")],
        400.0 - 1.0 - 256.0,
    )
    .await;
    assert_eq!(client.ping(2).await.unwrap().count, 2);
    // Whoever comes now hears it whatever it says, and is closed.
    let mut one = TcpStream::connect(rig.address).await.unwrap();
    one.write_all(GREETING).await.unwrap();
    let mut told = Vec::new();
    let heard = timeout(LONG, one.read_to_end(&mut told)).await;
    heard.expect("closed in time").expect("not reset");
    assert_eq!(
        (told[3], told[9 + 3]),
        (4, 7),
        "settings, then goodbye: {told:?}"
    );
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("grpc.connections_max"), "{told}");
    let refused = rig.client().await.ping(1).await.expect_err("one too many");
    assert!(
        format!("{refused:?}").contains("grpc.connections_max"),
        "{refused:?}"
    );
    drop(flood);
    rig.metric_becomes("router_grpc_connections", &[], 1.0)
        .await;
    all_is_well(&mut rig).await;
}
