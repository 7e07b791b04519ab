//! One plugin per process: memory and processor time are then the plugin's own, an interposed allocator counts nobody else,
//! and a plugin that dies takes no other with it.
//!
//! The bench starts itself again as `plugin-host` and tells it rounds, one JSON object per line; the host drives each and
//! answers with one line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    allocations::AllocationReader,
    drive::{Driven, Plan, drive},
    floor_thread::FloorThread,
    histogram::Histogram,
    mix::Kind,
    probe::{Allocated, AllocationProbe, Latencies, Turns},
    subject::{Origin, Subject},
    workload::Workload,
};
use crate::plugin_library::LoadedPlugin;

/// Beyond every recorded slot, so that nothing of a round is older than what an earlier one rooted.
pub const FIRST_SLOT: u64 = 1_000_000_000;

/// What the host is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Order {
    pub plan: Plan,
    pub measure: Measure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Times,
    /// As [`Measure::Times`], while one more thread reads the clock at the same rate, each time for so many nanoseconds.
    TimesBesideFloor(u64),
    /// Those that the plugin times itself apart from the others; one thread, and no other measure in this process.
    Turns,
    Allocations,
}

/// What it answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Round {
    pub driven: Driven,
    /// Nothing in a round that counted allocations.
    pub latencies: Latencies,
    /// Of the thread beside, if there was one.
    pub floor: Histogram,
    /// Of [`Measure::Turns`].
    pub turns: Turns,
    /// By kind, in the order of [`Kind::ALL`]; empty in a round that took times.
    pub allocated: Vec<Allocated>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    name: String,
    transactions: usize,
    votes: usize,
    blocks: usize,
}

/// Arguments of the host.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// Folder of block files
    #[arg(long)]
    blocks: PathBuf,
    /// The plugin's shared object
    #[arg(long, requires = "config")]
    so: Option<PathBuf>,
    /// The plugin's configuration
    #[arg(long)]
    config: Option<PathBuf>,
    /// Drive the bench's plain alternative
    #[arg(long)]
    baseline: bool,
    /// Drive callbacks that only read the clock
    #[arg(long)]
    clock: bool,
    /// Cut the blocks to about so many callbacks each
    #[arg(long)]
    slot_callbacks: Option<usize>,
}

/// The host's side: drives what it is told until its standard input ends.
pub fn serve(args: &HostArgs) -> anyhow::Result<()> {
    StderrLog::install();
    let mut workload = Workload::load(&args.blocks)?;
    if let Some(callbacks) = args.slot_callbacks {
        workload.cut(callbacks);
    }
    let origin = match (&args.so, &args.config) {
        (Some(so), Some(config)) => Origin::SharedObject {
            so: so.clone(),
            config: config.clone(),
        },
        _ if args.baseline => Origin::Baseline,
        _ if args.clock => Origin::Clock,
        _ => Origin::Floor,
    };
    let plugin = origin.load()?;
    say(&Ready {
        name: plugin.get().name().into(),
        transactions: workload.transactions,
        votes: workload.votes(),
        blocks: workload.blocks.len(),
    })?;
    let mut next_slot = FIRST_SLOT;
    let mut turns = Turns::default();
    for line in io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let round;
        (round, next_slot) = obey(&plugin, &workload, order, next_slot, &mut turns)?;
        say(&round)?;
    }
    Ok(())
}

fn obey(
    plugin: &LoadedPlugin,
    workload: &Workload,
    order: Order,
    first_slot: u64,
    turns: &mut Turns,
) -> anyhow::Result<(Round, u64)> {
    let Order { plan, measure } = order;
    let mut round = Round::default();
    let next_slot;
    if measure == Measure::Allocations {
        let reader = AllocationReader::find().context("the allocation counter is not loaded")?;
        let probe = || AllocationProbe {
            reader,
            counted: Default::default(),
        };
        let probes;
        (round.driven, probes, next_slot) =
            drive(plugin.get(), workload, plan, first_slot, None, probe);
        round.allocated = vec![Allocated::default(); Kind::ALL.len()];
        for probe in probes {
            for (sum, part) in round.allocated.iter_mut().zip(&probe.counted) {
                sum.merge(part);
            }
        }
    } else if measure == Measure::Turns {
        let probes;
        (round.driven, probes, next_slot) =
            drive(plugin.get(), workload, plan, first_slot, None, || {
                turns.next()
            });
        if let [probe] = &probes[..] {
            round.turns = probe.clone();
            turns.add(probe);
        }
    } else {
        let floor = match measure {
            Measure::TimesBesideFloor(length) => {
                Some(FloorThread::start(plan, Duration::from_nanos(length)))
            }
            _ => None,
        };
        let probes;
        (round.driven, probes, next_slot) = drive(
            plugin.get(),
            workload,
            plan,
            first_slot,
            None,
            Latencies::default,
        );
        if let Some(floor) = floor {
            round.floor = floor.stop();
        }
        probes.iter().for_each(|probe| round.latencies.merge(probe));
    }
    Ok((round, next_slot))
}

fn say(line: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// The bench's side.
pub struct HostProcess {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    name: String,
    pub transactions: usize,
    pub votes: usize,
    pub blocks: usize,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostOptions<'a> {
    /// This library comes first.
    pub preload: Option<&'a Path>,
    /// Callbacks of a slot, about; the blocks are cut. Otherwise they are whole.
    pub slot_callbacks: Option<usize>,
}

impl HostProcess {
    /// Starts a host for `subject` and returns when the plugin is loaded.
    pub fn start(
        subject: &Subject,
        blocks: &Path,
        scratch: &Path,
        options: &HostOptions<'_>,
    ) -> anyhow::Result<Self> {
        let log = scratch.join(format!("{}.log", subject.name));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("plugin-host")
            .arg("--blocks")
            .arg(blocks)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?);
        match &subject.origin {
            Origin::Floor => {}
            Origin::Clock => {
                command.arg("--clock");
            }
            Origin::Baseline => {
                command.arg("--baseline");
            }
            Origin::SharedObject { so, config } => {
                command.arg("--so").arg(so).arg("--config").arg(config);
            }
        }
        if let Some(callbacks) = options.slot_callbacks {
            command.arg("--slot-callbacks").arg(callbacks.to_string());
        }
        if let Some(library) = options.preload {
            command.env("LD_PRELOAD", library);
        }
        let mut child = command
            .spawn()
            .context("the bench could not start itself again")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the host has no pipes");
        };
        let mut host = Self {
            child,
            orders: Some(orders),
            answers: BufReader::new(answers).lines(),
            log,
            name: subject.name.clone(),
            transactions: 0,
            votes: 0,
            blocks: 0,
        };
        let ready: Ready = host.answer()?;
        (host.transactions, host.votes, host.blocks) =
            (ready.transactions, ready.votes, ready.blocks);
        Ok(host)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Drives a round and waits for it.
    pub fn round(&mut self, plan: Plan, measure: Measure) -> anyhow::Result<Round> {
        self.begin(plan, measure)?;
        self.answer()
    }

    /// Begins a round; [`HostProcess::answer`] waits for it.
    pub fn begin(&mut self, plan: Plan, measure: Measure) -> anyhow::Result<()> {
        let order = serde_json::to_string(&Order { plan, measure })?;
        let Some(orders) = &mut self.orders else {
            bail!("{}: the host has been told to end", self.name);
        };
        if writeln!(orders, "{order}").is_err() {
            return Err(self.failure());
        }
        Ok(())
    }

    pub fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        match self.answers.next() {
            Some(Ok(line)) => serde_json::from_str(&line)
                .with_context(|| format!("{}: unexpected words from the host: {line}", self.name)),
            _ => Err(self.failure()),
        }
    }

    /// Unloads the plugin and waits for the host's end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.orders = None;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(self.failure());
        }
        Ok(())
    }

    fn failure(&mut self) -> anyhow::Error {
        self.orders = None;
        let end = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n");
        anyhow::anyhow!(
            "the host of {} ended ({end}). Its last lines:\n{last}",
            self.name
        )
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // After `stop` it is gone already; after an error nothing of it is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What plugins log goes to the host's log file.
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
            let (level, target) = (record.level(), record.target());
            eprintln!("{level:>5} {target}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
