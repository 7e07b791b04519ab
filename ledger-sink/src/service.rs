//! The ledger as a hosted service: wiring only.

use std::sync::Arc;

use anyhow::Context;
use event_log::KafkaLog;
use service_host::{ConfigError, Host, Service};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, open_store};
use crate::server;

pub struct LedgerSink;

impl Service for LedgerSink {
    const NAME: &'static str = "ledger-sink";
    const ABOUT: &'static str =
        "Turns the canonical stream into a double-entry ledger in PostgreSQL.";
    const ADMIN: &'static str = "127.0.0.1:9182";
    const DOCS: &'static [(&'static str, &'static str)] = &[
        (
            "batch_records_max",
            "Records per database transaction, at most.",
        ),
        (
            "poll_wait_ms",
            "Milliseconds to wait for records before looking at the clock.",
        ),
        (
            "held_blocks_max",
            "Blocks held per partition until confirmed; beyond it the oldest are read again.",
        ),
        (
            "listen",
            "Address of the HTTP API: /v1/check, /v1/slots, /v1/transactions, /v1/accounts.",
        ),
    ];
    type Config = Config;

    fn check(config: &Config) -> Result<(), ConfigError> {
        config.kafka.check().map_err(|error| {
            ConfigError::new("kafka", error.to_string(), "See `--print-config`")
        })?;
        if !config.database_url.starts_with("postgres://")
            && !config.database_url.starts_with("postgresql://")
        {
            return Err(ConfigError::new(
                "database_url",
                "is not a PostgreSQL address",
                "Write postgres://user:password@host:port/database",
            ));
        }
        for (field, value) in [
            ("batch_records_max", config.batch_records_max),
            ("held_blocks_max", config.held_blocks_max),
        ] {
            if value == 0 {
                return Err(ConfigError::new(
                    field,
                    "must not be 0",
                    "Remove it to use the default",
                ));
            }
        }
        Ok(())
    }

    async fn run(config: Config, host: Host) -> anyhow::Result<()> {
        let listener = service_host::listen("listen", &config.listen).await?;
        let metrics = Metrics::register(host.metrics()).context("registering metrics")?;
        host.ready("database", false);
        host.ready("kafka", false);
        let Some(store) = open_store(&host, &config.database_url).await? else {
            return Ok(());
        };
        let api = server::router(store.pool().clone());
        let drained = host.drain();
        host.spawn("api", async move {
            axum::serve(listener, api)
                .with_graceful_shutdown(drained)
                .await
                .context("serving the API")
        });
        host.started();
        let log = Arc::new(KafkaLog::new(config.kafka.clone())?);
        match Pipeline::start(config, log, store, metrics, host).await? {
            Some(pipeline) => pipeline.run().await,
            None => Ok(()),
        }
    }
}
