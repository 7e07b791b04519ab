//! One task holds all subscriptions and turns effects into notifications.
//!
//! Subscriptions are indexed by what they ask for (account, program, signature, mentioned address), so a block costs by
//! what is in it, not by how many listen. A subscriber has one queue, bounded in items and bytes; when it is full the
//! subscriber is disconnected with the reason. Nothing here waits for a subscriber.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use solana_pubkey::Pubkey;
use tokio::sync::{mpsc, oneshot};

use crate::{
    commitment::Standing,
    config::WebSocketConfig,
    encoding::{BankAccount, Mints, keyed_account, ui_account, ui_error},
    jsonrpc::{Call, Request},
    live::{LiveBlock, LiveBlocks},
    metrics::Metrics,
    router::Effect,
    subscription::{Ask, Level, LogsOf, RpcError, Subscription, View, passes},
};

/// Requests waiting for the fan-out; when full, connections wait.
pub const COMMANDS: usize = 4_096;

pub type ConnectionId = u64;
pub type SubscriptionId = u64;

/// The sending half of one subscriber's queue.
#[derive(Debug)]
pub struct Outbox {
    items: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    /// Fired once, with the reason, when the queue overflowed.
    end: Option<oneshot::Sender<&'static str>>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Inbox {
    pub texts: Texts,
    pub end: oneshot::Receiver<&'static str>,
}

/// Notifications and answers, in order.
#[derive(Debug)]
pub struct Texts {
    items: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
}

pub fn queue(config: &WebSocketConfig) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(config.queue_items_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    let (end, ended) = oneshot::channel();
    (
        Outbox {
            items: sender,
            bytes: Arc::clone(&bytes),
            bytes_max: config.queue_bytes_max,
            end: Some(end),
        },
        Inbox {
            texts: Texts {
                items: receiver,
                bytes,
            },
            end: ended,
        },
    )
}

impl Texts {
    pub async fn next(&mut self) -> Option<String> {
        let text = self.items.recv().await?;
        self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
        Some(text)
    }
}

impl Outbox {
    /// False when the subscriber was just given up.
    fn push(&mut self, text: String) -> bool {
        if self.end.is_none() {
            return true;
        }
        let length = text.len();
        let queued = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        let reason = if queued > self.bytes_max {
            "slow consumer: too many unsent bytes"
        } else {
            match self.items.try_send(text) {
                Ok(()) => return true,
                // The connection is ending by itself.
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    "slow consumer: too many unsent notifications"
                }
            }
        };
        if let Some(end) = self.end.take() {
            let _ = end.send(reason);
        }
        false
    }

    fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What connections send.
#[derive(Debug)]
pub enum Command {
    Connect(ConnectionId, Outbox),
    Request(ConnectionId, Request),
    Disconnect(ConnectionId),
}

#[derive(Debug)]
struct Connection {
    outbox: Outbox,
    subscriptions: Vec<SubscriptionId>,
}

#[derive(Debug)]
struct Subscriber {
    connection: ConnectionId,
    subscription: Arc<Subscription>,
    /// Accounts: the slot of the state last told; 0 for "gone".
    last_slot: Option<u64>,
    received_told: bool,
}

/// Who asks for what, at one level.
#[derive(Debug, Default)]
struct Index {
    accounts: HashMap<Pubkey, Vec<SubscriptionId>>,
    programs: HashMap<Pubkey, Vec<SubscriptionId>>,
    signatures: HashMap<[u8; 64], Vec<SubscriptionId>>,
    mentions: HashMap<Pubkey, Vec<SubscriptionId>>,
    logs: Vec<SubscriptionId>,
    logs_with_votes: Vec<SubscriptionId>,
}

/// See the module.
pub struct Fanout {
    config: WebSocketConfig,
    metrics: Metrics,
    connections: HashMap<ConnectionId, Connection>,
    subscribers: HashMap<SubscriptionId, Subscriber>,
    index: [Index; 3],
    slots: Vec<SubscriptionId>,
    roots: Vec<SubscriptionId>,
    live: LiveBlocks,
    mints: Mints,
    next_id: SubscriptionId,
}

impl Fanout {
    pub fn new(config: WebSocketConfig, metrics: Metrics) -> Self {
        Self {
            live: LiveBlocks::new(config.live_blocks_max),
            config,
            metrics,
            connections: HashMap::new(),
            subscribers: HashMap::new(),
            index: Default::default(),
            slots: Vec::new(),
            roots: Vec::new(),
            mints: Mints::default(),
            next_id: 0,
        }
    }

    /// Until both sides are gone.
    pub async fn run(
        mut self,
        mut effects: mpsc::Receiver<Vec<Effect>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
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
            }
            let queued: usize = self
                .connections
                .values()
                .map(|connection| connection.outbox.queued_bytes())
                .sum();
            self.metrics.queue_bytes.set(queued as i64);
        }
    }

    pub fn command(&mut self, command: Command) {
        match command {
            Command::Connect(id, outbox) => {
                let connection = Connection {
                    outbox,
                    subscriptions: Vec::new(),
                };
                self.connections.insert(id, connection);
            }
            Command::Disconnect(id) => self.disconnect(id),
            Command::Request(id, request) => {
                let response = request.answer(|call| self.call(id, call));
                if let Some(text) = response {
                    self.push(id, text);
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
        let Some(owner) = self.connections.get_mut(&connection) else {
            return Err(RpcError::new(-32603, "Internal error"));
        };
        if owner.subscriptions.len() >= self.config.subscriptions_per_connection_max {
            return Err(RpcError::too_many_subscriptions());
        }
        let id = self.next_id;
        self.next_id += 1;
        owner.subscriptions.push(id);
        if let Some(ids) = self.listed_under(&subscription) {
            ids.push(id);
        }
        let subscriber = Subscriber {
            connection,
            subscription: Arc::new(subscription),
            last_slot: None,
            received_told: false,
        };
        self.subscribers.insert(id, subscriber);
        Ok(json!(id))
    }

    /// The one list this subscription is in, made if need be.
    fn listed_under(&mut self, subscription: &Subscription) -> Option<&mut Vec<SubscriptionId>> {
        let ids = match subscription {
            Subscription::Account { pubkey, level, .. } => self.index[*level as usize]
                .accounts
                .entry(*pubkey)
                .or_default(),
            Subscription::Program { program, level, .. } => self.index[*level as usize]
                .programs
                .entry(*program)
                .or_default(),
            Subscription::Signature {
                signature, level, ..
            } => self.index[*level as usize]
                .signatures
                .entry(*signature)
                .or_default(),
            Subscription::Logs { of, level } => {
                let index = &mut self.index[*level as usize];
                match of {
                    LogsOf::All => &mut index.logs,
                    LogsOf::AllWithVotes => &mut index.logs_with_votes,
                    LogsOf::Mentions(key) => index.mentions.entry(*key).or_default(),
                }
            }
            Subscription::Slot => &mut self.slots,
            Subscription::Root => &mut self.roots,
        };
        Some(ids)
    }

    fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(subscriber) = self.subscribers.remove(&id) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&subscriber.connection) {
            connection.subscriptions.retain(|other| *other != id);
        }
        let subscription = subscriber.subscription;
        if let Some(ids) = self.listed_under(&subscription) {
            ids.retain(|other| *other != id);
        }
        self.drop_empty_list(&subscription);
    }

    fn drop_empty_list(&mut self, subscription: &Subscription) {
        match subscription {
            Subscription::Account { pubkey, level, .. } => {
                drop_if_empty(&mut self.index[*level as usize].accounts, pubkey);
            }
            Subscription::Program { program, level, .. } => {
                drop_if_empty(&mut self.index[*level as usize].programs, program);
            }
            Subscription::Signature {
                signature, level, ..
            } => drop_if_empty(&mut self.index[*level as usize].signatures, signature),
            Subscription::Logs {
                of: LogsOf::Mentions(key),
                level,
            } => drop_if_empty(&mut self.index[*level as usize].mentions, key),
            _ => {}
        }
    }

    fn disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        for subscription in connection.subscriptions {
            self.unsubscribe(subscription);
        }
    }

    pub fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::SlotCreated { slot, parent, root } => {
                let value = json!({ "slot": slot, "parent": parent, "root": root });
                for id in self.slots.clone() {
                    self.notify(id, &value.to_string());
                }
            }
            Effect::Rooted(slot) => {
                for id in self.roots.clone() {
                    self.notify(id, &slot.to_string());
                }
            }
            Effect::Publish(block) if !self.live.knows(block.id) => {
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
            _ => {}
        }
    }

    /// Keeps what later notifications need, before anyone is told.
    fn learn(&mut self, block: &LiveBlock) {
        if let Some(time) = block.block_time {
            self.mints.unix_timestamp = time;
        }
        for transaction in &block.transactions {
            if let Some(meta) = &transaction.meta {
                self.mints.learn_balances(meta);
            }
        }
        for update in &block.accounts {
            // A mint's account is 82 bytes, or longer with extensions.
            if update.data.len() >= 82
                && let Some(account) = BankAccount::new(update)
            {
                self.mints.learn_account(&account);
            }
        }
    }

    fn reach(&mut self, block: crate::slot_tree::BlockId, level: Level) {
        let Some(block) = self.live.reach(block, level) else {
            return;
        };
        if self.subscribers.is_empty() {
            return;
        }
        if level == Level::Processed {
            self.tell_received(&block);
        }
        self.tell_accounts(&block, level);
        self.tell_transactions(&block, level);
    }

    /// Subscribers that asked for it learn that their transaction arrived, before it reaches their level.
    fn tell_received(&mut self, block: &LiveBlock) {
        let any = Level::ALL
            .iter()
            .any(|level| !self.index[*level as usize].signatures.is_empty());
        if !any {
            return;
        }
        for transaction in &block.transactions {
            let Ok(signature) = <[u8; 64]>::try_from(transaction.signature.as_slice()) else {
                continue;
            };
            for level in Level::ALL {
                let Some(ids) = self.index[level as usize]
                    .signatures
                    .get(&signature)
                    .cloned()
                else {
                    continue;
                };
                for id in ids {
                    let Some(subscriber) = self.subscribers.get_mut(&id) else {
                        continue;
                    };
                    let asked = matches!(
                        *subscriber.subscription,
                        Subscription::Signature { received: true, .. }
                    );
                    if asked && !subscriber.received_told {
                        subscriber.received_told = true;
                        let value = in_context(block, &json!("receivedSignature"));
                        self.notify(id, &value);
                    }
                }
            }
        }
    }

    fn tell_accounts(&mut self, block: &LiveBlock, level: Level) {
        let index = &self.index[level as usize];
        if index.accounts.is_empty() && index.programs.is_empty() {
            return;
        }
        for update in &block.accounts {
            let Some(account) = BankAccount::new(update) else {
                continue;
            };
            let index = &self.index[level as usize];
            let by_key = index.accounts.get(&account.pubkey).cloned();
            let by_owner = index.programs.get(&account.account.owner).cloned();
            if let Some(ids) = by_key {
                self.tell_account(block, &account, &ids);
            }
            if let Some(ids) = by_owner {
                self.tell_program(block, &account, &ids);
            }
        }
    }

    fn tell_account(&mut self, block: &LiveBlock, account: &BankAccount, ids: &[SubscriptionId]) {
        // A gone account was last modified nowhere: it is told once until it exists again.
        let modified = if account.is_gone() {
            0
        } else {
            block.id.slot.0
        };
        let mut shown: HashMap<View, String> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get_mut(id) else {
                continue;
            };
            let Subscription::Account { view, .. } = *subscriber.subscription else {
                continue;
            };
            if subscriber.last_slot.replace(modified) == Some(modified) {
                continue;
            }
            let value = shown
                .entry(view)
                .or_insert_with(|| {
                    in_context(block, &json!(ui_account(account, view, &self.mints)))
                })
                .clone();
            self.notify(*id, &value);
        }
    }

    fn tell_program(&mut self, block: &LiveBlock, account: &BankAccount, ids: &[SubscriptionId]) {
        let mut shown: HashMap<View, Option<String>> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get(id) else {
                continue;
            };
            let Subscription::Program { filters, view, .. } = &*subscriber.subscription else {
                continue;
            };
            if !passes(filters, &account.account.data) {
                continue;
            }
            let view = *view;
            let value = shown
                .entry(view)
                .or_insert_with(|| {
                    keyed_account(account, view, &self.mints).map(|value| in_context(block, &value))
                })
                .clone();
            if let Some(value) = value {
                self.notify(*id, &value);
            }
        }
    }

    fn tell_transactions(&mut self, block: &LiveBlock, level: Level) {
        for transaction in &block.transactions {
            let index = &self.index[level as usize];
            let mut logs: Vec<SubscriptionId> = index.logs_with_votes.clone();
            if !transaction.is_vote {
                logs.extend_from_slice(&index.logs);
            }
            if !index.mentions.is_empty() {
                logs.extend(mentioned(transaction, index));
            }
            let signature = <[u8; 64]>::try_from(transaction.signature.as_slice()).ok();
            let waiting = signature
                .and_then(|signature| index.signatures.get(&signature))
                .cloned()
                .unwrap_or_default();
            let meta = transaction.meta.as_ref();
            if !waiting.is_empty() {
                let value = in_context(block, &json!({ "err": ui_error(meta) }));
                for id in waiting {
                    self.notify(id, &value);
                    self.unsubscribe(id);
                }
            }
            // A transaction that only paid its fee was not executed and has no logs.
            let Some(meta) = meta.filter(|meta| !meta.log_messages_none) else {
                continue;
            };
            if !logs.is_empty() {
                let value = in_context(
                    block,
                    &json!({
                        "signature": bs58::encode(&transaction.signature).into_string(),
                        "err": ui_error(Some(meta)),
                        "logs": meta.log_messages,
                    }),
                );
                for id in logs {
                    self.notify(id, &value);
                }
            }
        }
    }

    /// `result` is JSON text.
    fn notify(&mut self, id: SubscriptionId, result: &str) {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return;
        };
        let method = subscriber.subscription.method();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"result":{result},"subscription":{id}}}}}"#
        );
        self.metrics
            .notifications
            .with_label_values(&[method])
            .inc();
        self.push(subscriber.connection, text);
    }

    fn push(&mut self, connection: ConnectionId, text: String) {
        let Some(owner) = self.connections.get_mut(&connection) else {
            return;
        };
        if !owner.outbox.push(text) {
            self.metrics
                .disconnects
                .with_label_values(&["slow_consumer"])
                .inc();
            self.disconnect(connection);
        }
    }
}

fn drop_if_empty<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, Vec<SubscriptionId>>, key: &K) {
    if lists.get(key).is_some_and(Vec::is_empty) {
        lists.remove(key);
    }
}

fn mentioned(
    transaction: &event_schema::proto::geyser::SubscribeUpdateTransactionInfo,
    index: &Index,
) -> Vec<SubscriptionId> {
    let message = transaction
        .transaction
        .as_ref()
        .and_then(|transaction| transaction.message.as_ref());
    let fixed = message
        .into_iter()
        .flat_map(|message| message.account_keys.iter());
    let loaded = transaction.meta.iter().flat_map(|meta| {
        meta.loaded_writable_addresses
            .iter()
            .chain(&meta.loaded_readonly_addresses)
    });
    let mut ids: Vec<SubscriptionId> = fixed
        .chain(loaded)
        .filter_map(|key| Pubkey::try_from(key.as_slice()).ok())
        .filter_map(|key| index.mentions.get(&key))
        .flatten()
        .copied()
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn in_context(block: &LiveBlock, value: &Value) -> String {
    format!(
        r#"{{"context":{{"slot":{}}},"value":{value}}}"#,
        block.id.slot
    )
}
