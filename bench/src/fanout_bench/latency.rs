//! Callback → subscriber: an unmodified Yellowstone client in the process of the driver reads the time that the driver wrote.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use yellowstone_grpc_client::GeyserGrpcClient;
use yellowstone_grpc_proto::geyser::{
    SubscribeRequest, SubscribeRequestPing, subscribe_update::UpdateOneof,
};

use super::{
    Scene,
    driver::Driven,
    numbers::{Account, Numbers},
    stamp::Clock,
    subscriber::{all_accounts, stamp_of},
};
use crate::{
    plugin_bench::histogram::Histogram,
    report::{Check, Report},
};

const WARM: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(20);
/// At this rate and below a stream is quiet.
const QUIET_RATE: u32 = 100;
const P50_MS: f64 = 3.0;
const P99_MS: f64 = 10.0;
const QUIET_P99_MS: f64 = 5.0;
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct Options {
    /// Accounts per second.
    pub rates: Vec<u32>,
    pub seconds: u64,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    println!(
        "{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>14}",
        "callback → gRPC, ms",
        "updates",
        "missing",
        "repeated",
        "p50",
        "p90",
        "p99",
        "max",
        "CPU-s/million"
    );
    let mut figures = serde_json::Map::new();
    for rate in &options.rates {
        let cpu = scene.router.cpu_seconds();
        let (driven, seen, account) = measure(scene, *rate, options.seconds)?;
        let cpu_per_million = (scene.router.cpu_seconds() - cpu) * 1e6 / driven.updates() as f64;
        let ms = |quantile| milliseconds(seen.quantile(quantile));
        println!(
            "{:<28}{:>10}{:>10}{:>10}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>14.2}",
            format!("{rate} accounts/s"),
            seen.count(),
            account.missing,
            account.repeated,
            ms(0.5),
            ms(0.9),
            ms(0.99),
            milliseconds(seen.max()),
            cpu_per_million
        );
        figures.insert(
            format!("{rate}_per_second"),
            json!({
                "updates": seen.count(), "p50_ms": ms(0.5), "p90_ms": ms(0.9), "p99_ms": ms(0.99),
                "max_ms": milliseconds(seen.max()), "missing": account.missing, "repeated": account.repeated,
                "reported_per_second": driven.updates() as f64 / driven.seconds,
                "router_cpu_seconds_per_million_updates": cpu_per_million,
            }),
        );
        let mut at_most = |figure: &str, value: f64, target: f64| {
            let name = format!("latency_{rate}_per_second_{figure}");
            report.checks.push(Check::at_most(name, value, target));
        };
        if *rate <= QUIET_RATE {
            at_most("p99_ms", ms(0.99), QUIET_P99_MS);
        } else {
            at_most("p50_ms", ms(0.5), P50_MS);
            at_most("p99_ms", ms(0.99), P99_MS);
        }
        at_most(
            "missing_or_repeated",
            (account.missing + account.repeated) as f64,
            0.0,
        );
    }
    report.figure("latency", figures);
    Ok(())
}

pub fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e3
}

fn measure(
    scene: &mut Scene<'_>,
    rate: u32,
    seconds: u64,
) -> anyhow::Result<(Driven, Histogram, Account)> {
    let address = scene.router.grpc;
    let subscribed = async {
        let builder = GeyserGrpcClient::build_from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut client = builder.connect().await?;
        let (mut requests, mut stream) =
            client.subscribe_with_request(Some(all_accounts())).await?;
        // The pong says that the request was read; it is in force long before the stream has warmed up.
        let ping = SubscribeRequest {
            ping: Some(SubscribeRequestPing { id: 1 }),
            ..SubscribeRequest::default()
        };
        requests.send(ping).await?;
        while let Some(update) = stream.next().await {
            if matches!(update?.update_oneof, Some(UpdateOneof::Pong(_))) {
                return Ok((requests, stream));
            }
        }
        bail!("the router ended the stream")
    };
    let subscribed = scene.runtime.block_on(subscribed);
    // The requests' end would be taken for the client's.
    let (_requests, mut stream) = subscribed.context("subscribing by the Yellowstone client")?;
    let clock = scene.driver.clock;
    let (sender, mut end) = tokio::sync::watch::channel(None::<Driven>);
    let reading = scene.runtime.spawn(async move {
        let mut seen = Seen::default();
        loop {
            let driven = *end.borrow();
            if driven.is_some_and(|driven| seen.has_all(driven)) {
                return Ok(seen);
            }
            tokio::select! {
                update = stream.next() => match update {
                    Some(Ok(update)) => if let Some(stamp) = stamp_of(&update) {
                        seen.add(clock, stamp.at, stamp.number);
                    },
                    Some(Err(status)) => bail!("the stream broke: {status}"),
                    None => bail!("the router ended the stream"),
                },
                changed = end.changed() => if changed.is_err() {
                    return Ok(seen);
                },
            }
        }
    });
    let never = AtomicBool::new(false);
    scene.driver.drive(rate, WARM, &never)?;
    let driven = scene
        .driver
        .drive(rate, Duration::from_secs(seconds), &never)?;
    let _ = sender.send(Some(driven));
    let begin = Instant::now();
    while !reading.is_finished() && begin.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(sender);
    let seen = scene.runtime.block_on(reading)??;
    let account = seen.numbers(driven).account(driven.end - 1);
    let measured = seen.latencies.into_iter();
    let mut histogram = Histogram::default();
    measured
        .filter(|(number, _)| (driven.first..driven.end).contains(number))
        .for_each(|(_, latency)| histogram.record(latency));
    Ok((driven, histogram, account))
}

#[derive(Default)]
struct Seen {
    /// Of those that were measured, once it is known which these are.
    measured: Option<Numbers>,
    /// By number, nanoseconds.
    latencies: Vec<(u64, u64)>,
}

impl Seen {
    fn add(&mut self, clock: Clock, at: u64, number: u64) {
        self.latencies
            .push((number, clock.now().saturating_sub(at)));
        if let Some(measured) = &mut self.measured {
            measured.add(number);
        }
    }

    /// What came while the stream warmed up is not among them.
    fn numbers(&self, driven: Driven) -> Numbers {
        let mut numbers = Numbers::starting_at(driven.first);
        self.latencies
            .iter()
            .for_each(|(number, _)| numbers.add(*number));
        numbers
    }

    fn has_all(&mut self, driven: Driven) -> bool {
        if self.measured.is_none() {
            self.measured = Some(self.numbers(driven));
        }
        let measured = self.measured.as_ref();
        measured.is_some_and(|numbers| numbers.is_complete_to(driven.end - 1))
    }
}
