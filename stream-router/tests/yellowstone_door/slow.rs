//! Clients that do not read.

use std::time::{Duration, Instant};

use stream_router::yellowstone::outbox::{Outbox, Pushed};
use tonic::Code;

use crate::rig::{Rig, Subscriber, end, frame, next, slot, slots};

/// Pushes until nothing more fits: the client, the network and the queue are full.
async fn fill(outbox: &Outbox) -> u64 {
    let mut pushed = 0;
    let mut full = 0;
    while full < 20 {
        match outbox.push(frame(pushed, 60_000)) {
            Pushed::Queued => {
                pushed += 1;
                full = 0;
                tokio::task::yield_now().await;
            }
            Pushed::Full => {
                full += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Pushed::Gone => panic!("the reader is gone"),
        }
    }
    pushed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stalls_holds_nobody_else() {
    let mut rig = Rig::with(|config| config.queue_bytes = 2 << 20).await;
    let mut stalled = rig.client().await.subscribe_once(slots()).await.unwrap();
    let Subscriber {
        outbox: stalled_outbox,
        ..
    } = rig.connected().await;
    let mut client = rig.client().await;
    let mut reading = client.subscribe_once(slots()).await.unwrap();
    let outbox = rig.connected().await.outbox;
    let pushed = fill(&stalled_outbox).await;
    assert!(stalled_outbox.queued_bytes() <= 2 << 20);
    let mut slowest = Duration::ZERO;
    for n in 0..200 {
        let begun = Instant::now();
        assert_eq!(outbox.push(frame(n, 1_000)), Pushed::Queued);
        assert_eq!(slot(&mut reading).await, n);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    // It gets everything that was queued as soon as it reads again.
    for n in 0..pushed {
        assert_eq!(slot(&mut stalled).await, n);
    }
    assert_eq!(stalled_outbox.push(frame(pushed, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stalled).await, pushed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stalls_too_long_is_let_go_and_its_queue_freed() {
    let mut rig = Rig::with(|config| {
        config.queue_bytes = 2 << 20;
        config.stalled_seconds_max = 1;
    })
    .await;
    // An idle one does not count as stalled: there is nothing it could read.
    let mut idle = rig.client().await.subscribe_once(slots()).await.unwrap();
    let idle_outbox = rig.connected().await.outbox;
    let mut stalled = rig.client().await.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    fill(&subscriber.outbox).await;
    // The engine hears of it although the client has not read its end.
    assert_eq!(rig.disconnected().await, subscriber.id);
    assert!(subscriber.outbox.is_gone());
    let mut last = next(&mut stalled).await;
    while last.is_ok() {
        last = next(&mut stalled).await;
    }
    let status = last.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert!(
        status.message().contains("nothing was read for 1 seconds"),
        "{}",
        status.message()
    );
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(idle_outbox.push(frame(3, 0)), Pushed::Queued);
    assert_eq!(slot(&mut idle).await, 3);
    assert_eq!(
        rig.metric("router_grpc_streams_ended_total", &[("reason", "stalled")]),
        1.0
    );
}

/// It sends pings and reads nothing: its pongs must not pile up, and it must not outstay the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_only_pings_waits() {
    use event_schema::proto::geyser::SubscribeRequestPing;
    use futures::SinkExt;
    let mut rig = Rig::with(|config| {
        config.queue_bytes = 1 << 20;
        config.stalled_seconds_max = 1;
    })
    .await;
    let mut client = rig.client().await;
    let (mut sink, mut stream) = client.subscribe_with_request(Some(slots())).await.unwrap();
    let subscriber = rig.connected().await;
    fill(&subscriber.outbox).await;
    let mut request = slots();
    request.slots.clear();
    request.ping = Some(SubscribeRequestPing { id: 1 });
    for _ in 0..40 {
        sink.send(request.clone()).await.unwrap();
    }
    assert_eq!(rig.disconnected().await, subscriber.id);
    let pongs = rig.metric("router_grpc_pings_total", &[("kind", "pong")]);
    assert!((1.0..30.0).contains(&pongs), "{pongs}");
    let mut last = next(&mut stream).await;
    while last.is_ok() {
        last = next(&mut stream).await;
    }
    let status = last.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
}

#[tokio::test]
async fn a_stream_without_a_request_is_ended() {
    let mut rig = Rig::with(|config| config.first_request_seconds = 1).await;
    let requests = futures::stream::pending();
    let mut stream = crate::raw::subscribe(&rig, requests).await;
    let begun = Instant::now();
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!((500..5_000).contains(&begun.elapsed().as_millis()));
    rig.disconnected().await;
    // One that ends without a request is told at once.
    let mut stream = crate::raw::subscribe(&rig, futures::stream::empty()).await;
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        rig.metric("router_grpc_refused_total", &[("reason", "no_request")]),
        2.0
    );
}
