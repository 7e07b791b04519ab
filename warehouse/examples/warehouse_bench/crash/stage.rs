//! The real processes, and their ends: broker, door and sink die by SIGKILL at moments that the seed chooses; a sink is
//! stopped, replaced, and goes on when its batches are long forgotten.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use local_services::{
    Child, ChildSpec, ClickHouseDoor, DoorOptions, Kafka, KafkaOptions, workspace_binary,
};

use super::{audit::Door, history::Random};

/// Batches that a table remembers in this run: few, so that what a stopped sink repeats is past them.
pub const WINDOW: u64 = 5;
const FLUSH_MS: u64 = 60;
/// Until a replaced sink must have noticed it.
const REFUSAL_LIMIT: Duration = Duration::from_secs(60);
const TAKEOVER_LIMIT: Duration = Duration::from_secs(180);
const ENDED_BY_ITSELF_MAX: u64 = 10;
/// What a replaced sink says.
const REFUSAL: &str = "has taken over";

/// What is told of a run so far; written by whoever learns it.
#[derive(Debug, Default)]
pub struct Progress {
    pub interrupted: AtomicBool,
    pub slot: AtomicU64,
    pub stored_slot: AtomicU64,
    pub rows: AtomicU64,
    pub published: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub sink: u64,
    pub door: u64,
    pub broker: u64,
    pub sink_lives: u64,
    pub zombies: u64,
    pub zombies_refused: u64,
    pub ended_by_itself: u64,
}

impl Done {
    pub fn kills(&self) -> u64 {
        self.sink + self.door + self.broker
    }
}

/// One act of the killer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Sink {
        away_ms: u64,
    },
    Door {
        away_ms: u64,
    },
    Broker {
        away_ms: u64,
    },
    SinkAndDoor {
        away_ms: u64,
    },
    /// `aimed`: stopped while a batch is being stored.
    Zombie {
        aimed: bool,
    },
}

impl Act {
    fn kills(self) -> u64 {
        match self {
            Self::Zombie { .. } => 0,
            Self::SinkAndDoor { .. } => 2,
            _ => 1,
        }
    }
}

/// Acts with so many kills, each with the milliseconds before it.
pub fn plan(seed: u64, kills: u64) -> Vec<(u64, Act)> {
    let mut random = Random(seed ^ 0xdead);
    let mut plan = Vec::new();
    let mut left = kills;
    while left > 0 {
        let away_ms = match random.below(3) {
            0 => random.below(900),
            _ => 0,
        };
        // The first ones are one of each kind.
        let chance = match plan.len() {
            0 => 0,
            1 => 58,
            2 => 84,
            3 => 92,
            _ => random.below(100),
        };
        let mut act = match chance {
            0..54 => Act::Sink { away_ms },
            54..58 => Act::SinkAndDoor { away_ms },
            58..84 => Act::Door { away_ms },
            84..92 => Act::Broker { away_ms },
            _ => Act::Zombie {
                aimed: random.below(3) > 0,
            },
        };
        if act.kills() > left {
            act = Act::Sink { away_ms };
        }
        left -= act.kills();
        // Some die while they start, some after a while of work.
        let longest = if random.below(3) == 0 { 200 } else { 1_600 };
        plan.push((random.between(5, longest), act));
    }
    plan
}

/// See the module. Dropping it kills what runs.
pub struct Stage {
    pub broker: Kafka,
    door: ClickHouseDoor,
    sink: Child,
    sink_config: PathBuf,
    binary: PathBuf,
    scratch: PathBuf,
    pub done: Done,
}

impl Stage {
    pub fn open(scratch: &Path, prefix: &str) -> anyhow::Result<Self> {
        let broker = Kafka::start(KafkaOptions::default())?;
        let door = ClickHouseDoor::start(DoorOptions::default())?;
        let sink_config = scratch.join("sink.toml");
        let text = format!(
            "clickhouse_url = \"{}\"\ntopic_prefix = \"{prefix}\"\nflush_ms = {FLUSH_MS}\n[kafka]\nbrokers = \"{}\"\n[host]\nadmin = \"127.0.0.1:0\"\n",
            door.url(),
            broker.brokers()
        );
        std::fs::write(&sink_config, text)?;
        let binary = workspace_binary("warehouse-sink");
        let sink = Child::spawn(spec(&binary, &sink_config, scratch, 1))?;
        Ok(Self {
            broker,
            door,
            sink,
            sink_config,
            binary,
            scratch: scratch.to_owned(),
            done: Done {
                sink_lives: 1,
                ..Done::default()
            },
        })
    }

    pub fn door(&self) -> Door {
        Door::new(&self.door.url())
    }

    /// Every table forgets batches after a few of them. Waits for the sink to create the tables.
    pub fn lower_window(&mut self) -> anyhow::Result<()> {
        let door = self.door();
        let begin = Instant::now();
        while door
            .number("SELECT count() FROM system.tables WHERE database = 'heliograph' AND name = 'balances_as_of'")
            .unwrap_or(0)
            == 0
        {
            self.sink_must_run(TAKEOVER_LIMIT, begin)?;
        }
        let tables = door.lines(
            "SELECT name FROM system.tables WHERE database = 'heliograph' AND create_table_query LIKE '%non_replicated_deduplication_window%'",
        )?;
        for table in tables {
            door.text(&format!(
                "ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = {WINDOW}"
            ))?;
        }
        Ok(())
    }

    /// Acts by the plan, and then until there are enough rows, which only takes time.
    pub fn perform(
        &mut self,
        plan: &[(u64, Act)],
        rows: u64,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        for (after_ms, act) in plan {
            pause(Duration::from_millis(*after_ms), progress)?;
            self.replace_one_that_ended()?;
            self.act(*act, progress)
                .with_context(|| format!("{act:?}"))?;
        }
        while progress.rows.load(Ordering::Relaxed) < rows {
            pause(Duration::from_millis(200), progress)?;
            self.replace_one_that_ended()?;
        }
        Ok(())
    }

    /// For the time after the last kill.
    pub fn replace_one_that_ended(&mut self) -> anyhow::Result<()> {
        if self.sink.is_running() {
            return Ok(());
        }
        self.done.ended_by_itself += 1;
        eprintln!("the sink ended by itself:\n{}", self.sink.log_tail(20));
        if self.done.ended_by_itself > ENDED_BY_ITSELF_MAX {
            bail!("the sink ends by itself again and again");
        }
        self.respawn_sink()
    }

    pub fn stop_sink(&mut self) -> bool {
        let status = self.sink.stop(Duration::from_secs(30));
        status.is_some_and(|status| status.success())
    }

    fn respawn_sink(&mut self) -> anyhow::Result<()> {
        self.done.sink_lives += 1;
        self.sink.respawn()
    }

    fn act(&mut self, act: Act, progress: &Progress) -> anyhow::Result<()> {
        let away = |away_ms| pause(Duration::from_millis(away_ms), progress);
        match act {
            Act::Sink { away_ms } => {
                self.sink.kill();
                self.done.sink += 1;
                away(away_ms)?;
                self.respawn_sink()
            }
            Act::Door { away_ms } => {
                self.door.kill();
                self.done.door += 1;
                away(away_ms)?;
                self.door.restart()
            }
            Act::Broker { away_ms } => {
                self.broker.kill();
                self.done.broker += 1;
                away(away_ms)?;
                self.broker.restart()
            }
            Act::SinkAndDoor { away_ms } => {
                self.sink.kill();
                self.door.kill();
                self.done.sink += 1;
                self.done.door += 1;
                away(away_ms)?;
                self.respawn_sink()?;
                self.door.restart()
            }
            Act::Zombie { aimed } => self.zombie(aimed, progress),
        }
    }

    fn zombie(&mut self, aimed: bool, progress: &Progress) -> anyhow::Result<()> {
        let door = self.door();
        // One that stops before its claim is replaced by nobody: when it goes on, it is the newest.
        let begin = Instant::now();
        while !has_claimed(&self.sink.log_tail(50)) {
            pause(Duration::from_millis(20), progress)?;
            self.sink_must_run(TAKEOVER_LIMIT, begin)?;
        }
        if aimed {
            let begin = Instant::now();
            let storing =
                "SELECT max(batch_id) > maxIf(batch_id, phase = 'done') FROM sink_batches";
            while begin.elapsed() < Duration::from_secs(10)
                && door.number(storing).unwrap_or(0) == 0
            {}
        }
        signal(&self.sink, "STOP")?;
        self.done.zombies += 1;
        self.done.sink_lives += 1;
        let next = Child::spawn(spec(
            &self.binary,
            &self.sink_config,
            &self.scratch,
            self.done.sink_lives,
        ))?;
        let mut zombie = std::mem::replace(&mut self.sink, next);
        let newest = "SELECT max(batch_id) FROM sink_batches WHERE phase = 'done'";
        let before = door.number(newest)?;
        let begin = Instant::now();
        while door.number(newest).unwrap_or(0) <= before + 2 * WINDOW {
            pause(Duration::from_millis(20), progress)?;
            self.sink_must_run(TAKEOVER_LIMIT, begin)?;
        }
        signal(&zombie, "CONT")?;
        let begin = Instant::now();
        while zombie.is_running() && begin.elapsed() < REFUSAL_LIMIT {
            pause(Duration::from_millis(20), progress)?;
        }
        let refused = zombie.exit_status().is_some_and(|status| !status.success())
            && zombie.log_tail(20).contains(REFUSAL);
        if refused {
            self.done.zombies_refused += 1;
        } else {
            eprintln!(
                "a replaced sink was not refused ({:?}):\n{}",
                zombie.exit_status(),
                zombie.log_tail(20)
            );
        }
        Ok(())
    }

    fn sink_must_run(&mut self, limit: Duration, begin: Instant) -> anyhow::Result<()> {
        if let Some(status) = self.sink.exit_status() {
            return Err(self.sink.failure(&format!("ended ({status})")));
        }
        if begin.elapsed() > limit {
            return Err(self.sink.failure("stores nothing"));
        }
        Ok(())
    }
}

/// Whether a sink whose log ends so has claimed the warehouse. Of a long life the beginning is not among it.
fn has_claimed(log: &str) -> bool {
    let has_begun = |log: &str| log.is_empty() || log.contains("starting service");
    log.contains("resuming batch") || !has_begun(log)
}

fn spec(binary: &Path, config: &Path, scratch: &Path, life: u64) -> ChildSpec {
    let log = scratch.join(format!("sink-{life}.log"));
    ChildSpec::new("warehouse-sink", binary, log)
        .arg("--config")
        .arg(config)
}

/// SIGSTOP and SIGCONT have no safe call in std.
fn signal(child: &Child, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.pid().to_string())
        .status()
        .context("kill")?;
    anyhow::ensure!(status.success(), "kill -{name} {}: {status}", child.pid());
    Ok(())
}

/// Fails when the run is interrupted, so that everything is stopped and removed on the way out.
pub fn pause(time: Duration, progress: &Progress) -> anyhow::Result<()> {
    std::thread::sleep(time);
    if progress.interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_has_claimed_when_it_resumes() {
        let starting = "INFO service_host::process: starting service=\"warehouse-sink\"\n";
        let resuming = "INFO warehouse::sink::pipeline: resuming batch=7 unfinished=false\n";
        for (log, claimed) in [
            (String::new(), false),
            (starting.to_owned(), false),
            ([starting, resuming].concat(), true),
            ("INFO a later line\n".to_owned(), true),
        ] {
            assert_eq!(has_claimed(&log), claimed, "{log}");
        }
    }

    #[test]
    fn a_plan_is_its_seeds_and_has_all_kinds() {
        for kills in [6, 1_000] {
            let planned = plan(3, kills);
            assert_eq!(planned, plan(3, kills));
            let acts = planned.iter().map(|(_, act)| act);
            assert_eq!(acts.clone().map(|act| act.kills()).sum::<u64>(), kills);
            for wanted in [
                |act: &Act| matches!(act, Act::Sink { .. }),
                |act: &Act| matches!(act, Act::Door { .. }),
                |act: &Act| matches!(act, Act::Broker { .. }),
                |act: &Act| matches!(act, Act::Zombie { .. }),
            ] {
                assert!(acts.clone().any(wanted), "{planned:?}");
            }
        }
        assert_ne!(plan(3, 1_000), plan(4, 1_000));
    }
}
