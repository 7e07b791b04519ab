//! What nobody should do: each is told what was wrong, or cut, and nobody else notices.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{LONG, Rig};

/// One that came before still hears, and new ones are welcome.
async fn all_is_well(rig: &Rig) {
    let mut client = rig.client().await;
    client.ask("slotSubscribe", json!([])).await;
    rig.slot(9).await;
    assert_eq!(client.next().await["params"]["result"]["slot"], 9);
}

/// Everything until the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes))
        .await
        .expect("ends in time")
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn one_too_many_is_told_and_the_others_stay() {
    let rig = Rig::with(|websocket, _| websocket.connections_max = 3).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(rig.client().await);
    }
    for _ in 0..20 {
        let (status, text) = rig.enter(rig.request("/")).await.err().expect("too many");
        assert_eq!(status, 503);
        assert!(text.contains("websocket.connections_max"), "{text}");
    }
    let labels = [("reason", "connections")];
    assert_eq!(rig.metric("router_websocket_refused_total", &labels), 20.0);
    clients[0].ask("slotSubscribe", json!([])).await;
    rig.slot(5).await;
    assert_eq!(clients[0].next().await["params"]["result"]["slot"], 5);
    clients.pop();
    rig.metric_becomes("router_websocket_connections", &[], 2.0)
        .await;
    all_is_well(&rig).await;
}

#[tokio::test]
async fn who_says_nothing_or_a_request_byte_by_byte_is_cut() {
    let rig = Rig::with(|websocket, _| websocket.first_request_seconds = 1).await;
    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    let dripping = async {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ";
        for byte in head.iter().chain(std::iter::repeat_n(&b'a', 10_000)) {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, dripping).await.expect("cut in time");
    assert_eq!(rest(&mut silent).await, "");
    let labels = [("reason", "silent")];
    assert_eq!(rig.metric("router_websocket_refused_total", &labels), 2.0);
    rig.metric_becomes("router_websocket_connections", &[], 0.0)
        .await;
    // Those that asked for something may be silent for longer.
    let mut client = rig.client().await;
    client.ask("slotSubscribe", json!([])).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    rig.slot(9).await;
    assert_eq!(client.next().await["params"]["result"]["slot"], 9);
}

#[tokio::test]
async fn a_status_page_keeps_no_connection() {
    let rig = Rig::open().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01 not HTTP\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    rig.metric_becomes("router_websocket_connections", &[], 0.0)
        .await;
}

#[tokio::test]
async fn frames_that_are_too_long_or_no_text_end_with_the_reason() {
    let rig = Rig::with(|websocket, _| websocket.request_bytes_max = 1_000).await;
    let mut long = rig.client().await;
    long.send(Message::text("x".repeat(1_001))).await;
    let (code, reason) = long.goodbye().await;
    assert_eq!(code, 1009);
    assert!(
        reason.contains("1000 bytes (websocket.request_bytes_max)"),
        "{reason}"
    );
    // In pieces, each short enough.
    let mut pieces = rig.client().await;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    for (at, data) in [Data::Text, Data::Continue, Data::Continue]
        .into_iter()
        .enumerate()
    {
        let frame = Frame::message(vec![b'x'; 600], OpCode::Data(data), at == 2);
        if pieces.0.send(Message::Frame(frame)).await.is_err() {
            break;
        }
    }
    assert_eq!(pieces.goodbye().await.0, 1009);
    let mut garbled = rig.client().await;
    let frame = Frame::message(vec![0xff; 4], OpCode::Data(Data::Text), true);
    garbled.send(Message::Frame(frame)).await;
    let (code, reason) = garbled.goodbye().await;
    assert_eq!((code, reason.as_str()), (1007, "a text frame is not UTF-8"));
    let mut reserved = rig.client().await;
    let frame = Frame::message(vec![1; 4], OpCode::Data(Data::Reserved(5)), true);
    reserved.send(Message::Frame(frame)).await;
    assert_eq!(reserved.goodbye().await.0, 1002);
    for (reason, count) in [("request_size", 2.0), ("protocol_error", 2.0)] {
        rig.metric_becomes("router_disconnects_total", &[("reason", reason)], count)
            .await;
    }
    all_is_well(&rig).await;
}

/// Its machine is gone, or it never looks: no answer to a ping.
#[tokio::test]
async fn a_half_open_socket_is_found_by_a_ping() {
    let rig = Rig::with(|websocket, _| websocket.ping_seconds = 1).await;
    let mut alive = rig.client().await;
    // A client that is not polled answers no ping.
    let mut dead = rig.client().await;
    alive.ask("slotSubscribe", json!([])).await;
    let keeps_reading = tokio::spawn(async move {
        let told = alive.next().await;
        (alive, told)
    });
    rig.metric_becomes("router_disconnects_total", &[("reason", "no_pong")], 1.0)
        .await;
    assert_eq!(
        dead.goodbye().await,
        (1008, "no_pong: a ping was not answered".to_owned())
    );
    rig.slot(3).await;
    let (_alive, told) = keeps_reading.await.unwrap();
    assert_eq!(told["params"]["result"]["slot"], 3);
}

/// Notifications for one that does not read: it is given up with the reason, and costs no more than its queue.
#[tokio::test]
async fn one_that_does_not_read_is_given_up() {
    let rig = Rig::with(|websocket, _| websocket.queue_items_max = 100).await;
    let mut stalled = rig.client().await;
    stalled.ask("slotSubscribe", json!([])).await;
    let mut alive = rig.client().await;
    alive.ask("slotSubscribe", json!([])).await;
    let labels = [("reason", "slow_consumer")];
    let mut slot = 0;
    while rig.metric("router_disconnects_total", &labels) == 0.0 {
        assert!(slot < 1_000_000, "never given up");
        for _ in 0..50 {
            slot += 1;
            rig.slot(slot).await;
        }
        for told in slot - 49..=slot {
            assert_eq!(alive.next().await["params"]["result"]["slot"], told);
        }
    }
    // What was under way, then the end.
    while let Some(Ok(_)) = timeout(LONG, stalled.0.next()).await.expect("ends") {}
}

#[tokio::test]
async fn a_drain_says_goodbye() {
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    client.ask("slotSubscribe", json!([])).await;
    let _silent = TcpStream::connect(rig.address).await.unwrap();
    rig.drain();
    assert_eq!(
        client.goodbye().await,
        (1012, "the router is shutting down".to_owned())
    );
    timeout(LONG, rig.served)
        .await
        .expect("ends")
        .unwrap()
        .unwrap();
}
