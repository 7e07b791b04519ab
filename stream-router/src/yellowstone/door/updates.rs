//! The outgoing half of a `Subscribe` stream: what the engine queued, what the conversation answers, and a ping when
//! there was nothing for a while. It is polled only when the client has room, so a client that does not read holds its
//! own queue and nobody else's.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures::Stream;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};
use tonic::Status;

use super::{
    heartbeat,
    metrics::{DoorMetrics, Ended, Heartbeat},
    roster::Visit,
    status,
};
use crate::{
    access::{Key, Place},
    yellowstone::outbox::{Frame, Inbox},
};

/// A gRPC message's prefix, bytes.
const PREFIX_BYTES: usize = 5;
/// Frames counted here before they are added to what others see.
const UNCOUNTED_MAX: u64 = 256;

/// What the conversation says besides the queue.
#[derive(Debug)]
pub enum Reply {
    Frame(Frame),
    End(Ended, Status),
}

/// What both halves of a stream know.
#[derive(Debug)]
pub struct Shelf {
    /// `None` when nobody will read it any more.
    inbox: Mutex<Option<Inbox>>,
    /// The slot asked for last, plus one; 0: none.
    from_slot: AtomicU64,
    polls: AtomicU64,
    /// True while there is nothing to send: the client is waiting for us, not we for it.
    idle: AtomicBool,
}

impl Shelf {
    pub fn new(inbox: Inbox) -> Self {
        Self {
            inbox: Mutex::new(Some(inbox)),
            from_slot: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            idle: AtomicBool::new(true),
        }
    }

    pub fn starts_from(&self, slot: Option<u64>) {
        let stored = slot.map_or(0, |slot| slot.saturating_add(1));
        self.from_slot.store(stored, Ordering::Relaxed);
    }

    /// `None`: the client has all there is. Otherwise a number that changes whenever it takes something.
    pub fn waits_for_client(&self) -> Option<u64> {
        let idle = self.idle.load(Ordering::Acquire);
        (!idle).then(|| self.polls.load(Ordering::Relaxed))
    }

    /// Frees what is queued; the engine finds the queue's reader gone.
    pub fn clear(&self) {
        self.inbox().take();
    }

    fn inbox(&self) -> MutexGuard<'_, Option<Inbox>> {
        // A panic while holding it leaves a queue that still works.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything a stream holds; dropping it ends the stream, its conversation and its subscription.
pub struct Updates {
    pub(super) visit: Visit,
    pub(super) _place: Place,
    pub(super) key: Arc<Key>,
    pub(super) metrics: DoorMetrics,
    pub(super) shelf: Arc<Shelf>,
    pub(super) replies: mpsc::Receiver<Reply>,
    pub(super) conversation: AbortHandle,
    pub(super) silence: Silence,
    pub(super) pace: Option<Pin<Box<Sleep>>>,
    pub(super) uncounted: Uncounted,
    pub(super) over: bool,
}

/// Sent, but not yet visible to others: shared counters are touched once per batch.
#[derive(Debug, Default)]
pub struct Uncounted {
    frames: u64,
    bytes: u64,
}

/// When the next ping is due.
pub struct Silence {
    longest: Duration,
    last_sent: Instant,
    /// Something was sent after `last_sent` was read from the clock.
    fresh: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    pub fn new(longest: Duration) -> Self {
        let now = Instant::now();
        Self {
            longest,
            last_sent: now,
            fresh: false,
            alarm: Box::pin(sleep_until(now + longest)),
        }
    }

    /// Ready when it has lasted too long. Called when there is nothing to send.
    fn poll_too_long(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.fresh {
            self.fresh = false;
            self.last_sent = Instant::now();
        }
        // The alarm is moved only when it rings: most of the time something was sent meanwhile.
        while self.alarm.as_mut().poll(context).is_ready() {
            let due = self.last_sent + self.longest;
            let now = Instant::now();
            let too_long = due <= now;
            let next = if too_long { now + self.longest } else { due };
            self.alarm.as_mut().reset(next);
            if too_long {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Updates {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(reply)) = self.replies.poll_recv(context) {
            return self.reply(reply);
        }
        if let Some(pace) = &mut self.pace {
            if pace.as_mut().poll(context).is_pending() {
                self.count();
                return Poll::Pending;
            }
            self.pace = None;
        }
        match self.poll_queue(context) {
            Poll::Ready(Ok(frame)) => return self.send(frame, true),
            Poll::Ready(Err((why, status))) => {
                // Why the conversation ended the queue is told before that it ended.
                return match self.replies.try_recv() {
                    Ok(reply) => self.reply(reply),
                    Err(_) => self.end(why, status),
                };
            }
            Poll::Pending => {}
        }
        if self.silence.poll_too_long(context).is_ready() {
            self.metrics.heartbeat(Heartbeat::Ping);
            return self.send(heartbeat::ping(SystemTime::now()), false);
        }
        self.count();
        Poll::Pending
    }

    fn poll_queue(&self, context: &mut Context<'_>) -> Poll<Result<Frame, (Ended, Status)>> {
        let mut shelf = self.shelf.inbox();
        let Some(inbox) = &mut *shelf else {
            // Whoever cleared it has replied why; until that arrives there is nothing.
            return Poll::Pending;
        };
        let next = pin!(inbox.next()).poll(context);
        next.map(|frame| {
            frame.ok_or_else(|| {
                let from_slot = self.shelf.from_slot.load(Ordering::Relaxed).checked_sub(1);
                status::of(inbox.ending(), from_slot)
            })
        })
    }

    fn reply(&mut self, reply: Reply) -> Poll<Option<Result<Frame, Status>>> {
        match reply {
            Reply::Frame(frame) => self.send(frame, false),
            Reply::End(why, status) => self.end(why, status),
        }
    }

    fn send(&mut self, frame: Frame, paced: bool) -> Poll<Option<Result<Frame, Status>>> {
        let bytes = frame.len() + PREFIX_BYTES;
        self.silence.fresh = true;
        self.uncounted.frames += 1;
        self.uncounted.bytes += bytes as u64;
        if self.uncounted.frames >= UNCOUNTED_MAX {
            self.count();
        }
        if paced && let Some(rate) = &self.key.rate {
            let now = Instant::now();
            let wait = rate.take(bytes, now.into_std());
            if wait > Duration::ZERO {
                self.pace = Some(Box::pin(sleep_until(now + wait)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn end(&mut self, why: Ended, status: Status) -> Poll<Option<Result<Frame, Status>>> {
        self.over = true;
        self.visit.ended(why);
        self.shelf.clear();
        Poll::Ready(Some(Err(status)))
    }

    fn count(&mut self) {
        let Uncounted { frames, bytes } = std::mem::take(&mut self.uncounted);
        if frames == 0 {
            return;
        }
        self.metrics.frames.inc_by(frames);
        self.key.grpc_bytes.inc_by(bytes);
        let facts = &self.visit.facts;
        facts.frames_sent.fetch_add(frames, Ordering::Relaxed);
        facts.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Stream for Updates {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.shelf.polls.fetch_add(1, Ordering::Relaxed);
        let next = self.poll(context);
        self.shelf.idle.store(next.is_pending(), Ordering::Release);
        next
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.count();
        self.conversation.abort();
    }
}
