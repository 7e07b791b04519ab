//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;

use crate::ConfigError;
use crate::config::{HostConfig, LogFormat};

pub(crate) fn start(config: &HostConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        ConfigError::new(
            "host.log",
            format!("`{}` is not a log filter: {error}", config.log),
            "Write something like \"info\"",
        )
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first one's settings.
    let _ = match config.log_format {
        LogFormat::Text => logs
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}
