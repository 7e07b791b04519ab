//! Is this machine fit to run the stack? One line per thing, each with its fix.

use std::process::Command;

use local_services::{cache_dir, port_in_use, provision};
use serde::Serialize;

use crate::layout::{self, Ports, RunDir};

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub what: String,
    pub ok: bool,
    pub detail: String,
    /// Empty when there is nothing to do.
    pub fix: String,
}

fn finding(what: &str, ok: bool, detail: String, fix: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        ok,
        detail,
        fix: if ok { String::new() } else { fix.to_owned() },
    }
}

/// Prints what it finds; whether everything needed is there.
pub fn run(dir: &RunDir, json: bool) -> anyhow::Result<bool> {
    let findings = examine(dir);
    let fit = findings.iter().all(|finding| finding.ok);
    if json {
        println!("{}", serde_json::json!({"ok": fit, "findings": findings}));
        return Ok(fit);
    }
    for finding in &findings {
        let mark = if finding.ok { "✓" } else { "✗" };
        println!("{mark} {:<28} {}", finding.what, finding.detail);
        if !finding.fix.is_empty() {
            println!("  → {}", finding.fix);
        }
    }
    Ok(fit)
}

fn examine(dir: &RunDir) -> Vec<Finding> {
    let mut findings = vec![toolchain()];
    for package in provision::packages() {
        findings.push(finding(
            package.program,
            package.present,
            package.purpose.to_owned(),
            &format!(
                "`./heliograph up` installs it (package {})",
                package.package
            ),
        ));
    }
    let cache = cache_dir();
    for (what, file) in [
        ("Kafka 4.4.0", "kafka-4.4.0/libs/kafka_2.13-4.4.0.jar"),
        ("ClickHouse engine 26.7.3", "libchdb-26.7.3/libchdb.so"),
    ] {
        let file = cache.join(file);
        findings.push(finding(
            what,
            file.is_file(),
            file.display().to_string(),
            "`./heliograph up` fetches it",
        ));
    }
    findings.push(match layout::validator_binary() {
        Some(binary) => finding("Agave validator", true, binary.display().to_string(), ""),
        // Not needed: recorded blocks take its place.
        None => finding(
            "Agave validator",
            true,
            "not built (optional): `./heliograph build --validator`".to_owned(),
            "",
        ),
    });
    findings.push(ports(dir));
    findings.push(disk(&cache));
    findings.push(memory());
    findings
}

fn toolchain() -> Finding {
    let version = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    finding(
        "rustc 1.95.0",
        version.contains("1.95.0"),
        version,
        "plugin and validator must share this compiler: `rustup toolchain install 1.95.0`",
    )
}

fn ports(dir: &RunDir) -> Finding {
    if let Some(state) = dir.running() {
        return finding(
            "ports",
            true,
            format!("this stack runs (process {})", state.pid),
            "",
        );
    }
    match Ports::DOCUMENTED.check(true) {
        Ok(()) => finding("ports", true, "all free".to_owned(), ""),
        Err(error) => finding(
            "ports",
            false,
            error.to_string(),
            "free them, or use `up --free-ports`",
        ),
    }
}

fn disk(cache: &std::path::Path) -> Finding {
    let existing = cache.ancestors().find(|dir| dir.exists()).unwrap_or(cache);
    let gigabytes =
        rustix::fs::statvfs(existing).map_or(0, |stat| stat.f_bavail * stat.f_frsize / (1 << 30));
    finding(
        "disk",
        gigabytes >= 15,
        format!("{gigabytes} GiB free at {}", existing.display()),
        "builds and data need about 15 GiB: free some, or set HELIOGRAPH_CACHE to another disk",
    )
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let megabytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes / 1024);
    finding(
        "memory",
        megabytes >= 4096,
        format!("{megabytes} MiB available"),
        "the stack needs about 4 GiB: close other programs",
    )
}

/// Whether the documented port answers; used by `status` for services that are not ours.
pub fn listens(port: u16) -> bool {
    port_in_use(port)
}
