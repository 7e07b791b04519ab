//! The verbs that look at a stack that another process runs.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    doctor,
    layout::{RunDir, State},
    live, service,
};

fn running(dir: &RunDir) -> anyhow::Result<State> {
    match dir.running() {
        Some(state) => Ok(state),
        None => bail!(
            "nothing runs in {}; start it by `./heliograph up` (or name its folder by --dir)",
            dir.root.display()
        ),
    }
}

/// Asks the process of `up` to drain and waits until it is gone.
pub fn down(dir: &RunDir) -> anyhow::Result<()> {
    let state = running(dir)?;
    let Some(pid) = Pid::from_raw(state.pid as i32) else {
        bail!("{}: no process id in state.json", dir.root.display());
    };
    kill_process(pid, Signal::TERM)?;
    println!("draining the stack of process {}", state.pid);
    let begin = Instant::now();
    while dir.running().is_some() {
        if begin.elapsed() > Duration::from_secs(120) {
            bail!(
                "process {} still runs after 120 s; `kill -9 {}` ends it and everything it started",
                state.pid,
                state.pid
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("stopped");
    Ok(())
}

/// Readiness of every service and one look at the stream.
pub async fn status(dir: &RunDir, as_json: bool) -> anyhow::Result<()> {
    let state = running(dir)?;
    let client = reqwest::Client::new();
    let mut rows = Vec::new();
    for note in &state.services {
        let (ready, says) = match (note.admin, note.name.as_str()) {
            (Some(admin), _) => service::probe(&client, admin, "readyz").await,
            (None, "kafka") => (doctor::listens(state.ports.kafka), String::new()),
            (None, "postgres") => (doctor::listens(state.ports.postgres), String::new()),
            (None, _) => (
                Path::new(&format!("/proc/{}", note.pid)).exists(),
                String::new(),
            ),
        };
        rows.push((note, ready, says));
    }
    let look = live::look(&client, &state.ports, None).await;
    if as_json {
        let services: Vec<_> = rows
            .iter()
            .map(|(note, ready, says)| json!({"name": note.name, "pid": note.pid, "ready": ready, "says": says, "log": note.log}))
            .collect();
        println!(
            "{}",
            json!({
                "source": state.source,
                "services": services,
                "ports": state.ports,
                "slot": look.validator_slot.or(look.canonical_slot),
                "warehouse_transactions": look.warehouse_rows,
                "ledger_transactions": look.ledger_transactions,
                "ledger_balanced": look.ledger_balanced,
            })
        );
        return Ok(());
    }
    println!("source: {}", state.source);
    for (note, ready, says) in rows {
        let mark = if ready { "✓" } else { "✗" };
        let says = if ready { String::new() } else { says };
        println!(
            "{mark} {:<16} process {:<8} {} {says}",
            note.name,
            note.pid,
            note.log.display()
        );
    }
    println!("{}", live::line(&look, None, None));
    Ok(())
}

/// The end of the services' logs, and what follows if wanted.
pub fn logs(dir: &RunDir, wanted: Option<&str>, follow: bool, lines: usize) -> anyhow::Result<()> {
    let mut files = log_files(dir);
    if let Some(wanted) = wanted {
        let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        files.retain(|(name, _)| name.contains(wanted));
        if files.is_empty() {
            bail!(
                "no service {wanted:?} has a log in {}; there are: {}",
                dir.root.display(),
                names.join(", ")
            );
        }
    }
    let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut positions = Vec::new();
    for (name, path) in &files {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        for line in &all[all.len().saturating_sub(lines)..] {
            println!("{name:<width$} | {line}");
        }
        positions.push(text.len() as u64);
    }
    while follow {
        for ((name, path), position) in files.iter().zip(&mut positions) {
            let fresh = read_from(path, *position).unwrap_or_default();
            // Whole lines only; the rest is read again next time.
            let Some(end) = fresh.rfind('\n') else {
                continue;
            };
            for line in fresh[..end].lines() {
                println!("{name:<width$} | {line}");
            }
            *position += end as u64 + 1;
        }
        std::io::stdout().flush()?;
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn log_files(dir: &RunDir) -> Vec<(String, std::path::PathBuf)> {
    if let Some(state) = dir.load() {
        return state
            .services
            .into_iter()
            .map(|note| (note.name, note.log))
            .collect();
    }
    // The stack is down: what its services left.
    let mut files: Vec<_> = std::fs::read_dir(dir.root.join("logs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .chain([
            dir.data("kafka").join("kafka.log"),
            dir.data("door").join("door.log"),
            dir.data("postgres").join("postgres.log"),
        ])
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            (name, path)
        })
        .collect();
    files.sort();
    files
}

fn read_from(path: &Path, position: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
