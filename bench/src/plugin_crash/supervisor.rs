//! Starts hosts and kills them, and the broker, as the plan says; returns what each life had written down.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_schema::Kind;
use local_services::Kafka;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{
    count_sheet::{Callbacks, CountSheet, Fact, KINDS},
    plan::{Act, Scene},
    readers::UNSEALED_SLOTS,
};

pub const TOPIC_PREFIX: &str = "crash";
/// Partitions of the observed topics: accounts, transactions, slots.
pub const PARTITIONS: [u32; 3] = [3, 2, 2];
/// Slots begin here.
const FIRST_SLOT: u64 = 1_000;
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const SPILL_LIMIT: Duration = Duration::from_secs(6);
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(4);

pub struct Settings<'a> {
    pub plugin: &'a Path,
    pub scratch: &'a Path,
    /// For the plugin's queue.
    pub memory: &'a Path,
    pub slot_micros: u64,
    /// How long the last host goes on once everything of its predecessors is delivered.
    pub last: Duration,
}

/// What the processes were doing when one was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Loading,
    Live,
    Spilling,
    Draining,
}

impl Moment {
    pub const ALL: [Self; 4] = [Self::Loading, Self::Live, Self::Spilling, Self::Draining];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Live => "live",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
        }
    }
}

/// One host from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Unix microseconds; its source instance is younger, and older than the next life.
    pub started: u64,
    pub first_slot: u64,
    /// 0 when no callback was made.
    pub last_slot: u64,
    pub rooted: u64,
    pub callbacks: BTreeMap<Kind, Callbacks>,
    /// Callbacks that one thread had begun and not returned from, at most.
    pub deepest: u64,
    /// What the plugin counts as lost of it; `None` when nobody lived to say.
    pub lost: Option<u64>,
    pub tiny: bool,
}

/// What was done and seen.
#[derive(Debug, Default)]
pub struct Run {
    pub lives: Vec<Life>,
    pub host_kills: BTreeMap<Moment, usize>,
    pub broker_kills: BTreeMap<Moment, usize>,
    /// Everything the last life, or one before, had not placed in the end.
    pub left: u64,
    /// Records that were found in a dead one's memory, over all lives.
    pub recovered: u64,
}

impl Run {
    /// The router must have decided about everything below this slot.
    pub fn decided(&self) -> u64 {
        let rooted = self.lives.last().map_or(0, |life| life.rooted);
        rooted.saturating_sub(UNSEALED_SLOTS + 2)
    }

    pub fn kills(&self) -> usize {
        self.host_kills.values().sum::<usize>() + self.broker_kills.values().sum::<usize>()
    }
}

/// See the module. Ends with a life that is not killed.
pub fn run(settings: &Settings<'_>, broker: &mut Kafka, acts: &[Act]) -> anyhow::Result<Run> {
    let mut supervisor = Supervisor {
        settings,
        metrics: SocketAddr::from(([127, 0, 0, 1], local_services::free_port())),
        broker,
        host: None,
        run: Run::default(),
        returns_late: false,
    };
    for (nth, act) in acts.iter().enumerate() {
        if nth % 20 == 0 && nth > 0 {
            eprintln!("{} kills", supervisor.run.kills());
        }
        supervisor
            .act(*act)
            .with_context(|| format!("act {nth}, {act:?}"))?;
    }
    supervisor.finish()?;
    Ok(std::mem::take(&mut supervisor.run))
}

struct Supervisor<'a> {
    settings: &'a Settings<'a>,
    metrics: SocketAddr,
    broker: &'a mut Kafka,
    host: Option<Host>,
    run: Run,
    /// The broker stands still until the next host has been loaded.
    returns_late: bool,
}

struct Host {
    child: Child,
    orders: Option<ChildStdin>,
    sheet: CountSheet,
    first_slot: u64,
    tiny: bool,
    /// Its metrics have been read once.
    met: bool,
}

impl Supervisor<'_> {
    fn act(&mut self, act: Act) -> anyhow::Result<()> {
        if self.host.is_none() {
            self.start(act.tiny, act.again)?;
        }
        if let Scene::Loading { after_ms } = act.scene {
            pause(after_ms);
            let moment = match self.is_loaded() {
                true => self.moment(false),
                false => Moment::Loading,
            };
            self.broker_returns()?;
            return self.kill_host(moment);
        }
        self.loaded()?;
        self.broker_returns()?;
        match act.scene {
            Scene::Loading { .. } => {}
            Scene::Live { after_ms } => {
                pause(after_ms);
                let moment = self.moment(false);
                self.kill_host(moment)?;
            }
            Scene::Spilling {
                after_ms,
                return_late,
            } => {
                self.signal_broker(Signal::STOP)?;
                self.until_it_spills();
                pause(after_ms);
                let moment = self.moment(true);
                self.kill_host(moment)?;
                self.returns_late = return_late;
                if !return_late {
                    self.signal_broker(Signal::CONT)?;
                }
            }
            Scene::Draining {
                spilled_ms,
                after_ms,
            } => {
                self.signal_broker(Signal::STOP)?;
                self.until_it_spills();
                pause(spilled_ms);
                let before = self.drained();
                self.signal_broker(Signal::CONT)?;
                let begin = Instant::now();
                while begin.elapsed() < SPILL_LIMIT && self.drained() <= before {
                    thread::sleep(LOOK);
                }
                pause(after_ms);
                let moment = self.moment(false);
                self.kill_host(moment)?;
            }
            Scene::Broker { after_ms, away_ms } => {
                pause(after_ms);
                self.kill_broker();
                self.until_it_spills();
                pause(away_ms);
                self.broker.restart()?;
            }
            Scene::Both { after_ms, away_ms } => {
                pause(after_ms);
                self.kill_broker();
                self.until_it_spills();
                pause(away_ms);
                let moment = self.moment(true);
                self.kill_host(moment)?;
                self.broker.restart()?;
            }
        }
        Ok(())
    }

    /// A life that is not killed: delivers what all before it left, goes on for a while, and says what it lost.
    fn finish(&mut self) -> anyhow::Result<()> {
        if self.host.is_none() {
            self.start(false, true)?;
        }
        self.loaded()?;
        self.broker_returns()?;
        // One that had died before this one was loaded may have spilled for long.
        let begin = Instant::now();
        while self.metric("spill_bytes") > 0 && begin.elapsed() < DRAIN_LIMIT {
            thread::sleep(LOOK * 10);
        }
        thread::sleep(self.settings.last);
        let Some(mut host) = self.host.take() else {
            bail!("there is no host");
        };
        if let Some(orders) = &mut host.orders {
            orders.write_all(b".")?;
            orders.flush()?;
        }
        let begin = Instant::now();
        let left = |supervisor: &Self| {
            ["spill_bytes", "queue_records", "kafka_in_flight"]
                .into_iter()
                .map(|metric| supervisor.metric(metric))
                .sum::<u64>()
        };
        loop {
            let stopped = host.sheet.get(Fact::Stopped) == 1;
            // Seals follow a moment behind the last record.
            thread::sleep(LOOK * 50);
            self.run.left = left(self);
            if stopped && self.run.left == 0 || begin.elapsed() > DRAIN_LIMIT {
                break;
            }
        }
        let page = page(self.metrics).context("the plugin's metrics")?;
        fs::write(self.settings.scratch.join("metrics.txt"), &page)?;
        let lost = sum(&page, "lost_total");
        host.orders = None;
        let status = host.child.wait()?;
        if !status.success() {
            bail!("the last host ended with {status}:\n{}", self.log());
        }
        let life = host.life(Some(lost));
        self.run.lives.push(life);
        Ok(())
    }

    fn start(&mut self, tiny: bool, again: bool) -> anyhow::Result<()> {
        let last_slot = self.run.lives.iter().map(|life| life.last_slot).max();
        let rooted = self.run.lives.iter().map(|life| life.rooted).max();
        let behind = if again { rooted } else { last_slot };
        let first_slot = behind.unwrap_or(0).max(FIRST_SLOT - 1) + 1;
        let name = format!("sheet-{}", self.run.lives.len());
        let sheet_path = self.settings.scratch.join(name);
        let sheet = CountSheet::create(&sheet_path)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("plugin-crash-host")
            .arg("--so")
            .arg(self.settings.plugin)
            .arg("--config")
            .arg(self.configuration(tiny)?)
            .arg("--sheet")
            .arg(&sheet_path)
            .args(["--first-slot", &first_slot.to_string()])
            .args(["--slot-micros", &self.settings.slot_micros.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(self.log_path())?,
            )
            .spawn()
            .context("the bench could not start itself again")?;
        self.host = Some(Host {
            orders: child.stdin.take(),
            child,
            sheet,
            first_slot,
            tiny,
            met: false,
        });
        Ok(())
    }

    fn configuration(&self, tiny: bool) -> anyhow::Result<PathBuf> {
        let scratch = self.settings.scratch;
        let path = scratch.join(if tiny { "tiny.json" } else { "plugin.json" });
        let [accounts, transactions, slots] = PARTITIONS;
        let (queue, spill) = if tiny {
            (
                json!({"records": 1_024, "megabytes": 1, "dir": self.settings.memory}),
                1,
            )
        } else {
            (
                json!({"records": 4_096, "megabytes": 16, "dir": self.settings.memory}),
                256,
            )
        };
        let text = json!({
            "libpath": self.settings.plugin,
            "name": "bench-crash",
            // Nobody's key: the identity only names the source in the records.
            "validator_identity": "Be11iograph11111111111111111111111111111111",
            "kafka": {"brokers": self.broker.brokers()},
            "topic_prefix": TOPIC_PREFIX,
            "partitions": {"accounts": accounts, "transactions": transactions, "slots": slots},
            "queue": queue,
            "spill": {"dir": scratch.join("spill"), "megabytes": spill},
            "metrics": {"listen": self.metrics.to_string()},
            "unload_seconds": 30,
        });
        fs::write(&path, text.to_string())?;
        Ok(path)
    }

    fn is_loaded(&self) -> bool {
        let sheet = self.host.as_ref().map(|host| &host.sheet);
        sheet.is_some_and(|sheet| sheet.get(Fact::Loaded) == 1)
    }

    /// Waits for the host, and hears what it found of the one before.
    fn loaded(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !self.is_loaded() {
            let ended = match &mut self.host {
                Some(host) => host.child.try_wait()?,
                None => bail!("there is no host"),
            };
            if ended.is_some() || begin.elapsed() > LOAD_LIMIT {
                bail!(
                    "the host did not load the plugin ({ended:?}):\n{}",
                    self.log()
                );
            }
            thread::sleep(LOOK);
        }
        let Some(host) = self.host.as_mut().filter(|host| !host.met) else {
            return Ok(());
        };
        host.met = true;
        let page = page(self.metrics).context("the plugin's metrics")?;
        self.run.recovered += sum(&page, "recovered_total");
        // Lives that made no callback in between had nothing to lose.
        self.hear(Some(sum(&page, "predecessor_lost_total")));
        Ok(())
    }

    fn kill_host(&mut self, moment: Moment) -> anyhow::Result<()> {
        let Some(mut host) = self.host.take() else {
            bail!("there is no host to kill");
        };
        if let Some(status) = host.child.try_wait()? {
            bail!("the host had ended by itself ({status}):\n{}", self.log());
        }
        host.child.kill()?;
        host.child.wait()?;
        *self.run.host_kills.entry(moment).or_default() += 1;
        if !host.met {
            // What the one before had lost, if this one came to say it.
            self.hear(lost_before(&self.log()));
        }
        let life = host.life(None);
        self.run.lives.push(life);
        Ok(())
    }

    /// The loss of the last life that made callbacks.
    fn hear(&mut self, lost: Option<u64>) {
        let last = self
            .run
            .lives
            .iter_mut()
            .rev()
            .find(|life| life.last_slot > 0);
        if let Some(last) = last.filter(|life| life.lost.is_none()) {
            last.lost = lost;
        }
    }

    fn kill_broker(&mut self) {
        let moment = self.moment(false);
        *self.run.broker_kills.entry(moment).or_default() += 1;
        self.broker.kill();
    }

    fn broker_returns(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.returns_late) {
            self.signal_broker(Signal::CONT)?;
        }
        Ok(())
    }

    fn signal_broker(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.broker.pid())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.context("the broker's process id")?, signal).context("the broker")
    }

    fn moment(&self, kafka_is_away: bool) -> Moment {
        match (self.metric("spill_bytes") > 0, kafka_is_away) {
            (false, _) => Moment::Live,
            (true, true) => Moment::Spilling,
            (true, false) => Moment::Draining,
        }
    }

    fn until_it_spills(&self) {
        let begin = Instant::now();
        while begin.elapsed() < SPILL_LIMIT && self.metric("spill_bytes") == 0 {
            thread::sleep(LOOK);
        }
    }

    /// Records that came out of the spill, its predecessors' included.
    fn drained(&self) -> u64 {
        ["drained_total", "drained_seals_total", "inherited_total"]
            .into_iter()
            .map(|metric| self.metric(metric))
            .sum()
    }

    /// 0 when the plugin does not answer.
    fn metric(&self, name: &str) -> u64 {
        page(self.metrics).map_or(0, |page| sum(&page, name))
    }

    fn log_path(&self) -> PathBuf {
        self.settings
            .scratch
            .join(format!("host-{}.log", self.run.lives.len()))
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        // A broker that stands still does not hear that it should end.
        let _ = self.signal_broker(Signal::CONT);
    }
}

impl Host {
    fn life(&self, lost: Option<u64>) -> Life {
        Life {
            started: self.sheet.get(Fact::Started),
            first_slot: self.first_slot,
            last_slot: self.sheet.get(Fact::LastSlot),
            rooted: self.sheet.get(Fact::Rooted),
            callbacks: KINDS
                .into_iter()
                .map(|kind| (kind, self.sheet.callbacks(kind)))
                .collect(),
            deepest: self.sheet.deepest(),
            lost,
            tiny: self.tiny,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After its end it is gone already; after an error nothing of it is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As a plugin logs what it takes over.
fn lost_before(log: &str) -> Option<u64> {
    let line = log
        .lines()
        .find(|line| line.contains("the instance before was killed"))?;
    line.rsplit("it had lost ").next()?.trim().parse().ok()
}

fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn page(address: SocketAddr) -> io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// The sum over the lines of a family.
fn sum(page: &str, family: &str) -> u64 {
    page.lines()
        .filter_map(|line| {
            line.strip_prefix("heliograph_plugin_")?
                .strip_prefix(family)
        })
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_summed_by_its_whole_name() {
        let page = "# HELP heliograph_plugin_lost_total x\n\
            heliograph_plugin_lost_total{plugin=\"a\",reason=\"panic\"} 2\n\
            heliograph_plugin_lost_total{plugin=\"a\",reason=\"unload\"} 3\n\
            heliograph_plugin_lost_total_of_others 9\n\
            heliograph_plugin_predecessor_lost_total{plugin=\"a\"} 7\n";
        assert_eq!(sum(page, "lost_total"), 5);
        assert_eq!(sum(page, "predecessor_lost_total"), 7);
        assert_eq!(sum(page, "spill_bytes"), 0);
        let log = " INFO x\n WARN heliograph: the instance before was killed; 5 records were taken over from its memory, it had lost 31\n";
        assert_eq!((lost_before(log), lost_before("")), (Some(31), None));
    }
}
