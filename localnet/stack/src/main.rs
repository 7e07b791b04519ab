//! Heliograph on one machine: starts the real parts, shows them, and proves a run by counting.
//!
//! Reading order: `cli` (verbs), `up`, `stack` (the wiring), `source`, `service`, `once` (a run that ends by itself),
//! `report` (its verdict), `fidelity` (equal to the validator's RPC?), `live`, `verbs`; apart from these `plugin_check` and
//! `bench_validator`.
//!
//! It has no event logic of its own: what it counts it reads from the places where users read.

mod bench_validator;
mod canonical_watch;
mod cli;
mod clients;
mod compile;
mod configs;
mod count;
mod doctor;
mod fidelity;
mod layout;
mod live;
mod metrics;
mod once;
mod plugin_check;
mod progress;
mod report;
mod rpc;
mod service;
mod source;
mod stack;
mod traffic;
mod up;
mod verbs;
mod warehouse;
mod wire;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    cli::{Cli, PluginVerb, Verb},
    layout::RunDir,
    progress::Say,
};

fn main() -> ExitCode {
    end_quietly_when_the_reader_leaves();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

// `heliograph logs | head`: a closed pipe is the end of the work, not a fault.
fn end_quietly_when_the_reader_leaves() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to") && message.contains("Broken pipe") {
            std::process::exit(141);
        }
        usual(panic);
    }));
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Verb::Completions { shell } = cli.verb {
        clap_complete::generate(
            shell,
            &mut Cli::command(),
            "heliograph",
            &mut std::io::stdout(),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // On a validator's machine there is no repository.
    if let Verb::Plugin {
        verb: PluginVerb::Check(options),
    } = &cli.verb
    {
        return Ok(runtime.block_on(plugin_check::run(options)));
    }
    let repository = layout::repository()?;
    let root = cli.dir.unwrap_or_else(|| repository.join(".heliograph"));
    let say = Say::default();
    let dir = || RunDir::create(root.clone());
    match cli.verb {
        Verb::Up(options) => runtime.block_on(up::run(repository, root, options, &say)),
        Verb::Down => verbs::down(&dir()?).map(|()| ExitCode::SUCCESS),
        Verb::Status { json } => runtime
            .block_on(verbs::status(&dir()?, json))
            .map(|()| ExitCode::SUCCESS),
        Verb::Logs {
            service,
            follow,
            lines,
        } => verbs::logs(&dir()?, service.as_deref(), follow, lines).map(|()| ExitCode::SUCCESS),
        Verb::Sql { arguments } => {
            runtime.block_on(warehouse::run(&dir()?, "heliograph-sql", &arguments))
        }
        Verb::Warehouse { arguments } => {
            runtime.block_on(warehouse::run(&dir()?, "warehouse-history", &arguments))
        }
        Verb::Doctor { json } => {
            let fit = doctor::run(&dir()?, json)?;
            Ok(if fit {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Verb::Build { validator } => {
            compile::build(&repository, validator, &say).map(|()| ExitCode::SUCCESS)
        }
        Verb::Test { arguments } => compile::test(&repository, &arguments, &say),
        Verb::Bench {
            name,
            json,
            arguments,
        } => match name.as_deref() {
            // It needs the validator's build, which is this program's affair.
            Some("validator") => {
                runtime.block_on(bench_validator::run(root, json, &arguments, &say))
            }
            Some("warehouse") => compile::warehouse_bench(&repository, json, &arguments),
            name => compile::bench(&repository, name, json, &arguments),
        },
        Verb::Plugin { .. } | Verb::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}
