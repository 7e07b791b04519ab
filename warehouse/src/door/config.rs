//! The door's configuration, with its defaults and their reasons.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service_host::ConfigError;

use super::{
    query_log::QueryLogConfig,
    quota::Quota,
    upstream::UpstreamConfig,
    users::{Role, User},
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// Where clients connect.
    pub listen: String,
    /// The engine's files. One door per directory.
    pub data_dir: PathBuf,
    /// libchdb.so of version 26.7.3; empty means the one in the cache directory.
    pub library: PathBuf,
    /// Database of statements that name none.
    pub database: String,
    pub engine: EngineLimits,
    /// A server to stand in front of, instead of the embedded engine.
    pub upstream: UpstreamConfig,
    pub limits: Limits,
    pub users: Vec<User>,
    pub quotas: Vec<Quota>,
    pub query_log: QueryLogConfig,
    pub backup: BackupConfig,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupConfig {
    /// Folder for `BACKUP … TO File('name')` by users with the role admin; empty: no backups.
    pub dir: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineLimits {
    /// Memory of the engine in all, in MiB. The engine's own default is 90 % of the machine.
    pub memory_mb: u64,
    /// Cache of index marks, in MiB. The engine's own default is 5 GiB.
    pub mark_cache_mb: u64,
    /// Threads that merge parts.
    pub background_threads: u32,
    /// Folder of the cold volume, on a slower and larger disk; empty: no cold volume.
    pub cold_path: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Statements at a time; further ones wait.
    pub queries: usize,
    /// How long a statement waits for its turn before it is refused, in seconds.
    pub wait_seconds: u64,
    /// Named sessions open at a time.
    pub sessions: usize,
    /// Longest statement, in bytes, data of inserts not counted.
    pub text_bytes: usize,
    pub reader: ReaderLimits,
}

/// What one statement may cost. 0 means no limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderLimits {
    pub seconds: u64,
    pub memory_mb: u64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub rows_returned: u64,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8123".into(),
            data_dir: "data/warehouse".into(),
            library: PathBuf::new(),
            database: "heliograph".into(),
            engine: EngineLimits::default(),
            upstream: UpstreamConfig::default(),
            limits: Limits::default(),
            users: vec![User {
                name: "default".into(),
                role: Role::Writer,
                ..User::default()
            }],
            quotas: Vec::new(),
            query_log: QueryLogConfig::default(),
            backup: BackupConfig::default(),
        }
    }
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            memory_mb: 3_072,
            mark_cache_mb: 256,
            background_threads: 2,
            cold_path: PathBuf::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queries: 32,
            wait_seconds: 30,
            sessions: 64,
            text_bytes: 4 << 20,
            reader: ReaderLimits::default(),
        }
    }
}

impl Default for ReaderLimits {
    fn default() -> Self {
        Self {
            seconds: 60,
            memory_mb: 1_024,
            rows_read: 10_000_000_000,
            bytes_read: 1_000_000_000_000,
            rows_returned: 1_000_000,
        }
    }
}

impl ReaderLimits {
    /// Of users with another role.
    pub fn none() -> Self {
        Self {
            seconds: 0,
            memory_mb: 0,
            rows_read: 0,
            bytes_read: 0,
            rows_returned: 0,
        }
    }
}

impl DoorConfig {
    /// The library to load.
    pub fn library_path(&self) -> PathBuf {
        if self.library.as_os_str().is_empty() {
            cache_dir().join("libchdb-26.7.3").join("libchdb.so")
        } else {
            self.library.clone()
        }
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !is_name(&self.query_log.database) || self.query_log.database == self.database {
            return Err(ConfigError::new(
                "query_log.database",
                format!(
                    "{:?} is not a plain name of its own",
                    self.query_log.database
                ),
                "Use letters, digits and _, and another name than database",
            ));
        }
        if self.query_log.retention_days == 0 || self.query_log.queue_rows == 0 {
            return Err(ConfigError::new(
                "query_log.retention_days, query_log.queue_rows",
                "nothing would be kept",
                "Set both to 1 or more, or query_log.enabled to false",
            ));
        }
        if !self.upstream.url.is_empty() && !self.upstream.url.starts_with("http://") {
            return Err(ConfigError::new(
                "upstream.url",
                format!("{:?} is not an http:// address", self.upstream.url),
                "Write http://host:8123; for TLS put a proxy on this machine in front of the server",
            ));
        }
        self.check_cold_path()?;
        self.check_quotas()?;
        if !is_name(&self.database) {
            return Err(ConfigError::new(
                "database",
                format!("{:?} is not a plain name", self.database),
                "Use letters, digits and _",
            ));
        }
        if self.limits.queries == 0 {
            return Err(ConfigError::new(
                "limits.queries",
                "no statement could ever run",
                "Set it to 1 or more",
            ));
        }
        if self.engine.memory_mb < 256 {
            return Err(ConfigError::new(
                "engine.memory_mb",
                format!(
                    "{} MiB is less than the engine needs idle",
                    self.engine.memory_mb
                ),
                "Set it to 512 or more",
            ));
        }
        for (index, user) in self.users.iter().enumerate() {
            let field = |key: &str| format!("users[{index}].{key}");
            if user.name.is_empty() {
                return Err(ConfigError::new(
                    field("name"),
                    "a user has no name",
                    "Give it one",
                ));
            }
            if self.users[..index]
                .iter()
                .any(|earlier| earlier.name == user.name)
            {
                return Err(ConfigError::new(
                    field("name"),
                    format!("{:?} is listed twice", user.name),
                    "Remove one",
                ));
            }
            if !user.password_sha256.is_empty()
                && hex::decode(&user.password_sha256).map_or(0, |hash| hash.len()) != 32
            {
                return Err(ConfigError::new(
                    field("password_sha256"),
                    "it is not 64 hexadecimal digits",
                    "Take the output of `printf %s PASSWORD | sha256sum`",
                ));
            }
            if user
                .keys
                .iter()
                .any(|key| hex::decode(&key.sha256).map_or(0, |hash| hash.len()) != 32)
            {
                return Err(ConfigError::new(
                    field("keys"),
                    "a sha256 is not 64 hexadecimal digits",
                    "Take the output of `printf %s KEY | sha256sum`",
                ));
            }
            if !user.quota.is_empty() && !self.quotas.iter().any(|quota| quota.name == user.quota) {
                return Err(ConfigError::new(
                    field("quota"),
                    format!("there is no quota {:?}", user.quota),
                    "Name one of [[quotas]]",
                ));
            }
            if !user.has_password() && !is_loopback(&self.listen) {
                return Err(ConfigError::new(
                    field("password_sha256"),
                    format!(
                        "user {:?} has no password while the door listens on {}",
                        user.name, self.listen
                    ),
                    "Set a password, or listen on 127.0.0.1",
                ));
            }
        }
        Ok(())
    }

    fn check_cold_path(&self) -> Result<(), ConfigError> {
        let cold = &self.engine.cold_path;
        let refused =
            |problem: String, fix: &str| Err(ConfigError::new("engine.cold_path", problem, fix));
        if cold.as_os_str().is_empty() {
            return Ok(());
        }
        if !self.upstream.url.is_empty() {
            return refused(
                "no engine is embedded while upstream.url is set".into(),
                "Leave it empty, and give the server a storage policy of its own",
            );
        }
        if cold.starts_with(&self.data_dir) || self.data_dir.starts_with(cold) {
            return refused(
                format!(
                    "{} and data_dir {} lie in one another",
                    cold.display(),
                    self.data_dir.display()
                ),
                "Name a folder of its own, on the disk that is to hold old epochs",
            );
        }
        Ok(())
    }

    fn check_quotas(&self) -> Result<(), ConfigError> {
        for (index, quota) in self.quotas.iter().enumerate() {
            let repeated = self.quotas[..index]
                .iter()
                .any(|earlier| earlier.name == quota.name);
            if quota.name.is_empty() || repeated {
                return Err(ConfigError::new(
                    format!("quotas[{index}].name"),
                    format!("{:?} is empty or listed twice", quota.name),
                    "Give every quota a name of its own",
                ));
            }
            if quota.windows.iter().any(|window| window.seconds == 0) {
                return Err(ConfigError::new(
                    format!("quotas[{index}].windows"),
                    "a window lasts 0 seconds",
                    "Set seconds, 3600 for an hour",
                ));
            }
        }
        Ok(())
    }
}

fn is_loopback(listen: &str) -> bool {
    let host = listen
        .rsplit_once(':')
        .map_or(listen, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// `$HELIOGRAPH_CACHE`, else `$XDG_CACHE_HOME/heliograph`, else `~/.cache/heliograph`.
fn cache_dir() -> PathBuf {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("HELIOGRAPH_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("heliograph")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache").join("heliograph")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/heliograph"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_volume_has_a_folder_of_its_own() {
        let mut config = DoorConfig::default();
        for (data_dir, cold_path, url, words) in [
            ("data", "cold", "http://server:8123", "upstream.url is set"),
            ("data", "data/cold", "", "lie in one another"),
            ("cold/data", "cold", "", "lie in one another"),
        ] {
            config.data_dir = data_dir.into();
            config.engine.cold_path = cold_path.into();
            config.upstream.url = url.into();
            let error = config.check().unwrap_err();
            assert_eq!(error.field, "engine.cold_path");
            assert!(error.problem.contains(words), "{error}");
        }
        config.data_dir = "data".into();
        config.check().unwrap();
    }

    #[test]
    fn defaults_are_accepted_and_open_doors_are_not() {
        let mut config = DoorConfig::default();
        config.check().unwrap();
        config.listen = "0.0.0.0:8123".into();
        assert_eq!(
            config.check().unwrap_err().field,
            "users[0].password_sha256"
        );
        config.users[0].password = "x".into();
        config.check().unwrap();
        config.users[0].password_sha256 = "12".into();
        assert_eq!(
            config.check().unwrap_err().field,
            "users[0].password_sha256"
        );
    }
}
