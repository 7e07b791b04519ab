//! The real router, as a child process with a configuration of the bench's.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use local_services::{Child, ChildSpec, free_port, workspace_binary};

use super::{log::CANONICAL_PARTITIONS, source::PARTITIONS};
use crate::plugin_bench::process_figures;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);

/// What a bench chooses in the router's configuration; the rest are its defaults.
#[derive(Debug, Clone)]
pub struct RouterOptions<'a> {
    pub binary: &'a Path,
    pub brokers: &'a str,
    pub prefix: &'a str,
    /// For its configuration and its log.
    pub scratch: &'a Path,
    /// Milliseconds; `None`: its default.
    pub gap_after_ms: Option<u64>,
    pub settle_ms: Option<u64>,
    /// Further lines of TOML, whole sections.
    pub more: &'a str,
}

impl<'a> RouterOptions<'a> {
    pub fn new(binary: &'a Path, brokers: &'a str, prefix: &'a str, scratch: &'a Path) -> Self {
        Self {
            binary,
            brokers,
            prefix,
            scratch,
            gap_after_ms: None,
            settle_ms: None,
            more: "",
        }
    }

    /// Concludes fast about what is incomplete, for benches that leave records out.
    pub fn impatient(self) -> Self {
        Self {
            gap_after_ms: Some(1_200),
            settle_ms: Some(200),
            ..self
        }
    }

    fn toml(&self, websocket: u16, grpc: u16, admin: u16) -> String {
        let [accounts, transactions, slots] = PARTITIONS;
        let limit = |name: &str, value: Option<u64>| {
            value.map_or(String::new(), |value| format!("{name} = {value}\n"))
        };
        format!(
            "listen = \"127.0.0.1:{websocket}\"\ntopic_prefix = \"{}\"\n\
             [kafka]\nbrokers = \"{}\"\n\
             [topics]\naccounts = {accounts}\ntransactions = {transactions}\nslots = {slots}\ncanonical = {CANONICAL_PARTITIONS}\n\
             [limits]\n{}{}\
             [grpc]\nenabled = true\nlisten = \"127.0.0.1:{grpc}\"\n\
             [host]\nadmin = \"127.0.0.1:{admin}\"\n{}",
            self.prefix,
            self.brokers,
            limit("gap_after_ms", self.gap_after_ms),
            limit("settle_ms", self.settle_ms),
            self.more,
        )
    }
}

/// See the module. Dropping it kills it.
pub struct Router {
    child: Child,
    admin: SocketAddr,
    pub websocket: SocketAddr,
    pub grpc: SocketAddr,
}

impl Router {
    /// Returns when the process is there, not when it is ready.
    pub fn spawn(options: &RouterOptions<'_>) -> anyhow::Result<Self> {
        let [websocket, grpc, admin] = [free_port(), free_port(), free_port()];
        let prefix = options.prefix;
        let config = options.scratch.join(format!("{prefix}.toml"));
        fs::write(&config, options.toml(websocket, grpc, admin))?;
        let log = options.scratch.join(format!("{prefix}.log"));
        let spec = ChildSpec::new("stream-router", options.binary, log)
            .arg("--config")
            .arg(config);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            child: Child::spawn(spec)?,
            admin: local(admin),
            websocket: local(websocket),
            grpc: local(grpc),
        })
    }

    /// Returns when it has taken over.
    pub fn start(options: &RouterOptions<'_>) -> anyhow::Result<Self> {
        let mut router = Self::spawn(options)?;
        router.wait_ready()?;
        Ok(router)
    }

    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !self.is_ready() {
            self.must_run()?;
            if begin.elapsed() > START_LIMIT {
                bail!(
                    "the router is not ready after {START_LIMIT:?}:\n{}",
                    self.log_tail()
                );
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        page(self.admin, "/readyz").is_ok_and(|page| page.starts_with("HTTP/1.1 200"))
    }

    /// An error with its last words when it has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.exit_status() {
            None => Ok(()),
            Some(status) => bail!("the router ended ({status}):\n{}", self.log_tail()),
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_running()
    }

    pub fn log_tail(&self) -> String {
        self.child.log_tail(20)
    }

    /// What all its lives said, the last lines.
    pub fn history(&self, lines: usize) -> String {
        let log = fs::read_to_string(&self.child.spec().log).unwrap_or_default();
        let mut last: Vec<&str> = log.lines().rev().take(lines).collect();
        last.reverse();
        last.join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Processor seconds so far.
    pub fn cpu_seconds(&self) -> f64 {
        process_figures::cpu_seconds(self.pid())
    }

    pub fn resident_kib(&self) -> u64 {
        process_figures::resident_kib(self.pid())
    }

    pub fn peak_resident_kib(&self) -> u64 {
        process_figures::peak_resident_kib(self.pid())
    }

    /// Its Prometheus page.
    pub fn metrics(&self) -> anyhow::Result<String> {
        page(self.admin, "/metrics").context("the router's /metrics")
    }

    /// SIGKILL, and the next life at once.
    pub fn kill_and_respawn(&mut self) -> anyhow::Result<()> {
        self.child.kill();
        self.child.respawn()
    }

    /// The next life, after it has ended.
    pub fn respawn(&mut self) -> anyhow::Result<()> {
        self.child.respawn()
    }

    /// SIGTERM; true if it drained.
    pub fn stop(&mut self) -> bool {
        let status = self.child.stop(STOP_LIMIT);
        status.is_some_and(|status| status.success())
    }
}

/// The binary `name`: given, or beside this program.
pub fn built(given: Option<&Path>, name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = given.map_or_else(|| workspace_binary(name), Path::to_owned);
    if !path.is_file() {
        bail!(
            "{}: no such file. Fix: cargo build -p {package}, in the same profile",
            path.display()
        );
    }
    Ok(path)
}

fn page(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_chosen_is_written() {
        let scratch = Path::new("/tmp");
        let options = RouterOptions::new(Path::new("router"), "b:1", "p", scratch);
        let text = options.toml(1, 2, 3);
        assert!(!text.contains("gap_after_ms"));
        let text = options.impatient().toml(1, 2, 3);
        assert!(text.contains("gap_after_ms = 1200\n"), "{text}");
        assert!(text.contains("[grpc]\nenabled = true\nlisten = \"127.0.0.1:2\"\n"));
    }
}
