//! `plugin check`: can this validator load this plugin with this configuration? Nothing is loaded or run to find out.
//!
//! ```text
//! validator, plugin ─▶ binaries (compiler, boundary crates, constructor) ─┐
//! plugin ─▶ linking (libraries, symbol versions, symbols)                 ├─▶ findings ─▶ lines or JSON, exit code
//! configuration ─▶ surroundings, storage, kafka ───────────────────────────┘
//! ```
//!
//! What it cannot know: compiler flags and crate features, and what the validator's process will have for environment.

mod binaries;
mod finding;
mod kafka;
mod linking;
mod storage;
mod surroundings;

use std::process::ExitCode;

use geyser_plugin::{config::Config, constructor::EXIT_REFUSED};

use crate::cli::PluginCheck;
use finding::{Finding, Verdict};

/// Prints what it finds. Success only when nothing fails.
pub async fn run(options: &PluginCheck) -> ExitCode {
    let findings = examine(options).await;
    let fits = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fail);
    if options.json {
        println!("{}", serde_json::json!({"ok": fits, "findings": findings}));
    } else {
        for finding in &findings {
            println!("{finding}");
        }
        println!("{}", conclusion(&findings));
    }
    if fits {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_REFUSED as u8)
    }
}

async fn examine(options: &PluginCheck) -> Vec<Finding> {
    let mut findings = binaries::examine(&options.validator, &options.plugin);
    findings.extend(linking::examine(&options.plugin));
    // Folders in the file are relative to it, and the validator may be started elsewhere.
    let file = std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    match Config::load(&file) {
        Ok(config) => {
            findings.push(Finding::ok(
                "configuration",
                format!("{}: every key known", file.display()),
            ));
            findings.push(surroundings::library(&config, &file, &options.plugin));
            findings.push(storage::queue(&config));
            findings.push(storage::spill(&config));
            findings.push(surroundings::metrics(&config).await);
            findings.extend(kafka::examine(&config).await);
        }
        Err(error) => findings.push(Finding::fail(
            "configuration",
            format!("{}: {}", error.file, error.problem),
            error.fix,
        )),
    }
    findings
}

fn conclusion(findings: &[Finding]) -> String {
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => "the validator can load the plugin".to_owned(),
        (0, warnings) => format!("the validator can load the plugin; {warnings} to look at"),
        (failures, _) => format!("do not load the plugin: {failures} of these checks failed"),
    }
}
