//! One subscriber's queue, bounded in bytes and frames. Whoever fills it learns at once that it is full and decides what
//! becomes of the subscriber; whoever empties it learns at the end why it ended.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Allocation and bookkeeping of one queued frame, bytes. Counted, so that many small frames are bounded too.
const FRAME_BYTES: usize = 160;

/// One message in pieces, to be written one after another: together they are one protobuf message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Names of the filters that matched: the subscriber's own.
    pub head: Bytes,
    /// The event: shared with all who get it.
    pub body: Bytes,
    /// Time and cursor: shared, too.
    pub tail: Bytes,
}

impl Frame {
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why nothing more will come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The subscriber reads too slowly and may not, or cannot, catch up from the log.
    Lagged,
    /// The subscriber reads too slowly, and there is no log to catch up from.
    Missed,
    /// The slot it asked for is not in the log (any more).
    SlotUnavailable { first_available: Option<u64> },
    /// The cursor cannot be understood or does not fit the request.
    CursorUnusable(String),
    /// Catching up from the log failed.
    Failed(String),
    /// The router is going away: connect again.
    Shutdown,
}

/// The sending half. Clones feed the same queue.
#[derive(Debug, Clone)]
pub struct Outbox {
    frames: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Inbox {
    frames: mpsc::Receiver<Frame>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: AtomicUsize,
    bytes_max: usize,
    ending: Mutex<Ending>,
    /// Something was taken out.
    room: Notify,
}

/// What one queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    pub bytes_max: usize,
    pub frames_max: usize,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Queued,
    /// No room: the frame is not in the queue.
    Full,
    /// The receiver is gone.
    Gone,
}

pub fn outbox(limits: OutboxLimits) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(limits.frames_max.max(1));
    let shared = Arc::new(Shared {
        bytes: AtomicUsize::new(0),
        bytes_max: limits.bytes_max,
        ending: Mutex::new(Ending::Shutdown),
        room: Notify::new(),
    });
    let outbox = Outbox {
        frames: sender,
        shared: Arc::clone(&shared),
    };
    let inbox = Inbox {
        frames: receiver,
        shared,
    };
    (outbox, inbox)
}

impl Outbox {
    /// Never waits. A frame larger than the whole queue is taken when the queue is empty.
    pub fn push(&self, frame: Frame) -> Pushed {
        match self.try_push(frame) {
            Ok(()) => Pushed::Queued,
            Err((_, pushed)) => pushed,
        }
    }

    /// The frame comes back when it was not queued.
    fn try_push(&self, frame: Frame) -> Result<(), (Frame, Pushed)> {
        let cost = frame.len() + FRAME_BYTES;
        let before = self.shared.bytes.fetch_add(cost, Ordering::Relaxed);
        if before > 0 && before + cost > self.shared.bytes_max {
            self.shared.bytes.fetch_sub(cost, Ordering::Relaxed);
            return Err((frame, Pushed::Full));
        }
        self.frames.try_send(frame).map_err(|error| {
            self.shared.bytes.fetch_sub(cost, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(frame) => (frame, Pushed::Full),
                mpsc::error::TrySendError::Closed(frame) => (frame, Pushed::Gone),
            }
        })
    }

    /// Waits for room, for one who reads from the log at the subscriber's pace. False when the receiver is gone.
    pub async fn push_when_free(&self, mut frame: Frame) -> bool {
        loop {
            let taken = self.shared.room.notified();
            tokio::pin!(taken);
            // From here on no taking is missed.
            taken.as_mut().enable();
            match self.try_push(frame) {
                Ok(()) => return true,
                Err((back, Pushed::Full)) => frame = back,
                Err(_) => return false,
            }
            tokio::select! {
                () = taken => {}
                () = self.frames.closed() => return false,
            }
        }
    }

    /// Until half of the queue is free, or the receiver is gone.
    pub async fn has_room(&self) {
        loop {
            let taken = self.shared.room.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            let half_free = self.queued_bytes() <= self.shared.bytes_max / 2
                && self.frames.capacity() >= self.frames.max_capacity().div_ceil(2);
            if half_free || self.is_gone() {
                return;
            }
            tokio::select! {
                () = taken => {}
                () = self.frames.closed() => return,
            }
        }
    }

    /// Says why nothing more will come; the queue ends when every clone is dropped.
    pub fn end(&self, ending: Ending) {
        *self
            .shared
            .ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = ending;
    }

    pub fn queued_bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    pub fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }
}

impl Inbox {
    /// The next frame; `None` at the end. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        let cost = frame.len() + FRAME_BYTES;
        self.shared.bytes.fetch_sub(cost, Ordering::Relaxed);
        self.shared.room.notify_waiters();
        Some(frame)
    }

    /// After [`Inbox::next`] gave `None`: why.
    pub fn ending(&self) -> Ending {
        self.shared
            .ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame {
            body: vec![7; bytes].into(),
            ..Frame::default()
        }
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_given_back() {
        let limits = OutboxLimits {
            bytes_max: 1_000,
            frames_max: 100,
        };
        let (outbox, mut inbox) = outbox(limits);
        assert_eq!(outbox.push(frame(500)), Pushed::Queued);
        assert_eq!(outbox.push(frame(500)), Pushed::Full);
        assert_eq!(inbox.next().await.unwrap(), frame(500));
        assert_eq!(outbox.queued_bytes(), 0);
        // One that alone is too large passes an empty queue; otherwise a large account could never be told.
        assert_eq!(outbox.push(frame(5_000)), Pushed::Queued);
        assert_eq!(outbox.push(frame(0)), Pushed::Full);
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_and_ends_with_the_receiver() {
        let limits = OutboxLimits {
            bytes_max: 1_000,
            frames_max: 100,
        };
        let (outbox, mut inbox) = outbox(limits);
        assert_eq!(outbox.push(frame(800)), Pushed::Queued);
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.push_when_free(frame(700)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(inbox.next().await.unwrap(), frame(800));
        assert!(waiting.await.unwrap());
        let waiting = tokio::spawn(async move { outbox.push_when_free(frame(700)).await });
        tokio::task::yield_now().await;
        drop(inbox);
        assert!(!waiting.await.unwrap());
    }

    #[tokio::test]
    async fn the_end_is_told_after_what_was_queued() {
        let limits = OutboxLimits {
            bytes_max: 1_000,
            frames_max: 1,
        };
        let (outbox, mut inbox) = outbox(limits);
        assert_eq!(outbox.push(frame(1)), Pushed::Queued);
        assert_eq!(outbox.push(frame(1)), Pushed::Full);
        outbox.end(Ending::Lagged);
        drop(outbox);
        assert!(inbox.next().await.is_some());
        assert!(inbox.next().await.is_none());
        assert_eq!(inbox.ending(), Ending::Lagged);
    }
}
