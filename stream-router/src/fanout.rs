//! One task holds all subscriptions and turns effects into notifications.
//!
//! Subscriptions are indexed by what they ask for (account, program, signature, mentioned address), so a block costs by
//! what is in it, not by how many listen. A subscriber has one queue, bounded in items and bytes; when it is full the
//! subscriber is disconnected with the reason. Nothing here waits for a subscriber.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::MissedTickBehavior,
};

use crate::{
    commitment::Standing,
    config::WebSocketConfig,
    encoding::{FrozenSlots, Mints, ShownTransaction, ToldVotes},
    jsonrpc::{Call, Request},
    live::{LiveBlock, LiveBlocks},
    metrics::Metrics,
    resumption::Resumed,
    router::Effect,
    slot_tree::BlockId,
    subscription::{Ask, Level, Resumption, RpcError, Subscription, TransactionFacts},
    yellowstone::{engine, outbox::OutboxLimits},
};

mod accounts;
mod allowance;
mod blocks;
mod executions;
mod index;
mod queue;
mod slots;
#[cfg(test)]
mod tests;
mod value;
mod votes;

pub use allowance::Allowance;
use index::{Index, Interest};
use queue::Outgoing;
pub use queue::{Feed, GivenUp, Inbox, Outbox, Texts, queue};
use value::Told;

/// How often the queues' bytes are counted.
const LOOK: Duration = Duration::from_secs(1);

/// Updates that wait for the task of a subscription with a cursor.
const CURSOR_FRAMES: usize = 4_096;

/// Requests waiting for the fan-out; when full, connections wait.
pub const COMMANDS: usize = 4_096;

pub type ConnectionId = u64;
pub type SubscriptionId = u64;

/// What connections send.
#[derive(Debug)]
pub enum Command {
    Connect(ConnectionId, Outbox, Arc<Allowance>),
    Request(ConnectionId, Request),
    Disconnect(ConnectionId),
}

#[derive(Debug)]
struct Connection {
    outbox: Outbox,
    allowance: Arc<Allowance>,
    subscriptions: Vec<SubscriptionId>,
    /// Those of them that have a cursor.
    cursors: Vec<SubscriptionId>,
}

#[derive(Debug)]
struct Subscriber {
    connection: ConnectionId,
    subscription: Arc<Subscription>,
    /// With a cursor: the task that tells it.
    task: Option<Task>,
    /// Accounts: the slot of the state last told; 0 for "gone".
    last_slot: Option<u64>,
    received_told: bool,
}

/// Ends with its subscription, or before it with an error.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See the module.
pub struct Fanout {
    /// Where subscriptions with a cursor are served.
    engine: Option<mpsc::Sender<engine::Command>>,
    /// Tasks that wait until the answer to their request is in its queue.
    waiting: Vec<oneshot::Sender<()>>,
    cursors_max: usize,
    /// Of each subscription with a cursor: all of a connection have together what its own queue has.
    cursor_queue: OutboxLimits,
    metrics: Metrics,
    connections: HashMap<ConnectionId, Connection>,
    subscribers: HashMap<SubscriptionId, Subscriber>,
    index: Index,
    live: LiveBlocks,
    mints: Mints,
    frozen: FrozenSlots,
    told_votes: ToldVotes,
    /// How many long texts are written at a time: half of the processors do other things.
    writers: Arc<Semaphore>,
    next_id: SubscriptionId,
}

impl Fanout {
    pub fn new(config: WebSocketConfig, metrics: Metrics) -> Self {
        Self {
            engine: None,
            waiting: Vec::new(),
            cursors_max: config.cursors_per_connection_max,
            cursor_queue: OutboxLimits {
                bytes_max: config.queue_bytes_max / config.cursors_per_connection_max.max(1),
                frames_max: CURSOR_FRAMES,
            },
            live: LiveBlocks::new(config.live_blocks_max),
            metrics,
            connections: HashMap::new(),
            subscribers: HashMap::new(),
            index: Index::default(),
            mints: Mints::default(),
            frozen: FrozenSlots::default(),
            told_votes: ToldVotes::default(),
            writers: Arc::new(Semaphore::new(writers())),
            next_id: 0,
        }
    }

    /// Subscriptions with a cursor are this engine's.
    pub fn with_engine(mut self, engine: mpsc::Sender<engine::Command>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Until both sides are gone.
    pub async fn run(
        mut self,
        mut effects: mpsc::Receiver<Vec<Effect>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(batch) = effects.recv() => {
                    for effect in &batch {
                        self.effect(effect);
                    }
                }
                // Not with every command: there may be as many connections as commands.
                _ = look.tick() => self.show_queues(),
            }
        }
    }

    fn show_queues(&self) {
        let connections = self.connections.values();
        let queued: usize = connections
            .map(|connection| connection.outbox.queued_bytes())
            .sum();
        self.metrics.queue_bytes.set(queued as i64);
    }

    pub fn command(&mut self, command: Command) {
        match command {
            Command::Connect(id, outbox, allowance) => {
                let connection = Connection {
                    outbox,
                    allowance,
                    subscriptions: Vec::new(),
                    cursors: Vec::new(),
                };
                self.connections.insert(id, connection);
            }
            Command::Disconnect(id) => self.disconnect(id),
            Command::Request(id, request) => {
                let response = request.answer(|call| self.call(id, call));
                if let Some(text) = response {
                    self.push(id, Outgoing::Answer(text));
                }
                for begin in self.waiting.drain(..) {
                    // Its connection may have gone.
                    let _ = begin.send(());
                }
            }
        }
        self.metrics
            .subscriptions
            .set(self.subscribers.len() as i64);
    }

    fn call(&mut self, connection: ConnectionId, call: Call) -> Result<Value, RpcError> {
        match call.ask? {
            Ask::Subscribe(subscription) => self.subscribe(connection, *subscription),
            Ask::Resume(resumption) => self.resume(connection, *resumption),
            Ask::Unsubscribe(id) => {
                let own = self
                    .subscribers
                    .get(&id)
                    .is_some_and(|subscriber| subscriber.connection == connection);
                if !own {
                    return Err(RpcError::invalid_params("Invalid subscription id."));
                }
                self.unsubscribe(id);
                Ok(Value::Bool(true))
            }
        }
    }

    fn subscribe(
        &mut self,
        connection: ConnectionId,
        subscription: Subscription,
    ) -> Result<Value, RpcError> {
        let id = self.enter(connection, Arc::new(subscription))?;
        if let Some(subscriber) = self.subscribers.get(&id) {
            self.index.insert(id, &subscriber.subscription);
        }
        Ok(json!(id))
    }

    /// In no index here: the engine has it.
    fn resume(
        &mut self,
        connection: ConnectionId,
        resumption: Resumption,
    ) -> Result<Value, RpcError> {
        let Some(engine) = self.engine.clone() else {
            return Err(RpcError::invalid_params(
                "Invalid params: there are no cursors here, because grpc.enabled is false",
            ));
        };
        self.forget_ended(connection);
        let cursors = self
            .connections
            .get(&connection)
            .map_or(0, |owner| owner.cursors.len());
        if cursors >= self.cursors_max {
            return Err(RpcError::subscription_refused(&format!(
                "a connection may have {} subscriptions with a cursor (websocket.cursors_per_connection_max)",
                self.cursors_max
            )));
        }
        let id = self.enter(connection, Arc::new(resumption.subscription.clone()))?;
        let (Some(owner), Some(subscriber)) = (
            self.connections.get_mut(&connection),
            self.subscribers.get_mut(&id),
        ) else {
            return Err(RpcError::new(-32603, "Internal error"));
        };
        let resumed = Resumed {
            id,
            engine,
            queue: self.cursor_queue,
            feed: owner.outbox.feed(),
            metrics: self.metrics.clone(),
            resumption: Arc::new(resumption),
        };
        let (begin, begun) = oneshot::channel();
        subscriber.task = Some(Task(tokio::spawn(resumed.run(begun)).abort_handle()));
        owner.cursors.push(id);
        self.waiting.push(begin);
        Ok(json!(id))
    }

    /// Subscriptions whose client was told that there will be nothing more take no place from those that follow them.
    fn forget_ended(&mut self, connection: ConnectionId) {
        let Some(owner) = self.connections.get(&connection) else {
            return;
        };
        let has_ended = |id: &SubscriptionId| {
            let subscriber = self.subscribers.get(id);
            let task = subscriber.and_then(|subscriber| subscriber.task.as_ref());
            task.is_some_and(|Task(task)| task.is_finished())
        };
        let ended: Vec<SubscriptionId> = owner.cursors.iter().copied().filter(has_ended).collect();
        for id in ended {
            self.unsubscribe(id);
        }
    }

    fn enter(
        &mut self,
        connection: ConnectionId,
        subscription: Arc<Subscription>,
    ) -> Result<SubscriptionId, RpcError> {
        let Some(owner) = self.connections.get_mut(&connection) else {
            return Err(RpcError::new(-32603, "Internal error"));
        };
        owner.allowance.take(&subscription)?;
        let id = self.next_id;
        self.next_id += 1;
        owner.subscriptions.push(id);
        let subscriber = Subscriber {
            connection,
            subscription,
            task: None,
            last_slot: None,
            received_told: false,
        };
        self.subscribers.insert(id, subscriber);
        Ok(id)
    }

    fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(subscriber) = self.subscribers.remove(&id) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&subscriber.connection) {
            connection.subscriptions.retain(|other| *other != id);
            connection.allowance.give_back(&subscriber.subscription);
            connection.cursors.retain(|other| *other != id);
        }
        if subscriber.task.is_none() {
            self.index.remove(id, &subscriber.subscription);
        }
    }

    fn disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        for subscription in std::mem::take(&mut connection.subscriptions) {
            self.unsubscribe(subscription);
        }
        self.connections.remove(&id);
    }

    pub fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::SlotCreated { slot, parent, root } => {
                self.tell_slot_created(*slot, *parent, *root);
            }
            Effect::SlotUpdate(update) => self.tell_slot_update(update),
            Effect::Rooted(slot) => {
                self.told_votes.rooted(*slot);
                self.tell_root(*slot);
            }
            Effect::Publish(block) if !self.live.knows(block.id) => {
                self.tell_frozen(block);
                let block = LiveBlock::new(block);
                self.learn(&block);
                let id = block.id;
                self.live.insert(block);
                self.reach(id, Level::Processed);
            }
            Effect::Standing(change) => match Level::reached(change.standing) {
                Some(level) => self.reach(change.block, level),
                None => {
                    debug_assert_eq!(change.standing, Standing::Abandoned);
                    self.live.abandon(change.block);
                }
            },
            Effect::Gap(gap) | Effect::ParentGap { gap, .. } => self.tell_gap(gap),
            Effect::PassedOver => self.give_up_listeners(),
            _ => {}
        }
    }

    /// Whoever hears what is live has missed something. Subscriptions with a cursor have not: the engine tells those.
    fn give_up_listeners(&mut self) {
        let listens =
            |connection: &Connection| connection.subscriptions.len() > connection.cursors.len();
        let listeners = self.connections.iter().filter(|(_, it)| listens(it));
        let listeners: Vec<ConnectionId> = listeners.map(|(id, _)| *id).collect();
        for id in listeners {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.outbox.give_up(GivenUp::Missed);
            }
            self.disconnect(id);
        }
    }

    /// Keeps what later notifications need, before anyone is told.
    fn learn(&mut self, block: &LiveBlock) {
        if let Some(time) = &block.meta.meta.block_time {
            self.mints.unix_timestamp = time.timestamp;
        }
        for transaction in &block.transactions {
            self.mints.learn_balances(transaction);
        }
        for account in &block.accounts {
            self.mints.learn_account(account);
        }
    }

    /// What is waited for most comes first.
    fn reach(&mut self, block: BlockId, level: Level) {
        let Some(block) = self.live.reach(block, level) else {
            return;
        };
        if self.subscribers.is_empty() {
            return;
        }
        if level == Level::Processed {
            self.tell_received(&block);
        }
        self.tell_signatures(&block, level);
        self.tell_accounts(&block, level);
        if level == Level::Processed {
            self.tell_votes(&block);
        }
        let interests = [Interest::Logs, Interest::Transactions, Interest::Blocks];
        if !interests.iter().any(|it| self.index.any(*it, level)) {
            return;
        }
        let transactions = block.transactions.iter();
        let facts: Vec<TransactionFacts> = transactions
            .map(|transaction| TransactionFacts::new(transaction))
            .collect();
        self.tell_logs(&block, level, &facts);
        let transactions = block.transactions.iter();
        let shown: Vec<Arc<ShownTransaction>> = transactions
            .map(|transaction| Arc::new(ShownTransaction::new(block.id.slot, transaction)))
            .collect();
        self.tell_transactions(&shown, level, &facts);
        self.tell_blocks(&block, level, &facts, &shown);
    }

    fn notify(&mut self, id: SubscriptionId, result: &Told) {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return;
        };
        let method = subscriber.subscription.method();
        self.metrics
            .notifications
            .with_label_values(&[method])
            .inc();
        let notification = Outgoing::Notification {
            method,
            result: result.clone(),
            subscription: id,
        };
        self.push(subscriber.connection, notification);
    }

    fn push(&mut self, connection: ConnectionId, item: Outgoing) {
        let Some(owner) = self.connections.get_mut(&connection) else {
            return;
        };
        if !owner.outbox.push(item) {
            self.disconnect(connection);
        }
    }
}

fn writers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.div_ceil(2)
}
