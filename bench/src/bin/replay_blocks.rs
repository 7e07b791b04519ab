//! `replay-blocks --plugin SO --config FILE [--config FILE] DIR`: recorded blocks through the plugin's own interface.
//!
//! Standard output has one JSON object per file and a last one with the totals; standard error is for people.
//! Exit codes: 0 all blocks driven; 1 a file was damaged, or the plugin refused a callback (the rest was still driven);
//! 2 nothing could start (arguments, plugin, configuration).

use std::{io::Write, path::PathBuf, process::ExitCode, time::Instant};

use bench::{
    host::{Pace, Source},
    plugin_library::LoadedPlugin,
    replay::{self, Line},
};
use clap::Parser;

#[derive(Parser)]
#[command(
    version,
    about = "Replays recorded blocks through a Geyser plugin, as a validator would"
)]
struct Args {
    /// The plugin's shared object [default: libgeyser_plugin.so beside this program]
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// The plugin's configuration; a further one makes a further source, which gets the slots that are met again
    #[arg(long = "config", required = true)]
    configs: Vec<PathBuf>,
    /// Decides which transactions the block metadata overtakes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Transactions per second and source; as fast as possible when absent
    #[arg(long)]
    rate: Option<u32>,
    /// Slots by which Rooted stays behind Confirmed
    #[arg(long, default_value_t = 2)]
    root_lag: usize,
    /// Folder of block files, or one such file
    blocks: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    StderrLog::install();
    let files = replay::files(&args.blocks).map_err(|e| {
        format!(
            "{}: {e}. Fix: name a folder of block files",
            args.blocks.display()
        )
    })?;
    let plugin = match &args.plugin {
        Some(plugin) => plugin.clone(),
        None => beside_this_program("libgeyser_plugin.so")?,
    };
    let pace = Pace {
        transactions_per_second: args.rate,
        root_lag_slots: args.root_lag,
    };
    let mut sources = Vec::new();
    for config in &args.configs {
        let plugin = LoadedPlugin::open(&plugin, config).map_err(|e| e.to_string())?;
        let source = Source::new(plugin, pace).map_err(|e| format!("starting a thread: {e}"))?;
        if !source.wants_transactions() {
            eprintln!(
                "warning: the plugin loaded with {} wants no transactions, so none will be driven",
                config.display()
            );
        }
        sources.push(source);
    }

    let begin = Instant::now();
    let totals = replay::run(&files, &mut sources, args.seed, |line| {
        print_json(line);
        eprintln!(
            "{:>8.2} s  {}",
            begin.elapsed().as_secs_f64(),
            sentence(line)
        );
    })
    .map_err(|e| e.to_string())?;
    let mut clean = totals.failed == 0;
    for (index, source) in sources.into_iter().enumerate() {
        if let Some(refused) = source.finish().map_err(|e| e.to_string())? {
            clean = false;
            eprintln!(
                "error: the plugin of source {} refused {} callbacks; the first: {}",
                index + 1,
                refused.count,
                refused.first
            );
        }
    }
    print_json(&totals);
    eprintln!(
        "{:>8.2} s  {} blocks with {} transactions driven, {} files skipped, {} damaged",
        begin.elapsed().as_secs_f64(),
        totals.blocks,
        totals.transactions,
        totals.skipped,
        totals.failed
    );
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn sentence(line: &Line) -> String {
    match line {
        Line::Driven {
            file,
            slot,
            transactions,
            source,
            ..
        } => format!("slot {slot}: {transactions} transactions to source {source} ({file})"),
        Line::Skipped { file, skipped } => format!("{file}: skipped: {skipped}"),
        Line::Failed { file, error } => format!("error: {file}: {error}"),
    }
}

fn print_json(line: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(line) {
        // A reader that went away is no reason to stop driving.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

fn beside_this_program(name: &str) -> Result<PathBuf, String> {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|dir| dir.join(name)))
        .ok_or_else(|| {
            "the folder of this program is unknown. Fix: name the plugin by --plugin".into()
        })
}

/// What the plugin logs goes to standard error, as in a validator's log.
struct StderrLog;

impl StderrLog {
    fn install() {
        if log::set_logger(&StderrLog).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
    }
}

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            eprintln!(
                "{:>5} {}: {}",
                record.level(),
                record.target(),
                record.args()
            );
        }
    }

    fn flush(&self) {}
}
