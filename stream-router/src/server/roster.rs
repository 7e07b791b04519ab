//! Who is here over WebSocket, for operators.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::fanout::{Allowance, ConnectionId};

/// One connection.
#[derive(Debug, Clone, Serialize)]
pub struct Visitor {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    /// The key's name.
    pub key: String,
    /// Unix time in milliseconds.
    pub since_ms: u64,
    pub messages_sent: u64,
    pub bytes_sent: u64,
    pub subscriptions: usize,
    /// Addresses named one by one, in all of them.
    pub addresses: usize,
    pub queued_bytes: usize,
}

/// All that are open.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Mutex<BTreeMap<ConnectionId, Arc<Facts>>>>);

/// What changes while a connection is open.
#[derive(Debug)]
pub struct Facts {
    pub peer: SocketAddr,
    pub since: SystemTime,
    pub messages_sent: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub allowance: Arc<Allowance>,
    pub queued: Arc<AtomicUsize>,
}

impl Roster {
    pub fn enter(&self, id: ConnectionId, facts: Facts) -> Visit {
        let facts = Arc::new(facts);
        self.visits().insert(id, Arc::clone(&facts));
        Visit {
            id,
            facts,
            roster: self.clone(),
        }
    }

    pub fn who(&self) -> Vec<Visitor> {
        let visits = self.visits();
        visits
            .iter()
            .map(|(id, facts)| facts.visitor(*id))
            .collect()
    }

    fn visits(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<Facts>>> {
        // A panic while holding it leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn visitor(&self, id: ConnectionId) -> Visitor {
        let since = self.since.duration_since(UNIX_EPOCH);
        Visitor {
            id,
            peer: self.peer,
            key: self.allowance.key().to_owned(),
            since_ms: since.unwrap_or(Duration::ZERO).as_millis() as u64,
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            subscriptions: self.allowance.subscriptions(),
            addresses: self.allowance.addresses(),
            queued_bytes: self.queued.load(Ordering::Relaxed),
        }
    }
}

/// One open connection; forgotten when dropped.
#[derive(Debug)]
pub struct Visit {
    pub id: ConnectionId,
    pub facts: Arc<Facts>,
    roster: Roster,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.roster.visits().remove(&self.id);
    }
}
