//! `warehouse-door`: ClickHouse's HTTP interface over the embedded engine, in a process of its own.
//!
//! A request is read ([`request`]), its user checked ([`users`]), its statement told from its data ([`statement`]), run on
//! an engine session ([`execute`]) and answered as a ClickHouse server would ([`server`], [`format`], [`coding`]).
//! Clients that speak to a server speak to this door unmodified; the sinks do not know the difference.
//!
//! What it deliberately does not do: replication, roles, grants per table, user-defined server settings, the native TCP
//! protocol. For those run a ClickHouse server and give its URL to the sink instead.

mod body;
mod coding;
mod config;
mod error;
mod execute;
mod format;
mod metrics;
mod native_block;
mod request;
mod server;
mod session;
mod statement;
mod users;
mod watch;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use service_host::{ConfigError, Host, Service};
use tokio::sync::Semaphore;

pub use config::{DoorConfig, EngineLimits, Limits, ReaderLimits};
pub use users::{Role, User};

use crate::engine::{Engine, EngineOptions};

/// How often idle sessions are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Idle engine sessions kept ready.
const IDLE_SESSIONS: usize = 16;

/// The service.
pub struct WarehouseDoor;

impl Service for WarehouseDoor {
    const NAME: &'static str = "warehouse-door";
    const ABOUT: &'static str = "ClickHouse's HTTP interface over the embedded engine";
    const ADMIN: &'static str = "127.0.0.1:9184";
    const DOCS: &'static [(&'static str, &'static str)] = &[
        ("listen", "Where ClickHouse clients connect over HTTP."),
        ("data_dir", "The engine's files. One door per directory."),
        (
            "library",
            "libchdb.so of version 26.7.3; empty: $HELIOGRAPH_CACHE/libchdb-26.7.3/libchdb.so.",
        ),
        (
            "database",
            "Database of statements that name none; created when absent.",
        ),
        (
            "engine.memory_mb",
            "Memory the engine may hold in all, in MiB.",
        ),
        ("engine.mark_cache_mb", "Cache of index marks, in MiB."),
        ("engine.background_threads", "Threads that merge parts."),
        ("limits.queries", "Statements at a time; further ones wait."),
        (
            "limits.wait_seconds",
            "How long a statement waits for its turn.",
        ),
        ("limits.sessions", "Named sessions open at a time."),
        (
            "limits.text_bytes",
            "Longest statement in bytes; data of inserts does not count.",
        ),
        (
            "limits.reader.seconds",
            "Longest run of one statement of a reader; 0: no limit.",
        ),
        (
            "limits.reader.memory_mb",
            "Memory of one statement of a reader, in MiB; 0: no limit.",
        ),
        (
            "limits.reader.rows_read",
            "Rows one statement of a reader may read; 0: no limit.",
        ),
        (
            "limits.reader.bytes_read",
            "Bytes one statement of a reader may read; 0: no limit.",
        ),
        (
            "limits.reader.rows_returned",
            "Rows one statement of a reader may return; 0: no limit.",
        ),
        (
            "users",
            "Who may connect: name, password or password_sha256, role reader or writer.",
        ),
    ];

    type Config = DoorConfig;

    fn check(config: &DoorConfig) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: DoorConfig, host: Host) -> anyhow::Result<()> {
        let options = EngineOptions {
            library: config.library_path(),
            data_dir: config.data_dir.clone(),
            database: config.database.clone(),
            memory_bytes: config.engine.memory_mb << 20,
            mark_cache_bytes: config.engine.mark_cache_mb << 20,
            background_threads: config.engine.background_threads,
            idle_sessions: IDLE_SESSIONS,
        };
        let listener = service_host::listen("listen", &config.listen).await?;
        let engine = tokio::task::spawn_blocking(move || Engine::open(&options))
            .await
            .context("the engine's start panicked")??;
        tracing::info!(listen = %listener.local_addr()?, version = engine.version(), data_dir = %config.data_dir.display(), "the door is open");
        let door = Arc::new(server::Door {
            users: config.users,
            sessions: session::Sessions::new(config.limits.sessions),
            turns: Arc::new(Semaphore::new(config.limits.queries)),
            metrics: metrics::DoorMetrics::new(host.metrics())?,
            limits: config.limits,
            engine: engine.clone(),
        });
        let sweeper = tokio::spawn(sweep(door.clone()));
        host.ready("engine", true);
        host.started();
        axum::serve(listener, server::router(door.clone()))
            .with_graceful_shutdown(host.drain())
            .await?;
        sweeper.abort();
        close(door, engine).await;
        Ok(())
    }
}

/// Ends sessions nobody used for longer than they asked for.
async fn sweep(door: Arc<server::Door>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        door.metrics.sessions.set(door.engine.sessions() as i64);
        let over = door.sessions.expired(Instant::now());
        if !over.is_empty() {
            // Closing may wait for the engine.
            let _ = tokio::task::spawn_blocking(move || drop(over)).await;
        }
    }
}

/// Closes every engine session, the keeper last. Statements still running were drained before, or are given up.
async fn close(door: Arc<server::Door>, engine: Arc<Engine>) {
    let _ = tokio::task::spawn_blocking(move || {
        drop(door.sessions.drain());
        engine.close();
    })
    .await;
    tracing::info!("the engine is closed");
}
