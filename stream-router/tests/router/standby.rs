//! Subscribers of a standby: they get every confirmed block once, while routers change places; and one that asks for the
//! state first has, at the end, the state.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_log::{EventLog, MemoryLog};
use event_schema::{
    Commitment, Gap, Pubkey, Signature, Slot,
    proto::{
        Message,
        geyser::{
            CommitmentLevel, SubscribeRequest, SubscribeRequestFilterAccounts,
            SubscribeRequestFilterTransactions, SubscribeUpdate, subscribe_update::UpdateOneof,
        },
    },
};
use prometheus::Registry;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_router::{
    access::Gate,
    account_state::{AccountsTopicConfig, Snapshots},
    archive::Archive,
    commitment::Standing,
    pipeline::Stream,
    router::Effect,
    slot_tree::BlockId,
    subscription::Level,
    yellowstone::{
        beside,
        config::GrpcConfig,
        cursor::Cursor,
        door::{Door, DoorMetrics},
        engine::{self, Command, Engine, EngineMetrics, News, Start, WhenSlow},
        filter::Filters,
        outbox::{Inbox, Outbox, OutboxLimits, outbox},
        tips::Tips,
    },
};
use tokio::sync::mpsc;

use crate::{
    chain::History,
    crash::{Canonical, assert_exactly, read_canonical},
    leadership::{CANONICAL, Feed, NO_GAPS_MS, Router, claims, empty_log, publisher, settled},
    on_the_log::settings,
    yellowstone::Extension,
};

const ACCOUNTS_TOPIC: AccountsTopicConfig = AccountsTopicConfig {
    enabled: true,
    partitions: 3,
    memory_mebibytes: 64,
    compaction_lag_seconds: 600,
    snapshot_mebibytes: 64,
    snapshots_at_once: 2,
};

/// What a router's subscribers hold on to.
struct Side {
    router: Option<Router>,
    commands: mpsc::Sender<Command>,
    tips: Tips,
    snapshots: Snapshots,
}

impl Side {
    fn start(log: &MemoryLog, name: &str, gap_after_ms: u64) -> Self {
        let settings = settings();
        let shared: Arc<dyn EventLog> = Arc::new(log.clone());
        let canonical = settings.topics.canonical.clone();
        let archive = Archive::new(
            Arc::clone(&shared),
            canonical,
            settings.partitions.canonical,
        );
        let tips = Tips::default();
        let (news, news_queue) = mpsc::channel(16);
        let (commands, command_queue) = mpsc::channel(16);
        let engine = Engine::new(
            engine::Settings {
                replay_blocks: 10_000,
                recent_bytes: 1 << 20,
                when_slow: WhenSlow::CatchUp,
            },
            Arc::new(archive),
            tips.clone(),
            EngineMetrics::new(&Registry::new()).expect("metrics"),
            commands.clone(),
        );
        tokio::spawn(engine.run(news_queue, command_queue));
        let door = door(commands.clone(), tips.clone());
        let stream = Some(Stream { news, door });
        let topic = settings.topics.accounts;
        Self {
            router: Some(Router::serving(
                log,
                name,
                stream,
                ACCOUNTS_TOPIC,
                gap_after_ms,
            )),
            snapshots: Snapshots::new(shared, topic, &ACCOUNTS_TOPIC),
            commands,
            tips,
        }
    }
}

/// Where nobody asks for what is beside blocks.
fn door(commands: mpsc::Sender<Command>, tips: Tips) -> Door {
    let registry = Registry::new();
    let metrics = DoorMetrics::new(&registry).expect("metrics");
    let config = GrpcConfig::default();
    let gate = Gate::new(&config, &registry).expect("keys");
    let (beside, _hub) = beside::open(&registry).expect("metrics");
    Door::new(config, gate, commands, beside, tips, metrics)
}

async fn connect(commands: &mpsc::Sender<Command>, id: u64, outbox: Outbox, start: Start) {
    let connect = Command::Connect {
        id,
        outbox,
        filters: filters(),
        start,
    };
    commands.send(connect).await.expect("an engine");
}

fn filters() -> Filters {
    let request = SubscribeRequest {
        accounts: HashMap::from([("all".to_owned(), SubscribeRequestFilterAccounts::default())]),
        transactions: HashMap::from([(
            "all".to_owned(),
            SubscribeRequestFilterTransactions::default(),
        )]),
        commitment: Some(CommitmentLevel::Confirmed as i32),
        ..SubscribeRequest::default()
    };
    Filters::compile(&request, &Default::default()).expect("filters")
}

fn queue() -> (Outbox, Inbox) {
    outbox(OutboxLimits {
        bytes_max: 64 << 20,
        frames_max: 100_000,
    })
}

/// What a subscriber has made of its updates.
#[derive(Default)]
struct Heard {
    /// By slot, in the order in which they came.
    transactions: Vec<(Slot, Signature)>,
    /// Slot and lamports.
    states: BTreeMap<Pubkey, (u64, u64)>,
    writes: HashSet<(Pubkey, u64)>,
    from_snapshot: usize,
}

impl Heard {
    async fn all(inbox: &mut Inbox) -> Self {
        let mut heard = Self::default();
        while let Ok(Some(frame)) =
            tokio::time::timeout(Duration::from_millis(500), inbox.next()).await
        {
            let bytes: Vec<u8> = [frame.head, frame.body, frame.tail].concat();
            let update = SubscribeUpdate::decode(Bytes::from(bytes)).expect("an update");
            match update.update_oneof {
                Some(UpdateOneof::Account(account)) => {
                    let info = account.account.expect("an account");
                    let key = Pubkey::try_from(info.pubkey.as_slice()).expect("a key");
                    heard.from_snapshot += usize::from(account.is_startup);
                    let once = heard.writes.insert((key, account.slot));
                    assert!(once, "{key} of slot {} again", account.slot);
                    // A block that is complete late is told late.
                    let newest = heard.states.entry(key).or_default();
                    *newest = (*newest).max((account.slot, info.lamports));
                }
                Some(UpdateOneof::Transaction(update)) => {
                    let transaction = update.transaction.expect("a transaction");
                    let signature = transaction.signature.as_slice();
                    let signature = Signature::try_from(signature).expect("a signature");
                    heard.transactions.push((Slot(update.slot), signature));
                }
                other => panic!("not asked for: {other:?}"),
            }
        }
        heard.states.retain(|_, (_, lamports)| *lamports > 0);
        heard
    }
}

/// The chain's transactions from a slot on, and what its accounts are in the end.
fn truth(history: &History, canonical: &Canonical) -> Heard {
    let mut truth = Heard::default();
    for block in history.blocks.iter().filter(|block| block.on_chain) {
        let BlockId { slot, blockhash } = block.id;
        let fates = &canonical.fates[&(slot, blockhash)];
        assert_eq!(fates, &[Commitment::Confirmed, Commitment::Finalized]);
        let block = &canonical.blocks[&(slot, blockhash)];
        for transaction in &block.transactions {
            let signature = Signature::try_from(transaction.signature.as_slice());
            truth
                .transactions
                .push((slot, signature.expect("a signature")));
        }
        for account in &block.accounts {
            let info = account.account.as_ref().expect("an account");
            let key = Pubkey::try_from(info.pubkey.as_slice()).expect("a key");
            truth.states.insert(key, (slot.0, info.lamports));
        }
    }
    truth.states.retain(|_, (_, lamports)| *lamports > 0);
    truth
}

async fn run(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let history = History::random(rng, 50, 1_000);
    let mut feed = Feed::new(rng, &history);
    let log = MemoryLog::new();
    let names = ["north", "south"];
    let mut sides = names.map(|name| Side::start(&log, name, NO_GAPS_MS));
    let writer = log.writer().await.expect("a writer");
    while settings().make_topics(&log).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let routers = [sides[0].router.take(), sides[1].router.take()];
    let leader = publisher(&routers).await;
    let [north, south] = routers;
    (sides[0].router, sides[1].router) = (north, south);
    let standby = 1 - leader;
    // One that is there from the beginning, in canonical order.
    let (first_out, mut first) = queue();
    for side in &sides {
        side.router.as_ref().expect("runs").ready().await;
    }
    let from_now = Start::Cursor(Bytes::new());
    connect(&sides[standby].commands, 1, first_out, from_now).await;
    const PARTS: usize = 6;
    let mut late = Vec::new();
    for part in 1..=PARTS {
        feed.append(writer.as_ref(), part, PARTS).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..400))).await;
        if part == PARTS / 2 {
            // The publisher dies; the standby takes over with its subscribers.
            let router = sides[leader].router.take().expect("runs");
            if seed.is_multiple_of(2) {
                router.kill().await;
            } else {
                router.drain().await;
            }
        }
        if (2..PARTS).contains(&part) {
            // One that wants the state first. It may have to wait for a block that is not complete yet.
            let (out, inbox) = queue();
            let side = &sides[standby];
            let (snapshots, tips) = (side.snapshots.clone(), side.tips.clone());
            let commands = side.commands.clone();
            late.push(tokio::spawn(async move {
                let given = snapshots.give(&filters(), &out, &tips).await;
                let telling = given.expect("a snapshot");
                let cursor = Cursor::after(Level::Confirmed, telling).encode();
                let start = Start::Cursor(Bytes::copy_from_slice(&cursor));
                connect(&commands, 10 + part as u64, out, start).await;
                inbox
            }));
        }
    }
    let canonical = settled(&log, &history).await;
    let truth = truth(&history, &canonical);
    let router = sides[standby].router.as_ref().expect("runs");
    websocket_heard_once(router, &history, seed);
    let first = Heard::all(&mut first).await;
    let mut in_chain_order = first.transactions.clone();
    in_chain_order.sort_by_key(|(slot, _)| *slot);
    let missed = |slot: &(Slot, Signature)| !first.transactions.contains(slot);
    let missed: Vec<_> = truth.transactions.iter().copied().filter(missed).collect();
    let claims = claims(&log).await;
    assert!(
        missed.is_empty(),
        "seed {seed}: {missed:?} of {in_chain_order:?}; claims {claims:?}"
    );
    assert_eq!(in_chain_order, truth.transactions, "seed {seed}");
    assert_eq!(first.states, truth.states, "seed {seed}");
    for late in late {
        let mut inbox = late.await.expect("a subscriber");
        let heard = Heard::all(&mut inbox).await;
        assert_eq!(heard.states, truth.states, "seed {seed}");
        assert!(heard.from_snapshot > 0, "seed {seed}");
        // What it heard after the state is the rest of what the first one heard.
        let rest = first.transactions.len() - heard.transactions.len();
        assert_eq!(
            heard.transactions,
            first.transactions[rest..],
            "seed {seed}"
        );
    }
}

/// Also WebSocket subscribers of the router that stood by first.
fn websocket_heard_once(router: &Router, history: &History, seed: u64) {
    let mut told: BTreeMap<BlockId, Vec<Standing>> = BTreeMap::new();
    for effect in router.effects.lock().expect("no panic").iter() {
        match effect {
            Effect::Publish(block) => told.entry(block.id).or_default().push(Standing::Processed),
            Effect::Standing(change) => {
                told.entry(change.block).or_default().push(change.standing);
            }
            _ => {}
        }
    }
    for block in history.blocks.iter().filter(|block| block.on_chain) {
        let all = [
            Standing::Processed,
            Standing::Confirmed,
            Standing::Finalized,
        ];
        assert_eq!(told[&block.id], all, "seed {seed}, {block:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_of_a_standby_miss_nothing_when_it_takes_over() {
    let seeds: Vec<u64> = match std::env::var("ROUTER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROUTER_SEED is a number")],
        Err(_) => (0..4).collect(),
    };
    for seed in seeds {
        println!("seed {seed} (replay with ROUTER_SEED={seed})");
        run(seed).await;
    }
}

/// A publisher that is stuck with what it has to tell is taken over from in the middle of it; it tells all of it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_publisher_was_about_to_tell_is_told_when_another_has_taken_over() {
    for seed in 0..4 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (history, mut feed, log, writer) = empty_log(rng).await;
        let start = |name| Router::serving(&log, name, None, ACCOUNTS_TOPIC, NO_GAPS_MS);
        let mut routers = [Some(start("north")), None];
        publisher(&routers).await;
        let north = routers[0].as_ref().expect("runs");
        north.ready().await;
        north.stuck.store(true, Ordering::Relaxed);
        const PARTS: usize = 60;
        for part in 1..=PARTS {
            feed.append(writer.as_ref(), part, PARTS).await;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        routers[1] = Some(start("south"));
        let canonical = settled(&log, &history).await;
        assert_exactly(&canonical, &history);
        let claims = claims(&log).await;
        assert!(claims.len() > 1, "seed {seed}: north was not stuck");
        let north = routers[0].as_ref().expect("runs");
        north.stuck.store(false, Ordering::Relaxed);
        // Not the tip alone: a block that is complete late is told after it.
        let on_chain = history.blocks.iter().filter(|block| block.on_chain).count();
        let finalized = || {
            let effects = north.effects.lock().expect("no panic");
            let finalized = effects.iter().filter(|effect| {
                matches!(effect, Effect::Standing(change) if change.standing == Standing::Finalized)
            });
            finalized.count()
        };
        let began = Instant::now();
        while finalized() < on_chain {
            assert!(began.elapsed().as_secs() < 20, "seed {seed}: not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        websocket_heard_once(north, &history, seed);
    }
}

/// Another router may take over before this one has published anything. Who was let in by then would take what the other told
/// meanwhile for history.
#[tokio::test]
async fn nobody_is_let_in_before_it_is_known_from_when_on_they_hear() {
    let log = MemoryLog::new();
    let (news, mut queue) = mpsc::channel(1);
    let (commands, _queue) = mpsc::channel(16);
    let door = door(commands, Tips::default());
    // Nobody takes what it has to say yet.
    news.send(News::Early(Vec::new())).await.expect("a place");
    let stream = Some(Stream { news, door });
    let router = Router::serving(&log, "north", stream, ACCOUNTS_TOPIC, NO_GAPS_MS);
    let soon = tokio::time::timeout(Duration::from_secs(2), router.ready()).await;
    assert!(soon.is_err(), "it said that it is ready");
    queue.recv().await.expect("what was there before");
    let then = tokio::time::timeout(Duration::from_secs(20), router.ready()).await;
    then.expect("it is ready now");
    assert!(matches!(queue.recv().await, Some(News::Restored(_))));
}

/// What both validators missed is in the canonical topic as gaps: subscribers of a standby hear of each once, with its extent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_of_a_standby_hear_of_gaps() {
    let rng = &mut StdRng::seed_from_u64(7);
    let history = History::random(rng, 30, 1_000);
    let mut feed = Feed::without(rng, &history, |block| block.id.slot.0 % 7 == 3);
    let log = MemoryLog::new();
    let sides = ["north", "south"].map(|name| Side::start(&log, name, 500));
    let writer = log.writer().await.expect("a writer");
    while settings().make_topics(&log).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let [mut north, mut south] = sides;
    let routers = [north.router.take(), south.router.take()];
    let leader = publisher(&routers).await;
    [north.router, south.router] = routers;
    let standby = if leader == 0 { &south } else { &north };
    let router = standby.router.as_ref().expect("runs");
    router.ready().await;
    let (out, mut inbox) = queue();
    connect(&standby.commands, 1, out, Start::Cursor(Bytes::new())).await;
    for part in 1..=4 {
        feed.append(writer.as_ref(), part, 4).await;
    }

    let mut heard = Vec::new();
    let began = Instant::now();
    let mut quiet_since = Instant::now();
    // Holes are told once they have been known for a while.
    while quiet_since.elapsed() < Duration::from_secs(4) && began.elapsed().as_secs() < 60 {
        let next = tokio::time::timeout(Duration::from_millis(100), inbox.next()).await;
        let Ok(Some(frame)) = next else { continue };
        quiet_since = Instant::now();
        let bytes: Vec<u8> = [frame.head, frame.body, frame.tail].concat();
        let extension = Extension::decode(bytes.as_slice()).expect("an update");
        heard.extend(extension.gap.as_ref().map(extent));
    }
    let canonical = read_canonical(&log, &settings().topics, CANONICAL).await;
    let mut told: Vec<_> = canonical.gaps.iter().map(extent).collect();
    assert!(told.len() > 1, "{told:?}");
    told.sort_unstable();
    heard.sort_unstable();
    assert_eq!(heard, told);
    let effects = router.effects.lock().expect("no panic");
    let gaps = effects.iter().filter_map(|effect| match effect {
        // The two may have claimed at the same moment: then this one may have published.
        Effect::Gap(gap) | Effect::ParentGap { gap, .. } => Some(extent(gap)),
        _ => None,
    });
    let mut over_websocket: Vec<_> = gaps.collect();
    over_websocket.sort_unstable();
    assert_eq!(over_websocket, told);
}

fn extent(gap: &Gap) -> (u64, u64, u64, i32) {
    (gap.first_slot, gap.last_slot, gap.records, gap.reason)
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_is_refused_with_the_fix() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    let topics = settings().topics;
    let snapshots = Snapshots::new(log, topics.accounts, &ACCOUNTS_TOPIC);
    let request = SubscribeRequest {
        commitment: Some(CommitmentLevel::Processed as i32),
        ..SubscribeRequest::default()
    };
    let filters = Filters::compile(&request, &Default::default()).expect("filters");
    let (out, _inbox) = queue();
    let refused = snapshots.give(&filters, &out, &Tips::default()).await;
    let text = refused.expect_err("a refusal").to_string();
    assert!(text.contains("commitment confirmed"), "{text}");
}
