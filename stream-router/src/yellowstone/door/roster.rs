//! Who is here: what the door knows of each stream, joined with what the engine knows of each subscriber.

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
use tokio::sync::mpsc;

use super::metrics::{DoorMetrics, Ended};
use crate::yellowstone::{
    engine::{self, Command, SubscriberView},
    filter::SubscriberId,
};

/// One stream, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct Visitor {
    pub id: SubscriberId,
    pub peer: SocketAddr,
    /// The key's name.
    pub key: String,
    /// Unix time in milliseconds.
    pub since_ms: u64,
    pub frames_sent: u64,
    /// Before compression.
    pub bytes_sent: u64,
    pub filters: usize,
    /// Keys named one by one in its last whole request.
    pub accounts: usize,
    /// What the engine knows; absent before the first request.
    pub subscription: Option<SubscriberView>,
}

/// All streams that are open.
#[derive(Debug, Clone)]
pub struct Roster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    visits: Mutex<BTreeMap<SubscriberId, Arc<Facts>>>,
    next_id: AtomicU64,
    metrics: DoorMetrics,
}

/// What changes while a stream is open.
#[derive(Debug)]
pub struct Facts {
    peer: SocketAddr,
    key: String,
    since: SystemTime,
    pub frames_sent: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub filters: AtomicUsize,
    pub accounts: AtomicUsize,
}

impl Roster {
    pub fn new(metrics: &DoorMetrics) -> Self {
        Self(Arc::new(Shared {
            visits: Mutex::default(),
            next_id: AtomicU64::new(1),
            metrics: metrics.clone(),
        }))
    }

    /// `commands` go to the engine that is to hear of its end.
    pub fn enter(&self, peer: SocketAddr, key: &str, commands: &mpsc::Sender<Command>) -> Visit {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(Facts {
            peer,
            key: key.to_owned(),
            since: SystemTime::now(),
            frames_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            filters: AtomicUsize::new(0),
            accounts: AtomicUsize::new(0),
        });
        self.visits().insert(id, Arc::clone(&facts));
        self.0.metrics.streams.inc();
        Visit {
            id,
            facts,
            roster: self.clone(),
            commands: commands.clone(),
            ended: None,
        }
    }

    pub fn who(&self, subscriptions: Vec<SubscriberView>) -> Vec<Visitor> {
        let mut subscriptions: BTreeMap<_, _> = subscriptions
            .into_iter()
            .map(|view| (view.id, view))
            .collect();
        self.visits()
            .iter()
            .map(|(&id, facts)| facts.visitor(id, subscriptions.remove(&id)))
            .collect()
    }

    fn visits(&self) -> MutexGuard<'_, BTreeMap<SubscriberId, Arc<Facts>>> {
        // A panic while holding it leaves the map whole.
        self.0.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn visitor(&self, id: SubscriberId, subscription: Option<SubscriberView>) -> Visitor {
        let since = self.since.duration_since(UNIX_EPOCH);
        Visitor {
            id,
            peer: self.peer,
            key: self.key.clone(),
            since_ms: since.unwrap_or(Duration::ZERO).as_millis() as u64,
            frames_sent: self.frames_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            filters: self.filters.load(Ordering::Relaxed),
            accounts: self.accounts.load(Ordering::Relaxed),
            subscription,
        }
    }
}

/// One open stream. Dropped, it is forgotten here and in the engine, however it ended.
#[derive(Debug)]
pub struct Visit {
    pub id: SubscriberId,
    pub facts: Arc<Facts>,
    roster: Roster,
    commands: mpsc::Sender<Command>,
    ended: Option<Ended>,
}

impl Visit {
    /// Why it is about to end; otherwise the client is gone.
    pub fn ended(&mut self, why: Ended) {
        self.ended = Some(why);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let shared = &self.roster.0;
        self.roster.visits().remove(&self.id);
        shared.metrics.streams.dec();
        shared
            .metrics
            .ended(self.ended.unwrap_or(Ended::ClientGone));
        engine::say_goodbye(&self.commands, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_engine_hears_of_every_goodbye_even_when_it_is_behind() {
        let (commands, mut engine) = mpsc::channel(1);
        let metrics = DoorMetrics::new(&prometheus::Registry::new()).unwrap();
        let roster = Roster::new(&metrics);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let visits: Vec<_> = (0..5)
            .map(|_| roster.enter(peer, "key", &commands))
            .collect();
        assert_eq!(metrics.streams.get(), 5);
        assert_eq!(roster.who(Vec::new()).len(), 5);
        drop(visits);
        assert_eq!(metrics.streams.get(), 0);
        assert!(roster.who(Vec::new()).is_empty());
        let mut gone = Vec::new();
        while gone.len() < 5 {
            let Some(Command::Disconnect { id }) = engine.recv().await else {
                panic!("something else");
            };
            gone.push(id);
        }
        gone.sort_unstable();
        assert_eq!(gone, [1, 2, 3, 4, 5]);
    }
}
