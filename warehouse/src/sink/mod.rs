//! `warehouse-sink`: the canonical topic into ClickHouse tables, each row exactly once in effect.
//!
//! Records become batches ([`planner`]); a batch's extent is journalled before its rows ([`journal`]); rows are built
//! purely ([`rows`], with [`crate::decode`] and [`tx_error`]) and sent as columnar blocks ([`native`]) under tokens that make a
//! repetition harmless ([`writer`]). After a crash the unfinished batch is rebuilt from the log and sent again.
//!
//! What it deliberately does not do: it knows no fork choice, scales no amounts, and never asks the chain for anything.

mod config;
mod decided;
mod idl_folder;
mod journal;
mod metrics;
mod migrations;
mod native;
mod pace;
mod pipeline;
mod planner;
mod roller;
mod rollups;
mod rows;
mod store;
mod tables;
mod tx_error;
mod witness;
mod writer;

use std::sync::Arc;

use event_log::{EventLog, KafkaLog, TopicSpec};
use event_schema::Topics;
use service_host::{ConfigError, Host, Service};

pub use config::{Migrations, SinkConfig};

pub(crate) use idl_folder::load as load_idls;
pub use native::TableBlock;
pub(crate) use native::{Millis, Seconds};
pub use roller::roll_up;
pub(crate) use rollups::is_rollup;
pub use rollups::{ROLLUPS, WINDOW};
pub use rows::BlockRows;
pub use store::{Store, StoreError};
pub use tables::InstructionRow;
pub(crate) use tables::SlotStatusRow;

use journal::{Journal, JournalError};
use migrations::MigrationError;
use writer::BatchWriter;

/// The service.
pub struct WarehouseSink;

impl Service for WarehouseSink {
    const NAME: &'static str = "warehouse-sink";
    const ABOUT: &'static str = "Writes canonical blocks into ClickHouse tables";
    const ADMIN: &'static str = "127.0.0.1:9183";
    const DOCS: &'static [(&'static str, &'static str)] = &[
        (
            "clickhouse_url",
            "The door of the embedded engine, or a ClickHouse server: http://host:port.",
        ),
        (
            "clickhouse_database",
            "Database of the tables; created when absent.",
        ),
        (
            "clickhouse_user",
            "User with the right to create and write; empty for the default user.",
        ),
        ("clickhouse_password", "Its password."),
        (
            "migrations",
            "apply: bring the schema up to date; print: show what is to run, and end; check: refuse an old schema.",
        ),
        (
            "flush_ms",
            "Batches are begun at most this often, in milliseconds; so long may a row wait for others.",
        ),
        (
            "batch_transactions",
            "A batch with this many transactions does not wait.",
        ),
        ("poll_records", "Records taken from the log at a time."),
        (
            "idl_folder",
            "Folder of Anchor or Codama IDLs (*.json) for programs without a decoder; empty for none.",
        ),
    ];

    type Config = SinkConfig;

    fn check(config: &SinkConfig) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: SinkConfig, host: Host) -> anyhow::Result<()> {
        let log: Arc<dyn EventLog> = Arc::new(KafkaLog::new(config.kafka.clone())?);
        run_on(log, config, host).await
    }
}

/// The sink over any log.
pub async fn run_on(log: Arc<dyn EventLog>, config: SinkConfig, host: Host) -> anyhow::Result<()> {
    let idls = Arc::new(idl_folder::load(&config.idl_folder)?);
    host.ready("clickhouse", false);
    host.ready("log", false);
    let store = Store::new(
        &config.clickhouse_url,
        &config.clickhouse_database,
        &config.clickhouse_user,
        &config.clickhouse_password,
    );
    let metrics = metrics::SinkMetrics::new(host.metrics())?;
    if !prepare(&store, &config, &host).await? {
        return Ok(());
    }
    let Some(journal) = claim(&store, &host).await? else {
        return Ok(());
    };
    host.ready("clickhouse", true);
    let topics = Topics::new(&config.topic_prefix);
    ensure_dead_letters(log.as_ref(), &topics, &host).await;
    let writer = BatchWriter {
        store,
        journal,
        metrics,
        idls,
    };
    pipeline::Pipeline {
        log,
        topics,
        config,
        writer,
        host,
    }
    .run()
    .await
}

/// Takes the place of earlier sinks. `None`: asked to drain while ClickHouse was away.
async fn claim(store: &Store, host: &Host) -> Result<Option<Journal>, JournalError> {
    loop {
        match Journal::claim(store.clone()).await {
            Err(JournalError::Store(error)) if error.retry_helps() => {
                tracing::warn!(%error, "waiting for ClickHouse");
            }
            outcome => return outcome.map(Some),
        }
        tokio::select! {
            () = host.drain() => return Ok(None),
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}

/// Waits for ClickHouse and brings its schema up to date. `false`: there is nothing further to run.
async fn prepare(store: &Store, config: &SinkConfig, host: &Host) -> anyhow::Result<bool> {
    let mut told = false;
    loop {
        match migrate(store, config).await {
            Ok(go_on) => return Ok(go_on),
            Err(error) if error.retry_helps() => {
                if !told {
                    tracing::warn!(%error, "waiting for ClickHouse");
                    told = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = host.drain() => return Ok(false),
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}

async fn migrate(store: &Store, config: &SinkConfig) -> Result<bool, MigrationError> {
    store.create_database(&config.clickhouse_database).await?;
    match config.migrations {
        Migrations::Apply => {
            migrations::apply(store).await?;
            Ok(true)
        }
        Migrations::Check => match migrations::pending_on(store).await?.first() {
            None => Ok(true),
            Some(first) => Err(MigrationError::Pending {
                version: first.version,
                name: first.name,
            }),
        },
        Migrations::Print => {
            for migration in migrations::pending_on(store).await? {
                println!(
                    "-- {:04}_{} {}",
                    migration.version,
                    migration.name,
                    migration.checksum()
                );
                for statement in migration.statements() {
                    println!("{statement};\n");
                }
            }
            Ok(false)
        }
    }
}

/// The first migration that this program knows and the store lacks.
pub(crate) async fn pending_migration(store: &Store) -> Result<Option<String>, MigrationError> {
    let pending = migrations::pending_on(store).await?;
    let name = |first: &&migrations::Migration| format!("{:04}_{}", first.version, first.name);
    Ok(pending.first().map(name))
}

/// A missing dead-letter topic does not stop the stream; the first damaged record would say so.
async fn ensure_dead_letters(log: &dyn EventLog, topics: &Topics, host: &Host) {
    let spec = TopicSpec {
        name: topics.dead_letters.to_string(),
        partitions: 1,
        compacted: false,
        config: Vec::new(),
        replication: 1,
    };
    if let Err(error) = log.ensure_topics(&[spec]).await
        && !host.draining()
    {
        tracing::warn!(%error, "the dead-letter topic could not be ensured");
    }
}
