//! Where a run keeps its things, on which ports it listens, and the note by which other commands find it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use local_services::{free_port, port_in_use, workspace_binary};
use serde::{Deserialize, Serialize};

/// The repository: the nearest folder upwards with `heliograph` and `Cargo.toml`, from `$HELIOGRAPH_ROOT`, which the
/// script sets, or from here.
pub fn repository() -> anyhow::Result<PathBuf> {
    if let Some(root) = std::env::var_os("HELIOGRAPH_ROOT") {
        return Ok(PathBuf::from(root));
    }
    let here = std::env::current_dir()?;
    here.ancestors()
        .chain(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors())
        .find(|dir| dir.join("heliograph").is_file() && dir.join("Cargo.toml").is_file())
        .map(Path::to_owned)
        .context("run this inside the repository, or set HELIOGRAPH_ROOT to its folder")
}

/// The folders of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    pub root: PathBuf,
}

impl RunDir {
    pub fn create(root: PathBuf) -> anyhow::Result<Self> {
        for dir in ["configs", "logs"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).with_context(|| {
                format!("run directory {}: choose another by --dir", dir.display())
            })?;
        }
        // Others must be able to walk through it: PostgreSQL refuses to run as root.
        let root = root.canonicalize()?;
        Ok(Self { root })
    }

    pub fn config(&self, name: &str) -> PathBuf {
        self.root.join("configs").join(name)
    }

    pub fn log(&self, service: &str) -> PathBuf {
        self.root.join("logs").join(format!("{service}.log"))
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    pub fn save(&self, state: &State) -> anyhow::Result<()> {
        let unfinished = self.root.join("state.json.new");
        std::fs::write(&unfinished, serde_json::to_vec_pretty(state)?)?;
        Ok(std::fs::rename(unfinished, self.state())?)
    }

    pub fn load(&self) -> Option<State> {
        serde_json::from_slice(&std::fs::read(self.state()).ok()?).ok()
    }

    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.state());
    }

    /// The state of a stack that runs here now.
    pub fn running(&self) -> Option<State> {
        self.load().filter(|state| is_alive(state.pid))
    }
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim_end().starts_with("heliograph"))
}

/// What `status`, `logs` and `down` need to know about a running stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Process of `up`; SIGTERM to it drains everything.
    pub pid: u32,
    pub source: String,
    pub ports: Ports,
    pub services: Vec<ServiceNote>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceNote {
    pub name: String,
    pub pid: u32,
    pub log: PathBuf,
    /// Port with /livez, /readyz, /metrics; `None` for the services that are not ours.
    pub admin: Option<u16>,
}

/// Every port of the stack, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub kafka: u16,
    pub postgres: u16,
    pub clickhouse: u16,
    /// PubSub is the next one.
    pub rpc: u16,
    pub gossip: u16,
    /// First of about a hundred.
    pub validator_range: u16,
    pub plugin_metrics: u16,
    pub router: u16,
    pub grpc: u16,
    pub ledger: u16,
    pub sender: u16,
    pub edge: u16,
    pub router_admin: u16,
    pub ledger_admin: u16,
    pub warehouse_admin: u16,
    pub door_admin: u16,
    pub sender_admin: u16,
    pub edge_admin: u16,
}

impl Ports {
    pub const DOCUMENTED: Self = Self {
        kafka: 9092,
        postgres: 5433,
        clickhouse: 8123,
        rpc: 8899,
        gossip: 8000,
        validator_range: 8001,
        plugin_metrics: 9185,
        router: 8910,
        grpc: 10_000,
        ledger: 8920,
        sender: 8930,
        edge: 8940,
        router_admin: 9181,
        ledger_admin: 9182,
        warehouse_admin: 9183,
        door_admin: 9184,
        sender_admin: 9186,
        edge_admin: 9187,
    };

    pub fn free() -> Self {
        Self {
            kafka: free_port(),
            postgres: free_port(),
            clickhouse: free_port(),
            rpc: free_run(3),
            gossip: free_port(),
            validator_range: free_run(110),
            plugin_metrics: free_port(),
            router: free_port(),
            grpc: free_port(),
            ledger: free_port(),
            sender: free_port(),
            edge: free_port(),
            router_admin: free_port(),
            ledger_admin: free_port(),
            warehouse_admin: free_port(),
            door_admin: free_port(),
            sender_admin: free_port(),
            edge_admin: free_port(),
        }
    }

    /// Refuses to start on ports that somebody else has, all of them in one message.
    pub fn check(&self, validator: bool) -> anyhow::Result<()> {
        let mut wanted = vec![
            ("Kafka", self.kafka),
            ("PostgreSQL", self.postgres),
            ("ClickHouse door", self.clickhouse),
            ("plugin metrics", self.plugin_metrics),
            ("stream-router WebSocket", self.router),
            ("stream-router gRPC", self.grpc),
            ("ledger-sink", self.ledger),
            ("tx-sender", self.sender),
            ("auth-edge", self.edge),
            ("stream-router admin", self.router_admin),
            ("ledger-sink admin", self.ledger_admin),
            ("warehouse-sink admin", self.warehouse_admin),
            ("warehouse-door admin", self.door_admin),
            ("tx-sender admin", self.sender_admin),
            ("auth-edge admin", self.edge_admin),
        ];
        if validator {
            wanted.push(("validator RPC", self.rpc));
            wanted.push(("validator PubSub", self.rpc + 1));
        }
        let taken: Vec<String> = wanted
            .iter()
            .filter(|(_, port)| port_in_use(*port))
            .map(|(service, port)| format!("{port} ({service})"))
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        bail!(
            "in use: port {}. Stop what listens there (`ss -ltnp` shows it; `./heliograph down` stops an earlier stack), or add --free-ports",
            taken.join(", ")
        )
    }
}

// The first of `count` neighbouring ports, of which the first and a sample are free.
fn free_run(count: u16) -> u16 {
    loop {
        let first = free_port();
        if (0..count).all(|offset| !port_in_use(first + offset)) {
            return first;
        }
    }
}

/// The plugin's shared object, beside this program.
pub fn plugin_library() -> anyhow::Result<PathBuf> {
    let library = workspace_binary("libgeyser_plugin.so");
    if !library.is_file() {
        bail!(
            "the plugin is not built: {} does not exist; run `./heliograph build`",
            library.display()
        );
    }
    Ok(library)
}

/// Where the validator's build is kept, apart from everything else.
pub fn validator_target() -> PathBuf {
    local_services::cache_dir().join("target-validator")
}

/// The validator's program, if it has been built.
pub fn validator_binary() -> Option<PathBuf> {
    Some(validator_target().join("debug/localnet-validator")).filter(|path| path.is_file())
}
