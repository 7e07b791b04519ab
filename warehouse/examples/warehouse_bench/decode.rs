//! The decoders over recorded transactions: coverage per program, conservation, equality with independent references.

use std::{path::Path, time::Instant};

use bench::report::{Check, Report};
use serde_json::json;

use crate::decode_proof::{Tally, recorded};

/// Least share of a decoder's instructions that it must read, in percent (the warehouse's service level).
const COVERAGE_PERCENT: f64 = 99.99;

pub fn run(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    let found = recorded::read(folder);
    let tally = Tally::of(&found);
    tally.print();
    println!(
        "{} whole blocks; {} replies and files skipped, for they hold no message bytes",
        found.blocks.len(),
        found.skipped.len()
    );
    let seconds = fastest_pass(&found);
    let per_second = tally.transactions as f64 / seconds;
    println!(
        "decoding alone, fastest of 5 passes: {per_second:.0} transactions per second on one core"
    );
    if as_json {
        let mut report = report(folder, &found, &tally);
        report.figure("transactions_per_second", per_second.round());
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn fastest_pass(found: &recorded::Folder) -> f64 {
    use warehouse::decode::{Trace, decode};
    let pass = || {
        let started = Instant::now();
        for recorded in &found.transactions {
            let transaction = recorded.update.transaction.as_ref();
            let Some(message) = transaction.and_then(|transaction| transaction.message.as_ref())
            else {
                continue;
            };
            let meta = recorded.update.meta.as_ref();
            std::hint::black_box(decode(message, meta, &Trace::of(message, meta)));
        }
        started.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

fn report(folder: &Path, found: &recorded::Folder, tally: &Tally) -> Report {
    let mut report = Report::new("warehouse decode", json!({"data": folder}));
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let (exact, broken) = (
        tally.identity_count("exact"),
        tally.identity_count("broken"),
    );
    report.figure("blocks", found.blocks.len());
    report.figure("transactions", tally.transactions);
    report.figure("instructions", tally.instructions);
    report.figure(
        "instructions_without_decoder",
        tally.foreign.values().sum::<u64>(),
    );
    report.figure("skipped_without_message_bytes", found.skipped.len());
    report.figure("tokens_exact_percent", percent(exact, tally.transactions));
    report.figure("tokens_undecidable", tally.identity_count("unknown"));
    report.figure("equal_to_json_parsed", tally.reference.equal);
    report.figure("vaults_equal_to_balances", tally.swap_balances.equal);
    report.figure(
        "swaps",
        json!(
            tally
                .swaps
                .iter()
                .map(|((program, evidence), count)| (format!("{program}/{evidence}"), *count))
                .collect::<std::collections::BTreeMap<_, _>>()
        ),
    );
    let none = |name: &'static str, count: u64| Check::at_most(name, count as f64, 0.0);
    report.checks.extend([
        none("instructions_unlike_json_parsed", tally.reference.different),
        none("mints_not_conserved", tally.mint_sums.different),
        none("vaults_unlike_balances", tally.swap_balances.different),
        none("curves_unlike_balances", tally.curve_lamports.different),
        none(
            "lamports_broken",
            tally.lamport_identity.get("broken").copied().unwrap_or(0),
        ),
        Check::at_least(
            "tokens_conserved_percent_where_recorded",
            percent(exact, exact + broken),
            100.0,
        ),
        Check::at_least(
            "fees_apart_percent",
            percent(tally.fees_known, tally.transactions),
            100.0,
        ),
    ]);
    for (program, coverage) in &tally.coverage {
        report.checks.push(Check::at_least(
            format!("coverage_percent_{program}"),
            coverage.percent(),
            COVERAGE_PERCENT,
        ));
    }
    report
}
