//! `heliograph sql`: statements from the command line, a pipe or a prompt to any ClickHouse URL, a door's or a server's.
//!
//! [`script`] finds the statements in a text, [`client`] sends one and writes its answer as it comes, [`prompt`] reads them
//! from a person; [`samples`] are the queries that come with the program. What it deliberately does not do: formats of its
//! own (the server writes them), editing of results, the native protocol.

mod client;
mod prompt;
pub mod samples;
mod script;

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;

use client::{Client, Outcome};
use samples::Sample;

#[derive(Parser, Debug, Clone)]
#[command(
    name = "heliograph-sql",
    bin_name = "heliograph sql",
    version,
    about = "Asks the warehouse: one statement, a script on standard input, or a prompt",
    after_help = EXAMPLES
)]
pub struct Options {
    /// The statement; without one, standard input is read, or on a terminal a prompt opens
    pub statement: Option<String>,
    /// List the sample queries: name and title
    #[arg(long, conflicts_with_all = ["statement", "sample"])]
    pub samples: bool,
    /// Run a sample query; --param replaces its defaults
    #[arg(long, value_name = "NAME", value_parser = sample, conflicts_with = "statement")]
    pub sample: Option<&'static Sample>,
    /// Output format of the server: PrettyCompact, Vertical, CSVWithNames, JSON, JSONEachRow, Parquet …
    /// [default: PrettyCompact on a terminal, else TabSeparated]
    #[arg(short, long)]
    pub format: Option<String>,
    /// Where the door or the server listens
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_URL",
        default_value = "http://127.0.0.1:8123"
    )]
    pub url: String,
    #[arg(short, long, env = "HELIOGRAPH_SQL_USER", default_value = "default")]
    pub user: String,
    /// Better in the environment: arguments are visible to others of the machine
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    pub password: String,
    /// Database of names without one [default: the server's]
    #[arg(short, long, env = "HELIOGRAPH_SQL_DATABASE")]
    pub database: Option<String>,
    /// Value of {NAME:Type} in the statement
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub param: Vec<(String, String)>,
    /// A setting of the engine
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub setting: Vec<(String, String)>,
    /// Tell the time and what was read on standard error
    #[arg(short, long)]
    pub time: bool,
}

const EXAMPLES: &str = "\
Examples:
  heliograph sql 'SELECT slot, count() FROM transactions GROUP BY slot ORDER BY slot DESC LIMIT 5'
  heliograph sql -p owner=9xQe… 'SELECT … WHERE account = {owner:String}' --format JSONEachRow
  heliograph sql 'INSERT INTO labels FORMAT CSVWithNames' < labels.csv
  heliograph sql < report.sql
  heliograph sql --samples
  heliograph sql --sample transactions-of-an-address --param address=9xQe…

Ctrl-C ends the running statement on the server too. Exit codes: 0 done, 1 the server refused or broke off, 2 wrong usage,
130 ended by Ctrl-C.";

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

fn sample(name: &str) -> Result<&'static Sample, String> {
    Sample::find(name).ok_or_else(|| "there is no such sample; --samples lists them".to_owned())
}

/// Runs what the options ask for.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.samples {
        print!("{}", samples::list());
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = options.clone();
    if let Some(sample) = options.sample {
        options.statement = Some(sample.sql.to_owned());
        options.param = match sample.params(&options.param) {
            Ok(params) => params,
            Err(problem) => {
                eprintln!("error: {problem}");
                return Ok(ExitCode::from(2));
            }
        };
    }
    let options = &options;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let input_is_terminal = std::io::stdin().is_terminal();
    let output_is_terminal = std::io::stdout().is_terminal();
    let format = options.format.clone().unwrap_or_else(|| {
        let shape = if output_is_terminal {
            "PrettyCompact"
        } else {
            "TabSeparated"
        };
        shape.to_owned()
    });
    let client = Client::new(options, format)?;
    let outcome = match &options.statement {
        Some(statement) => {
            // Rows for an INSERT come from the pipe; another statement wants none.
            let rows = !input_is_terminal && script::wants_rows(statement);
            runtime.block_on(client.run(statement, rows, options.time))
        }
        None if input_is_terminal => return prompt::run(client, &runtime),
        None => {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .context("cannot read standard input")?;
            runtime.block_on(client.run_script(&text, options.time))
        }
    };
    Ok(match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Failed(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
        Outcome::Cancelled => {
            eprintln!("cancelled");
            ExitCode::from(130)
        }
    })
}
