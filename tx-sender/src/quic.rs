//! Connections to the leaders. One task per leader owns its connection, its bounded queue and its reconnects.
//!
//! A write that returned is not a delivery: an attempt ends when the leader's QUIC stack has acknowledged every byte, has
//! refused the stream, when the connection is gone, or when the time is up; the end is reported, and every accepted job
//! ends exactly once. Connections are made ahead of need ([`Quic::keep`], called by a timer), not by traffic.
//!
//! Queue policy: a full queue refuses at once (`QueueFull`); the next leader window tries again.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use event_schema::Pubkey;
use futures::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use quinn::{Connection, ConnectionError, Endpoint, StoppedError, VarInt, WriteError};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::{
    book::DeliveryId,
    delivery::{Attempt, Outcome},
    pace::Pace,
    schedule::{Target, window_start},
    tls,
};

/// Streams in flight per connection: what a leader allows an unstaked peer (`QUIC_MAX_UNSTAKED_CONCURRENT_STREAMS`,
/// solana-streamer 4.2.2). More would wait in QUIC for credit instead of in our queue.
const STREAMS_IN_FLIGHT_MAX: usize = 128;
/// Leaders give a handshake 2 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Quiet connections are pinged; some leaders drop them after 2 s.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A connection without any answer is dead after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Jobs wait for a reconnect that is due within this; for a later one they are told that nobody is there.
const RECONNECT_AWAITED: Duration = Duration::from_millis(300);
/// A leader that is not wanted any more keeps its connection this long: schedules come back to it.
const UNWANTED_KEPT: Duration = Duration::from_secs(30);

/// Knobs of the connections.
#[derive(Debug, Clone, Copy)]
pub struct QuicSettings {
    pub bind: SocketAddr,
    /// An attempt not acknowledged by then is unacked.
    pub ack_timeout: Duration,
    /// Jobs that may wait per leader.
    pub queue_depth: usize,
}

/// One transaction for one leader.
#[derive(Debug)]
pub struct Job {
    pub id: DeliveryId,
    pub window: u64,
    pub wire: Bytes,
}

/// The end of a job.
#[derive(Debug)]
pub struct Ended {
    pub id: DeliveryId,
    pub attempt: Attempt,
}

struct Peer {
    address: SocketAddr,
    jobs: mpsc::Sender<Job>,
    wanted_at: Instant,
    task: JoinHandle<()>,
}

/// See the module. Owned by one loop.
pub struct Quic {
    endpoint: Endpoint,
    settings: QuicSettings,
    ended: mpsc::UnboundedSender<Ended>,
    peers: HashMap<Pubkey, Peer>,
}

impl Quic {
    /// Ends of jobs go to `ended`. It is unbounded because every end frees a place in a bounded queue: it holds at most
    /// what the queues and connections hold.
    pub fn new(
        settings: QuicSettings,
        identity: tls::IdentityCertificate,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> anyhow::Result<Self> {
        let crypto =
            quinn::crypto::rustls::QuicClientConfig::try_from(tls::client_config(identity)?)
                .context("TLS 1.3 for QUIC")?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_idle_timeout(Some(IDLE_TIMEOUT.try_into()?))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            // Finish one transaction before the next: half of two is worth nothing.
            .send_fairness(false);
        config.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::client(settings.bind).with_context(|| {
            format!(
                "quic_bind: cannot open a UDP socket on {}; name an address of this machine, port 0 for any",
                settings.bind
            )
        })?;
        endpoint.set_default_client_config(config);
        Ok(Self {
            endpoint,
            settings,
            ended,
            peers: HashMap::new(),
        })
    }

    /// Queues a job; its end is reported, at once when it cannot be queued.
    pub fn send(&mut self, target: Target, job: Job) {
        let peer = self.peer(target);
        if let Err(refused) = peer.jobs.try_send(job) {
            let (job, outcome) = match refused {
                mpsc::error::TrySendError::Full(job) => (job, Outcome::QueueFull),
                mpsc::error::TrySendError::Closed(job) => (job, Outcome::Unreachable),
            };
            report(
                &self.ended,
                target.leader,
                job.id,
                job.window,
                outcome,
                Duration::ZERO,
            );
        }
    }

    /// Connects to those soon to lead, and lets go of those long out of turn. For a timer.
    pub fn keep(&mut self, targets: &[Target]) {
        for target in targets {
            self.peer(*target);
        }
        // Dropping the sender lets the task finish what it holds and close.
        self.peers
            .retain(|_, peer| peer.wanted_at.elapsed() < UNWANTED_KEPT);
    }

    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Lets the leaders' tasks finish what they hold, within `limit`.
    pub async fn drain(self, limit: Duration) {
        let tasks: Vec<JoinHandle<()>> = self.peers.into_values().map(|peer| peer.task).collect();
        if timeout(limit, futures::future::join_all(tasks))
            .await
            .is_err()
        {
            tracing::info!(
                "drain: some attempts were still open; they are sent again after the next start"
            );
        }
        self.endpoint.close(VarInt::from_u32(0), b"drained");
    }

    fn peer(&mut self, target: Target) -> &mut Peer {
        let (endpoint, settings, ended) = (&self.endpoint, self.settings, &self.ended);
        let connect = || {
            let (jobs, queue) = mpsc::channel(settings.queue_depth);
            let link = Link {
                endpoint: endpoint.clone(),
                target,
                ack_timeout: settings.ack_timeout,
                ended: ended.clone(),
            };
            Peer {
                address: target.tpu_quic,
                jobs,
                wanted_at: Instant::now(),
                task: tokio::spawn(link.serve(queue)),
            }
        };
        let peer = self.peers.entry(target.leader).or_insert_with(connect);
        if peer.address != target.tpu_quic || peer.jobs.is_closed() {
            *peer = connect();
        }
        peer.wanted_at = Instant::now();
        peer
    }
}

fn report(
    ended: &mpsc::UnboundedSender<Ended>,
    leader: Pubkey,
    id: DeliveryId,
    window: u64,
    outcome: Outcome,
    took: Duration,
) {
    let attempt = Attempt {
        leader,
        window_slot: window_start(window).0,
        outcome,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    };
    // The receiver is gone only when the whole service ends.
    let _ = ended.send(Ended { id, attempt });
}

/// The task of one leader.
struct Link {
    endpoint: Endpoint,
    target: Target,
    ack_timeout: Duration,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Link {
    async fn serve(self, mut queue: mpsc::Receiver<Job>) {
        let mut pace = Pace::default();
        let mut connection: Option<Connection> = None;
        let mut in_flight = FuturesUnordered::new();
        loop {
            if connection.is_none() && queue_is_open(&queue) && pace.may_connect(Instant::now()) {
                connection = self.connect(&mut pace).await;
                if connection.is_none() {
                    self.refuse_waiting(&mut queue);
                }
            }
            let closed = OptionFuture::from(connection.as_ref().map(Connection::closed));
            let retry_at = pace.next_connect();
            // A connection that is about to be tried again is worth waiting for; its jobs keep their place.
            let hold = connection.is_none()
                && queue_is_open(&queue)
                && retry_at.saturating_duration_since(Instant::now()) <= RECONNECT_AWAITED;
            tokio::select! {
                job = queue.recv(), if !hold && in_flight.len() < STREAMS_IN_FLIGHT_MAX => match (job, &connection) {
                    (Some(job), Some(connection)) => {
                        in_flight.push(deliver(connection.clone(), job, self.ack_timeout));
                    }
                    (Some(job), None) => self.end(&job, Outcome::Unreachable, Duration::ZERO),
                    (None, _) => break,
                },
                Some((job, outcome, took)) = in_flight.next() => self.end(&job, outcome, took),
                Some(reason) = closed => {
                    tracing::debug!(leader = %self.target.leader, address = %self.target.tpu_quic, %reason, "connection closed");
                    connection = None;
                    // All of them have ended with it: say so before the time that a new handshake takes.
                    while let Some((job, outcome, took)) = in_flight.next().await {
                        self.end(&job, outcome, took);
                    }
                }
                () = tokio::time::sleep_until(retry_at.into()), if connection.is_none() => {}
            }
        }
        while let Some((job, outcome, took)) = in_flight.next().await {
            self.end(&job, outcome, took);
        }
        if let Some(connection) = connection {
            connection.close(VarInt::from_u32(0), b"done");
        }
    }

    async fn connect(&self, pace: &mut Pace) -> Option<Connection> {
        let Target { leader, tpu_quic } = self.target;
        pace.connecting(Instant::now());
        let attempt = async {
            let connecting = self
                .endpoint
                .connect(tpu_quic, &tls::server_name(tpu_quic))?;
            anyhow::Ok(timeout(HANDSHAKE_TIMEOUT, connecting).await??)
        };
        match attempt.await {
            Ok(connection) => {
                pace.connected();
                tracing::debug!(%leader, address = %tpu_quic, "connected");
                Some(connection)
            }
            Err(error) => {
                tracing::debug!(%leader, address = %tpu_quic, %error, "no connection");
                None
            }
        }
    }

    /// Nobody is there for them: the sooner the caller knows, the sooner another leader gets them.
    fn refuse_waiting(&self, queue: &mut mpsc::Receiver<Job>) {
        while let Ok(job) = queue.try_recv() {
            self.end(&job, Outcome::Unreachable, Duration::ZERO);
        }
    }

    fn end(&self, job: &Job, outcome: Outcome, took: Duration) {
        report(
            &self.ended,
            self.target.leader,
            job.id,
            job.window,
            outcome,
            took,
        );
    }
}

fn queue_is_open(queue: &mpsc::Receiver<Job>) -> bool {
    !queue.is_closed()
}

async fn deliver(
    connection: Connection,
    job: Job,
    ack_timeout: Duration,
) -> (Job, Outcome, Duration) {
    let started = Instant::now();
    let outcome = match timeout(ack_timeout, transmit(&connection, &job.wire)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Unacked,
    };
    (job, outcome, started.elapsed())
}

/// One stream: open, write, finish, and wait until the peer's stack holds all of it.
async fn transmit(connection: &Connection, wire: &[u8]) -> Outcome {
    let lost = |_: ConnectionError| Outcome::ConnectionLost;
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return lost(error),
    };
    match stream.write_all(wire).await {
        Ok(()) => {}
        Err(WriteError::Stopped(_)) => return Outcome::Refused,
        Err(_) => return Outcome::ConnectionLost,
    }
    // Fails only when finished before.
    let _ = stream.finish();
    match stream.stopped().await {
        Ok(None) => Outcome::Acked,
        Ok(Some(_)) => Outcome::Refused,
        Err(StoppedError::ConnectionLost(error)) => lost(error),
        Err(StoppedError::ZeroRttRejected) => Outcome::ConnectionLost,
    }
}
