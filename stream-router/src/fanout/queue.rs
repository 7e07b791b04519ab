//! One subscriber's queue, bounded in items and bytes. When it is full the subscriber is given up with the reason.
//!
//! What is told to many is one text in memory; the frame around it is written by the subscriber's own task.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, mpsc, oneshot};

use super::{SubscriptionId, value::Told};
use crate::config::WebSocketConfig;

/// One message to a subscriber.
#[derive(Debug)]
pub(super) enum Outgoing {
    Answer(String),
    Notification {
        method: &'static str,
        result: Told,
        subscription: SubscriptionId,
    },
}

impl Outgoing {
    /// Of the message around method and result.
    const FRAME_BYTES: usize = 90;

    /// What it counts for in the queue: about its length.
    fn bytes(&self) -> usize {
        match self {
            Self::Answer(text) => text.len(),
            Self::Notification { method, result, .. } => {
                Self::FRAME_BYTES + method.len() + result.bytes()
            }
        }
    }

    /// Cancel safe: what was answered is taken from `self` at the end only.
    async fn text(&mut self) -> Option<String> {
        match self {
            Self::Answer(text) => Some(std::mem::take(text)),
            Self::Notification {
                method,
                result,
                subscription,
            } => {
                let result = result.text().await?;
                Some(format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"result":{result},"subscription":{subscription}}}}}"#
                ))
            }
        }
    }
}

/// Why a subscriber was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// It did not take what was sent; the text says what overflowed.
    Slow(&'static str),
    /// It has missed something that nobody can tell it any more.
    Missed,
}

/// The sending half of one subscriber's queue.
#[derive(Debug)]
pub struct Outbox {
    items: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    room: Arc<Notify>,
    /// Fired once, when the subscriber is given up.
    end: Option<oneshot::Sender<GivenUp>>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Inbox {
    pub texts: Texts,
    pub end: oneshot::Receiver<GivenUp>,
}

/// Notifications and answers, in order.
#[derive(Debug)]
pub struct Texts {
    items: mpsc::Receiver<Outgoing>,
    /// Taken from the queue, but its text is still being written.
    next: Option<Outgoing>,
    bytes: Arc<AtomicUsize>,
    /// Something was taken out.
    room: Arc<Notify>,
}

/// For one who fills the queue at the subscriber's pace.
#[derive(Debug)]
pub struct Feed {
    items: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    room: Arc<Notify>,
}

pub fn queue(config: &WebSocketConfig) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(config.queue_items_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    let room = Arc::new(Notify::new());
    let (end, ended) = oneshot::channel();
    (
        Outbox {
            items: sender,
            bytes: Arc::clone(&bytes),
            bytes_max: config.queue_bytes_max,
            room: Arc::clone(&room),
            end: Some(end),
        },
        Inbox {
            texts: Texts {
                items: receiver,
                next: None,
                bytes,
                room,
            },
            end: ended,
        },
    )
}

impl Texts {
    /// Shows how many bytes wait.
    pub fn queued(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.bytes)
    }

    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let item = match &mut self.next {
                Some(item) => item,
                none => none.insert(self.items.recv().await?),
            };
            let bytes = item.bytes();
            let text = item.text().await;
            self.next = None;
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.room.notify_waiters();
            if text.is_some() {
                return text;
            }
        }
    }
}

impl Outbox {
    /// False when the subscriber was just given up.
    pub(super) fn push(&mut self, item: Outgoing) -> bool {
        if self.end.is_none() {
            return true;
        }
        let length = item.bytes();
        let queued = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        let reason = if queued > self.bytes_max {
            "slow consumer: too many unsent bytes"
        } else {
            match self.items.try_send(item) {
                Ok(()) => return true,
                // The connection is ending by itself.
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    "slow consumer: too many unsent notifications"
                }
            }
        };
        self.give_up(GivenUp::Slow(reason));
        false
    }

    pub(super) fn give_up(&mut self, reason: GivenUp) {
        if let Some(end) = self.end.take() {
            // The connection may be ending by itself.
            let _ = end.send(reason);
        }
    }

    pub(super) fn feed(&self) -> Feed {
        Feed {
            items: self.items.clone(),
            bytes: Arc::clone(&self.bytes),
            bytes_max: self.bytes_max,
            room: Arc::clone(&self.room),
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Feed {
    /// Waits until half of the queue is free: the other half is for what is live, which does not wait. False when the
    /// subscriber is gone.
    pub async fn push(&self, text: String) -> bool {
        let length = text.len();
        let mut item = Outgoing::Answer(text);
        loop {
            let taken = self.room.notified();
            tokio::pin!(taken);
            // From here on no taking is missed.
            taken.as_mut().enable();
            if self.items.capacity() > self.items.max_capacity() / 2 && self.reserve(length) {
                match self.items.try_send(item) {
                    Ok(()) => return true,
                    Err(mpsc::error::TrySendError::Closed(_)) => return false,
                    Err(mpsc::error::TrySendError::Full(back)) => item = back,
                }
                self.bytes.fetch_sub(length, Ordering::Relaxed);
            }
            tokio::select! {
                () = taken => {}
                () = self.items.closed() => return false,
            }
        }
    }

    /// One that is longer than that passes an empty queue.
    fn reserve(&self, length: usize) -> bool {
        let fits = |queued: usize| {
            let after = queued + length;
            (queued == 0 || after <= self.bytes_max / 2).then_some(after)
        };
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }
}
