//! One subscriber's queue, bounded in items and bytes. When it is full the subscriber is given up with the reason.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot};

use crate::config::WebSocketConfig;

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
    pub(super) fn push(&mut self, text: String) -> bool {
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

    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
