//! `heliograph sql` and `heliograph warehouse`: hand over to the warehouse's own programs, with the address of the stack that
//! runs.

use std::process::{Command, ExitCode};

use anyhow::Context;
use local_services::workspace_binary;

use crate::layout::RunDir;

/// Where the program looks when no `--url` is given.
const URL: &str = "HELIOGRAPH_SQL_URL";

/// `program`: `heliograph-sql` or `warehouse-history`.
pub async fn run(dir: &RunDir, program: &str, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let program = workspace_binary(program);
    let mut command = Command::new(&program);
    command.args(arguments);
    if std::env::var_os(URL).is_none()
        && let Some(state) = dir.running()
    {
        command.env(URL, format!("http://127.0.0.1:{}", state.ports.clickhouse));
    }
    // Ctrl-C is for the statement: the terminal sends it to both, and this one only waits.
    let _waiting = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let status = command
        .status()
        .with_context(|| format!("{}: `./heliograph build` makes it", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
