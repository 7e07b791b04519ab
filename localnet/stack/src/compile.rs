//! The verbs that build and test, for what the script cannot do in a line.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use local_services::provision;

use crate::{clients, layout, progress::Say, stack};

/// Fetches everything and, when asked, builds the validator.
pub fn build(repository: &Path, validator: bool, say: &Say) -> anyhow::Result<()> {
    stack::provision_all(say)?;
    if validator {
        build_validator(repository, say)?;
    }
    say.line("built");
    Ok(())
}

/// Builds the validator in its own target directory, where it stays. Costs a moment when nothing has changed.
pub fn build_validator(repository: &Path, say: &Say) -> anyhow::Result<()> {
    if layout::validator_binary().is_none() {
        say.line(
            "building the Agave 4.2.2 validator: about 26 CPU-minutes and 3 GiB of disk, once; the result stays in the cache",
        );
    }
    let rocksdb = provision::rocksdb(&say.provisioning())?;
    let status = Command::new("cargo")
        .args(["build", "-p", "localnet-validator"])
        .current_dir(repository)
        .env("ROCKSDB_LIB_DIR", rocksdb)
        .env("CARGO_TARGET_DIR", layout::validator_target())
        .status()
        .context("could not run cargo")?;
    if !status.success() {
        bail!("the validator was not built (cargo ended with {status}); the lines above say why");
    }
    Ok(())
}

/// The whole suite. The script has built everything, tests included; the last lines are the runner's own.
pub fn test(repository: &Path, arguments: &[String], say: &Say) -> anyhow::Result<ExitCode> {
    stack::provision_all(say)?;
    if layout::validator_binary().is_some()
        || std::env::var("HELIOGRAPH_VALIDATOR").is_ok_and(|value| value == "build")
    {
        build_validator(repository, say)?;
        clients::provision(repository, say)?;
    } else {
        say.line(
            "skipped: the tests on the real validator, which is not built (`./heliograph build --validator`, or set HELIOGRAPH_VALIDATOR=build)",
        );
    }
    if std::env::var_os("HELIOGRAPH_DATA").is_none() {
        say.line(
            "skipped: the tests on recorded mainnet blocks, because HELIOGRAPH_DATA names no folder with them",
        );
    }
    let status = Command::new("cargo")
        .args(["nextest", "run"])
        .args(arguments)
        .current_dir(repository)
        .env("HELIOGRAPH_ROOT", repository)
        .status()
        .context(
            "could not run `cargo nextest`; `cargo install cargo-nextest --locked` provides it",
        )?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds in the release profile: a figure of a development build says little. One command for all packages, so that all have
/// the same features and nothing is compiled twice.
fn build_release(repository: &Path, packages: &[&str], targets: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|name| ["-p", name]))
        .args(targets)
        .current_dir(repository)
        .status()
        .context("could not run cargo")?;
    if !status.success() {
        bail!("the release build failed (cargo ended with {status}); the lines above say why");
    }
    Ok(())
}

/// Hands over to the program of the crate `bench`, which knows the names. Built first: about 10 minutes the first time.
pub fn bench(
    repository: &Path,
    name: Option<&str>,
    json: bool,
    arguments: &[String],
) -> anyhow::Result<ExitCode> {
    let mut packages = vec!["bench", "geyser-plugin", "stream-router"];
    if name == Some("warehouse-door") {
        // Only here: its prompt changes the features of crates that everything else is built on.
        packages.push("warehouse");
    }
    let targets = ["--lib", "--bins", "--example", "allocation_counter"];
    build_release(repository, &packages, &targets)?;
    let mut command = Command::new(release("heliograph-bench")?);
    match name {
        Some(name) => command.arg(name),
        None => command.arg("--help"),
    };
    let code = measured(command, json, arguments)?;
    if name.is_none() {
        println!(
            "\nand, by `./heliograph bench`:\n  validator  A real validator with the plugin and without it, in turns\n  warehouse  The warehouse's own; `warehouse help` lists them"
        );
    }
    Ok(code)
}

/// Hands over to the warehouse's own measurements: the crate `bench` depends on no service.
pub fn warehouse_bench(
    repository: &Path,
    json: bool,
    arguments: &[String],
) -> anyhow::Result<ExitCode> {
    let targets = ["--lib", "--bins", "--example", "warehouse_bench"];
    let mut packages = vec!["warehouse"];
    if arguments.iter().any(|argument| argument == "fresh") {
        // It drives the whole way.
        packages.extend(["geyser-plugin", "stream-router"]);
    }
    build_release(repository, &packages, &targets)?;
    let program = release("examples/warehouse_bench")?;
    measured(Command::new(program), json, arguments)
}

/// A program of the release build, beside this one's.
fn release(name: &str) -> anyhow::Result<PathBuf> {
    let development = local_services::workspace_binary("heliograph-bench");
    let target = development.parent().and_then(Path::parent);
    Ok(target
        .context("a program outside of a target directory builds no benchmarks")?
        .join("release")
        .join(name))
}

/// In the caller's folder, so that paths among the arguments are the caller's.
fn measured(mut command: Command, json: bool, arguments: &[String]) -> anyhow::Result<ExitCode> {
    if json {
        command.arg("--json");
    }
    let status = command
        .args(arguments)
        .status()
        .with_context(|| command.get_program().to_string_lossy().into_owned())?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
