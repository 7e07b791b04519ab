//! `crowd_of_grpc_clients ADDRESS COUNT`: that many Yellowstone clients of a router at once, in a process of their own, because
//! each connection takes a file descriptor at both ends.
//!
//! Prints `came SERVED TOLD CLOSED SLOWEST` when all have their answer to `Ping`, were told why not, or were closed without a
//! word; the slowest took so many milliseconds. Those that are served stay until its standard input ends; then it prints
//! `stayed COUNT`: how many of them are answered still.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{io::AsyncReadExt, time::timeout};
use yellowstone_grpc_client::GeyserGrpcClient;

/// Handshakes at a time.
const AT_ONCE: usize = 256;
/// For one answer, of a development build on a busy machine.
const LONG: Duration = Duration::from_secs(30);

enum Welcome {
    Served(Box<GeyserGrpcClient>),
    Told,
    Closed,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("ADDRESS is missing")?;
    let count: usize = arguments.next().context("COUNT is missing")?.parse()?;
    let coming = stream::iter(0..count).map(|_| come(&address));
    let came: Vec<(Welcome, Duration)> = coming.buffer_unordered(AT_ONCE).try_collect().await?;
    let (mut told, mut closed, mut served) = (0, 0, Vec::new());
    let slowest = came.iter().map(|(_, took)| *took).max();
    for (welcome, _) in came {
        match welcome {
            Welcome::Served(client) => served.push(client),
            Welcome::Told => told += 1,
            Welcome::Closed => closed += 1,
        }
    }
    let slowest = slowest.unwrap_or_default().as_millis();
    println!("came {} {told} {closed} {slowest}", served.len());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    let mut stayed = 0;
    for mut client in served {
        let answer = timeout(LONG, client.ping(2)).await.context("silence")?;
        stayed += usize::from(answer.is_ok());
    }
    println!("stayed {stayed}");
    Ok(())
}

async fn come(address: &str) -> anyhow::Result<(Welcome, Duration)> {
    let began = Instant::now();
    let asking = async {
        let builder = GeyserGrpcClient::build_from_shared(format!("http://{address}"))?;
        let mut client = builder.connect().await?;
        client.ping(1).await?;
        Ok::<_, anyhow::Error>(client)
    };
    let asked = timeout(LONG, asking).await.context("no answer at all")?;
    let welcome = match asked {
        Ok(client) => Welcome::Served(Box::new(client)),
        Err(error) => match words(error.as_ref()) {
            text if text.contains("grpc.connections_max") => Welcome::Told,
            // What a closed socket looks like.
            text if ["broken pipe", "reset", "closed", "transport"]
                .iter()
                .any(|word| text.contains(word)) =>
            {
                Welcome::Closed
            }
            text => bail!("instead of a refusal: {text}"),
        },
    };
    Ok((welcome, began.elapsed()))
}

/// The error, down to its cause.
fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
