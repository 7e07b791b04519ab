//! What validators report beside blocks: transactions as they come out of shreds, before they are executed, and how nodes are
//! reached. Told live to those who ask for it, as well as can be: nothing of it is in the canonical topic, so nobody is told it
//! again, and who reads too slowly is let go.
//!
//! One task holds the subscribers of both. The router's loop never waits for it: what it cannot take is dropped and counted.
//! For the door it is an engine like the other: it takes the same commands.
//!
//! `seen` and `topology` are pure.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use event_schema::{
    Kind, Slot,
    proto::{
        Message,
        confirmed_block::TransactionStatusMeta,
        geyser::{
            SubscribeUpdateDeshred, SubscribeUpdateGossip, SubscribeUpdateSlot,
            SubscribeUpdateTransactionInfo, subscribe_update_deshred,
        },
    },
};
use prometheus::{IntCounter, Registry};
use tokio::sync::mpsc;

use super::{
    engine::{COMMANDS, Command},
    filter::{FilterIndex, Match, SubscriberId, TransactionFacts},
    outbox::{Ending, Frame, Outbox, Pushed},
};
use crate::{
    router::{Effect, SlotUpdate},
    subscription::Level,
};

mod seen;
mod topology;

use seen::Seen;
use topology::Topology;

/// Reports that wait for the task.
const NEWS: usize = 16_384;

/// What the router's loop tells.
#[derive(Debug)]
enum News {
    Deshred(Slot, Bytes),
    Slot(SlotUpdate),
    Contact(Bytes),
}

/// The way to the task.
#[derive(Debug, Clone)]
pub struct Beside {
    news: mpsc::Sender<News>,
    pub deshred: mpsc::Sender<Command>,
    pub gossip: mpsc::Sender<Command>,
    /// Subscribers of transactions: without any, these are not even handed over.
    listeners: Arc<AtomicUsize>,
    dropped: IntCounter,
}

/// The task.
pub struct Hub {
    news: mpsc::Receiver<News>,
    deshred_commands: mpsc::Receiver<Command>,
    gossip_commands: mpsc::Receiver<Command>,
    deshred: Deshred,
    gossip: Gossip,
}

pub fn open(registry: &Registry) -> anyhow::Result<(Beside, Hub)> {
    let dropped = IntCounter::new(
        "router_grpc_beside_dropped_total",
        "Deshredded transactions, contact infos and slot updates that their subscribers' task could not take",
    )?;
    registry.register(Box::new(dropped.clone()))?;
    let (news, news_queue) = mpsc::channel(NEWS);
    let (deshred, deshred_commands) = mpsc::channel(COMMANDS);
    let (gossip, gossip_commands) = mpsc::channel(COMMANDS);
    let listeners = Arc::new(AtomicUsize::new(0));
    let hub = Hub {
        news: news_queue,
        deshred_commands,
        gossip_commands,
        deshred: Deshred {
            listeners: Arc::clone(&listeners),
            index: FilterIndex::default(),
            subscribers: HashMap::new(),
            seen: Seen::default(),
            matches: Vec::new(),
        },
        gossip: Gossip::default(),
    };
    let beside = Beside {
        news,
        deshred,
        gossip,
        listeners,
        dropped,
    };
    Ok((beside, hub))
}

impl Beside {
    /// Never waits.
    pub fn tell(&self, effect: &Effect) {
        let listened_to = || self.listeners.load(Ordering::Relaxed) > 0;
        let news = match effect {
            Effect::Beside { slot, kind, bytes } => match kind {
                Kind::Deshred if listened_to() => News::Deshred(*slot, bytes.clone()),
                Kind::ContactInfo => News::Contact(bytes.clone()),
                _ => return,
            },
            Effect::SlotUpdate(update) if listened_to() => News::Slot(update.clone()),
            _ => return,
        };
        if self.news.try_send(news).is_err() {
            self.dropped.inc();
        }
    }
}

impl Hub {
    /// Until the door and the router's loop are gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(News::Deshred(slot, bytes)) => self.deshred.transaction(slot, bytes),
                    Some(News::Slot(update)) => self.deshred.slot(&update),
                    Some(News::Contact(bytes)) => self.gossip.contact(&bytes),
                    None => return,
                },
                Some(command) = self.deshred_commands.recv() => self.deshred.command(command),
                Some(command) = self.gossip_commands.recv() => self.gossip.command(command),
            }
        }
    }
}

type Subscribers = HashMap<SubscriberId, Outbox>;

struct Deshred {
    listeners: Arc<AtomicUsize>,
    index: FilterIndex,
    subscribers: Subscribers,
    seen: Seen,
    matches: Vec<Match>,
}

impl Deshred {
    fn command(&mut self, command: Command) {
        match command {
            Command::Connect {
                id,
                outbox,
                filters,
                ..
            } => {
                self.subscribers.insert(id, outbox);
                self.index.insert(id, filters);
            }
            Command::Replace { id, filters, .. } => self.index.insert(id, filters),
            Command::Disconnect { id } => self.forget(id),
            // The door asks the rest of the other engine only.
            _ => {}
        }
        let listeners = self.subscribers.len();
        self.listeners.store(listeners, Ordering::Relaxed);
    }

    /// A validator may report what another one has reported.
    fn transaction(&mut self, slot: Slot, bytes: Bytes) {
        let Ok(update) = SubscribeUpdateDeshred::decode(bytes.clone()) else {
            // Its kind says what it is; a damaged one is no subscriber's business.
            return;
        };
        let Some(subscribe_update_deshred::UpdateOneof::DeshredTransaction(update)) =
            update.update_oneof
        else {
            return;
        };
        let Some(info) = update.transaction else {
            return;
        };
        if !self.seen.is_new(slot, &info.signature) {
            return;
        }
        // As executed ones are filtered: by the addresses that were resolved.
        let info = SubscribeUpdateTransactionInfo {
            signature: info.signature,
            is_vote: info.is_vote,
            transaction: info.transaction,
            meta: Some(TransactionStatusMeta {
                loaded_writable_addresses: info.loaded_writable_addresses,
                loaded_readonly_addresses: info.loaded_readonly_addresses,
                ..TransactionStatusMeta::default()
            }),
            ..SubscribeUpdateTransactionInfo::default()
        };
        let facts = TransactionFacts::new(&info);
        self.index
            .transaction(Level::Processed, &facts, &mut self.matches);
        self.give(&bytes);
    }

    fn slot(&mut self, update: &SlotUpdate) {
        self.index.slot(update.status, &mut self.matches);
        if self.matches.is_empty() {
            return;
        }
        let slot = SubscribeUpdateSlot {
            slot: update.slot.0,
            parent: update.parent.map(|parent| parent.0),
            status: update.status as i32,
            dead_error: update.dead_error.clone(),
        };
        let update = SubscribeUpdateDeshred {
            update_oneof: Some(subscribe_update_deshred::UpdateOneof::Slot(slot)),
            ..SubscribeUpdateDeshred::default()
        };
        self.give(&update.encode_to_vec().into());
    }

    /// To all who matched.
    fn give(&mut self, body: &Bytes) {
        let tail = created_at();
        for found in std::mem::take(&mut self.matches) {
            let frame = Frame {
                head: found.head,
                body: body.clone(),
                tail: tail.clone(),
            };
            let Some(outbox) = self.subscribers.get(&found.subscriber) else {
                continue;
            };
            if outbox.push(frame) == Pushed::Full {
                outbox.end(Ending::Missed);
                self.forget(found.subscriber);
            }
        }
    }

    fn forget(&mut self, id: SubscriberId) {
        self.subscribers.remove(&id);
        self.index.remove(id);
    }
}

#[derive(Default)]
struct Gossip {
    topology: Topology,
    subscribers: Subscribers,
}

impl Gossip {
    fn command(&mut self, command: Command) {
        match command {
            Command::Connect { id, outbox, .. } => {
                // Larger than the queue or not: it is the first.
                outbox.push(frame(&self.topology.snapshot()));
                self.subscribers.insert(id, outbox);
            }
            Command::Disconnect { id } => drop(self.subscribers.remove(&id)),
            // The door asks the rest of the other engine only.
            _ => {}
        }
    }

    fn contact(&mut self, bytes: &Bytes) {
        let Some(change) = SubscribeUpdateGossip::decode(bytes.clone())
            .ok()
            .and_then(|update| self.topology.apply(update))
        else {
            return;
        };
        let frame = frame(&change);
        self.subscribers.retain(|_, outbox| {
            let taken = outbox.push(frame.clone()) != Pushed::Full;
            if !taken {
                outbox.end(Ending::Missed);
            }
            taken
        });
    }
}

fn frame(update: &SubscribeUpdateGossip) -> Frame {
    Frame {
        head: Bytes::new(),
        body: update.encode_to_vec().into(),
        tail: created_at(),
    }
}

/// The same field in both messages, and never empty: what the door adds by itself has no tail.
fn created_at() -> Bytes {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut update = SubscribeUpdateGossip::default();
    let created = update.created_at.get_or_insert_default();
    created.seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    // Below 10⁹.
    created.nanos = since.subsec_nanos() as i32;
    update.encode_to_vec().into()
}
