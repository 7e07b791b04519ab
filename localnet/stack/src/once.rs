//! A run that ends by itself: let the source flow, wait until everything has arrived everywhere, count, report.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_log::EventLog;
use event_schema::{Pubkey, Topics};

use crate::{
    canonical_watch::CanonicalWatch,
    cli::Up,
    count::{self, Ledger, LedgerSlot, Stored, Warehouse},
    fidelity,
    progress::Say,
    report::{BlockRow, Distinct, FileNote, Report},
    rpc::Rpc,
    source::{Plan, ReplayLine},
    stack::Stack,
    traffic,
};

/// One block that must arrive everywhere.
#[derive(Clone, Debug)]
struct Expected {
    file: String,
    slot: u64,
    transactions: u64,
    observer: Pubkey,
}

/// The places where the run is counted.
struct Places {
    log: std::sync::Arc<dyn EventLog>,
    topics: Topics,
    canonical: CanonicalWatch,
    warehouse: Warehouse,
    ledger: Ledger,
}

impl Places {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let log = stack.event_log()?;
        let topics = Topics::new(Topics::DEFAULT_PREFIX);
        Ok(Self {
            canonical: CanonicalWatch::open(log.as_ref(), &topics.canonical).await?,
            log,
            topics,
            warehouse: Warehouse::new(stack.client.clone(), stack.clickhouse_url()),
            ledger: Ledger::new(&stack.database_url())?,
        })
    }
}

/// Drives the source of `plan` through and reports. The report says by itself whether everything agrees.
pub async fn run(
    stack: &mut Stack,
    plan: &Plan,
    options: &Up,
    say: &Say,
) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let mut places = Places::open(stack).await?;
    let mut report = Report {
        source: plan.to_string(),
        ..Report::default()
    };
    let expected = match plan {
        Plan::Blocks(_) => replay(stack, &mut report, say).await?,
        Plan::Validator => watch_validator(stack, &mut places, options, &mut report, say).await?,
    };
    let patience = Duration::from_secs(options.patience_seconds);
    wait_for_all(stack, &mut places, &expected, patience, say).await?;
    count_all(&mut places, &expected, &mut report).await?;
    if plan.is_validator() {
        compare_with_rpc(stack, &places, &expected, &mut report, say).await?;
    }
    report.seconds = (begin.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    report.sum();
    Ok(report)
}

/// Lets the recorded blocks flow and takes down what the replayer drove, skipped, and could not read.
async fn replay(
    stack: &mut Stack,
    report: &mut Report,
    say: &Say,
) -> anyhow::Result<Vec<Expected>> {
    say.step("replaying the recorded blocks through the plugin");
    stack.source.begin()?;
    let lines = loop {
        let (lines, ended) = stack.source.replayed();
        if let Some(failure) = stack.first_dead() {
            return Err(failure);
        }
        if ended {
            break lines;
        }
        say.waiting(&format!("the replay: {} files", lines.len()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // Lines that came between the look and the end.
    let lines = match stack.source.replayed() {
        (all, _) if all.len() >= lines.len() => all,
        _ => lines,
    };
    let mut expected = Vec::new();
    for line in lines {
        match line {
            ReplayLine::Driven {
                file,
                slot,
                transactions,
                source,
            } => {
                let observer = source
                    .checked_sub(1)
                    .and_then(|index| stack.source.identities.get(index))
                    .with_context(|| {
                        format!("{file}: driven through source {source}, which was not started")
                    })?;
                say.line(&format!(
                    "  {file}: slot {slot}, {transactions} transactions"
                ));
                expected.push(Expected {
                    file,
                    slot,
                    transactions,
                    observer: *observer,
                });
            }
            ReplayLine::Skipped { file, skipped } => {
                say.line(&format!("  {file}: skipped: {skipped}"));
                report.skipped.push(FileNote {
                    file,
                    reason: skipped,
                });
            }
            ReplayLine::Failed { file, error } => {
                say.line(&format!("  {file}: NOT READ: {error}"));
                report.failed.push(FileNote {
                    file,
                    reason: error,
                });
            }
            ReplayLine::Done { .. } => {}
        }
    }
    Ok(expected)
}

/// Drives traffic at the validator for the wanted number of slots, kills the router in the middle, and takes the list
/// of blocks from the validator's RPC.
async fn watch_validator(
    stack: &mut Stack,
    places: &mut Places,
    options: &Up,
    report: &mut Report,
    say: &Say,
) -> anyhow::Result<Vec<Expected>> {
    let rpc = Rpc::new(stack.ports.rpc)?;
    let begin = rpc.slot("processed").await?;
    let last = begin + options.slots;
    say.step(&format!(
        "driving traffic at the validator until slot {last}"
    ));
    let mut traffic = traffic::start(stack, last)?;
    let kill_at = begin + options.slots / 2;
    let mut kills = 0;
    loop {
        let slot = rpc.slot("processed").await?;
        if let Some(failure) = stack.first_dead() {
            return Err(failure);
        }
        if slot >= kill_at && kills == 0 && !options.no_kill {
            say.line(&format!("  slot {slot}: SIGKILL to the router"));
            stack.router.child.kill();
            tokio::time::sleep(Duration::from_secs(2)).await;
            stack.router.child.respawn()?;
            kills += 1;
            say.line("  router started again");
        }
        if slot > last {
            break;
        }
        say.waiting(&format!("slot {last}: now {slot}"));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if !traffic.wait(Duration::from_secs(60)) {
        traffic.stop(Duration::from_secs(5));
    }
    match traffic.exit_status() {
        Some(status) if status.success() => {}
        Some(status) => return Err(traffic.failure(&format!("ended with {status}"))),
        None => bail!("the traffic generator could not be stopped"),
    }
    report.router_kills = Some(kills);

    while rpc.slot("finalized").await? < last {
        say.waiting(&format!("slot {last} to be finalized"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    places.canonical.advance().await?;
    // From the first block the plugin saw whole: the validator's very first bank is not notified.
    let first = places.canonical.oldest().unwrap_or(begin).max(1);
    let observer = stack
        .source
        .identities
        .first()
        .copied()
        .context("no source")?;
    let mut expected = Vec::new();
    for slot in rpc.blocks(first, last).await? {
        let block = rpc.block(slot).await?;
        expected.push(Expected {
            file: format!("rpc:{slot}"),
            slot,
            transactions: block["transactions"].as_array().map_or(0, Vec::len) as u64,
            observer,
        });
    }
    Ok(expected)
}

/// Returns when every expected block is final in the canonical stream and in both databases, or when nothing has moved
/// for `patience`: the report then shows what is missing.
async fn wait_for_all(
    stack: &mut Stack,
    places: &mut Places,
    expected: &[Expected],
    patience: Duration,
    say: &Say,
) -> anyhow::Result<()> {
    let mut moved = Instant::now();
    let mut last_seen = String::new();
    let per_slot: BTreeMap<u64, u64> = expected
        .iter()
        .map(|block| (block.slot, block.transactions))
        .collect();
    loop {
        if let Some(failure) = stack.first_dead() {
            return Err(failure);
        }
        places.canonical.advance().await?;
        let warehouse = places.warehouse.slots().await.unwrap_or_default();
        let ledger = places.ledger.slots().await.unwrap_or_default();
        let missing = |has: &dyn Fn(u64, u64) -> bool| {
            per_slot
                .iter()
                .filter(|(slot, count)| !has(**slot, **count))
                .count()
        };
        let canonical = missing(&|slot, _| places.canonical.is_final(slot));
        let stored = |of: Option<&Stored>, count: u64| of.map_or(0, |stored| stored.total) >= count;
        let in_warehouse = missing(&|slot, count| stored(warehouse.get(&slot), count));
        let in_ledger = missing(&|slot, count| {
            ledger
                .get(&slot)
                .is_some_and(|booked| booked.finalized && stored(Some(&booked.stored), count))
        });
        if canonical + in_warehouse + in_ledger == 0 {
            return settle(places).await;
        }
        let now = format!(
            "{} blocks: {canonical} not final in the canonical stream, {in_warehouse} not in the warehouse, {in_ledger} not final in the ledger",
            per_slot.len()
        );
        // Slots beyond the expected ones keep a validator's stream moving: only what is missing counts as movement.
        if now != last_seen {
            moved = Instant::now();
            last_seen.clone_from(&now);
        }
        if moved.elapsed() >= patience {
            say.line(&format!(
                "gave up after {} s without movement; of {now}",
                patience.as_secs()
            ));
            return Ok(());
        }
        say.waiting(&now);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A sink that writes something twice does so while it catches up: look again until two looks agree.
async fn settle(places: &mut Places) -> anyhow::Result<()> {
    for _ in 0..20 {
        let before = sums(places).await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        places.canonical.advance().await?;
        if sums(places).await? == before {
            return Ok(());
        }
    }
    Ok(())
}

async fn sums(places: &Places) -> anyhow::Result<(u64, u64)> {
    let warehouse = places.warehouse.slots().await?;
    let ledger = places.ledger.slots().await?;
    Ok((
        warehouse.values().map(|slot| slot.total).sum(),
        ledger.values().map(|slot| slot.stored.total).sum(),
    ))
}

async fn count_all(
    places: &mut Places,
    expected: &[Expected],
    report: &mut Report,
) -> anyhow::Result<()> {
    let observed =
        count::observed(places.log.as_ref(), &places.topics.observed_transactions).await?;
    let warehouse = places.warehouse.slots().await?;
    let ledger = places.ledger.slots().await?;
    let nothing = count::Tally::default();
    for block in expected {
        let plugin = observed
            .get(&(block.observer, block.slot))
            .unwrap_or(&nothing);
        let canonical = places
            .canonical
            .block(block.slot)
            .map_or(&nothing, |published| &published.transactions);
        let stored = warehouse.get(&block.slot).copied().unwrap_or_default();
        let LedgerSlot {
            stored: booked,
            lamports,
            tokens,
            ..
        } = ledger.get(&block.slot).copied().unwrap_or_default();
        report.blocks.push(BlockRow {
            file: block.file.clone(),
            slot: block.slot,
            transactions_file: block.transactions,
            transactions_plugin: plugin.total,
            transactions_canonical: canonical.total,
            transactions_warehouse: stored.total,
            transactions_ledger: booked.total,
            lamport_identity: lamports,
            token_identity: tokens,
            distinct: Distinct {
                plugin: plugin.distinct(),
                canonical: canonical.distinct(),
                warehouse: stored.distinct,
                ledger: booked.distinct,
            },
        });
    }
    report.gaps.clone_from(&places.canonical.gaps);
    report.dead_letters = count::dead_letters(places.log.as_ref(), &places.topics.dead_letters)
        .await?
        + places.canonical.broken.len() as u64;
    // A live validator goes on making blocks: only the reported ones count.
    let slots: Vec<u64> = report.blocks.iter().map(|block| block.slot).collect();
    report.identity_unknown_reasons = places.ledger.unknown_reasons(&slots).await?;
    Ok(())
}

/// Every block of the run, value by value, against the validator's own RPC.
async fn compare_with_rpc(
    stack: &Stack,
    places: &Places,
    expected: &[Expected],
    report: &mut Report,
    say: &Say,
) -> anyhow::Result<()> {
    const MISMATCHES_MAX: usize = 50;
    let rpc = Rpc::new(stack.ports.rpc)?;
    let mut mismatched = 0;
    for (number, block) in expected.iter().enumerate() {
        say.waiting(&format!(
            "RPC getBlock {} of {}",
            number + 1,
            expected.len()
        ));
        let differences = match places
            .canonical
            .block(block.slot)
            .and_then(|published| published.block.as_ref())
        {
            None => vec!["not in the canonical stream".to_owned()],
            Some(published) => fidelity::differences(published, &rpc.block(block.slot).await?),
        };
        if !differences.is_empty() {
            mismatched += 1;
        }
        for difference in differences {
            if report.mismatches.len() < MISMATCHES_MAX {
                report
                    .mismatches
                    .push(format!("slot {}: {difference}", block.slot));
            }
        }
    }
    report.block_mismatches = Some(mismatched);
    Ok(())
}

/// Writes the report file and tells people; whether everything agrees.
pub fn conclude(report: &Report, file: Option<&Path>) -> anyhow::Result<bool> {
    if let Some(file) = file {
        std::fs::write(file, serde_json::to_string_pretty(report)? + "\n")
            .with_context(|| format!("--report {}", file.display()))?;
    }
    println!("{}", report.table());
    let transactions: u64 = report.blocks.iter().map(|row| row.transactions_file).sum();
    println!(
        "{} blocks, {transactions} transactions, lost: {}, duplicated: {}, gaps: {}, dead letters: {}, {} s",
        report.blocks.len(),
        report.lost,
        report.duplicated,
        report.gaps.len(),
        report.dead_letters,
        report.seconds
    );
    if let Some(mismatches) = report.block_mismatches {
        println!(
            "blocks that differ from RPC getBlock: {mismatches}; router kills: {}",
            report.router_kills.unwrap_or(0)
        );
    }
    for (reason, count) in &report.identity_unknown_reasons {
        println!("token identity unknown for {count} transactions: {reason}");
    }
    for note in &report.skipped {
        println!("skipped {}: {}", note.file, note.reason);
    }
    let differences = report.differences();
    if !differences.is_empty() {
        println!("\nDifferences:");
        for difference in &differences {
            println!("  {difference}");
        }
    }
    Ok(differences.is_empty())
}
