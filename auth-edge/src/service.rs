//! Wiring: what runs, in which order, and what stops it.

use crate::config::{Config, DOCS};
use crate::edge::Edge;
use crate::metrics::Metrics;
use crate::{api, audit, outbox, sessions, store};
use service_host::{ConfigError, Host, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const RETRY: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_secs(2);
const SWEEP: Duration = Duration::from_secs(60);
const AUDIT_EVERY: Duration = Duration::from_secs(300);

pub struct AuthEdge;

impl Service for AuthEdge {
    const NAME: &'static str = "auth-edge";
    const ABOUT: &'static str =
        "Lets users in with passkeys, and lets what they approve out to the sender";
    const ADMIN: &'static str = "127.0.0.1:9187";
    const DOCS: &'static [(&'static str, &'static str)] = DOCS;

    type Config = Config;

    fn check(config: &Config) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: Config, host: Host) -> anyhow::Result<()> {
        let listener = service_host::listen("listen", &config.listen).await?;
        let edge = Arc::new(Edge::new(config, Metrics::new(host.metrics())?)?);
        host.ready("postgres", false);
        tokio::select! {
            () = host.drain() => return Ok(()),
            prepared = prepare(&edge) => prepared?,
        }
        host.ready("postgres", true);

        host.spawn("outbox", outbox::run(edge.clone(), host.drain()));
        host.spawn("housekeeping", keep_house(edge.clone(), host.clone()));
        host.started();
        tracing::info!(
            listen = %listener.local_addr()?,
            origin = edge.config.public_origin,
            policy = hex::encode(edge.policy.version()),
            "open {} in a browser", edge.config.public_origin
        );
        let app = api::router(edge).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app)
            .with_graceful_shutdown(host.drain())
            .await?;
        Ok(())
    }
}

/// Waits for the database, and brings it up to date. Only a database that answers and disagrees is a failure.
async fn prepare(edge: &Edge) -> anyhow::Result<()> {
    let mut told = false;
    while let Err(error) = sqlx::query("SELECT 1").execute(&edge.store).await {
        if !told {
            tracing::warn!(%error, "waiting for PostgreSQL: check database_url and that the database exists");
            told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
    store::migrate(&edge.store).await?;
    store::pin_custody(&edge.store, edge.custody.fingerprint()).await
}

/// What is looked after beside the requests, each at its own pace.
async fn keep_house(edge: Arc<Edge>, host: Host) -> anyhow::Result<()> {
    let pace = |period| {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut probe_ticks, mut sweep_ticks, mut audit_ticks) =
        (pace(PROBE), pace(SWEEP), pace(AUDIT_EVERY));
    let drain = host.drain();
    tokio::pin!(drain);
    loop {
        tokio::select! {
            () = &mut drain => return Ok(()),
            _ = probe_ticks.tick() => {
                let answer = tokio::time::timeout(PROBE, sqlx::query("SELECT 1").execute(&edge.store)).await;
                host.ready("postgres", matches!(answer, Ok(Ok(_))));
            }
            _ = sweep_ticks.tick() => {
                edge.rates.sweep();
                match sessions::sweep(&edge.store, edge.config.session.idle_seconds).await {
                    Ok(removed) => edge.metrics.sessions_swept.inc_by(removed),
                    Err(error) => tracing::debug!(%error, "nothing swept"),
                }
            }
            _ = audit_ticks.tick() => verify_audit(&edge).await,
        }
    }
}

async fn verify_audit(edge: &Edge) {
    match audit::verify(&edge.store).await {
        Ok(head) => {
            edge.metrics.audit_chain_intact.set(1);
            edge.metrics.audit_rows_verified.set(head.seq);
            tracing::info!(
                rows = head.seq,
                head = hex::encode(head.hash),
                "the audit chain is intact"
            );
        }
        Err(audit::AuditFault::Broken { seq, problem }) => {
            edge.metrics.audit_chain_intact.set(0);
            tracing::error!(
                row = seq,
                problem,
                "the audit table was tampered with: compare it with a backup"
            );
        }
        Err(audit::AuditFault::Store(error)) => {
            tracing::warn!(%error, "the audit chain was not verified")
        }
    }
}
