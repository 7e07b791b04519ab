//! A door as a process of its own, with users of every role, on a data directory that goes with it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use local_services::{Child, ChildSpec, free_port};

/// Password of `analyst` (reader), `writer` and `boss` (admin); `default` is a writer without one.
pub const PASSWORD: &str = "secret";

pub struct Door {
    pub port: u16,
    pub child: Child,
    dir: tempfile::TempDir,
}

impl Door {
    /// With the limits that most tests want.
    pub fn start() -> Self {
        Self::with("[limits.reader]\nseconds = 2\nrows_read = 0\n")
    }

    /// `more`: further configuration; `DIR` in it stands for the door's own folder.
    pub fn with(more: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("heliograph-test-door-")
            .tempdir()
            .unwrap();
        let port = free_port();
        let library =
            local_services::provision::libchdb(&local_services::provision::Progress::quiet())
                .unwrap();
        let folder = dir.path().to_str().unwrap();
        let users = [
            ("default", "", "writer"),
            ("analyst", PASSWORD, "reader"),
            ("writer", PASSWORD, "writer"),
            ("boss", PASSWORD, "admin"),
        ]
        .map(|(name, password, role)| {
            format!("[[users]]\nname = {name:?}\npassword = {password:?}\nrole = {role:?}\n")
        })
        .concat();
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ndata_dir = \"{folder}/data\"\nlibrary = {library:?}\n\
             {users}[host]\nadmin = \"127.0.0.1:0\"\n{}",
            more.replace("DIR", folder)
        );
        let config = dir.path().join("door.toml");
        std::fs::write(&config, text).unwrap();
        let spec = ChildSpec::new(
            "warehouse-door",
            PathBuf::from(env!("CARGO_BIN_EXE_warehouse-door")),
            dir.path().join("log"),
        )
        .arg("--config")
        .arg(&config);
        let mut child = Child::spawn(spec).unwrap();
        child
            .wait_ready(Duration::from_secs(60), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .unwrap();
        Self { port, child, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The door's address for a user with [`PASSWORD`].
    pub fn url_of(&self, user: &str) -> String {
        format!("{}/?user={user}&password={PASSWORD}", self.url())
    }

    /// SIGKILL and a start on the same data and port.
    pub fn kill_and_restart(&mut self) {
        self.child.kill();
        self.child.respawn().unwrap();
        let port = self.port;
        self.child
            .wait_ready(Duration::from_secs(60), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .unwrap();
    }
}
