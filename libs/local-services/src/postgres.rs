//! PostgreSQL, from the system's packages, `$PG_BIN` or the wheel in the cache.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::{Child, ChildSpec, free_port, postgres_wire, provision, scratch::Scratch};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Data and log. `None`: a temporary directory that goes with the server. When this process is root and the user
    /// `postgres` cannot reach the directory, the data is kept below /var/tmp instead (see [`Postgres::data_dir`]).
    pub dir: Option<PathBuf>,
    /// `None`: a free one.
    pub port: Option<u16>,
}

/// A running server that trusts local connections. Dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    data: PathBuf,
    scratch: Option<Scratch>,
}

impl Postgres {
    /// Starts a server and returns when a session can be opened. Initialises an empty directory, continues a used one.
    pub fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        let bin = provision::postgres(&provision::Progress::quiet())?;
        let run_as = unprivileged_user()?;
        let (dir, scratch) = match options.dir {
            Some(dir) => {
                std::fs::create_dir_all(&dir)
                    .with_context(|| format!("PostgreSQL: {}", dir.display()))?;
                (reachable(&dir, run_as.is_some())?, None)
            }
            None => {
                let scratch = Scratch::new(Path::new("/tmp"), "postgres")?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("PostgreSQL: {}", dir.display()))?;
        let data = dir.join("data");
        if let Some((user, group)) = run_as {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
            std::os::unix::fs::chown(&dir, Some(user), Some(group))?;
        }
        if !data.join("PG_VERSION").exists() {
            initialise(&bin, &data, run_as)?;
        }

        let port = options.port.unwrap_or_else(free_port);
        let mut spec = ChildSpec::new("PostgreSQL", bin.join("postgres"), dir.join("postgres.log"))
            .arg("-D")
            .arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", data.display()),
            "max_connections=200".to_owned(),
            "log_min_messages=warning".to_owned(),
        ] {
            spec = spec.arg("-c").arg(setting);
        }
        // The server writes its own log file through the descriptor it inherits, which root has opened.
        spec.run_as = run_as;
        let mut child = Child::spawn(spec)?;
        child.wait_ready(START_LIMIT, || postgres_wire::answers(port))?;
        Ok(Self {
            child,
            port,
            data,
            scratch,
        })
    }

    /// `postgres://postgres@127.0.0.1:PORT/db`; the database must exist (see [`Postgres::create_database`]).
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates the database unless it is there.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            bail!("database name {name:?}: use letters, digits and underscores");
        }
        match postgres_wire::execute(self.port, &format!("CREATE DATABASE \"{name}\"")) {
            Err(error) if error.to_string().contains("already exists") => Ok(()),
            other => other,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Where the data really is.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Whether a session can be opened now.
    pub fn answers(&self) -> bool {
        postgres_wire::answers(self.port)
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL to the postmaster; its processes end when they notice.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts it again on the same data and port, after killing it if it runs.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        // Backends of a killed postmaster hold its shared memory for a moment; the server refuses to start until then.
        let deadline = std::time::Instant::now() + START_LIMIT;
        loop {
            self.child.respawn()?;
            let port = self.port;
            match self
                .child
                .wait_ready(START_LIMIT, || postgres_wire::answers(port))
            {
                Err(error)
                    if error.to_string().contains("shared memory")
                        && std::time::Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(200));
                }
                other => return other,
            }
        }
    }

    /// "Fast" shutdown: sessions are ended, a checkpoint is written.
    pub fn stop(&mut self) {
        self.child.stop_by(Signal::INT, STOP_LIMIT);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.scratch.is_some() {
            // "Immediate": no checkpoint for data that goes away, but its processes are ended before the directory.
            self.child.stop_by(Signal::QUIT, STOP_LIMIT);
        } else {
            self.stop();
        }
    }
}

fn initialise(bin: &Path, data: &Path, run_as: Option<(u32, u32)>) -> anyhow::Result<()> {
    let initdb = bin.join("initdb");
    let mut command = match run_as {
        None => Command::new(&initdb),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={group}"))
                .args(["--clear-groups", "--"])
                .arg(&initdb);
            command
        }
    };
    let output = command
        .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale"])
        // A crash of the machine in these seconds costs an empty database.
        .arg("--no-sync")
        .arg("-D")
        .arg(data)
        .current_dir("/")
        .output()
        .with_context(|| format!("PostgreSQL: could not run {}", initdb.display()))?;
    if !output.status.success() {
        bail!(
            "PostgreSQL: initdb in {} failed:\n{}",
            data.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

// PostgreSQL refuses to run as root: the account that Debian's package creates, else `nobody`.
fn unprivileged_user() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").context("PostgreSQL: /etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in accounts.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, user, group, ..] = fields[..]
                && name == wanted
            {
                return Ok(Some((user.parse()?, group.parse()?)));
            }
        }
    }
    bail!(
        "PostgreSQL refuses to run as root and there is no user `postgres`; run as an ordinary user"
    )
}

// The user `postgres` must be able to walk to its data: every parent needs the execute bit for others.
fn reachable(dir: &Path, other_user: bool) -> anyhow::Result<PathBuf> {
    let dir = dir.canonicalize()?;
    let walkable = dir
        .ancestors()
        .skip(1)
        .all(|parent| std::fs::metadata(parent).is_ok_and(|metadata| metadata.mode() & 0o001 != 0));
    if !other_user || walkable {
        return Ok(dir);
    }
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    Ok(
        PathBuf::from("/var/tmp")
            .join(format!("heliograph-postgres-{}", hex::encode(&digest[..6]))),
    )
}
