//! One filter with very many addresses: until the router has taken it; and one address more, one less, without the rest.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::sync::oneshot;
use yellowstone_grpc_proto::geyser::{CommitmentLevel, SubscribeRequest};

use super::{
    Scene,
    driver::Driven,
    latency::milliseconds,
    subscriber::{AccountsChange, RequestExtension, Subscriber, accounts, connect},
};
use crate::report::{Check, Report};

const BUILD_MS: f64 = 50.0;
/// Whoever changes one address must not pay for all of them.
const CHANGE_OF_TAKING: f64 = 0.5;
const LIMIT: Duration = Duration::from_secs(60);
const RATE: u32 = 2_000;

pub fn run(scene: &mut Scene<'_>, addresses: usize, report: &mut Report) -> anyhow::Result<()> {
    let random = &mut StdRng::seed_from_u64(0x51f7);
    let keys: Vec<[u8; 32]> = (0..addresses).map(|_| random.random()).collect();
    let texts = keys.iter().map(|key| bs58::encode(key).into_string());
    let request = accounts(texts.collect(), CommitmentLevel::Processed);
    let (added, removed) = (scene.driver.key(1), keys[0]);
    let opened = async {
        let channel = connect(scene.router.grpc).await?;
        let none = RequestExtension::default();
        let nothing = SubscribeRequest::default();
        let mut subscriber = Subscriber::subscribe(&channel, &nothing, &none).await?;
        // The way there and back, without work.
        let mut round_trip = u64::MAX;
        for id in 1..=20 {
            round_trip = round_trip.min(answered(&mut subscriber, id, |_| {}).await?);
        }
        let taken = answered(&mut subscriber, 100, |s| s.send(&request, &none)).await?;
        let change = RequestExtension {
            accounts_change: vec![AccountsChange {
                filter: "accounts".into(),
                add: vec![added.to_vec()],
                remove: vec![removed.to_vec()],
            }],
            ..none
        };
        let changed = answered(&mut subscriber, 101, |s| s.send(&nothing, &change)).await?;
        anyhow::Ok((subscriber, round_trip, taken, changed))
    };
    let (subscriber, round_trip, taken, changed) = scene.runtime.block_on(opened)?;
    let (heard, due) = listen(scene, subscriber, added)?;
    println!(
        "\n{addresses} addresses in one filter, ms: taken after {}, one exchanged after {}, an empty round trip {}; {heard} of {due} updates of the new address",
        milliseconds(taken),
        milliseconds(changed),
        milliseconds(round_trip)
    );
    report.figure(
        "large_filter",
        json!({
            "addresses": addresses, "taken_ms": milliseconds(taken), "changed_ms": milliseconds(changed),
            "round_trip_ms": milliseconds(round_trip), "updates_of_the_new_address": heard, "due": due,
        }),
    );
    report.checks.push(Check::at_most(
        "large_filter_taken_ms",
        milliseconds(taken),
        BUILD_MS,
    ));
    report.checks.push(Check::at_most(
        "large_filter_change_cost_of_taking",
        (changed as f64 / taken as f64 * 1000.0).round() / 1000.0,
        CHANGE_OF_TAKING,
    ));
    let missed = due.abs_diff(heard);
    report.checks.push(Check::at_most(
        "large_filter_updates_missed_after_change",
        missed as f64,
        0.0,
    ));
    Ok(())
}

/// Nanoseconds until the router answers a ping that was sent behind what `ask` sends.
async fn answered(
    subscriber: &mut Subscriber,
    id: i32,
    ask: impl FnOnce(&Subscriber),
) -> anyhow::Result<u64> {
    let begin = Instant::now();
    ask(subscriber);
    subscriber.ping(id);
    let answer = tokio::time::timeout(LIMIT, async {
        while let Some(update) = subscriber.next().await? {
            if update.pong() == Some(id) {
                return Ok(());
            }
        }
        bail!("the router ended the stream")
    });
    answer.await.context("no answer to a ping")??;
    Ok(begin.elapsed().as_nanos() as u64)
}

/// How many updates of the address came, and how many the driver made.
fn listen(
    scene: &mut Scene<'_>,
    mut subscriber: Subscriber,
    address: [u8; 32],
) -> anyhow::Result<(u64, u64)> {
    let (stop, mut stopped) = oneshot::channel::<()>();
    let reading = scene.runtime.spawn(async move {
        let mut heard = 0;
        loop {
            tokio::select! {
                update = subscriber.next() => match update {
                    // Of another address there must be none, so it is not asked which one it is.
                    Ok(Some(update)) => heard += u64::from(update.account().is_some()),
                    _ => return heard,
                },
                _ = &mut stopped => return heard,
            }
        }
    });
    let duration = Duration::from_secs(3);
    let driven: Driven = scene
        .driver
        .drive(RATE, duration, &AtomicBool::new(false))?;
    std::thread::sleep(Duration::from_secs(1));
    let _ = stop.send(());
    let heard = scene.runtime.block_on(reading)?;
    let numbers = driven.first..driven.end;
    let due = numbers.filter(|number| scene.driver.key(*number) == address);
    Ok((heard, due.count() as u64))
}
