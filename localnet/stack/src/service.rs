//! One service of this workspace as a child process: its configuration, its log, its readiness.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use local_services::{Child, ChildSpec, workspace_binary};

use crate::layout::{RunDir, ServiceNote};

pub struct Service {
    pub child: Child,
    pub admin: u16,
}

/// What a service must say before the stack goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It lives: what it depends on may be away.
    Alive,
    /// It does its work.
    Ready,
}

const READY_LIMIT: Duration = Duration::from_secs(90);

impl Service {
    /// Writes `config` to the run directory and starts `binary` with it.
    pub fn start(dir: &RunDir, binary: &str, config: &str, admin: u16) -> anyhow::Result<Self> {
        let file = dir.config(&format!("{binary}.toml"));
        std::fs::write(&file, config).with_context(|| format!("{}", file.display()))?;
        let spec = ChildSpec::new(binary, workspace_binary(binary), dir.log(binary))
            .arg("--config")
            .arg(&file);
        Ok(Self {
            child: Child::spawn(spec)?,
            admin,
        })
    }

    /// Waits for the answer of its admin door. When it stays away, the error has the door's reason or the log's end.
    pub async fn wait(
        &mut self,
        client: &reqwest::Client,
        until: Until,
        mut waiting: impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + READY_LIMIT;
        let path = match until {
            Until::Alive => "livez",
            Until::Ready => "readyz",
        };
        loop {
            if let Some(status) = self.child.exit_status() {
                return Err(self.child.failure(&format!("ended at start ({status})")));
            }
            let (answers, reason) = probe(client, self.admin, path).await;
            if answers {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(self.child.failure(&format!(
                    "is not ready after {} s ({reason})",
                    READY_LIMIT.as_secs()
                )));
            }
            waiting(&reason);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    pub fn note(&self) -> ServiceNote {
        ServiceNote {
            name: self.child.name().to_owned(),
            pid: self.child.pid(),
            log: self.child.spec().log.clone(),
            admin: Some(self.admin),
        }
    }
}

/// Whether `http://127.0.0.1:PORT/PATH` answers 200, and what it says.
pub async fn probe(client: &reqwest::Client, port: u16, path: &str) -> (bool, String) {
    match client
        .get(format!("http://127.0.0.1:{port}/{path}"))
        .timeout(Duration::from_secs(3))
        .send()
        .await
    {
        Err(_) => (false, "starting".to_owned()),
        Ok(reply) => {
            let good = reply.status().is_success();
            (good, one_line(&reply.text().await.unwrap_or_default()))
        }
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(160).collect()
}

/// The file must be there before anything is started: one message instead of a half-started stack.
pub fn check_binaries(names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<String> = names
        .iter()
        .map(|name| workspace_binary(name))
        .filter(|path| !Path::new(path).is_file())
        .map(|path| path.display().to_string())
        .collect();
    if !missing.is_empty() {
        bail!(
            "not built: {}; run `./heliograph build`",
            missing.join(", ")
        );
    }
    Ok(())
}
