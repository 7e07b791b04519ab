//! The last line of every bench: what was measured, where, and whether each promise holds.

use std::{borrow::Cow, process::Command};

use serde::Serialize;
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub bench: &'static str,
    /// Of the working directory; null outside a clone.
    pub commit: Option<String>,
    pub machine: String,
    pub params: Value,
    pub figures: Map<String, Value>,
    pub checks: Vec<Check>,
}

/// A promise and its figure. A missed target is `ok: false`, not a failure of the bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub name: Cow<'static, str>,
    pub value: f64,
    pub op: &'static str,
    pub target: f64,
    pub ok: bool,
}

impl Check {
    pub fn at_least(name: impl Into<Cow<'static, str>>, value: f64, target: f64) -> Self {
        Self {
            name: name.into(),
            value,
            op: ">=",
            target,
            ok: value >= target,
        }
    }

    pub fn at_most(name: impl Into<Cow<'static, str>>, value: f64, target: f64) -> Self {
        Self {
            name: name.into(),
            value,
            op: "<=",
            target,
            ok: value <= target,
        }
    }
}

impl Report {
    pub fn new(bench: &'static str, mut params: Value) -> Self {
        // Figures of a development build say little about a deployed one, so the build is part of them.
        params["profile"] = json!(if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        });
        Self {
            bench,
            commit: commit(),
            machine: machine(),
            params,
            figures: Map::new(),
            checks: Vec::new(),
        }
    }

    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.into(), value.into());
    }
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.into());
    format!("{processor}, {cores} cores")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_reported_and_not_hidden() {
        assert!(Check::at_least("speed", 5.0, 5.0).ok);
        assert!(!Check::at_least("speed", 4.9, 5.0).ok);
        assert!(Check::at_most("time", 5.0, 5.0).ok);
        assert!(!Check::at_most("time", 5.1, 5.0).ok);
    }

    #[test]
    fn the_object_has_the_members_that_readers_expect() {
        let mut report = Report::new("replay", json!({"rounds": 1}));
        report.figure("seconds", 1.5);
        report.checks.push(Check::at_least("speed", 1.0, 2.0));
        let value = serde_json::to_value(&report).unwrap();
        for member in ["bench", "commit", "machine", "params", "figures", "checks"] {
            assert!(value.get(member).is_some(), "{member}");
        }
        assert_eq!(value["params"]["rounds"], 1);
        assert_eq!(value["figures"]["seconds"], 1.5);
        assert_eq!(
            value["checks"][0],
            json!({"name": "speed", "value": 1.0, "op": ">=", "target": 2.0, "ok": false})
        );
    }
}
