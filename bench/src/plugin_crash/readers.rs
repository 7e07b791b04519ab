//! What comes out at the other end: the observed topics as any reader gets them, and the canonical one, which the real
//! router makes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_log::{EventLog, KafkaConfig, KafkaLog, LogReader, ReaderSpec, Record, Start};
use event_schema::{
    Blockhash, CanonicalEvent, Gap, ObservedTopic, SlotAssembler, SlotBlock, Topics,
};
use local_services::{Child, ChildSpec, free_port};

use super::{
    audit::Audit,
    chain,
    supervisor::{PARTITIONS, TOPIC_PREFIX},
};

const CANONICAL_PARTITIONS: u32 = 1;
/// The router gives up an unsealed slot only so far below the root.
pub const UNSEALED_SLOTS: u64 = 32;
/// The router gives up a slot after so much of the log's time without news of it, and publishes one that nobody reported as
/// processed after so much.
pub const GAP_AFTER: Duration = Duration::from_millis(600);
/// And what a source that fell silent left unsealed after so many times that long.
pub const SILENCE: u32 = 6;
const SETTLE: Duration = Duration::from_millis(200);
const ROUTER_LIMIT: Duration = Duration::from_secs(300);
/// When nothing came for so long, the router has nothing left to say.
const QUIET: Duration = Duration::from_millis(2_000);
const POLL: Duration = Duration::from_millis(200);

/// Reads everything the plugin wrote.
pub async fn audit(brokers: &str) -> anyhow::Result<Audit> {
    let log = KafkaLog::new(KafkaConfig::new(brokers))?;
    let topics = Topics::new(TOPIC_PREFIX);
    let mut audit = Audit::default();
    for topic in ObservedTopic::ALL {
        let name = topics.observed(topic);
        let count = log.partitions(name).await?;
        if count != PARTITIONS[topic as usize - 1] {
            bail!("topic {name} has {count} partitions");
        }
        let partitions = (0..count).map(|partition| (Arc::clone(name), partition, Start::Earliest));
        let mut reader = reader(&log, partitions.collect(), false).await?;
        while let Some(records) = next(&mut *reader).await? {
            for record in &records {
                audit.add(topic, record);
            }
        }
    }
    Ok(audit)
}

async fn reader(
    log: &KafkaLog,
    partitions: Vec<(Arc<str>, u32, Start)>,
    read_committed: bool,
) -> anyhow::Result<Box<dyn LogReader>> {
    let spec = ReaderSpec {
        partitions,
        read_committed,
    };
    Ok(log.reader(spec).await?)
}

/// `None` at the end.
async fn next(reader: &mut dyn LogReader) -> anyhow::Result<Option<Vec<Record>>> {
    let records = reader.poll(2_000, POLL).await?;
    let at_end = records.is_empty() && reader.lag().await? == 0;
    Ok((!at_end).then_some(records))
}

/// What the router published.
#[derive(Debug, Default)]
pub struct Canonical {
    /// Blocks by slot, in the order in which they came.
    pub blocks: BTreeSet<u64>,
    /// A block, or one of its transactions, that came more than once.
    pub duplicates: u64,
    /// Blocks that are not what the chain holds, or that the topic's contract forbids.
    pub wrong: u64,
    pub repaired: u64,
    pub gaps: Vec<Gap>,
    seen: BTreeMap<(u64, Blockhash), u64>,
    signatures: BTreeSet<Vec<u8>>,
}

impl Canonical {
    fn add(&mut self, event: CanonicalEvent) {
        match event {
            CanonicalEvent::Block(block) => self.block(&block),
            CanonicalEvent::Gap { gap, .. } => self.gaps.push(gap),
            CanonicalEvent::Status { .. } => {}
        }
    }

    fn block(&mut self, block: &SlotBlock) {
        let slot = block.slot.0;
        let times = self.seen.entry((slot, block.blockhash)).or_default();
        *times += 1;
        self.duplicates += u64::from(*times > 1);
        for transaction in &block.transactions {
            // The chain has each in one slot only.
            let is_new = self.signatures.insert(transaction.signature.clone());
            self.duplicates += u64::from(!is_new && *times == 1);
        }
        let is_whole = block.accounts.len() as u64 == chain::ACCOUNTS
            && block.transactions.len() as u64 == chain::TRANSACTIONS
            && block.entries.len() as u64 == chain::ENTRIES
            && block.blockhash.0 == chain::blockhash(slot).to_bytes();
        self.wrong += u64::from(!is_whole);
        self.repaired += u64::from(block.seal.repaired);
        self.blocks.insert(slot);
    }

    /// The newest slot that is published or in a gap; 0 for none.
    fn newest(&self) -> u64 {
        let gaps = self.gaps.iter().map(|gap| gap.last_slot).max();
        self.blocks.last().copied().max(gaps).unwrap_or(0)
    }

    pub fn is_named(&self, slot: u64) -> bool {
        self.gaps
            .iter()
            .any(|gap| (gap.first_slot..=gap.last_slot).contains(&slot))
    }
}

/// Runs the real router over the observed topics until it has said everything, slot `last` included, and reads what it
/// published.
pub async fn canonical(
    brokers: &str,
    binary: &Path,
    scratch: &Path,
    last: u64,
) -> anyhow::Result<Canonical> {
    let mut router = start_router(brokers, binary, scratch)?;
    let log = KafkaLog::new(KafkaConfig::new(brokers))?;
    let topics = Topics::new(TOPIC_PREFIX);
    let begin = Instant::now();
    while log.partitions(&topics.canonical).await.is_err() {
        if !router.is_running() || begin.elapsed() > ROUTER_LIMIT {
            bail!("the router made no topic:\n{}", router.log_tail(20));
        }
        tokio::time::sleep(POLL).await;
    }
    let partitions = vec![(Arc::clone(&topics.canonical), 0, Start::Earliest)];
    let mut reader = reader(&log, partitions, true).await?;
    let mut assembler = SlotAssembler::new();
    let mut canonical = Canonical::default();
    let mut heard = None;
    while canonical.newest() < last || heard.is_none_or(|at: Instant| at.elapsed() < QUIET) {
        if !router.is_running() || begin.elapsed() > ROUTER_LIMIT {
            bail!(
                "the router did not come to an end:\n{}",
                router.log_tail(20)
            );
        }
        for record in reader.poll(2_000, POLL).await? {
            heard = Some(Instant::now());
            let event = assembler.push(record.position.offset, &record.header, &record.value);
            match event {
                Ok(Some(event)) => canonical.add(event),
                Ok(None) => {}
                Err(_) => canonical.wrong += 1,
            }
        }
    }
    router.stop(Duration::from_secs(15));
    Ok(canonical)
}

fn start_router(brokers: &str, binary: &Path, scratch: &Path) -> anyhow::Result<Child> {
    let [accounts, transactions, slots] = PARTITIONS;
    let text = format!(
        "listen = \"127.0.0.1:{}\"\ntopic_prefix = \"{TOPIC_PREFIX}\"\n\
         [kafka]\nbrokers = \"{brokers}\"\n\
         [topics]\naccounts = {accounts}\ntransactions = {transactions}\nslots = {slots}\ncanonical = {CANONICAL_PARTITIONS}\n\
         [limits]\ngap_after_ms = {}\nsettle_ms = {}\nunsealed_slots = {UNSEALED_SLOTS}\n\
         [grpc]\nenabled = false\n\
         [host]\nadmin = \"127.0.0.1:0\"\n",
        free_port(),
        GAP_AFTER.as_millis(),
        SETTLE.as_millis(),
    );
    let config = scratch.join("router.toml");
    fs::write(&config, text)?;
    let spec = ChildSpec::new("stream-router", binary, scratch.join("router.log"))
        .arg("--config")
        .arg(config);
    Child::spawn(spec).context("the router")
}
