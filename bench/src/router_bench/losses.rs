//! Records are left out, of any partition and any validator, in the log and before it. Every hole that nobody can fill is told
//! with its exact extent; every other one is filled.

use std::{fmt::Write as _, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{
    SMALL, Scene,
    damage::{Damaged, damage},
};
use crate::{
    observed::{
        audit::Findings,
        log::Stage,
        services::{Router, RouterOptions},
        source::Written,
    },
    report::{Check, Report},
};

/// Slots per loss: most slots stay whole.
const SLOTS_PER_LOSS: usize = 3;
const SLOTS_MIN: usize = 60;
const QUIET: Duration = Duration::from_secs(12);
/// Records of one validator in a row; then comes another.
const TURN: usize = 25;

pub fn run(scene: &mut Scene<'_>, losses: usize, report: &mut Report) -> anyhow::Result<()> {
    println!(
        "\n{:<22}{:>8}{:>8}{:>10}{:>10}{:>12}{:>10}{:>10}{:>10}{:>10}",
        "losses",
        "taken",
        "slots",
        "gaps due",
        "exact",
        "repairable",
        "repaired",
        "inexact",
        "missing",
        "unfounded"
    );
    for sources in [1, 2] {
        let (damaged, findings) = suffer(scene, sources, losses)?;
        let (gaps, summary) = (findings.gaps, damaged.summary);
        println!(
            "{:<22}{:>8}{:>8}{:>10}{:>10}{:>12}{:>10}{:>10}{:>10}{:>10}",
            format!("{sources} validators"),
            summary.records_taken + summary.lost_at_the_source,
            summary.slots_with_holes,
            gaps.due,
            gaps.exact,
            summary.repairable,
            findings.repaired_blocks,
            gaps.inexact,
            gaps.missing,
            gaps.unfounded
        );
        let part = format!("losses_{sources}");
        report.figure(
            &part,
            json!({
                "damage": summary, "repaired_blocks": findings.repaired_blocks, "gaps_due": gaps.due,
                "gaps_exact": gaps.exact, "gaps_inexact": gaps.inexact, "gaps_missing": gaps.missing,
            }),
        );
        let share = |part: u64, whole: u64| {
            if whole == 0 {
                1.0
            } else {
                part as f64 / whole as f64
            }
        };
        report.checks.push(Check::at_least(
            format!("{part}_gaps_told_exactly"),
            share(gaps.exact, gaps.due),
            1.0,
        ));
        if sources > 1 {
            // Each that was not is a lost block, too.
            let repaired = summary.repairable.saturating_sub(findings.lost_blocks);
            report.checks.push(Check::at_least(
                format!("{part}_repaired"),
                share(repaired, summary.repairable),
                1.0,
            ));
        }
        findings.report(&part, report);
    }
    Ok(())
}

fn suffer(scene: &Scene<'_>, sources: u8, losses: usize) -> anyhow::Result<(Damaged, Findings)> {
    let mut prefix = String::from("losses-");
    // Writing to a String cannot fail.
    let _ = write!(prefix, "{sources}");
    let brokers = scene.broker.brokers();
    let stage = scene.runtime.block_on(Stage::open(&brokers, &prefix))?;
    let random = &mut StdRng::seed_from_u64(scene.seed);
    let contents = scene.contents.reshaped(SMALL);
    let slots = (losses * SLOTS_PER_LOSS).max(SLOTS_MIN);
    let mut damaged = damage(random, &contents, &stage.topics, sources, slots, losses);
    let written = std::mem::take(&mut damaged.written);
    let options = RouterOptions::new(scene.router, &brokers, &prefix, scene.scratch).impatient();
    let mut router = Router::start(&options)?;
    let findings = scene.runtime.block_on(async {
        append_in_turns(&stage, written).await?;
        stage.findings(&damaged.truth, QUIET, &mut router).await
    })?;
    Ok((damaged, findings))
}

/// Every validator keeps its own order.
pub async fn append_in_turns(stage: &Stage, written: Vec<Vec<Written>>) -> anyhow::Result<()> {
    let mut waiting: Vec<_> = written.into_iter().map(Vec::into_iter).collect();
    let mut batch = Vec::new();
    loop {
        let before = batch.len();
        for records in &mut waiting {
            batch.extend(records.take(TURN));
        }
        let is_last = batch.len() == before;
        if is_last || batch.len() > 2_000 {
            stage.append(std::mem::take(&mut batch)).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}
