//! Wiring, and nothing else: parts, queues, depths, what happens when full.
//!
//! | queue | depth | when full |
//! |---|---|---|
//! | door → engine, accepted transactions | [`ACCEPTED_DEPTH`] | the door waits (the row is written already) |
//! | stream → engine, batches | [`TOLD_DEPTH`] | reading waits |
//! | engine → leader, per leader | `quic.queue_depth` | refused at once, the next window tries again |
//! | leader → engine, ends of attempts | what the queues to the leaders hold | cannot be |
//! | engine → PostgreSQL | one write | changes gather for the next one |

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use event_log::EventLog;
use event_schema::Topics;
use service_host::Host;
use solana_keypair::{Keypair, Signer, read_keypair_file};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use crate::{
    config::Config,
    engine::{Engine, accepted_queue},
    leaders::{self, Refresh},
    metrics::Metrics,
    outcomes::Outcomes,
    quic::{Quic, QuicSettings},
    server::{self, Door},
    store::Store,
    tls,
    validator::Validator,
};

const ACCEPTED_DEPTH: usize = 4096;
const TOLD_DEPTH: usize = 8;
/// A validator that takes longer is as good as silent.
const RPC_TIMEOUT: Duration = Duration::from_secs(3);
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Runs the sender until it is drained. `log` is where outcomes come from, `listener` where callers come to.
pub async fn run(
    config: Config,
    log: Arc<dyn EventLog>,
    listener: TcpListener,
    host: Host,
) -> anyhow::Result<()> {
    let metrics = Metrics::new(host.metrics())?;
    let topics = Topics::new(&config.topic_prefix);
    let validator = Validator::new(&config.rpc_url, RPC_TIMEOUT)?;
    let store = Store::new(&config.database_url, config.database_connections)?;
    for part in ["postgres", "leaders", "stream"] {
        host.ready(part, false);
    }
    tokio::select! {
        opened = open_store(&store, &host) => opened?,
        () = host.drain() => return Ok(()),
    }

    let (ended_in, ended) = mpsc::unbounded_channel();
    let quic = Quic::new(
        quic_settings(&config),
        tls::certificate_of(&identity(&config)?)?,
        ended_in,
    )?;

    let (view_in, view) = watch::channel(leaders::LeaderView::default());
    let refresh = Refresh {
        slot: Duration::from_millis(config.leaders.slot_poll_ms),
        schedule: Duration::from_millis(config.leaders.schedule_refresh_ms),
    };
    let leaders = leaders::follow(
        validator.clone(),
        refresh,
        view_in,
        readiness(&host, "leaders"),
    );
    host.spawn("leaders", until_drained(&host, leaders));

    let (told_in, told) = mpsc::channel(TOLD_DEPTH);
    let positions = store
        .positions(&topics.canonical)
        .await
        .context("reading stored positions")?;
    let outcomes = Outcomes {
        log,
        topic: topics.canonical.clone(),
        positions,
        start: config.stream_start,
        metrics: metrics.clone(),
    };
    let outcomes = outcomes.follow(told_in, readiness(&host, "stream"));
    host.spawn("outcomes", until_drained(&host, outcomes));

    let resumed = store
        .open_deliveries()
        .await
        .context("reading open transactions")?;
    if !resumed.is_empty() {
        tracing::info!(transactions = resumed.len(), "resuming what was left open");
    }
    let (handle, accepted) = accepted_queue(ACCEPTED_DEPTH);
    let engine = Engine {
        resumed,
        accepted,
        ended,
        told,
        leaders: view,
        quic,
        store: store.clone(),
        validator,
        topic: topics.canonical.clone(),
        settings: config.leaders.clone(),
        metrics: metrics.clone(),
    };
    let engine = tokio::spawn(engine.run(host.drain(), readiness(&host, "postgres")));
    let door = Door {
        store,
        engine: handle,
        metrics,
        open_transactions_max: config.open_transactions_max,
    };
    host.started();
    axum::serve(listener, server::router(door))
        .with_graceful_shutdown(host.drain())
        .await
        .context("serving requests")?;
    engine.await.context("the engine")?
}

/// Waits for PostgreSQL, saying so once, and brings the schema up to date.
async fn open_store(store: &Store, host: &Host) -> anyhow::Result<()> {
    let mut said = false;
    while let Err(error) = store.ping().await {
        if !said {
            tracing::warn!(%error, "waiting for PostgreSQL; check database_url");
        }
        said = true;
        tokio::time::sleep(STORE_RETRY).await;
    }
    store.migrate().await?;
    host.ready("postgres", true);
    Ok(())
}

fn quic_settings(config: &Config) -> QuicSettings {
    QuicSettings {
        bind: config.quic.bind,
        ack_timeout: Duration::from_millis(config.quic.ack_timeout_ms),
        queue_depth: config.quic.queue_depth,
    }
}

fn identity(config: &Config) -> anyhow::Result<Keypair> {
    let path = &config.quic.identity_keypair;
    if path.is_empty() {
        let keypair = Keypair::new();
        tracing::info!(identity = %keypair.pubkey(), "sending without stake, under a new identity; set quic.identity_keypair to use a staked one");
        return Ok(keypair);
    }
    read_keypair_file(path).map_err(|error| {
        anyhow::anyhow!(
            "quic.identity_keypair: {path}: {error}; write the path of a solana-keygen file"
        )
    })
}

fn readiness(host: &Host, part: &'static str) -> impl Fn(bool) + Send + use<> {
    let host = host.clone();
    move |ready| host.ready(part, ready)
}

/// A follower has nothing to finish: it ends when the drain begins.
fn until_drained(
    host: &Host,
    follower: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
    let drain = host.drain();
    async move {
        tokio::select! {
            ended = follower => ended,
            () = drain => Ok(()),
        }
    }
}
