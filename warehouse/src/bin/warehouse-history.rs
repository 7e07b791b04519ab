use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let options = warehouse::history::Options::parse();
    warehouse::history::run(&options).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
