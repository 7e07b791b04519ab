//! Bench `replay`: how fast recorded blocks are decoded and proven, and how fast they pass through a plugin.
//!
//! Every round decodes all files and drives all blocks once through each plugin, in turn, so that a busy moment of the
//! machine hits all of them; the figures are the medians over the rounds. The plain alternative beside the real plugin is
//! one that does nothing, so that the host's own cost is not mistaken for the plugin's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;

use crate::{
    block_file::Block,
    host::{Pace, Source},
    plugin_library::LoadedPlugin,
    replay::{self, Line},
};

/// The real plugin to measure.
#[derive(Debug, Clone)]
pub struct Subject {
    pub plugin: PathBuf,
    pub config: PathBuf,
}

/// Medians over the rounds, in seconds for all transactions once.
#[derive(Debug, Clone, PartialEq)]
pub struct Throughput {
    pub blocks: usize,
    pub transactions: usize,
    /// Size of the files as they are on disk.
    pub file_bytes: u64,
    /// Reading, unpacking, decoding and checking every signature.
    pub decode_seconds: f64,
    /// Driving decoded blocks through a plugin that does nothing.
    pub null_seconds: f64,
    /// Driving them through the real plugin, until its callbacks have returned.
    pub plugin_seconds: Option<f64>,
    /// What `on_unload` of the real plugin took after that: the wait for the log.
    pub unload_seconds: Option<f64>,
}

impl Throughput {
    /// Until the log had everything that the real plugin was told.
    pub fn delivered_seconds(&self) -> Option<f64> {
        Some(self.plugin_seconds? + self.unload_seconds?)
    }
}

/// A plugin that asks for everything and keeps nothing.
#[derive(Debug)]
pub struct NullPlugin;

impl GeyserPlugin for NullPlugin {
    fn name(&self) -> &'static str {
        "null"
    }
    fn transaction_notifications_enabled(&self) -> bool {
        true
    }
    fn entry_notifications_enabled(&self) -> bool {
        true
    }
}

/// Measures the blocks at `path` (a folder or a file) over `rounds`.
pub fn measure(
    path: &Path,
    subject: Option<&Subject>,
    rounds: usize,
) -> anyhow::Result<Throughput> {
    let files = replay::files(path)?;
    let (mut decode, mut null, mut plugin, mut unload) = (vec![], vec![], vec![], vec![]);
    let mut file_bytes = 0;
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for round in 0..rounds.max(1) {
        let begin = Instant::now();
        let mut decoded = Vec::new();
        for file in &files {
            match replay::read(file) {
                Ok(block) => {
                    if round == 0 {
                        file_bytes += std::fs::metadata(file)?.len();
                    }
                    decoded.push(Arc::new(block));
                }
                Err(Line::Failed { file, error }) => anyhow::bail!("{file}: {error}"),
                Err(_) => {}
            }
        }
        decode.push(begin.elapsed().as_secs_f64());
        blocks = decoded;
        anyhow::ensure!(
            !blocks.is_empty(),
            "{}: no block in it that can be replayed",
            path.display()
        );
        let (driven, _) = drive(LoadedPlugin::in_process(Box::new(NullPlugin)), &blocks)?;
        null.push(driven);
        if let Some(subject) = subject {
            let loaded = LoadedPlugin::open(&subject.plugin, &subject.config)?;
            let (driven, unloaded) = drive(loaded, &blocks)?;
            plugin.push(driven);
            unload.push(unloaded);
        }
    }
    Ok(Throughput {
        blocks: blocks.len(),
        transactions: blocks.iter().map(|b| b.transactions.len()).sum(),
        file_bytes,
        decode_seconds: median(decode).unwrap_or_default(),
        null_seconds: median(null).unwrap_or_default(),
        plugin_seconds: median(plugin),
        unload_seconds: median(unload),
    })
}

/// Seconds until every callback has returned, and seconds of unloading after that.
fn drive(plugin: LoadedPlugin, blocks: &[Arc<Block>]) -> anyhow::Result<(f64, f64)> {
    let pace = Pace {
        transactions_per_second: None,
        root_lag_slots: 2,
    };
    let mut source = Source::new(plugin, pace)?;
    let begin = Instant::now();
    for block in blocks {
        source.drive(block, block.transactions.len())?;
    }
    let driven = begin.elapsed().as_secs_f64();
    if let Some(refused) = source.finish()? {
        anyhow::bail!(
            "the plugin refused {} callbacks; the first: {}",
            refused.count,
            refused.first
        );
    }
    Ok((driven, begin.elapsed().as_secs_f64() - driven))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![]), None);
    }
}
