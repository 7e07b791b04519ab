//! Streams: how they begin, change, live and end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use event_schema::proto::Message;
use event_schema::{
    Slot,
    proto::geyser::{
        SubscribeRequest, SubscribeRequestPing, SubscribeUpdate, SubscribeUpdateBlockMeta,
        subscribe_update::UpdateOneof,
    },
};
use futures::{SinkExt, StreamExt};
use stream_router::{
    subscription::Level,
    yellowstone::{
        door::codec::AccountsChange,
        engine::{Command, Start},
        outbox::{Ending, Frame, Pushed},
    },
};
use tokio::time::timeout;
use tonic::{Code, codec::CompressionEncoding};
use yellowstone_grpc_client::{Backoff, ReconnectConfig};

use crate::{
    raw,
    rig::{LONG, Rig, Subscriber, accounts, end, frame, next, slot, slots},
};

fn ping(id: i32) -> SubscribeRequest {
    SubscribeRequest {
        ping: Some(SubscribeRequestPing { id }),
        ..SubscribeRequest::default()
    }
}

#[tokio::test]
async fn three_pieces_arrive_as_one_update() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    let mut request = slots();
    request.commitment = Some(1);
    let (_sink, mut stream) = client.subscribe_with_request(Some(request)).await.unwrap();
    let subscriber = rig.connected().await;
    assert_eq!(subscriber.start, Start::Now);
    assert_eq!(subscriber.filters.level(), Level::Confirmed);
    assert_eq!(subscriber.outbox.push(frame(5, 0)), Pushed::Queued);
    let update = next(&mut stream).await.unwrap();
    assert_eq!(update.filters, ["mine"]);
    assert_eq!(update.created_at.unwrap().seconds, 77);
    assert!(matches!(update.update_oneof, Some(UpdateOneof::Slot(update)) if update.slot == 5));
    // Many at once keep their order.
    for n in 0..1_000 {
        assert_eq!(subscriber.outbox.push(frame(n, 0)), Pushed::Queued);
    }
    for n in 0..1_000 {
        assert_eq!(slot(&mut stream).await, n);
    }
    assert_eq!(rig.metric("router_grpc_streams", &[]), 1.0);
    drop((_sink, stream, client));
    assert_eq!(rig.disconnected().await, subscriber.id);
    rig.metric_becomes("router_grpc_streams", &[], 0.0).await;
    let gone = [("reason", "client_gone")];
    assert_eq!(rig.metric("router_grpc_streams_ended_total", &gone), 1.0);
    assert_eq!(rig.metric("router_grpc_frames_sent_total", &[]), 1_001.0);
}

#[tokio::test]
async fn later_requests_replace_and_pings_do_not() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    // As many clients begin: with an empty request.
    let (mut sink, mut stream) = client.subscribe().await.unwrap();
    let subscriber = rig.connected().await;
    assert!(subscriber.filters.is_empty());
    sink.send(ping(41)).await.unwrap();
    let update = next(&mut stream).await.unwrap();
    assert!(matches!(update.update_oneof, Some(UpdateOneof::Pong(pong)) if pong.id == 41));
    assert!(update.created_at.is_some());
    let mut request = slots();
    request.from_slot = Some(12);
    request.ping = Some(SubscribeRequestPing { id: 42 });
    sink.send(request).await.unwrap();
    match rig.command().await {
        Command::Replace { id, filters, start } => {
            assert_eq!(id, subscriber.id);
            assert!(!filters.is_empty());
            assert_eq!(start, Start::Slot(Slot(12)));
        }
        other => panic!("instead of Replace: {other:?}"),
    }
    let update = next(&mut stream).await.unwrap();
    assert!(matches!(update.update_oneof, Some(UpdateOneof::Pong(pong)) if pong.id == 42));
    assert_eq!(
        rig.metric("router_grpc_pings_total", &[("kind", "pong")]),
        2.0
    );
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_more_goes_on_listening() {
    let mut rig = Rig::open().await;
    // It closes its side after the request.
    let mut stream = rig.client().await.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(subscriber.outbox.push(frame(8, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 8);
}

#[tokio::test]
async fn silence_is_broken_by_pings() {
    let mut rig = Rig::with(|config| config.ping_seconds = 1).await;
    let mut stream = rig.client().await.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    let begun = Instant::now();
    for _ in 0..2 {
        let update = next(&mut stream).await.unwrap();
        assert!(matches!(update.update_oneof, Some(UpdateOneof::Ping(_))));
    }
    let took = begun.elapsed();
    assert!((1_800..3_500).contains(&took.as_millis()), "{took:?}");
    // No ping comes between updates.
    for n in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(subscriber.outbox.push(frame(n, 0)), Pushed::Queued);
        assert_eq!(slot(&mut stream).await, n);
    }
}

#[tokio::test]
async fn every_ending_is_told() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    let first_available = Some(900);
    for (ending, code, text) in [
        (Ending::Lagged, Code::DataLoss, "lagged"),
        (
            Ending::SlotUnavailable { first_available },
            Code::OutOfRange,
            "broadcast from 7 is not available, last available: 900",
        ),
        (
            Ending::CursorUnusable("too old".into()),
            Code::InvalidArgument,
            "too old",
        ),
        (
            Ending::Failed("no broker".into()),
            Code::Internal,
            "no broker",
        ),
        (Ending::Shutdown, Code::Unavailable, "shutting down"),
    ] {
        let mut request = slots();
        request.from_slot = Some(7);
        let mut stream = client.subscribe_once(request).await.unwrap();
        let subscriber = rig.connected().await;
        assert_eq!(subscriber.start, Start::Slot(Slot(7)));
        // What was queued before comes before.
        assert_eq!(subscriber.outbox.push(frame(1, 0)), Pushed::Queued);
        subscriber.outbox.end(ending);
        drop(subscriber.outbox);
        assert_eq!(slot(&mut stream).await, 1);
        let status = end(&mut stream).await;
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{}", status.message());
        assert_eq!(rig.disconnected().await, subscriber.id);
    }
    for reason in [
        "lagged",
        "slot_unavailable",
        "cursor_unusable",
        "failed",
        "shutdown",
    ] {
        let labels = [("reason", reason)];
        assert_eq!(
            rig.metric("router_grpc_streams_ended_total", &labels),
            1.0,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_client_that_reconnects_by_itself_comes_back_where_it_was() {
    let mut rig = Rig::open().await;
    let backoff = Backoff::new(Duration::from_millis(10), 2.0, 5);
    let config = ReconnectConfig::default().with_backoff(backoff);
    let builder = rig.builder().set_reconnect_config(config);
    let mut client = builder.connect().await.unwrap();
    let (_sink, mut stream) = client.subscribe_with_request(Some(slots())).await.unwrap();
    let subscriber = rig.connected().await;
    let meta = UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot: 50,
        ..SubscribeUpdateBlockMeta::default()
    });
    let update = SubscribeUpdate {
        filters: vec!["mine".into()],
        update_oneof: Some(meta),
        ..SubscribeUpdate::default()
    };
    let body = Bytes::from(update.encode_to_vec());
    let frame = Frame {
        body,
        ..Frame::default()
    };
    assert_eq!(subscriber.outbox.push(frame), Pushed::Queued);
    next(&mut stream).await.unwrap();
    subscriber.outbox.end(Ending::Lagged);
    drop(subscriber.outbox);
    let waiting = tokio::spawn(async move { stream.next().await.map(drop) });
    assert_eq!(rig.disconnected().await, subscriber.id);
    // Two slots earlier, for what may have come out of order: that is what the client does.
    assert_eq!(rig.connected().await.start, Start::Slot(Slot(48)));
    waiting.abort();
}

#[tokio::test]
async fn compressed_both_ways() {
    let mut rig = Rig::open().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let builder = rig
            .builder()
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let mut client = builder.connect().await.unwrap();
        assert_eq!(client.ping(3).await.unwrap().count, 3);
        // Long enough to be compiled on a thread of its own.
        let (_sink, mut stream) = client
            .subscribe_with_request(Some(accounts(3_000)))
            .await
            .unwrap();
        let subscriber = rig.connected().await;
        for n in 0..20 {
            assert_eq!(subscriber.outbox.push(frame(n, 100_000)), Pushed::Queued);
        }
        for n in 0..20 {
            assert_eq!(slot(&mut stream).await, n);
        }
        drop((stream, _sink, client));
        rig.disconnected().await;
    }
}

#[tokio::test]
async fn a_cursor_resumes_and_excludes_a_slot() {
    let mut rig = Rig::open().await;
    for cursor in [&b"after this"[..], b""] {
        let requests = [raw::request(&slots(), Some(cursor), Vec::new())];
        let stream = raw::subscribe(&rig, futures::stream::iter(requests)).await;
        assert_eq!(
            rig.connected().await.start,
            Start::Cursor(Bytes::from_static(cursor))
        );
        drop(stream);
        rig.disconnected().await;
    }
    let mut both = slots();
    both.from_slot = Some(3);
    let requests = [raw::request(&both, Some(b"after this"), Vec::new())];
    let mut stream = raw::subscribe(&rig, futures::stream::iter(requests)).await;
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("exclude one another"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn accounts_change_without_the_rest_of_the_filter() {
    let mut rig = Rig::open().await;
    let change = |filter: &str, add: Vec<Bytes>| AccountsChange {
        filter: filter.to_owned(),
        add,
        remove: vec![Bytes::from_static(&[2; 32])],
    };
    let nothing = SubscribeRequest::default();
    let key = Bytes::from_static(&[1; 32]);
    let requests = [
        raw::request(&accounts(2), None, Vec::new()),
        raw::request(&nothing, None, vec![change("many", vec![key.clone()])]),
        raw::request(&ping(5), None, vec![change("none", vec![key])]),
    ];
    let mut stream = raw::subscribe(&rig, futures::stream::iter(requests)).await;
    let subscriber = rig.connected().await;
    let mut index = stream_router::yellowstone::filter::FilterIndex::default();
    index.insert(subscriber.id, subscriber.filters);
    for wanted in ["many", "none"] {
        match rig.command().await {
            Command::ChangeAccounts {
                id,
                filter,
                add,
                remove,
                done,
            } => {
                assert_eq!((id, filter.as_str()), (subscriber.id, wanted));
                assert_eq!((&add[..], &remove[..]), (&[[1; 32]][..], &[[2; 32]][..]));
                let changed = index.change_accounts(id, &filter, &add, &remove);
                done.send(changed).unwrap();
            }
            other => panic!("instead of ChangeAccounts: {other:?}"),
        }
    }
    // The second names a filter that is not there; its ping is not answered.
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("none"), "{}", status.message());

    let short = change("many", vec![Bytes::from_static(&[1; 31])]);
    let requests = [raw::request(&accounts(2), None, vec![short])];
    let mut stream = raw::subscribe(&rig, futures::stream::iter(requests)).await;
    let status = end(&mut stream).await;
    assert!(
        status.message().contains("31 bytes"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_drain_says_goodbye_to_all() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    let (mut streams, mut subscribers) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        streams.push(client.subscribe_once(slots()).await.unwrap());
        subscribers.push(rig.connected().await);
    }
    // One more, that has not asked for anything yet.
    streams.push(client.subscribe_once(slots()).await.unwrap());
    let begun = Instant::now();
    rig.drain();
    for mut stream in streams {
        assert_eq!(end(&mut stream).await.code(), Code::Unavailable);
    }
    timeout(LONG, rig.served).await.unwrap().unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_door_without_an_engine_sends_clients_away() {
    let mut rig = Rig::open().await;
    rig.engine.close();
    let mut stream = rig.client().await.subscribe_once(slots()).await.unwrap();
    assert_eq!(end(&mut stream).await.code(), Code::Unavailable);
    assert!(rig.door.who().await.is_err());
}

#[tokio::test]
async fn nothing_is_left_of_streams_that_are_gone() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    client.ping(1).await.unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(client.subscribe_once(slots()).await.unwrap());
        streams.push(client.subscribe_once(ping(1)).await.unwrap());
    }
    let mut subscribers = Vec::new();
    for _ in 0..60 {
        subscribers.push(rig.connected().await);
    }
    assert!(tasks() > before);
    drop(streams);
    for _ in 0..60 {
        rig.disconnected().await;
    }
    let gone = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, gone).await.expect("every task ends");
    for Subscriber { outbox, .. } in subscribers {
        assert!(outbox.is_gone());
    }
}
