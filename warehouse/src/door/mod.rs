//! `warehouse-door`: ClickHouse's HTTP interface over the embedded engine, in a process of its own.
//!
//! A request is read ([`request`]), its user checked ([`users`]) and what the user has left ([`quota`]), its statement told
//! from its data ([`statement`]), printed by the engine's parser and judged ([`policy`]), run on an engine session
//! ([`execute`]), answered as a ClickHouse server would ([`server`], [`response`], [`format`], [`coding`]) and written down
//! ([`query_log`]). Clients that speak to a server speak to this door unmodified; the sinks do not know the difference.
//!
//! With `upstream.url` set there is no engine here: the same door stands in front of a ClickHouse server ([`upstream`]).
//!
//! What it deliberately does not do: replication, grants per table, user-defined server settings, the native TCP protocol.
//! For those run a ClickHouse server, and put this door in front of it or not.

mod admission;
mod body;
mod coding;
mod config;
mod error;
mod execute;
mod format;
mod metrics;
mod native_block;
mod policy;
mod printed;
mod query_log;
mod quota;
mod request;
mod response;
mod server;
mod session;
pub(crate) mod statement;
pub(crate) mod token;
mod upstream;
mod users;
mod watch;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use service_host::{ConfigError, Host, Service};
use tokio::sync::Semaphore;

pub use config::{BackupConfig, DoorConfig, EngineLimits, Limits, ReaderLimits};
pub use query_log::QueryLogConfig;
pub use quota::{Quota, Window};
pub use upstream::UpstreamConfig;
pub use users::{Key, Role, User};

use crate::engine::{Engine, EngineError, EngineOptions};
use policy::{Policy, Surface};
use query_log::{LogStore, QueryLog};
use server::Backend;

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
        (
            "engine.cold_path",
            "Folder of the cold volume, which `warehouse-archive retain` moves old epochs to; empty: none. Never take it away once used.",
        ),
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
            "Who may connect: name, password or password_sha256, keys (name, sha256), role reader, writer or admin, quota.",
        ),
        (
            "quotas",
            "Templates for users: name, concurrent_queries, windows (seconds; queries, errors, rows_read, bytes_read, rows_returned, execution_seconds).",
        ),
        (
            "upstream.url",
            "A ClickHouse server to stand in front of, http://host:8123; empty: the engine is embedded.",
        ),
        ("upstream.user", "The door's own account there."),
        ("upstream.password", "Its password."),
        ("query_log.enabled", "Keep a row per statement."),
        (
            "query_log.database",
            "The door's own database; users read their rows in the view query_log of `database`.",
        ),
        (
            "query_log.retention_days",
            "Older rows of the query log are deleted.",
        ),
        (
            "query_log.queue_rows",
            "Rows waiting to be written; further ones are dropped and counted.",
        ),
        (
            "query_log.statement_bytes",
            "Longest statement kept in the log.",
        ),
        (
            "backup.dir",
            "Folder for BACKUP … TO File('name') by users with the role admin; empty: no backups.",
        ),
    ];

    type Config = DoorConfig;

    fn check(config: &DoorConfig) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: DoorConfig, host: Host) -> anyhow::Result<()> {
        let listener = service_host::listen("listen", &config.listen).await?;
        let metrics = metrics::DoorMetrics::new(host.metrics())?;
        let dropped = metrics.log_dropped.clone();
        let (backend, surface, log) = if config.upstream.url.is_empty() {
            open_engine(&config, dropped).await?
        } else {
            reach_upstream(&config, dropped).await?
        };
        tracing::info!(listen = %listener.local_addr()?, "the door is open");
        let door = Arc::new(server::Door {
            backend,
            policy: Arc::new(Policy::new(&surface, &config.query_log.database)),
            printed: Arc::default(),
            users: config.users,
            quotas: quota::Quotas::new(&config.quotas),
            log,
            sessions: session::Sessions::new(config.limits.sessions),
            turns: Arc::new(Semaphore::new(config.limits.queries)),
            metrics,
            limits: config.limits,
        });
        let sweeper = tokio::spawn(sweep(door.clone()));
        host.ready("engine", true);
        host.started();
        let service = server::router(door.clone())
            .into_make_service_with_connect_info::<std::net::SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(host.drain())
            .await?;
        sweeper.abort();
        close(door).await;
        Ok(())
    }
}

type Opened = (Backend, Surface, QueryLog);

async fn open_engine(
    config: &DoorConfig,
    dropped: prometheus::IntCounter,
) -> anyhow::Result<Opened> {
    let options = EngineOptions {
        library: config.library_path(),
        data_dir: config.data_dir.clone(),
        database: config.database.clone(),
        memory_bytes: config.engine.memory_mb << 20,
        mark_cache_bytes: config.engine.mark_cache_mb << 20,
        background_threads: config.engine.background_threads,
        idle_sessions: IDLE_SESSIONS,
        text_bytes_max: config.limits.text_bytes,
        backup_dir: Some(config.backup.dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        cold_dir: Some(config.engine.cold_path.clone()).filter(|dir| !dir.as_os_str().is_empty()),
    };
    let (log_config, database) = (config.query_log.clone(), config.database.clone());
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<Opened> {
        let engine = Engine::open(&options)?;
        let surface = Surface::of_answer(&engine.ask(Surface::QUESTION)?);
        let log = if log_config.enabled {
            QueryLog::start(&log_config, &database, EngineLog(engine.clone()), dropped)
                .map_err(anyhow::Error::msg)?
        } else {
            QueryLog::disabled(dropped)
        };
        tracing::info!(version = engine.version(), data_dir = %options.data_dir.display(), "the engine is open");
        Ok((Backend::Engine(engine), surface, log))
    });
    opened.await.context("the engine's start panicked")?
}

async fn reach_upstream(
    config: &DoorConfig,
    dropped: prometheus::IntCounter,
) -> anyhow::Result<Opened> {
    let upstream = Arc::new(upstream::Upstream::connect(config.upstream.clone()).await?);
    let surface = upstream.surface().await.map_err(anyhow::Error::msg)?;
    let (log_config, database) = (config.query_log.clone(), config.database.clone());
    let store = upstream::UpstreamLog(upstream.clone());
    let log = tokio::task::spawn_blocking(move || {
        if log_config.enabled {
            QueryLog::start(&log_config, &database, store, dropped).map_err(anyhow::Error::msg)
        } else {
            Ok(QueryLog::disabled(dropped))
        }
    });
    let log = log.await.context("the query log's start panicked")??;
    tracing::info!(
        version = upstream.version,
        url = config.upstream.url,
        "the server answers"
    );
    Ok((Backend::Upstream(upstream), surface, log))
}

/// The query log's way into the embedded engine.
struct EngineLog(Arc<Engine>);

impl LogStore for EngineLog {
    fn command(&mut self, sql: &str) -> Result<(), String> {
        self.0.ask(sql).map(drop).map_err(|error| match error {
            EngineError::Statement { problem, .. } => problem,
            other => other.to_string(),
        })
    }

    fn insert(&mut self, sql: &str, rows: &[u8]) -> Result<(), String> {
        let mut handle = self.0.session().map_err(|error| error.to_string())?;
        let mut stream = handle
            .connection
            .insert(sql.as_bytes(), "JSONEachRow", &[])?;
        stream.append(rows)?;
        stream.finish()?;
        self.0.give_back(handle);
        Ok(())
    }
}

/// Ends sessions nobody used for longer than they asked for.
async fn sweep(door: Arc<server::Door>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Backend::Engine(engine) = &door.backend {
            door.metrics.sessions.set(engine.sessions() as i64);
        }
        let over = door.sessions.expired(Instant::now());
        if !over.is_empty() {
            // Closing may wait for the engine.
            let _ = tokio::task::spawn_blocking(move || drop(over)).await;
        }
    }
}

/// Writes the log's rest and closes every engine session, the keeper last. Statements still running were drained before,
/// or are given up.
async fn close(door: Arc<server::Door>) {
    let _ = tokio::task::spawn_blocking(move || {
        drop(door.sessions.drain());
        door.log.close();
        if let Backend::Engine(engine) = &door.backend {
            engine.close();
        }
    })
    .await;
    tracing::info!("the door is closed");
}
