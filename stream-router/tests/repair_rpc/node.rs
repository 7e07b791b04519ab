//! The whole way, from a gap to the canonical topic, with nodes that are real HTTP servers: good ones, and every bad kind.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use event_log::{EventLog, MemoryLog};
use event_schema::{Blockhash, Commitment, ObservedTopic, Slot};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use stream_router::{
    assembly::Block,
    board::{Board, RepairsView},
    metrics::Metrics,
    publication::Publication,
    repair::{
        Asks, Hole, Offer, RepairConfig, Repairs, Tally, convert,
        nodes::Nodes,
        reply::{self, Reply},
    },
    router::Effect,
    slot_tree::BlockId,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    chain::{History, TrueBlock, blockhash},
    crash::{Canonical, read_canonical},
    on_the_log::{new_record, settings},
    oracle::{self, Chain},
    recorded,
    server::Node,
    source::{Source, interleave},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A router without a broker, and the task that repairs for it.
struct Bed {
    log: MemoryLog,
    publication: Publication,
    asks: Asks,
    offers: mpsc::Receiver<Offer>,
    board: Board,
    clock: i64,
}

impl Bed {
    async fn start(config: RepairConfig) -> Self {
        config.check().expect("a good configuration");
        let log = MemoryLog::new();
        let publication = Publication::open(&log, settings()).await.expect("opens");
        let (asks, holes) = Asks::channel();
        let (sender, offers) = mpsc::channel(1);
        let board = Board::default();
        let tally = Tally {
            metrics: Metrics::new(&prometheus::Registry::new()).expect("metrics"),
            board: board.clone(),
        };
        let repairs = Repairs::new(&config, 1_000, holes, sender, tally).expect("a client");
        tokio::spawn(repairs.run(std::future::pending()));
        Self {
            log,
            publication,
            asks,
            offers,
            board,
            clock: i64::MAX / 2,
        }
    }

    /// The log gets the source's records, and time passes.
    async fn read(&mut self, source: &Source) {
        let topics = settings().topics;
        let writer = self.log.writer().await.expect("a writer");
        let lanes = interleave(&mut StdRng::seed_from_u64(1), &[source]);
        let records = lanes.values().flatten();
        let batch = records.map(|record| new_record(&topics, record)).collect();
        writer.append(batch).await.expect("appended");
        for topic in ObservedTopic::ALL {
            let spec = self.publication.reader_spec(topic);
            let mut reader = self.log.reader(spec).await.expect("a reader");
            let records = reader.poll(10_000, Duration::ZERO).await.expect("records");
            let effects = self.publication.absorb(&records);
            self.tell(&effects);
        }
        for _ in 0..4 {
            self.clock += 20_000;
            let effects = self.publication.tick(self.clock);
            self.tell(&effects);
        }
    }

    fn tell(&self, effects: &[Effect]) {
        let router = self.publication.router();
        for hole in effects.iter().filter_map(|effect| Hole::of(router, effect)) {
            self.asks.ask(hole);
        }
    }

    /// As the router's loop, until the counts are these.
    async fn until(&mut self, what: impl Fn(RepairsView) -> bool) -> RepairsView {
        let end = Instant::now() + PATIENCE;
        loop {
            let repairs = self.board.status().repairs;
            if what(repairs) {
                return repairs;
            }
            assert!(Instant::now() < end, "still {repairs:?}");
            let wait = tokio::time::timeout(Duration::from_millis(10), self.offers.recv());
            if let Ok(Some(Offer { block, verdict })) = wait.await {
                let (mended, effects) = self.publication.mend(*block);
                self.tell(&effects);
                let _ = verdict.send(mended);
            }
        }
    }

    async fn canonical(mut self) -> Canonical {
        self.publication.commit().await.expect("committed");
        read_canonical(&self.log).await
    }
}

fn config(nodes: &[&Node]) -> RepairConfig {
    RepairConfig {
        rpc_urls: nodes.iter().map(|node| node.url()).collect(),
        requests_per_second: 1_000,
        timeout_ms: 5_000,
        backoff_ms: 20,
        backoff_max_ms: 100,
        ..RepairConfig::default()
    }
}

/// Blocks of these slots, one on the other.
pub fn blocks(slots: &[u64]) -> History {
    let id = |slot: u64| BlockId::new(Slot(slot), blockhash(slot, 0));
    let mut parent = id(slots[0] - 1);
    let blocks = slots
        .iter()
        .map(|slot| TrueBlock {
            id: id(*slot),
            parent: std::mem::replace(&mut parent, id(*slot)),
            on_chain: true,
            accounts: 1,
            transactions: 2,
            entries: 1,
        })
        .collect();
    History { blocks }
}

/// The source of the history, without the slots.
pub fn source_without(history: &History, lost: impl Fn(u64) -> bool) -> Source {
    let mut source = Source::new(1);
    source.observe(history, |_| true);
    source.written.retain(|record| !lost(record.slot.0));
    source
}

/// A node that knows the chain.
pub async fn good(history: &History) -> Node {
    let chain = Arc::new(Chain::of(history));
    Node::start(move |slot, _, _| {
        let reply = chain.reply(slot, slot);
        async move { Json(reply).into_response() }
    })
    .await
}

/// A node that always says the same.
async fn saying(reply: impl Fn() -> Response + Send + Sync + 'static) -> Node {
    Node::start(move |_, _, _| {
        let reply = reply();
        async move { reply }
    })
    .await
}

pub async fn failing(code: i64) -> Node {
    saying(move || Json(oracle::error(code, "no")).into_response()).await
}

pub fn assert_repaired(canonical: &Canonical, block: &TrueBlock) {
    let key = (block.id.slot, block.id.blockhash);
    let published = &canonical.blocks[&key];
    assert!(published.seal.repaired);
    assert_eq!(published.seal.sources, ["rpc:127.0.0.1"]);
    assert_eq!(published.transactions.len() as u64, block.transactions);
    assert_eq!(
        canonical.fates[&key],
        [Commitment::Confirmed, Commitment::Finalized]
    );
}

#[tokio::test]
async fn recorded_blocks_fill_holes_of_their_own_shape() {
    for (slot, file, count) in recorded::BASE64 {
        let Some(envelope) = recorded::envelope(file) else {
            continue;
        };
        let Reply::Block(read) = reply::read(envelope.to_string().as_bytes()) else {
            panic!("{file}");
        };
        let host = Arc::from("host");
        let expected: Block = convert::block(Slot(slot), &host, *read).expect("believed");
        let neighbour = |id: BlockId, parent: BlockId| TrueBlock {
            id,
            parent,
            on_chain: true,
            accounts: 1,
            transactions: 1,
            entries: 1,
        };
        let unseen = BlockId::new(Slot(slot - 5), Blockhash([1; 32]));
        let above = BlockId::new(Slot(slot + 1), Blockhash([2; 32]));
        let history = History {
            blocks: vec![
                neighbour(expected.parent, unseen),
                neighbour(above, expected.id),
            ],
        };
        let node = saying(move || Json(envelope.clone()).into_response()).await;
        let mut bed = Bed::start(config(&[&node])).await;
        bed.read(&source_without(&history, |_| false)).await;
        let counts = bed.until(|repairs| repairs.done == 1).await;
        assert_eq!((counts.asked, counts.refused, counts.failed), (1, 0, 0));
        let canonical = bed.canonical().await;
        let key = (Slot(slot), expected.id.blockhash);
        let published = &canonical.blocks[&key];
        assert_eq!(published.transactions.len(), count, "{file}");
        let infos = recorded::transactions(&expected);
        assert!(published.transactions.iter().eq(infos), "{file}");
        assert_eq!(published.meta, expected.meta.meta);
        assert!(published.seal.repaired);
        assert_eq!(published.seal.sources, ["rpc:127.0.0.1"]);
        assert_eq!((published.seal.accounts, published.seal.entries), (0, 0));
        assert_eq!(
            canonical.fates[&key],
            [Commitment::Confirmed, Commitment::Finalized]
        );
        assert_eq!(canonical.gaps, [(slot, slot)], "the gap stays told");
    }
}

#[tokio::test]
async fn one_good_node_among_bad_ones_is_enough() {
    let history = blocks(&[100, 101, 102, 103]);
    let lost = &history.blocks[2];
    // A port where nobody listens any more.
    let dead = {
        let node = failing(0).await;
        node.task_ended().await
    };
    let garbage = saying(|| "<html>not JSON at all".into_response()).await;
    let refusing = saying(|| (StatusCode::FORBIDDEN, "no key").into_response()).await;
    let moved = saying(|| {
        let to = [("location", "http://127.0.0.1:1/")];
        (StatusCode::TEMPORARY_REDIRECT, to).into_response()
    })
    .await;
    let giant = saying(|| vec![b' '; 3 << 20].into_response()).await;
    let slow = Node::start(|_, _, _| async {
        tokio::time::sleep(PATIENCE).await;
        StatusCode::OK.into_response()
    })
    .await;
    let wrong_hash = {
        let mut wrong = lost.clone();
        wrong.id.blockhash = Blockhash([9; 32]);
        let reply = json!({"result": oracle::result(&wrong)});
        saying(move || Json(reply.clone()).into_response()).await
    };
    let wrong_parent = {
        let mut wrong = lost.clone();
        wrong.parent.blockhash = Blockhash([9; 32]);
        let reply = json!({"result": oracle::result(&wrong)});
        saying(move || Json(reply.clone()).into_response()).await
    };
    let torn = {
        let mut reply = json!({"result": oracle::result(lost)});
        reply["result"]["transactions"][1]["transaction"][0] = json!("////");
        saying(move || Json(reply.clone()).into_response()).await
    };
    let bad = [
        &garbage,
        &refusing,
        &moved,
        &giant,
        &slow,
        &wrong_hash,
        &wrong_parent,
        &torn,
    ];
    let good = good(&history).await;
    let mut nodes = bad.to_vec();
    nodes.push(&good);
    let mut config = RepairConfig {
        timeout_ms: 500,
        reply_mebibytes: 1,
        ..config(&nodes)
    };
    config.rpc_urls.insert(0, dead);
    let mut bed = Bed::start(config).await;
    bed.read(&source_without(&history, |slot| slot == 102))
        .await;
    let counts = bed.until(|repairs| repairs.done == 1).await;
    assert_eq!(
        (counts.asked, counts.refused, counts.failed),
        (1, 3, 0),
        "wrong hash, wrong parent, torn transaction"
    );
    for node in bad {
        assert_eq!(node.slots(), [102]);
    }
    let canonical = bed.canonical().await;
    assert_repaired(&canonical, lost);
    assert_eq!((canonical.blocks.len(), canonical.gaps.len()), (4, 1));
}

#[tokio::test]
async fn the_good_node_is_asked_first_from_then_on() {
    let history = blocks(&[100, 101, 102, 103, 104]);
    let (bad, good) = (failing(-32603).await, good(&history).await);
    let config = RepairConfig {
        concurrency: 1,
        ..config(&[&bad, &good])
    };
    let mut bed = Bed::start(config).await;
    let source = source_without(&history, |slot| (101..104).contains(&slot));
    bed.read(&source).await;
    bed.until(|repairs| repairs.done == 3).await;
    assert_eq!(
        (bad.slots(), good.slots()),
        (vec![103], vec![103, 102, 101])
    );
}

#[tokio::test]
async fn slots_that_a_parent_link_passes_by_are_not_asked_for() {
    let history = blocks(&[100, 103, 110, 111]);
    let node = good(&history).await;
    let config = RepairConfig {
        concurrency: 1,
        ..config(&[&node])
    };
    let mut bed = Bed::start(config).await;
    bed.read(&source_without(&history, |slot| (101..111).contains(&slot)))
        .await;
    let counts = bed
        .until(|repairs| repairs.done + repairs.skipped == 10)
        .await;
    assert_eq!((counts.asked, counts.done, counts.skipped), (10, 2, 8));
    assert_eq!(node.slots(), [110, 103]);
    let canonical = bed.canonical().await;
    assert_eq!(canonical.gaps, [(101, 110)], "told once");
    for block in &history.blocks[1..3] {
        assert_repaired(&canonical, block);
    }
}

#[tokio::test]
async fn what_is_not_there_yet_is_asked_for_again() {
    let history = blocks(&[100, 101, 102]);
    let chain = Arc::new(Chain::of(&history));
    let node = Node::start(move |slot, _, before| {
        let reply = match before {
            0 => oracle::error(-32004, "Block not available for slot"),
            1 => json!({"jsonrpc": "2.0", "id": 1, "result": null}),
            2 => oracle::error(-32005, "Node is behind by 99 slots"),
            _ => chain.reply(slot, slot),
        };
        async move { Json(reply).into_response() }
    })
    .await;
    let mut bed = Bed::start(config(&[&node])).await;
    bed.read(&source_without(&history, |slot| slot == 101))
        .await;
    let counts = bed.until(|repairs| repairs.done == 1).await;
    assert_eq!((node.slots().len(), counts.failed), (4, 0));
    assert_repaired(&bed.canonical().await, &history.blocks[1]);
}

#[tokio::test]
async fn what_nobody_keeps_any_more_is_given_up_at_once() {
    let history = blocks(&[100, 101, 102]);
    // The last says "skipped, or missing", and the finalized block above names one in this slot: it is missing.
    let (one, two, three) = (
        failing(-32001).await,
        failing(-32011).await,
        failing(-32007).await,
    );
    let mut bed = Bed::start(config(&[&one, &two, &three])).await;
    bed.read(&source_without(&history, |slot| slot == 101))
        .await;
    let counts = bed.until(|repairs| repairs.failed == 1).await;
    assert_eq!((counts.done, counts.skipped, counts.refused), (0, 0, 0));
    for node in [&one, &two, &three] {
        assert_eq!(node.slots(), [101]);
    }
    let canonical = bed.canonical().await;
    assert_eq!((canonical.blocks.len(), canonical.gaps.len()), (2, 1));
}

#[tokio::test]
async fn what_never_comes_is_given_up_at_its_deadline() {
    let history = blocks(&[100, 101, 102]);
    let node = failing(-32004).await;
    let config = RepairConfig {
        deadline_seconds: 1,
        ..config(&[&node])
    };
    let mut bed = Bed::start(config).await;
    let began = Instant::now();
    bed.read(&source_without(&history, |slot| slot == 101))
        .await;
    bed.until(|repairs| repairs.failed == 1).await;
    assert!(began.elapsed() > Duration::from_millis(800));
    assert!((5..50).contains(&node.slots().len()), "{:?}", node.slots());
}

#[tokio::test]
async fn a_torn_block_beside_the_chain_is_no_block_to_fetch() {
    let mut history = blocks(&[100, 101, 102, 103]);
    // A fork's block in a slot of its own, and the chain passes it by.
    let fork = TrueBlock {
        id: BlockId::new(Slot(104), blockhash(104, 3)),
        on_chain: false,
        ..history.blocks[3].clone()
    };
    history.blocks.push(fork);
    let node = good(&history).await;
    let mut source = source_without(&history, |_| false);
    let torn = |record: &crate::source::Written| {
        record.slot == Slot(104) && record.kind == event_schema::Kind::Transaction
    };
    source.written.retain(|record| !torn(record));
    let mut bed = Bed::start(config(&[&node])).await;
    bed.read(&source).await;
    let counts = bed.until(|repairs| repairs.skipped == 1).await;
    assert_eq!((counts.asked, counts.done, counts.failed), (1, 0, 0));
    assert_eq!(bed.canonical().await.gaps, [(104, 104)]);
}

#[tokio::test]
async fn an_old_node_is_asked_for_older_transactions() {
    let history = blocks(&[100, 101, 102, 103]);
    let chain = Arc::new(Chain::of(&history));
    let node = Node::start(move |slot, options: Value, _| {
        let reply = match options["maxSupportedTransactionVersion"].as_u64() {
            Some(0) => chain.reply(slot, slot),
            _ => oracle::error(-32602, "Invalid params: invalid value"),
        };
        async move { Json(reply).into_response() }
    })
    .await;
    let config = RepairConfig {
        concurrency: 1,
        ..config(&[&node])
    };
    let mut bed = Bed::start(config).await;
    bed.read(&source_without(&history, |slot| slot == 101 || slot == 102))
        .await;
    bed.until(|repairs| repairs.done == 2).await;
    assert_eq!(node.slots(), [102, 102, 101], "it is remembered");
}

#[tokio::test]
async fn blocks_that_come_before_the_one_above_wait_for_it() {
    let history = blocks(&[100, 101, 102, 103, 104, 105]);
    let chain = Arc::new(Chain::of(&history));
    let node = Node::start(move |slot, _, _| {
        let reply = chain.reply(slot, slot);
        async move {
            // The topmost comes last.
            tokio::time::sleep(Duration::from_millis(slot.saturating_sub(101) * 100)).await;
            Json(reply).into_response()
        }
    })
    .await;
    let config = RepairConfig {
        backoff_ms: 5_000,
        backoff_max_ms: 5_000,
        ..config(&[&node])
    };
    let mut bed = Bed::start(config).await;
    bed.read(&source_without(&history, |slot| (101..105).contains(&slot)))
        .await;
    bed.until(|repairs| repairs.done == 4).await;
    let mut asked = node.slots();
    asked.sort_unstable();
    assert_eq!(asked, [101, 102, 103, 104], "each once");
    let canonical = bed.canonical().await;
    for block in &history.blocks[1..5] {
        assert_repaired(&canonical, block);
    }
}

#[tokio::test]
async fn a_next_life_asks_for_what_the_last_one_told_and_did_not_get() {
    let history = blocks(&[100, 101, 102, 103, 104]);
    let source = source_without(&history, |slot| (101..104).contains(&slot));
    let nobody = failing(-32004).await;
    let mut bed = Bed::start(config(&[&nobody])).await;
    bed.read(&source).await;
    bed.publication.commit().await.expect("the gap is told");
    // A block of the hole is published, but the life ends before it is committed.
    let chain = Chain::of(&history);
    let block = chain.block(Slot(103)).expect("it is there");
    let (mended, _) = bed.publication.mend(block);
    assert!(matches!(mended, stream_router::router::Mended::Published));
    let Bed { log, clock, .. } = bed;

    let node = good(&history).await;
    let mut next = Bed::start(config(&[&node])).await;
    next.publication = Publication::open(&log, settings()).await.expect("opens");
    (next.log, next.clock) = (log, clock);
    let holes = next.publication.told_holes();
    assert_eq!(holes, [(Slot(101), Slot(103))]);
    for (first, last) in holes {
        let hole = Hole::new(next.publication.router(), first, last);
        assert!(hole.named);
        next.asks.ask(hole);
    }
    next.until(|repairs| repairs.done == 3).await;
    let canonical = next.canonical().await;
    assert_eq!(canonical.gaps, [(101, 103)], "not told again");
    for block in &history.blocks[1..4] {
        assert_repaired(&canonical, block);
    }
}

#[tokio::test]
async fn a_nodes_address_is_not_in_what_is_said_of_it() {
    let dead = failing(0).await.task_ended().await;
    let refusing = saying(|| StatusCode::UNAUTHORIZED.into_response()).await;
    let config = RepairConfig {
        rpc_urls: vec![dead, refusing.url()],
        ..RepairConfig::default()
    };
    let nodes = Nodes::new(&config.nodes().expect("no file")).expect("a client");
    for node in nodes.in_turn() {
        let Reply::Failed(problem) = nodes.ask(node, Slot(5)).await else {
            panic!("no answer is no reply");
        };
        assert!(!problem.contains("secret"), "{problem}");
        assert_eq!(&*nodes.host(node), "127.0.0.1");
    }
}
