//! The incoming half of a `Subscribe` stream: reads requests, tells the engine, answers. It also watches whether the
//! client takes what waits for it.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status};

use super::{
    codec::Call,
    heartbeat,
    metrics::{DoorMetrics, Ended, Heartbeat},
    request::{Change, Subscription, Wish},
    roster::Facts,
    status,
    updates::{Reply, Shelf},
};
use crate::{
    access::{Key, Refusal, Refused, Size},
    account_state::Snapshots,
    subscription::Level,
    yellowstone::{
        cursor::Cursor,
        engine::{Command, Start},
        filter::{FilterError, Filters, SubscriberId},
        outbox::Outbox,
        tips::Tips,
    },
};

/// Requests that name more keys are compiled where they keep no other stream waiting.
const ACCOUNTS_IN_PLACE_MAX: usize = 1_000;
/// How often a client that does not read is looked after, at most and at least.
const WATCH: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Why a stream must end.
type End = (Ended, Status);

pub struct Conversation {
    pub id: SubscriberId,
    pub facts: Arc<Facts>,
    pub key: Arc<Key>,
    pub request_bytes_max: usize,
    pub first_request: Duration,
    pub stalled_max: Duration,
    pub commands: mpsc::Sender<Command>,
    pub metrics: DoorMetrics,
    pub draining: watch::Receiver<bool>,
    pub replies: mpsc::Sender<Reply>,
    pub shelf: Arc<Shelf>,
    /// Until the engine has it.
    pub outbox: Option<Outbox>,
    /// The client asks for the state first; until it has it.
    pub snapshot: Option<(Snapshots, Tips)>,
}

impl Conversation {
    pub async fn run(mut self, requests: impl Stream<Item = Result<Call, Status>>) {
        let shelf = Arc::clone(&self.shelf);
        let mut draining = self.draining.clone();
        let mut stall = Stall::new(self.stalled_max);
        let seconds = self.stalled_max.as_secs();
        let (why, status) = tokio::select! {
            end = self.listen(requests) => end,
            // Also when the sender is gone: the process is ending.
            _ = draining.wait_for(|draining| *draining) => (Ended::Shutdown, status::shutdown()),
            () = stall.over(&shelf) => (Ended::Stalled, status::stalled(seconds)),
        };
        if why == Ended::Stalled {
            // It may never read that it ended: nothing of it stays here or in the engine until then.
            shelf.clear();
            let goodbye = Command::Disconnect { id: self.id };
            // Fails only when the process ends.
            let _ = self.commands.send(goodbye).await;
        }
        // Fails only when the stream is gone. The queue may end only after this: see `Updates`.
        let _ = self.replies.send(Reply::End(why, status)).await;
    }

    async fn listen(&mut self, requests: impl Stream<Item = Result<Call, Status>>) -> End {
        let mut requests = pin!(requests);
        let Ok(first) = timeout(self.first_request, requests.next()).await else {
            self.metrics.refused(Refused::NoRequest);
            let seconds = self.first_request.as_secs();
            let text = format!("no SubscribeRequest came within {seconds} seconds");
            return (Ended::Refused, Status::deadline_exceeded(text));
        };
        if first.is_none() {
            self.metrics.refused(Refused::NoRequest);
            let text =
                "the stream of requests ended without a SubscribeRequest; send one to subscribe";
            return (Ended::Refused, Status::invalid_argument(text));
        }
        let mut next = first;
        while let Some(call) = next {
            if let Err(end) = self.handle(call).await {
                return end;
            }
            next = requests.next().await;
        }
        // It will ask for nothing more, but goes on reading.
        std::future::pending().await
    }

    async fn handle(&mut self, call: Result<Call, Status>) -> Result<(), End> {
        let call = call.map_err(|status| self.unreadable(status))?;
        let wish =
            Wish::read(call).map_err(|error| self.refuse(Refused::Request, error.to_string()))?;
        if let Some(subscription) = wish.subscription {
            self.subscribe(subscription).await?;
        } else if self.outbox.is_some() {
            // A ping, or a change that will be refused, before any subscription: one to nothing.
            self.subscribe(Subscription::nothing()).await?;
        }
        for change in wish.changes {
            self.change(change).await?;
        }
        if let Some(id) = wish.ping {
            self.metrics.heartbeat(Heartbeat::Pong);
            let pong = Reply::Frame(heartbeat::pong(id, SystemTime::now()));
            // A client that pings without reading waits here. If the stream is gone, so are we.
            let _ = self.replies.send(pong).await;
        }
        Ok(())
    }

    async fn subscribe(&mut self, subscription: Subscription) -> Result<(), End> {
        let Subscription { request, start } = subscription;
        let size = Size::of(&request);
        self.key
            .allows(size)
            .map_err(|refusal| self.too_much(refusal))?;
        if self.snapshot.is_some() && self.outbox.is_some() && size.filters == 0 {
            // Yellowstone's client begins with an empty request: the state is that of the filters which follow.
            return Ok(());
        }
        let wants_accounts = !request.accounts.is_empty();
        let limits = Arc::clone(&self.key.filters);
        let compiled = if size.accounts > ACCOUNTS_IN_PLACE_MAX {
            let compile = move || Filters::compile(&request, &limits);
            let compiled = tokio::task::spawn_blocking(compile).await;
            compiled.map_err(|_| (Ended::Shutdown, status::shutdown()))?
        } else {
            Filters::compile(&request, &limits)
        };
        let filters = compiled.map_err(|error| self.refuse_filters(&error))?;
        let snapshot = self.snapshot.take().filter(|_| wants_accounts);
        let start = self.after_snapshot(snapshot, &filters, start).await?;
        self.facts.filters.store(size.filters, Ordering::Relaxed);
        self.facts.accounts.store(size.accounts, Ordering::Relaxed);
        self.shelf.starts_from(match start {
            Start::Slot(slot) => Some(slot.0),
            Start::Now | Start::Cursor(_) => None,
        });
        let id = self.id;
        let command = match self.outbox.take() {
            Some(outbox) => Command::Connect {
                id,
                outbox,
                filters,
                start,
            },
            None => Command::Replace { id, filters, start },
        };
        self.tell(command).await
    }

    /// Where the stream begins. One that resumes has its state.
    async fn after_snapshot(
        &self,
        snapshot: Option<(Snapshots, Tips)>,
        filters: &Filters,
        start: Start,
    ) -> Result<Start, End> {
        let resumes = match &start {
            Start::Now => false,
            Start::Slot(_) => true,
            Start::Cursor(cursor) => !cursor.is_empty(),
        };
        let (Some((snapshots, tips)), Some(outbox), false) = (snapshot, &self.outbox, resumes)
        else {
            return Ok(start);
        };
        match snapshots.give(filters, outbox, &tips).await {
            Ok(telling) => {
                let cursor = Cursor::after(Level::Confirmed, telling).encode();
                Ok(Start::Cursor(Bytes::copy_from_slice(&cursor)))
            }
            Err(error) => {
                self.metrics.refused(Refused::Request);
                Err((Ended::Refused, status::no_snapshot(&error)))
            }
        }
    }

    async fn change(&mut self, change: Change) -> Result<(), End> {
        let Change {
            filter,
            add,
            remove,
        } = change;
        let before = self.facts.accounts.load(Ordering::Relaxed);
        let size = Size {
            filters: self.facts.filters.load(Ordering::Relaxed),
            accounts: before
                .saturating_add(add.len())
                .saturating_sub(remove.len()),
        };
        self.key
            .allows(size)
            .map_err(|refusal| self.too_much(refusal))?;
        let (done, answer) = oneshot::channel();
        self.tell(Command::ChangeAccounts {
            id: self.id,
            filter,
            add,
            remove,
            done,
        })
        .await?;
        match answer.await {
            Ok(Ok(())) => {
                self.facts.accounts.store(size.accounts, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(error)) => Err(self.refuse_filters(&error)),
            Err(_) => Err((Ended::Shutdown, status::shutdown())),
        }
    }

    async fn tell(&self, command: Command) -> Result<(), End> {
        let told = self.commands.send(command).await;
        told.map_err(|_| (Ended::Shutdown, status::shutdown()))
    }

    fn too_much(&self, refusal: Refusal) -> End {
        self.metrics.refused(refusal.why);
        (Ended::Refused, status::refused(refusal))
    }

    fn refuse_filters(&self, error: &FilterError) -> End {
        self.refuse(Refused::Filters, error.to_string())
    }

    fn refuse(&self, why: Refused, text: String) -> End {
        self.metrics.refused(why);
        (Ended::Refused, Status::invalid_argument(text))
    }

    fn unreadable(&self, status: Status) -> End {
        match status.code() {
            // Tonic's codes for a message that is too long would send clients back with the same message.
            Code::OutOfRange | Code::ResourceExhausted => self.refuse(
                Refused::RequestSize,
                format!(
                    "the request is longer than {} bytes (grpc.request_bytes_max); send fewer filters at a time, or change \
                     accounts step by step with accounts_change",
                    self.request_bytes_max
                ),
            ),
            Code::InvalidArgument | Code::Internal => {
                self.metrics.refused(Refused::Request);
                (Ended::Refused, status)
            }
            // The connection broke.
            _ => (Ended::ClientGone, status),
        }
    }
}

/// Watches for a client that has something to read and does not read it.
struct Stall {
    longest: Duration,
    ticks: tokio::time::Interval,
    seen: Option<u64>,
    since: Instant,
}

impl Stall {
    fn new(longest: Duration) -> Self {
        let (shortest, rarest) = WATCH;
        let mut ticks = interval((longest / 4).clamp(shortest, rarest));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            longest,
            ticks,
            seen: None,
            since: Instant::now(),
        }
    }

    /// Cancelling loses nothing.
    async fn over(&mut self, shelf: &Shelf) {
        loop {
            let now = self.ticks.tick().await;
            let sees = shelf.waits_for_client();
            if sees.is_none() || sees != self.seen {
                self.seen = sees;
                self.since = now;
            } else if now - self.since >= self.longest {
                return;
            }
        }
    }
}
