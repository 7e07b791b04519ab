//! The verbs and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "heliograph",
    version,
    about = "Heliograph on one machine: real Kafka, PostgreSQL, ClickHouse engine, a source, and every service"
)]
pub struct Cli {
    /// Run directory: data, generated configuration, logs [default: .heliograph in the repository]
    #[arg(long, global = true, env = "HELIOGRAPH_DIR")]
    pub dir: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Start everything and show it live; Ctrl-C drains
    Up(Up),
    /// Drain and stop the stack that runs in the run directory
    Down,
    /// What runs, and whether it is ready
    Status {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show the services' logs
    Logs {
        /// kafka, postgres, door, source, router, … [default: all]
        service: Option<String>,
        /// Go on as they grow
        #[arg(short, long)]
        follow: bool,
        /// Lines of each log to begin with
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
    },
    /// Check this machine: programs, cache, ports, disk
    Doctor {
        #[arg(long)]
        json: bool,
    },
    /// Fetch what is missing and build; the script has built the services by then
    Build {
        /// The Agave validator as well (about 26 CPU-minutes once)
        #[arg(long)]
        validator: bool,
    },
    /// The whole test suite
    Test {
        /// Passed on to `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a benchmark; without a name, list them. Also `validator` (a real one, with the plugin and without) and `warehouse`
    Bench {
        name: Option<String>,
        /// The last line is one JSON object
        #[arg(long)]
        json: bool,
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ask the warehouse: one statement, a script on standard input, or a prompt; `sql --help` tells the options
    #[command(disable_help_flag = true)]
    Sql {
        /// Passed on to `heliograph-sql`; the address is that of the stack that runs, unless one is named
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Past blocks of the warehouse: backfill, verify, redecode; `warehouse --help` tells the options
    #[command(disable_help_flag = true)]
    Warehouse {
        /// Passed on to `warehouse-history`; the address is that of the stack that runs, unless one is named
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// For validator operators: examine a plugin before it is loaded
    Plugin {
        #[command(subcommand)]
        verb: PluginVerb,
    },
    /// Shell completion on standard output
    Completions { shell: clap_complete::Shell },
}

#[derive(Args, Clone, Debug)]
pub struct Up {
    /// `validator`, or `blocks` with a folder [default: the validator when it has been built, else the shipped blocks]
    #[arg(long, num_args = 1..=2, value_names = ["KIND", "DIR"])]
    pub source: Vec<String>,
    /// End by itself when the source is through everything; exit 0 only if every count agrees
    #[arg(long)]
    pub once: bool,
    /// With `--once` and the validator: how many slots to watch
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub slots: u64,
    /// With `--once`: write the JSON report here
    #[arg(long, value_name = "FILE", requires = "once")]
    pub report: Option<PathBuf>,
    /// Take free ports instead of the documented ones
    #[arg(long)]
    pub free_ports: bool,
    /// With `--once`: give up when nothing has moved for this many seconds
    #[arg(long, default_value_t = 90)]
    pub patience_seconds: u64,
    /// With `--once`: leave the router alone instead of killing and restarting it in the middle
    #[arg(long)]
    pub no_kill: bool,
    /// With the validator, without `--once`: drive no transactions at it
    #[arg(long, conflicts_with = "once")]
    pub no_traffic: bool,
    /// With `--once`: keep the run's data and logs
    #[arg(long)]
    pub keep: bool,
}

#[derive(Subcommand)]
pub enum PluginVerb {
    /// Say whether a validator can load a plugin with a configuration; nothing is loaded to find out
    ///
    /// Compares the two files (rustc, versions of the crates whose types cross the boundary, machine), looks for the
    /// libraries, symbol versions and symbols that the plugin needs, and checks the configuration: its keys, `libpath`, the
    /// spill's folder and disk, the metrics address, Kafka and its topics. Run it on the validator's machine, as the
    /// validator's user.
    #[command(after_help = EXIT_CODES)]
    Check(PluginCheck),
}

const EXIT_CODES: &str = "\
Every line begins with OK, WARN (loads, but look) or FAIL (do not load) and ends with the fix.

Exit codes:
  0   nothing fails
  78  something fails (EX_CONFIG; the plugin itself ends with it when it refuses its host)
  2   wrong usage";

#[derive(Args, Clone, Debug)]
pub struct PluginCheck {
    /// The validator's executable
    #[arg(long, value_name = "PATH")]
    pub validator: PathBuf,
    /// The plugin's shared library
    #[arg(long, value_name = "PATH")]
    pub plugin: PathBuf,
    /// The file given to the validator's --geyser-plugin-config
    #[arg(long, value_name = "PATH")]
    pub config: PathBuf,
    /// One JSON object instead of lines: {"ok", "findings": [{"what", "verdict", "detail", "fix"}]}
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_benchs_name_is_passed_on_with_or_without_dashes() {
        for words in [
            ["bench", "validator", "--rounds", "2", "--json"].as_slice(),
            &["bench", "validator", "--json", "--rounds", "2"],
            &["bench", "--json", "validator", "--", "--rounds", "2"],
        ] {
            let cli = Cli::try_parse_from(std::iter::once(&"heliograph").chain(words)).unwrap();
            let Verb::Bench {
                name,
                json,
                arguments,
            } = cli.verb
            else {
                panic!("{words:?}");
            };
            assert_eq!(name.as_deref(), Some("validator"));
            assert!(
                json || arguments.contains(&"--json".to_owned()),
                "{words:?}"
            );
            let passed: Vec<_> = arguments.iter().filter(|word| *word != "--json").collect();
            assert_eq!(passed, ["--rounds", "2"], "{words:?}");
        }
    }
}
