//! The bench `warehouse-door`: what the embedded engine costs before anybody asks it anything, and whether a backup is one.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use local_services::{Child, ChildSpec, free_port, provision, workspace_binary};
use serde_json::json;

use crate::report::{Check, Report};

const READY_SECONDS: f64 = 1.0;
const IDLE_MEBIBYTES: f64 = 300.0;
const START_LIMIT: Duration = Duration::from_secs(60);
/// Long enough for what a start leaves to do.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct DoorArgs {
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Starts, on an empty folder and on one with data, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rows of the table that is backed up and restored
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
}

struct Door {
    child: Child,
    port: u16,
    ready: Duration,
}

impl Door {
    fn start(dir: &Path, library: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = free_port();
        let config = dir.join("door.toml");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ndata_dir = {:?}\nlibrary = {library:?}\n[[users]]\nname = \"default\"\nrole = \"admin\"\n\
             [backup]\ndir = {:?}\n[host]\nadmin = \"127.0.0.1:0\"\n",
            dir.join("data"),
            dir.join("backups"),
        );
        std::fs::write(&config, text)?;
        let spec = ChildSpec::new(
            "warehouse-door",
            workspace_binary("warehouse-door"),
            dir.join("door.log"),
        )
        .arg("--config")
        .arg(&config);
        let started = Instant::now();
        let child = Child::spawn(spec)?;
        while ask(port, "SELECT 1").is_err() {
            ensure!(
                started.elapsed() < START_LIMIT,
                "the door did not answer within {START_LIMIT:?}; see {}",
                dir.join("door.log").display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            child,
            port,
            ready: started.elapsed(),
        })
    }

    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        ask(self.port, sql).with_context(|| sql.to_owned())
    }

    fn resident_mebibytes(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.pid()))?;
        let kibibytes: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("no VmRSS")?;
        Ok(kibibytes / 1024.0)
    }
}

fn ask(port: u16, sql: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{}", body.trim());
    Ok(body.trim().to_owned())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn run(args: &DoorArgs) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "--rounds 0 measures nothing");
    let library = provision::libchdb(&provision::Progress::quiet())?;
    let scratch = tempfile::Builder::new()
        .prefix("heliograph-bench-door-")
        .tempdir()?;
    let kept = scratch.path().join("kept");
    let (mut empty, mut full, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    let backup = backup_drill(&Door::start(&kept, &library)?, args.rows)?;
    for round in 0..args.rounds {
        let fresh = scratch.path().join(format!("fresh-{round}"));
        for (dir, seconds) in [(&fresh, &mut empty), (&kept, &mut full)] {
            let mut door = Door::start(dir, &library)?;
            seconds.push(door.ready.as_secs_f64());
            std::thread::sleep(SETTLE);
            resident.push(door.resident_mebibytes()?);
            door.child.stop(START_LIMIT);
        }
    }
    let most = resident.iter().copied().fold(0.0, f64::max);
    let mut report = Report::new(
        "warehouse-door",
        json!({"rounds": args.rounds, "rows": args.rows}),
    );
    let (empty, full) = (median(empty), median(full));
    report.figure("ready_seconds_empty", empty);
    report.figure("ready_seconds_with_data", full);
    report.figure("idle_resident_mebibytes_most", most);
    report.figure("backup_seconds", backup.backup_seconds);
    report.figure("restore_seconds", backup.restore_seconds);
    report.figure("rows_checksum", backup.checksum.clone());
    report.checks.extend([
        Check::at_most("ready_seconds_empty", empty, READY_SECONDS),
        Check::at_most("ready_seconds_with_data", full, READY_SECONDS),
        Check::at_most("idle_resident_mebibytes", most, IDLE_MEBIBYTES),
        Check::at_least(
            "restored_equals_backed_up",
            f64::from(u8::from(backup.equal)),
            1.0,
        ),
    ]);
    for check in &report.checks {
        let mark = if check.ok { "✓" } else { "✗" };
        println!(
            "{mark} {:<32}{:>12.3} {} {}",
            check.name, check.value, check.op, check.target
        );
    }
    println!(
        "backup {:.2} s, restore {:.2} s, {} rows",
        backup.backup_seconds, backup.restore_seconds, args.rows
    );
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

struct Backup {
    backup_seconds: f64,
    restore_seconds: f64,
    checksum: String,
    equal: bool,
}

fn backup_drill(door: &Door, rows: u64) -> anyhow::Result<Backup> {
    let content = "SELECT count(), sum(sipHash64(formatRow('RowBinary', *))) FROM heliograph.drill FORMAT TSV";
    door.ask("CREATE TABLE heliograph.drill (slot UInt64, signature FixedString(64), fee Nullable(UInt64)) ENGINE = ReplacingMergeTree ORDER BY slot")?;
    door.ask(&format!("INSERT INTO heliograph.drill SELECT number, randomFixedString(64), if(number % 7 = 0, NULL, number) FROM numbers({rows})"))?;
    let before = door.ask(content)?;
    let started = Instant::now();
    door.ask("BACKUP DATABASE heliograph TO File('drill')")?;
    let backup_seconds = started.elapsed().as_secs_f64();
    door.ask("DROP TABLE heliograph.drill SYNC")?;
    let started = Instant::now();
    door.ask("RESTORE TABLE heliograph.drill FROM File('drill')")?;
    let restore_seconds = started.elapsed().as_secs_f64();
    let after = door.ask(content)?;
    Ok(Backup {
        backup_seconds,
        restore_seconds,
        equal: before == after,
        checksum: after,
    })
}
