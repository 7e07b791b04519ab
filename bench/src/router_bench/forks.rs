//! Fork traces, scripted and random, one after the other on one chain: what a sink would have in the end is right to the row.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{Scene, traces};
use crate::{
    observed::{
        chain::{Chain, Moment, Temper},
        contents::{Contents, Shape},
        log::Stage,
        services::{Router, RouterOptions},
        source::{Source, Written},
        truth::Truth,
    },
    report::{Check, Report},
};

const FIRST_SLOT: u64 = 5_000;
/// Of a random trace.
const SLOTS: usize = 14;
const QUIET: Duration = Duration::from_secs(15);

const BLOCKS: Shape = Shape {
    transactions: 4,
    entries: 3,
};

pub fn run(scene: &mut Scene<'_>, random_traces: usize, report: &mut Report) -> anyhow::Result<()> {
    let contents = scene.contents.reshaped(BLOCKS);
    let mut chain = Chain::new(scene.seed, FIRST_SLOT, Temper::RESTLESS);
    let mut lives = traces::Lives::default();
    for script in traces::SCRIPTS {
        script.play(&mut chain, &mut lives);
    }
    for _ in 0..random_traces {
        traces::random(&mut chain, &mut lives, SLOTS);
    }
    let brokers = scene.broker.brokers();
    let stage = scene.runtime.block_on(Stage::open(&brokers, "forks"))?;
    let (truth, written) = observed(&lives, &contents, &stage);
    let records: usize = written.iter().map(Vec::len).sum();
    let random = &mut StdRng::seed_from_u64(scene.seed);
    // Half of it waits in the log when the router starts: there the partitions are read at different speeds.
    let mut pieces = in_random_turns(random, written);
    let live = pieces.split_off(pieces.len() / 2);
    let append = |pieces: Vec<Vec<Written>>| {
        scene.runtime.block_on(async {
            for piece in pieces {
                stage.append(piece).await?;
            }
            anyhow::Ok(())
        })
    };
    append(pieces)?;
    let options = RouterOptions::new(scene.router, &brokers, "forks", scene.scratch).impatient();
    let mut router = Router::start(&options)?;
    append(live)?;
    let audit = stage.findings(&truth, QUIET, &mut router);
    let findings = scene.runtime.block_on(audit)?;
    let traces = traces::SCRIPTS.len() + random_traces;
    println!(
        "\n{traces} fork traces, {records} records of two validators, {} blocks of which {} on the chain, {} events: {} rows wrong",
        findings.blocks,
        truth.blocks.values().filter(|block| block.on_chain).count(),
        findings.events,
        findings.wrong_rows()
    );
    report.figure(
        "forks",
        json!({
            "scripted": traces::SCRIPTS.len(), "random": random_traces, "records": records,
            "blocks": findings.blocks, "events": findings.events,
            "blocks_on_chain": truth.blocks.values().filter(|block| block.on_chain).count(),
            "blocks_given_up": truth.blocks.values().filter(|block| !block.required).count(),
        }),
    );
    report.checks.push(Check::at_most(
        "forks_wrong_rows",
        findings.wrong_rows() as f64,
        0.0,
    ));
    findings.report("forks", report);
    Ok(())
}

fn observed(
    lives: &traces::Lives,
    contents: &Contents,
    stage: &Stage,
) -> (Truth, Vec<Vec<Written>>) {
    let required = lives.published();
    let mut truth = Truth::default();
    let written = lives.moments.iter().zip(0..).map(|(moments, number)| {
        let mut source = Source::new(number, &stage.topics);
        let mut written = Vec::new();
        for moment in moments {
            let values = source.live(moment, contents, &mut written);
            if let (Moment::Block(block), Some(values)) = (moment, values) {
                truth.add(block, &values, required[&block.name]);
            }
        }
        written
    });
    let written = written.collect();
    (truth, written)
}

/// Every validator keeps its own order; who comes next, and for how long, is random.
fn in_random_turns(random: &mut StdRng, written: Vec<Vec<Written>>) -> Vec<Vec<Written>> {
    let mut waiting: Vec<_> = written
        .into_iter()
        .map(|records| records.into_iter().peekable())
        .collect();
    let mut pieces = vec![Vec::new()];
    while !waiting.is_empty() {
        let next = random.random_range(0..waiting.len());
        let turn = random.random_range(1..120);
        if let Some(piece) = pieces.last_mut() {
            piece.extend(waiting[next].by_ref().take(turn));
            if piece.len() > 1_000 {
                pieces.push(Vec::new());
            }
        }
        if waiting[next].peek().is_none() {
            drop(waiting.swap_remove(next));
        }
    }
    pieces
}
