//! Which of several routers publishes, and what the others do meanwhile.
//!
//! ```text
//! stand by (follow the log, serve subscribers) ─▶ lease lapsed? ─▶ claim: fence, then a record ─▶ publish, beat
//!        ▲                                                                                       │
//!        └─────────────────── fenced by another, or another's later claim was read ──────────────┘
//! ```
//!
//! Safety is the log's: a claim takes the transactional id, so that whoever had it can commit nothing more. The lease in
//! `PREFIX.leadership` only says *when* to claim. A wrong guess costs a change of publisher, never a record.
//!
//! `watch` and `follower` are pure; `hold` writes, `standby` reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event_log::{NewRecord, Record};
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

mod follower;
mod hold;
mod standby;
mod watch;

pub use follower::{Follower, Newest, Step, last_told, told_after};
pub use hold::{Held, Pulse, claim, release};
pub use standby::Standby;
pub use watch::Watch;

/// `[leadership]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeadershipConfig {
    /// Tells this router from the others, over its restarts. Empty: the host's name and `listen`.
    pub name: String,
    /// A standby takes over when the publisher has not renewed its lease for this long. It is renewed six times as often,
    /// so one lost beat, or a second's pause, changes nothing.
    pub lease_ms: u64,
}

impl Default for LeadershipConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            lease_ms: 3_000,
        }
    }
}

impl LeadershipConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        if (500..=600_000).contains(&self.lease_ms) {
            return Ok(());
        }
        Err(ConfigError {
            field: "leadership.lease_ms".to_owned(),
            problem: "is not between 500 and 600000".to_owned(),
            fix: "write milliseconds; 3000 is a good start".to_owned(),
        })
    }

    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// Between two beats.
    pub fn beat(&self) -> Duration {
        self.lease() / 6
    }
}

/// One life of one router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    /// Microseconds since the Unix epoch when the process started.
    pub life: u64,
}

impl Identity {
    /// Of this process, which listens there.
    pub fn of_process(config: &LeadershipConfig, listen: &str) -> Self {
        let name = if config.name.is_empty() {
            format!("{}/{listen}", host_name())
        } else {
            config.name.clone()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            name,
            life: now.map_or(0, |now| now.as_micros() as u64),
        }
    }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// "From now on I publish." Written in a transaction, so that a router that was fenced meanwhile cannot write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Grows with every claim.
    pub turn: u64,
    pub by: Identity,
    /// The publisher has ended in order: nobody need wait.
    #[serde(default)]
    pub released: bool,
}

/// "I still do." Written outside of transactions, so that a long one does not look like death. One of an earlier turn is
/// that of a router that does not know yet that it was fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub turn: u64,
    pub life: u64,
}

/// A record of the leadership topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Claim(Claim),
    Beat(Beat),
}

const CLAIM: &[u8] = b"claim";
const BEAT: &[u8] = b"beat";

impl Notice {
    pub fn record(&self, topic: &std::sync::Arc<str>) -> NewRecord {
        let (key, value) = match self {
            Self::Claim(claim) => (CLAIM, serde_json::to_vec(claim)),
            Self::Beat(beat) => (BEAT, serde_json::to_vec(beat)),
        };
        NewRecord {
            topic: topic.clone(),
            partition: 0,
            key: Bytes::from_static(key),
            header: Bytes::new(),
            // These types have string keys only: they always serialize.
            value: value.unwrap_or_default().into(),
        }
    }

    /// `None`: of a later release, or damaged. It is passed over: the worst that can follow is a change of publisher.
    pub fn read(record: &Record) -> Option<Self> {
        match record.key.as_ref() {
            CLAIM => serde_json::from_slice(&record.value).ok().map(Self::Claim),
            BEAT => serde_json::from_slice(&record.value).ok().map(Self::Beat),
            _ => None,
        }
    }
}
