//! Live fan-out to Yellowstone subscribers.

use bytes::Bytes;
use event_schema::Slot;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    filter::{FilterError, Filters, SubscriberId},
    outbox::Outbox,
};

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Now,
    /// With everything of this slot and later ones.
    Slot(Slot),
    /// After the update that carried this cursor.
    Cursor(Bytes),
}

/// What the door sends.
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
