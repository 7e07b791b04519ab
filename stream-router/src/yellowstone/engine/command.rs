//! What is said to the engine, and what it answers.

use bytes::Bytes;
use event_schema::Slot;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{Had, Item, TooOld};
use crate::{
    publication::Told,
    router::Effect,
    state::Earlier,
    yellowstone::{
        filter::{FilterError, Filters, SubscriberId},
        outbox::{Ending, Outbox},
    },
};

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Now,
    /// With everything of this slot and later ones.
    Slot(Slot),
    /// After the update that carried this cursor. Empty: from now, in canonical order, with cursors.
    Cursor(Bytes),
}

/// What the door and the tasks that catch up send.
#[derive(Debug)]
pub enum Command {
    Connect {
        id: SubscriberId,
        outbox: Outbox,
        filters: Filters,
        start: Start,
    },
    /// A further request on the same stream.
    Replace {
        id: SubscriberId,
        filters: Filters,
        start: Start,
    },
    ChangeAccounts {
        id: SubscriberId,
        filter: String,
        add: Vec<[u8; 32]>,
        remove: Vec<[u8; 32]>,
        done: oneshot::Sender<Result<(), FilterError>>,
    },
    Disconnect {
        id: SubscriberId,
    },
    Who(oneshot::Sender<Vec<SubscriberView>>),
    /// From a task that catches up: everything through this telling was given.
    CaughtUp {
        id: SubscriberId,
        epoch: u64,
        number: u64,
        had: Had,
        next: oneshot::Sender<CaughtUp>,
    },
}

/// Tells the engine that a subscriber has gone, whatever else it has to do; when the engine is gone, nobody needs to know.
pub fn say_goodbye(engine: &mpsc::Sender<Command>, id: SubscriberId) {
    let goodbye = Command::Disconnect { id };
    if let Err(mpsc::error::TrySendError::Full(goodbye)) = engine.try_send(goodbye)
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        // It is behind; it must hear of it all the same.
        let engine = engine.clone();
        runtime.spawn(async move {
            let _ = engine.send(goodbye).await;
        });
    }
}

impl TooOld {
    /// What a subscriber is told who needs it.
    pub fn ending(self) -> Ending {
        let first_available = self.first_available.map(|slot| slot.0);
        Ending::SlotUnavailable { first_available }
    }
}

/// What a task that catches up does next.
#[derive(Debug)]
pub enum CaughtUp {
    /// The subscriber is live, or gone: the task ends.
    Done,
    More {
        filters: Box<Filters>,
        /// Everything through this telling was given.
        through: u64,
        items: Vec<Item>,
        /// Items of the first telling that were given already.
        from: u32,
        had: Had,
    },
    TooOld(TooOld),
}

/// What the router's loop sends.
#[derive(Debug)]
pub enum News {
    /// A life of the publication begins; what earlier ones told.
    Restored(Earlier),
    /// [`Effect::Early`], [`Effect::SlotUpdate`], and [`Effect::Closed`] of slots without a block; at once.
    Early(Vec<Effect>),
    /// On the log, in the order of their numbers.
    Committed(Vec<Told>),
}

/// One subscriber, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriberView {
    pub id: SubscriberId,
    pub commitment: &'static str,
    pub queued_bytes: usize,
    /// False while it catches up from the log.
    pub live: bool,
}
