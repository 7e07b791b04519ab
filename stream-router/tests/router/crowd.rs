//! Far more Yellowstone clients than there may be, on the real binary and a real broker: every one is served or told, a subscriber
//! that was there before misses nothing, memory is bounded, and those who only occupy a place lose it. The clients are the
//! example `crowd_of_grpc_clients`, a process of its own.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use event_log::{EventLog, KafkaConfig, KafkaLog, LogWriter};
use event_schema::{
    Slot, Topics,
    proto::geyser::{
        CommitmentLevel, SubscribeRequest, SubscribeRequestFilterSlots, SubscribeUpdate,
        subscribe_update::UpdateOneof,
    },
};
use futures::{Stream, StreamExt};
use local_services::{Child, ChildSpec, Kafka, KafkaOptions, free_port};
use stream_router::{publication::Publication, slot_tree::BlockId};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    time::timeout,
};
use tonic::Status;
use yellowstone_grpc_client::GeyserGrpcClient;

use crate::{
    chain::{TrueBlock, blockhash},
    crowd_of::{WANTED, clients, resident_mib, sockets_max},
    on_the_log::{new_record, settings},
    source::Source,
};

/// As many as may come.
const SERVED: usize = 2_000;
/// Memory of one connection that has made a call, and of all the refused ones together. What is kept of either is far less.
const CONNECTION_KIB_MAX: f64 = 256.0;
const REFUSED_MIB_MAX: f64 = 256.0;
const FIRST_REQUEST_SECONDS: u64 = 3;
/// A debug build on a busy machine.
const LONG: Duration = Duration::from_secs(50);

/// What every HTTP/2 client begins with, with empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn router(dir: &Path, brokers: &str, (websocket, grpc): (u16, u16), served: usize) -> Child {
    let config = format!(
        "listen = \"127.0.0.1:{websocket}\"\ntopic_prefix = \"t\"\n[kafka]\nbrokers = \"{brokers}\"\n\
         [topics]\naccounts = 3\ntransactions = 3\nslots = 1\ncanonical = 2\n\
         [grpc]\nlisten = \"127.0.0.1:{grpc}\"\nconnections_max = {served}\n\
         first_request_seconds = {FIRST_REQUEST_SECONDS}\n[host]\nadmin = \"127.0.0.1:0\"\n"
    );
    let file = dir.join("router.toml");
    std::fs::write(&file, config).expect("a config file");
    let program = env!("CARGO_BIN_EXE_stream-router");
    let spec = ChildSpec::new("stream-router", program, dir.join("router.log"));
    Child::spawn(spec.arg("--config").arg(file)).expect("the router starts")
}

/// A chain that grows by a block whenever it is told to.
struct Growing {
    writer: Box<dyn LogWriter>,
    source: Source,
    tip: BlockId,
}

impl Growing {
    async fn grow(&mut self) -> u64 {
        let slot = self.tip.slot.0 + 1;
        let id = BlockId::new(Slot(slot), blockhash(slot, 0));
        let block = TrueBlock {
            id,
            parent: std::mem::replace(&mut self.tip, id),
            on_chain: true,
            accounts: 2,
            transactions: 2,
            entries: 1,
        };
        self.source.written.clear();
        self.source.block(&block);
        let topics = Topics::new("t");
        let records = self.source.written.iter();
        let batch = records.map(|record| new_record(&topics, record)).collect();
        self.writer.append(batch).await.expect("appended");
        slot
    }
}

async fn subscribed(port: u16) -> impl Stream<Item = Result<SubscribeUpdate, Status>> + Unpin {
    let filter = SubscribeRequestFilterSlots {
        filter_by_commitment: Some(true),
        ..SubscribeRequestFilterSlots::default()
    };
    let request = SubscribeRequest {
        slots: [("mine".to_owned(), filter)].into(),
        commitment: Some(CommitmentLevel::Processed as i32),
        ..SubscribeRequest::default()
    };
    let builder = GeyserGrpcClient::build_from_shared(format!("http://127.0.0.1:{port}"));
    let mut client = builder
        .expect("an address")
        .connect()
        .await
        .expect("connection");
    client.subscribe_once(request).await.expect("a stream")
}

/// The next slot.
async fn heard(stream: &mut (impl Stream<Item = Result<SubscribeUpdate, Status>> + Unpin)) -> u64 {
    loop {
        let update = timeout(LONG, stream.next()).await.expect("in time");
        let update = update.expect("the stream goes on").expect("an update");
        if let Some(UpdateOneof::Slot(slot)) = update.update_oneof {
            return slot.slot;
        }
    }
}

/// How long until the router ends a connection that says this and no more.
async fn idler(port: u16, said: &'static [u8], drip: bool) -> Duration {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    let (mut read, mut write) = stream.into_split();
    let begun = Instant::now();
    let says = async {
        for bytes in said.chunks(if drip { 1 } else { said.len().max(1) }) {
            if write.write_all(bytes).await.is_err() {
                break;
            }
            if drip {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut buffer = [0; 1_024];
        while read.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let race = async {
        tokio::select! {
            () = says => {}
            () = ended => {}
        }
    };
    timeout(LONG, race).await.expect("ended in time");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_grpc_connections() {
    let count = WANTED.min(sockets_max());
    let served = SERVED.min(count / 2);
    let kafka = Kafka::start(KafkaOptions::default()).expect("Kafka starts");
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).expect("a log");
    drop(
        Publication::open(&log, settings())
            .await
            .expect("topics are made"),
    );
    let dir = tempfile::tempdir().expect("a directory");
    let (websocket, port) = (free_port(), free_port());
    // The subscriber and one who looks whether there is room again come beside the crowd.
    let ports = (websocket, port);
    let mut router = router(dir.path(), &kafka.brokers(), ports, served + 1);
    let mut growing = Growing {
        writer: log.writer().await.expect("a writer"),
        source: Source::new(1),
        tip: BlockId::new(Slot(999), blockhash(999, 0)),
    };
    growing.grow().await;
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    router.wait_ready(LONG, listens).expect("it listens");
    let mut before = subscribed(port).await;
    // What it hears of the beginning depends on when it came.
    let slot = growing.grow().await;
    while heard(&mut before).await < slot {}
    // Those who only occupy places, until their time is over.
    let idlers = [
        (&b""[..], false),
        (b"PRI * HT", false),
        (GREETING, false),
        (GREETING, true),
    ];
    let idlers: Vec<_> = idlers
        .into_iter()
        .map(|(said, drip)| tokio::spawn(idler(port, said, drip)))
        .collect();
    for idler in idlers {
        let took = idler.await.expect("no panic");
        let least = Duration::from_secs(FIRST_REQUEST_SECONDS) / 2;
        assert!(took > least && took < LONG / 2, "{took:?}");
    }

    let at_rest = resident_mib(router.pid());
    let mut child = Command::new(clients("crowd_of_grpc_clients"))
        .args([format!("127.0.0.1:{port}"), count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the clients");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = Instant::now();
    let mut highest = at_rest;
    let mut slowest = Duration::ZERO;
    let mut slots = 0;
    let line = {
        let mut coming = std::pin::pin!(timeout(LONG, lines.next_line()));
        loop {
            tokio::select! {
                line = &mut coming => break line.expect("in time").expect("a pipe").expect("a line"),
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
            // Who was there before hears every slot in its turn, however many come.
            let told = Instant::now();
            let slot = growing.grow().await;
            assert_eq!(heard(&mut before).await, slot);
            (slowest, slots) = (slowest.max(told.elapsed()), slots + 1);
            highest = highest.max(resident_mib(router.pid()));
        }
    };
    let took = begun.elapsed();
    let numbers = line
        .strip_prefix("came ")
        .expect("what came of them")
        .split(' ');
    let numbers: Vec<usize> = numbers
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [came, told, closed, slowest_ms] = numbers[..] else {
        panic!("{line}");
    };
    let after = resident_mib(router.pid());
    let kib = (after - at_rest) * 1024.0 / served as f64;
    println!(
        "{count} clients in {:.1} s: {came} served, {told} told, {closed} closed; the slowest had its answer after {slowest_ms} ms; \
         router {at_rest:.0} MiB before, {highest:.0} at most, {after:.0} with {served} connections ({kib:.0} KiB each); slowest of \
         {slots} slots to the one before: {slowest:?}",
        took.as_secs_f64(),
    );
    assert_eq!(
        (came, told + closed),
        (served, count - served),
        "each has an answer"
    );
    // A client's library may find the connection closed before it has asked; then it forgets why.
    assert!(closed * 20 < count - served, "{closed} were not told");
    assert!(kib < CONNECTION_KIB_MAX, "{kib} KiB");
    assert!(highest - after < REFUSED_MIB_MAX, "{highest} MiB");
    // Those who are served stay served.
    drop(child.stdin.take());
    let line = timeout(LONG, lines.next_line()).await.expect("in time");
    assert_eq!(line.expect("a pipe"), Some(format!("stayed {served}")));
    assert!(child.wait().await.expect("ends").success());
    // Their places are given back.
    let mut after = subscribed(port).await;
    let slot = growing.grow().await;
    assert_eq!(heard(&mut before).await, slot);
    while heard(&mut after).await < slot {}
    assert!(router.is_running(), "{}", router.log_tail(20));
}
