//! Many subscribers of single accounts that never change: what each event costs the router. Beside it, what a scan of every
//! client's filters would cost for the same events.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use yellowstone_grpc_proto::geyser::CommitmentLevel;

use super::{
    Scene,
    driver::OWNER,
    scan::{ClientFilters, seconds_per_million},
    subscriber::{RequestExtension, Subscriber, accounts, connect},
};
use crate::{
    report::{Check, Report},
    router_bench::throughput::median,
};

/// Subscribers share so many connections.
const CONNECTIONS: usize = 20;
/// After the last event, the router has nothing more to do within this.
const SETTLE: Duration = Duration::from_millis(1_500);
const SCANNED_EVENTS: usize = 20_000;

const COST_OF_ONE: f64 = 1.5;
const COST_OF_SCAN: f64 = 0.1;

#[derive(Debug, Clone)]
pub struct Options {
    pub subscribers: Vec<usize>,
    pub seconds: u64,
    pub rounds: usize,
    pub rate: u32,
}

/// One size of the crowd.
#[derive(Debug, Default)]
struct Cost {
    subscribers: usize,
    router: Vec<f64>,
    scan: Vec<f64>,
    still_connected: usize,
}

pub fn run(scene: &mut Scene<'_>, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut costs: Vec<Cost> = Vec::new();
    for subscribers in &options.subscribers {
        costs.push(Cost {
            subscribers: *subscribers,
            ..Cost::default()
        });
    }
    for _ in 0..options.rounds.max(1) {
        for cost in &mut costs {
            let addresses = addresses(cost.subscribers);
            let (router, connected) = measure(scene, options, &addresses)?;
            cost.router.push(router);
            cost.still_connected = connected;
            let clients: Vec<ClientFilters> =
                addresses.iter().copied().map(ClientFilters::of).collect();
            let events: Vec<[u8; 32]> = (0..SCANNED_EVENTS as u64)
                .map(|number| scene.driver.key(number))
                .collect();
            cost.scan
                .push(seconds_per_million(&clients, &events, &OWNER).0);
        }
    }
    println!(
        "\n{:<28}{:>14}{:>22}{:>22}",
        "subscribers that match nothing", "connected", "router CPU-s/million", "scan CPU-s/million"
    );
    for cost in &costs {
        println!(
            "{:<30}{:>12}{:>22.2}{:>22.2}",
            cost.subscribers,
            cost.still_connected,
            cost.router(),
            cost.scan()
        );
    }
    let figures: serde_json::Map<_, _> = costs
        .iter()
        .map(|cost| {
            let figures = json!({
                "connected": cost.still_connected,
                "router_cpu_seconds_per_million_events": cost.router(),
                "scan_cpu_seconds_per_million_events": cost.scan(),
            });
            (cost.subscribers.to_string(), figures)
        })
        .collect();
    report.figure("crowd", figures);
    let (Some(few), Some(many)) = (costs.first(), costs.last()) else {
        return Ok(());
    };
    report.checks.push(Check::at_least(
        "crowd_still_connected",
        many.still_connected as f64,
        many.subscribers as f64,
    ));
    report.checks.push(Check::at_most(
        format!("crowd_{}_cost_of_{}", many.subscribers, few.subscribers),
        rounded(many.router() / few.router()),
        COST_OF_ONE,
    ));
    // What the crowd adds; a scan would add its own to what the router does anyway.
    let added = (many.router() - few.router()).max(0.0);
    report.checks.push(Check::at_most(
        format!("crowd_{}_adds_of_what_a_scan_adds", many.subscribers),
        rounded(added / many.scan()),
        COST_OF_SCAN,
    ));
    Ok(())
}

impl Cost {
    fn router(&self) -> f64 {
        median(self.router.iter().copied())
    }

    fn scan(&self) -> f64 {
        median(self.scan.iter().copied())
    }
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 1000.0).round() / 1000.0
}

/// Of accounts that the driver does not have.
fn addresses(count: usize) -> Vec<[u8; 32]> {
    let random = &mut StdRng::seed_from_u64(0x0be5);
    (0..count).map(|_| random.random()).collect()
}

/// The router's processor seconds per million events, and how many subscribers there were in the end.
fn measure(
    scene: &mut Scene<'_>,
    options: &Options,
    addresses: &[[u8; 32]],
) -> anyhow::Result<(f64, usize)> {
    let address = scene.router.grpc;
    let subscribed = async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS.min(addresses.len()) {
            channels.push(connect(address).await?);
        }
        let mut subscribers = Vec::new();
        for (nth, address) in addresses.iter().enumerate() {
            let text = bs58::encode(address).into_string();
            let request = accounts(vec![text], CommitmentLevel::Processed);
            let channel = &channels[nth % channels.len()];
            let extension = RequestExtension::default();
            let mut subscriber = Subscriber::subscribe(channel, &request, &extension).await?;
            // It has been taken when the router answers.
            subscriber.ping(1);
            while let Some(update) = subscriber.next().await? {
                if update.pong().is_some() {
                    break;
                }
            }
            subscribers.push(subscriber);
        }
        anyhow::Ok(subscribers)
    };
    let subscribers = scene.runtime.block_on(subscribed);
    let listening: Vec<_> = subscribers
        .context("subscribing")?
        .into_iter()
        .map(|mut subscriber| {
            scene
                .runtime
                .spawn(async move { while let Ok(Some(_)) = subscriber.next().await {} })
        })
        .collect();
    thread::sleep(SETTLE);
    let before = scene.router.cpu_seconds();
    let duration = Duration::from_secs(options.seconds);
    let driven = scene
        .driver
        .drive(options.rate, duration, &AtomicBool::new(false))?;
    thread::sleep(SETTLE);
    let seconds = scene.router.cpu_seconds() - before;
    let connected = listening.iter().filter(|task| !task.is_finished()).count();
    listening.iter().for_each(|task| task.abort());
    scene.router.must_run()?;
    Ok((seconds * 1e6 / driven.updates() as f64, connected))
}
