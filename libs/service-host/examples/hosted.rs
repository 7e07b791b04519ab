//! The smallest hosted service: it serves nothing and shows every way a process can end. The tests drive it.

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_host::{ConfigError, Host, Service};

struct Hosted;

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// What to do: `wait`, `fail`, `panic`, `stuck` or `task`.
    ending: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ending: "wait".into(),
        }
    }
}

impl Service for Hosted {
    const NAME: &'static str = "hosted";
    const ABOUT: &'static str = "Shows how a service lives and ends.";
    const DOCS: &'static [(&'static str, &'static str)] =
        &[("ending", "wait, fail, panic, stuck or task.")];
    type Config = Config;

    fn check(config: &Config) -> Result<(), ConfigError> {
        match config.ending.as_str() {
            "wait" | "fail" | "panic" | "stuck" | "task" => Ok(()),
            other => Err(ConfigError::new(
                "ending",
                format!("`{other}` is no ending"),
                "Use wait, fail, panic, stuck or task",
            )),
        }
    }

    async fn run(config: Config, host: Host) -> anyhow::Result<()> {
        host.ready("work", true);
        host.started();
        match config.ending.as_str() {
            "fail" => anyhow::bail!("as configured"),
            "panic" => panic!("as configured"),
            "stuck" => std::future::pending::<()>().await,
            "task" => {
                host.spawn("short-lived", async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    anyhow::bail!("the task broke")
                });
                host.drain().await;
            }
            _ => host.drain().await,
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    service_host::run::<Hosted>()
}
