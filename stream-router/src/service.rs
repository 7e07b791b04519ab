//! The process: configuration in, pipeline, fan-out and server running, drain at the end.

use std::sync::Arc;

use event_log::{EventLog, KafkaLog};
use serde_json::json;
use service_host::{ConfigError, Host, Service};
use tokio::sync::mpsc;

use crate::{
    access::{Arrivals, Gate},
    account_state::Snapshots,
    archive::Archive,
    board::Board,
    config::Config,
    fanout::{self, Fanout},
    metrics::Metrics,
    pipeline::{self, Outlets, Stream},
    repair, server,
    yellowstone::{
        beside,
        door::{self, Door, DoorMetrics},
        engine::{self, Command, Engine, EngineMetrics},
        tips::Tips,
    },
};

/// The `stream-router` binary.
pub struct StreamRouter;

impl Service for StreamRouter {
    const NAME: &'static str = "stream-router";
    const ABOUT: &'static str = "Turns what several validators observed into one canonical stream; serves it live over WebSocket and Yellowstone gRPC";
    const ADMIN: &'static str = "127.0.0.1:9181";
    const DOCS: &'static [(&'static str, &'static str)] = &[
        (
            "listen",
            "WebSocket (Solana PubSub) and HTTP (/v1/status, /v1/slots/SLOT)",
        ),
        (
            "transactional_id",
            "Of the routers with the same id one publishes, the others stand by; empty: PREFIX-router",
        ),
        (
            "topics",
            "Partition counts; used when a topic is created, checked when it exists",
        ),
        (
            "limits.gap_after_ms",
            "An incomplete slot without news for this long, in the log's time, becomes a gap",
        ),
        (
            "limits.settle_ms",
            "A complete slot nobody reported as processed is published after this long",
        ),
        (
            "limits.unsealed_slots",
            "An unsealed slot becomes a gap only this far below the root",
        ),
        (
            "limits.gap_slots",
            "Slots between finalized blocks of which nothing was seen become a gap, up to this many",
        ),
        (
            "limits.replay_blocks",
            "Blocks that Yellowstone subscribers may be told again",
        ),
        (
            "limits.recent_mebibytes",
            "Memory for published blocks until they are finalized, for Yellowstone subscribers",
        ),
        (
            "limits.published_memory",
            "Published blocks remembered against copies",
        ),
        (
            "limits.open_mebibytes",
            "Records of incomplete slots held at most",
        ),
        (
            "limits.skew_ms",
            "How far ahead of the others a topic is read while memory is tight",
        ),
        (
            "repair.rpc_urls",
            "RPC nodes (http or https) asked, in turn, for blocks that no source has (getBlock) and for what their accounts are (getMultipleAccounts); empty: gaps stay",
        ),
        (
            "repair.ca_file",
            "PEM file of a certificate authority trusted for https addresses beside the system's; empty for none",
        ),
        (
            "repair.concurrency",
            "Slots asked for at once; as many requests for accounts",
        ),
        (
            "repair.requests_per_second",
            "Requests to all RPC nodes together",
        ),
        (
            "repair.timeout_ms",
            "A node that has not sent its whole reply after this long is left for this time",
        ),
        (
            "repair.backoff_ms",
            "Pause before a slot is asked for again; it doubles up to repair.backoff_max_ms",
        ),
        (
            "repair.reply_mebibytes",
            "Longer replies are not read; a mainnet block is 5-20 MB of JSON",
        ),
        (
            "repair.deadline_seconds",
            "A slot that could not be had this long after it was first asked for is given up; accounts, when no node has told any for this long",
        ),
        (
            "repair.accounts_max",
            "With accounts_topic.enabled: accounts of blocks without account updates, asked for by getMultipleAccounts at once; 0: none",
        ),
        (
            "leadership.name",
            "Tells this router from the others, over its restarts; empty: the host's name and `listen`",
        ),
        (
            "leadership.lease_ms",
            "A standby takes over when the publisher was not heard of for this long",
        ),
        (
            "accounts_topic.enabled",
            "Keep the newest confirmed state of every account that is written in the compacted topic PREFIX.accounts",
        ),
        (
            "accounts_topic.memory_mebibytes",
            "Memory for published blocks until they are confirmed",
        ),
        (
            "accounts_topic.compaction_lag_seconds",
            "Nothing younger is compacted; longer than finality ever takes",
        ),
        (
            "accounts_topic.snapshot_mebibytes",
            "A snapshot for one subscriber may hold this much",
        ),
        (
            "accounts_topic.snapshots_at_once",
            "Each reads the whole topic",
        ),
        ("grpc.listen", "Yellowstone gRPC"),
        (
            "grpc.tls_cert",
            "PEM file of the certificate chain; with grpc.tls_key, connections are TLS",
        ),
        (
            "grpc.when_slow",
            "A subscriber whose queue is full: catch-up (from the log, at its pace) or disconnect",
        ),
        (
            "grpc.queue_bytes",
            "Updates not yet handed to the network, per subscriber",
        ),
        (
            "grpc.stalled_seconds_max",
            "A subscriber that takes nothing for this long is let go",
        ),
        (
            "grpc.x_tokens",
            "Keys by name and SHA-256, with limits; without any, everyone may subscribe",
        ),
        (
            "websocket.x_tokens",
            "grpc.x_tokens, their limits and grpc.anonymous hold for WebSocket, too; false: everyone may come in",
        ),
        (
            "websocket.connections_max",
            "Connections served at a time; those beyond are told so and closed",
        ),
        (
            "websocket.cursors_per_connection_max",
            "Subscriptions with a cursor; each may hold its share of websocket.queue_bytes_max besides the connection's queue",
        ),
        (
            "websocket.first_request_seconds",
            "A connection that has not sent its first request after this long is closed",
        ),
        (
            "websocket.queue_items_max",
            "A subscriber with more unsent notifications is disconnected",
        ),
        (
            "websocket.queue_bytes_max",
            "A subscriber with more unsent bytes is disconnected",
        ),
        ("websocket.request_bytes_max", "Longest request accepted"),
        (
            "websocket.ping_seconds",
            "Ping after this much silence; as much again without an answer ends the connection",
        ),
        (
            "websocket.live_blocks_max",
            "Blocks kept for notifications at confirmed and finalized",
        ),
    ];

    type Config = Config;

    fn check(config: &Config) -> Result<(), ConfigError> {
        config.check()
    }

    async fn run(config: Config, host: Host) -> anyhow::Result<()> {
        host.ready("log", false);
        let listener = service_host::listen("listen", &config.listen.to_string()).await?;
        let metrics = Metrics::new(host.metrics())?;
        let board = Board::default();
        let (effects, effect_queue) = mpsc::channel(pipeline::FANOUT_BATCHES);
        let (commands, command_queue) = mpsc::channel(fanout::COMMANDS);
        let (asks_of_engine, engine_queue) = mpsc::channel(engine::COMMANDS);
        let mut fanout = Fanout::new(config.websocket, metrics.clone());
        if config.grpc.enabled {
            fanout = fanout.with_engine(asks_of_engine.clone());
        }
        host.spawn("fanout", async move {
            fanout.run(effect_queue, command_queue).await;
            Ok(())
        });
        let gate = Gate::new(&config.grpc, host.metrics())?;
        let door = server::Door::new(
            config.websocket,
            gate.clone(),
            commands,
            board.clone(),
            metrics.clone(),
            Arrivals::new("websocket", host.metrics())?,
        );
        let websocket = door.roster();
        let drain = host.drain();
        host.spawn("server", async move {
            server::serve(listener, door, drain).await
        });
        let log: Arc<dyn EventLog> = Arc::new(KafkaLog::new(config.kafka.clone())?);
        let stream = if config.grpc.enabled {
            let commands = (asks_of_engine, engine_queue);
            Some(open_yellowstone(&config, &gate, &log, commands, &host).await?)
        } else {
            None
        };
        show_subscribers(&host, gate, websocket, stream.as_ref());
        host.started();
        let (asks, offers) = repair::open(&config, &board, &metrics, &host)?.unzip();
        let outlets = Outlets {
            fanout: effects,
            stream,
            board,
            metrics,
            asks,
        };
        pipeline::run(&config, log, outlets, offers, host.clone()).await
    }
}

/// `GET /subscribers` at the admin address: who is connected through which door, and what each key has had.
fn show_subscribers(host: &Host, gate: Gate, websocket: server::Roster, stream: Option<&Stream>) {
    let grpc = stream.map(|stream| stream.door.clone());
    host.page("subscribers", move || {
        let (gate, websocket, grpc) = (gate.clone(), websocket.clone(), grpc.clone());
        async move {
            let streams = match grpc {
                None => Vec::new(),
                Some(door) => match door.who().await {
                    Ok(streams) => streams,
                    Err(gone) => return json!({ "error": gone.to_string() }),
                },
            };
            json!({ "keys": gate.views(), "grpc": streams, "websocket": websocket.who() })
        }
    });
}

/// The Yellowstone door and what feeds it.
async fn open_yellowstone(
    config: &Config,
    gate: &Gate,
    log: &Arc<dyn EventLog>,
    (commands, command_queue): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    host: &Host,
) -> anyhow::Result<Stream> {
    let listener = service_host::listen("grpc.listen", &config.grpc.listen.to_string()).await?;
    let settings = config.settings();
    let archive = Archive::new(
        Arc::clone(log),
        settings.topics.canonical.clone(),
        settings.partitions.canonical,
    );
    let tips = Tips::default();
    let (news, news_queue) = mpsc::channel(engine::NEWS);
    let engine = Engine::new(
        engine::Settings {
            replay_blocks: config.limits.replay_blocks,
            recent_bytes: config.limits.recent_mebibytes << 20,
            when_slow: config.grpc.when_slow.into(),
        },
        Arc::new(archive),
        tips.clone(),
        EngineMetrics::new(host.metrics())?,
        commands.clone(),
    );
    host.spawn("yellowstone", async move {
        engine.run(news_queue, command_queue).await;
        Ok(())
    });
    let metrics = DoorMetrics::new(host.metrics())?;
    let (beside, hub) = beside::open(host.metrics())?;
    let drain = host.drain();
    host.spawn("beside", async move {
        // The admin page keeps the door, and so the way to the hub, to the end.
        tokio::select! {
            () = hub.run() => {}
            () = drain => {}
        }
        Ok(())
    });
    let door = Door::new(
        config.grpc.clone(),
        gate.clone(),
        commands,
        beside,
        tips,
        metrics,
    );
    if config.accounts_topic.enabled {
        let topic = settings.topics.accounts.clone();
        let snapshots = Snapshots::new(Arc::clone(log), topic, &config.accounts_topic);
        door.offer_snapshots(snapshots);
    }
    let (served, drain) = (door.clone(), host.drain());
    host.spawn(
        "grpc",
        async move { door::serve(listener, served, drain).await },
    );
    Ok(Stream { news, door })
}
