//! `crowd_of_websocket_clients ADDRESS COUNT`: that many WebSocket clients of a router at once, in a process of their own, because each
//! connection takes a file descriptor at both ends.
//!
//! Prints `came SERVED TOLD CLOSED` when all have their answer to `slotSubscribe`, were told why not (503), or were closed
//! without a word; and `heard COUNT` when all that are served have heard of slot 2^64 − 1.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Handshakes at a time.
const AT_ONCE: usize = 64;
/// For one answer, of a development build on a busy machine.
const LONG: Duration = Duration::from_secs(60);

enum Welcome {
    Served(Box<Socket>),
    Told,
    Closed,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("ADDRESS is missing")?;
    let count: usize = arguments.next().context("COUNT is missing")?.parse()?;
    let coming = stream::iter(0..count).map(|_| come(&address));
    let came: Vec<Welcome> = coming.buffer_unordered(AT_ONCE).try_collect().await?;
    let (mut told, mut closed, mut served) = (0, 0, Vec::new());
    for welcome in came {
        match welcome {
            Welcome::Served(socket) => served.push(*socket),
            Welcome::Told => told += 1,
            Welcome::Closed => closed += 1,
        }
    }
    println!("came {} {told} {closed}", served.len());
    let hearing = served.into_iter().map(hear_the_last);
    let heard: Vec<Socket> = stream::iter(hearing)
        .buffer_unordered(count)
        .try_collect()
        .await?;
    println!("heard {}", heard.len());
    Ok(())
}

async fn come(address: &str) -> anyhow::Result<Welcome> {
    match connect_async(format!("ws://{address}/")).await {
        Ok((mut socket, _)) => {
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe", "params": []});
            socket.send(Message::text(call.to_string())).await?;
            let answer = next(&mut socket).await?;
            ensure!(answer["result"].is_u64(), "instead of a number: {answer}");
            Ok(Welcome::Served(Box::new(socket)))
        }
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let text = String::from_utf8_lossy(&body);
            ensure!(response.status() == 503, "{}: {text}", response.status());
            ensure!(text.contains("websocket.connections_max"), "{text}");
            Ok(Welcome::Told)
        }
        Err(_) => Ok(Welcome::Closed),
    }
}

async fn hear_the_last(mut socket: Socket) -> anyhow::Result<Socket> {
    while next(&mut socket).await?["params"]["result"]["slot"] != u64::MAX {}
    Ok(socket)
}

/// The next text.
async fn next(socket: &mut Socket) -> anyhow::Result<Value> {
    loop {
        let message = timeout(LONG, socket.next()).await.context("silence")?;
        match message.context("it was closed")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Ping(_) | Message::Pong(_) => {}
            other => anyhow::bail!("instead of a text: {other:?}"),
        }
    }
}
