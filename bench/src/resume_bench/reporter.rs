//! A validator that reports a chain: as fast as the log takes it, or a slot at a time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use event_schema::{Slot, Topics};

use crate::{
    fanout_bench::stamp::Clock,
    observed::{
        chain::{Chain, Moment, Temper},
        contents::Contents,
        log::Stage,
        source::Source,
        truth::Truth,
    },
};

const FIRST_SLOT: u64 = 100_000;

/// See the module.
pub struct Reporter {
    chain: Chain,
    source: Source,
    contents: Contents,
    /// Of everything that was reported.
    pub truth: Truth,
    pub clock: Clock,
    /// When each slot was handed to the log, on the clock; slots rise.
    pub reported: Vec<(Slot, u64)>,
}

impl Reporter {
    pub fn new(seed: u64, contents: Contents, topics: &Topics) -> Self {
        Self {
            chain: Chain::new(seed, FIRST_SLOT, Temper::RESTLESS),
            source: Source::new(1, topics),
            contents,
            truth: Truth::default(),
            clock: Clock::start(),
            reported: Vec::new(),
        }
    }

    /// The newest slot of which anything was reported.
    pub fn newest(&self) -> Slot {
        self.reported
            .last()
            .map_or(Slot(FIRST_SLOT), |(slot, _)| *slot)
    }

    /// So many slots at once.
    pub async fn fill(&mut self, stage: &Stage, slots: usize) -> anyhow::Result<()> {
        for _ in 0..slots {
            let moments = self.chain.slot();
            self.report(stage, &moments).await?;
        }
        Ok(())
    }

    /// One slot every `pace` until it is told to stop.
    pub async fn go_on(
        &mut self,
        stage: &Stage,
        pace: Duration,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        for nth in 1.. {
            let moments = self.chain.slot();
            self.report(stage, &moments).await?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep((pace * nth).saturating_sub(begin.elapsed())).await;
        }
        Ok(())
    }

    /// One more block, and everything is rooted.
    pub async fn finish(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let moments = self.chain.finish();
        self.report(stage, &moments).await
    }

    async fn report(&mut self, stage: &Stage, moments: &[Moment]) -> anyhow::Result<()> {
        let mut written = Vec::new();
        for moment in moments {
            let values = self.source.live(moment, &self.contents, &mut written);
            if let (Moment::Block(block), Some(values)) = (moment, values) {
                self.truth.add(block, &values, true);
                self.reported.push((block.name.slot, self.clock.now()));
            }
        }
        stage.append(written).await
    }
}
