//! The ClickHouse door: this workspace's binary `warehouse-door`, which serves the embedded engine over HTTP.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;

use crate::{Child, ChildSpec, free_port, provision, scratch::Scratch, workspace_binary};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Default)]
pub struct DoorOptions {
    /// Engine's data, configuration and log. `None`: a temporary directory that goes with the door.
    pub dir: Option<PathBuf>,
    /// HTTP port; `None`: a free one.
    pub port: Option<u16>,
    /// The executable; `None`: [`workspace_binary`]`("warehouse-door")`.
    pub binary: Option<PathBuf>,
    /// Address of the door's own health and metrics endpoint; `None`: any free port.
    pub admin: Option<String>,
}

/// A running door. Dropping it stops it.
#[derive(Debug)]
pub struct ClickHouseDoor {
    child: Child,
    port: u16,
    scratch: Option<Scratch>,
}

impl ClickHouseDoor {
    /// Starts a door and returns when it answers a query. Fetches the engine first when it is missing.
    pub fn start(options: DoorOptions) -> anyhow::Result<Self> {
        let library = provision::libchdb(&provision::Progress::quiet())?;
        let (dir, scratch) = match options.dir {
            Some(dir) => (dir, None),
            None => {
                let scratch = Scratch::new(&std::env::temp_dir(), "door")?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("door: {}", dir.display()))?;
        let port = options.port.unwrap_or_else(free_port);
        let config = dir.join("door.toml");
        let admin = options
            .admin
            .unwrap_or_else(|| format!("127.0.0.1:{}", free_port()));
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ndata_dir = {:?}\nlibrary = {library:?}\n\n[host]\nadmin = {admin:?}\n",
            dir.join("data"),
        );
        std::fs::write(&config, text).with_context(|| format!("door: {}", config.display()))?;
        let binary = options
            .binary
            .unwrap_or_else(|| workspace_binary("warehouse-door"));
        let spec = ChildSpec::new("warehouse-door", binary, dir.join("door.log"))
            .arg("--config")
            .arg(&config);
        let mut child = Child::spawn(spec)?;
        child.wait_ready(START_LIMIT, || answers(port))?;
        Ok(Self {
            child,
            port,
            scratch,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it answers a query now.
    pub fn answers(&self) -> bool {
        answers(self.port)
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts it again on the same data and port, after killing it if it runs.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child.respawn()?;
        let port = self.port;
        self.child.wait_ready(START_LIMIT, || answers(port))
    }

    /// Drains and ends.
    pub fn stop(&mut self) {
        self.child.stop(STOP_LIMIT);
    }
}

impl Drop for ClickHouseDoor {
    fn drop(&mut self) {
        if self.scratch.is_some() {
            self.kill();
        } else {
            self.stop();
        }
    }
}

// A port that accepts is not yet an engine that answers.
fn answers(port: u16) -> bool {
    let query = || -> std::io::Result<bool> {
        let limit = Duration::from_secs(5);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(
            b"GET /?query=SELECT%201 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        )?;
        let mut reply = String::new();
        stream.take(64 * 1024).read_to_string(&mut reply)?;
        Ok(reply.starts_with("HTTP/1.1 200"))
    };
    query().unwrap_or(false)
}
