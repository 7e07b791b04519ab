use std::{process::ExitCode, sync::Arc};

use event_log::KafkaLog;
use service_host::{ConfigError, Host, Service};
use tx_sender::{
    config::{Config, DOCS},
    pipeline,
};

struct TxSender;

impl Service for TxSender {
    const NAME: &'static str = "tx-sender";
    const ABOUT: &'static str =
        "Sends signed transactions to the current and next leader until they land or expire";
    const ADMIN: &'static str = "127.0.0.1:9186";
    const DOCS: &'static [(&'static str, &'static str)] = DOCS;
    type Config = Config;

    fn check(config: &Config) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: Config, host: Host) -> anyhow::Result<()> {
        let listener = service_host::listen("listen", &config.listen).await?;
        let log = Arc::new(KafkaLog::new(config.kafka.clone())?);
        pipeline::run(config, log, listener, host).await
    }
}

fn main() -> ExitCode {
    service_host::run::<TxSender>()
}
