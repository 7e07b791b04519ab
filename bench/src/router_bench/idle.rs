//! A router that has nothing to do, and ten clients that wait, at either door: its processor time.

use std::{thread, time::Duration};

use serde_json::json;

use super::{Scene, websocket::Listener};
use crate::{
    fanout_bench::subscriber::{RequestExtension, Subscriber, all_accounts, connect},
    observed::{
        log::Stage,
        services::{Router, RouterOptions},
    },
    report::{Check, Report},
};

const CLIENTS: usize = 10;
/// So many of them at the WebSocket door, the others at the gRPC one.
const BY_WEBSOCKET: usize = 5;
const PERCENT_OF_A_CORE: f64 = 1.0;
/// What starting costs is not what waiting costs.
const WARM: Duration = Duration::from_secs(2);

pub fn run(scene: &mut Scene<'_>, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    let brokers = scene.broker.brokers();
    scene.runtime.block_on(Stage::open(&brokers, "idle"))?;
    let options = RouterOptions::new(scene.router, &brokers, "idle", scene.scratch);
    let mut router = Router::start(&options)?;
    let mut listening = Vec::new();
    for _ in 0..BY_WEBSOCKET {
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}"#;
        let subscribed = Listener::subscribe(router.websocket, request);
        let mut listener = scene.runtime.block_on(subscribed)?;
        listening.push(
            scene
                .runtime
                .spawn(async move { while let Ok(Some(_)) = listener.next().await {} }),
        );
    }
    for _ in BY_WEBSOCKET..CLIENTS {
        let address = router.grpc;
        let subscribed = async move {
            let channel = connect(address).await?;
            let (request, extension) = (all_accounts(), RequestExtension::default());
            let subscribed = Subscriber::subscribe(&channel, &request, &extension).await;
            anyhow::Ok(subscribed?)
        };
        let mut subscriber = scene.runtime.block_on(subscribed)?;
        listening.push(
            scene
                .runtime
                .spawn(async move { while let Ok(Some(_)) = subscriber.next().await {} }),
        );
    }
    thread::sleep(WARM);
    let before = router.cpu_seconds();
    thread::sleep(Duration::from_secs(seconds));
    let percent = (router.cpu_seconds() - before) * 100.0 / seconds as f64;
    router.must_run()?;
    let connected = listening.iter().filter(|task| !task.is_finished()).count();
    listening.iter().for_each(|task| task.abort());
    println!("\nidle with {connected} clients: {percent:.2} % of a core over {seconds} s");
    report.figure(
        "idle",
        json!({
            "clients": connected, "seconds": seconds, "percent_of_a_core": percent,
            "resident_kib": router.resident_kib(),
        }),
    );
    report.checks.push(Check::at_least(
        "idle_clients_connected",
        connected as f64,
        CLIENTS as f64,
    ));
    report.checks.push(Check::at_most(
        "idle_percent_of_a_core",
        (percent * 1000.0).round() / 1000.0,
        PERCENT_OF_A_CORE,
    ));
    Ok(())
}
