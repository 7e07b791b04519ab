//! A service as a child process: log to a file, ready when it answers, gone when its parent is.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What to run.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// How messages call it: "Kafka", "stream-router".
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, String)>,
    /// Receives standard output and standard error; appended to.
    pub log: PathBuf,
    /// Receives standard output instead of the log; truncated.
    pub output: Option<PathBuf>,
    /// Run as this user and group id (needs root).
    pub run_as: Option<(u32, u32)>,
}

impl ChildSpec {
    pub fn new(name: &str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: log.into(),
            output: None,
            run_as: None,
        }
    }

    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn output(mut self, file: impl Into<PathBuf>) -> Self {
        self.output = Some(file.into());
        self
    }
}

/// A running (or ended) child. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    spec: ChildSpec,
    process: std::process::Child,
    ended: Option<ExitStatus>,
    // Where this run's part of the log begins: an older run's last words must not explain a new failure.
    log_start: u64,
}

impl Child {
    pub fn spawn(spec: ChildSpec) -> anyhow::Result<Self> {
        if spec.program.components().count() > 1 && !spec.program.is_file() {
            bail!(
                "{}: {} does not exist; build it with `cargo build` (or run `./heliograph build`)",
                spec.name,
                spec.program.display()
            );
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| format!("{}: log file {}", spec.name, spec.log.display()))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let output = match &spec.output {
            Some(path) => File::create(path)
                .with_context(|| format!("{}: output file {}", spec.name, path.display()))?,
            None => log.try_clone()?,
        };

        // `setpriv` becomes the program (exec), so the process id is the program's own.
        let mut command = Command::new("setpriv");
        if let Some((user, group)) = spec.run_as {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={group}"))
                .arg("--clear-groups");
        }
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&spec.program)
            .args(&spec.arguments)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole foreground group; who starts services stops them, in order.
            .process_group(0);
        let process = spawn_on_lasting_thread(command).with_context(|| {
            format!(
                "{}: could not start {} (through `setpriv` of util-linux)",
                spec.name,
                spec.program.display()
            )
        })?;
        Ok(Self {
            spec,
            process,
            ended: None,
            log_start,
        })
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().ok().flatten();
        }
        self.ended
    }

    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits until `answers` is true. Fails when the process ends or the time is up, with the last lines of its log.
    pub fn wait_ready(
        &mut self,
        limit: Duration,
        mut answers: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Err(self.failure(&format!("ended at start ({status})")));
            }
            if answers() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("is not ready after {} s", limit.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An error that says what happened and ends with the last lines of the log.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let tail = self.log_tail(12);
        let log = self.spec.log.display();
        if tail.is_empty() {
            anyhow!("{} {what}; its log {log} is empty", self.spec.name)
        } else {
            anyhow!("{} {what}; the end of {log}:\n{tail}", self.spec.name)
        }
    }

    /// The last `lines` lines that this run wrote to its log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.spec.log, self.log_start, lines).unwrap_or_default()
    }

    /// SIGTERM, and SIGKILL when that has not ended it within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.stop_by(Signal::TERM, limit)
    }

    pub(crate) fn stop_by(&mut self, signal: Signal, limit: Duration) -> Option<ExitStatus> {
        self.signal(signal);
        if !self.wait(limit) {
            self.kill();
        }
        self.ended
    }

    /// SIGKILL, for fault tests and as the last resort. Returns when the process is gone.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = self.process.kill();
            self.ended = self.process.wait().ok();
        }
    }

    /// Waits for the process to end by itself; false when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// SIGTERM without waiting.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = Pid::from_raw(self.process.id() as i32)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Starts the same program again, after it has ended or been killed.
    pub fn respawn(&mut self) -> anyhow::Result<()> {
        self.kill();
        *self = Self::spawn(self.spec.clone())?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(log: &Path, start: u64, lines: usize) -> std::io::Result<String> {
    const BYTES_MAX: u64 = 16 * 1024;
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        start.max(length.saturating_sub(BYTES_MAX)).min(length),
    ))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

type SpawnRequest = (
    Command,
    mpsc::SyncSender<std::io::Result<std::process::Child>>,
);

// The parent-death signal is sent when the *thread* that forked ends, and a test or a runtime's worker is a thread that
// ends early. One thread that lives as long as the process does all the forking.
fn spawn_on_lasting_thread(command: Command) -> anyhow::Result<std::process::Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::sync_channel::<SpawnRequest>(0);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for (mut command, reply) in requests {
                    let _ = reply.send(command.spawn());
                }
            })
            .map(|_| sender)
            .unwrap_or_else(|_| mpsc::sync_channel(0).0)
    });
    let (reply, answer) = mpsc::sync_channel(1);
    spawner
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes could not be started"))?;
    Ok(answer.recv()??)
}
