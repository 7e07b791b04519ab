//! A process's life: configuration, logs, health, metrics, signals, drain.
//!
//! A service implements [`Service`] and its `main` is `service_host::run::<TheService>()`. The host then
//!
//! 1. reads one TOML file and the environment, refuses unknown keys by naming the nearest known one;
//! 2. opens the admin door: `/livez` (the process answers), `/startupz`, `/readyz` (all named parts are ready),
//!    `/metrics`;
//! 3. runs the service; on SIGTERM or SIGINT asks it to drain, gives it `host.drain_seconds`, and on a second signal
//!    exits at once;
//! 4. turns the outcome into an exit code: 0 done or drained, 1 failed, 2 bad configuration.
//!
//! What this crate deliberately does not do: it knows no broker and no database, holds no business configuration, and
//! starts no other process.
//!
//! Reading order: this file, `config`, `host`, `admin`, `process`, `listen`, `logs`, `print`.

mod admin;
mod config;
mod host;
mod listen;
mod logs;
mod print;
mod process;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use config::HostConfig;
pub use host::Host;
pub use listen::listen;
pub use process::run;

/// One service, as its `main` knows it.
pub trait Service: Sized + Send + 'static {
    /// The binary's name.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// Where the admin door listens unless configured; port 0 picks a free one.
    const ADMIN: &'static str = "127.0.0.1:0";
    /// What each configuration key means, by dotted path, for `--print-config`. Keys that every service shares are
    /// documented already.
    const DOCS: &'static [(&'static str, &'static str)] = &[];

    /// The service's configuration: a struct with `#[serde(default, deny_unknown_fields)]`, and the same on every struct
    /// inside it.
    type Config: DeserializeOwned + Serialize + Default + Send + Sync + 'static;

    /// Refuses configurations that cannot work. Must not need the network.
    fn check(config: &Self::Config) -> Result<(), ConfigError>;

    /// Runs until drained or failed. Returning `Ok` before a drain was asked for ends the process with success.
    fn run(config: Self::Config, host: Host) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A configuration that cannot work: which key, what is wrong, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("configuration key `{field}`: {problem}. {fix}")]
pub struct ConfigError {
    pub field: String,
    pub problem: String,
    pub fix: String,
}

impl ConfigError {
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}
