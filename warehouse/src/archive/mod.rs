//! `warehouse-archive`: slot ranges of the warehouse as Parquet files with a manifest, and back, both verified.
//!
//! An archive is a folder: `manifest.json` ([`manifest`]) and one folder per table with files of whole slots ([`plan`]).
//! Each file has its row count, its SHA-256, and a checksum of its rows as the engine reads them, so a restore proves that
//! the rows are the same and not only the bytes. [`export`] writes, [`restore`] verifies and reads back. Any ClickHouse URL
//! will do, a door's or a server's; no file lies on the server's machine.
//!
//! `retain` drops and moves old epochs by a policy ([`crate::retention`]): what an archive holds may go.
//!
//! What it deliberately does not do: tables without a slot (dictionaries, the sink's own books), which the engine's
//! `BACKUP` holds.

mod export;
pub(crate) mod manifest;
mod plan;
pub(crate) mod restore;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use clickhouse::Client;

use crate::sink::Store;

#[derive(Parser, Debug)]
#[command(
    name = "warehouse-archive",
    version,
    about = "Slot ranges of the warehouse as Parquet files with a manifest, and back, both verified"
)]
pub struct Options {
    #[command(flatten)]
    pub server: Server,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Args, Debug)]
pub struct Server {
    /// Where the door or the server listens
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_URL",
        default_value = "http://127.0.0.1:8123",
        global = true
    )]
    pub url: String,
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_USER",
        default_value = "default",
        global = true
    )]
    pub user: String,
    /// Better in the environment: arguments are visible to others of the machine
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_PASSWORD",
        default_value = "",
        hide_env_values = true,
        global = true
    )]
    pub password: String,
    #[arg(
        long,
        env = "HELIOGRAPH_SQL_DATABASE",
        default_value = "heliograph",
        global = true
    )]
    pub database: String,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Write an epoch, or a range of slots, into a folder that does not exist yet
    Export(Export),
    /// Check an archive's files against its manifest; no server is asked
    Verify { folder: PathBuf },
    /// Check an archive, read it back into tables that have no rows of those slots, and compare the rows
    Restore {
        folder: PathBuf,
        /// Also where rows of those slots are: equal keys collapse, and the comparison at the end decides
        #[arg(long)]
        into_existing: bool,
    },
    /// Drop and move old epochs as a policy file says; without --apply, only say what would be done
    Retain(crate::retention::Retain),
}

#[derive(Args, Debug)]
pub struct Export {
    pub folder: PathBuf,
    /// The epoch; needs --slots-per-epoch on clusters other than mainnet
    #[arg(long, required_unless_present = "from_slot", conflicts_with_all = ["from_slot", "to_slot"])]
    pub epoch: Option<u64>,
    #[arg(long, default_value_t = crate::retention::SLOTS_PER_EPOCH)]
    pub slots_per_epoch: u64,
    #[arg(long, requires = "to_slot")]
    pub from_slot: Option<u64>,
    /// The last slot of the range
    #[arg(long, requires = "from_slot")]
    pub to_slot: Option<u64>,
    /// Only these tables [default: every table with a column `slot`, but for rollups]
    #[arg(long)]
    pub table: Vec<String>,
    /// A file ends after the slot that reaches this many rows
    #[arg(long, default_value_t = 500_000)]
    pub rows_per_file: u64,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::default()
            .with_url(&self.url)
            .with_user(&self.user)
            .with_password(&self.password)
            .with_database(&self.database)
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.url, &self.database, &self.user, &self.password)
    }
}

/// What the engine says of rows, independent of their order and of the format: how many, and a sum over hashes of each
/// row's exact bytes, NULLs included.
const CONTENT: &str = "count(), toString(sum(sipHash64(formatRow('RowBinary', *))))";

/// As FINAL on every table that collapses rows, and nothing on those that do not.
const COLLAPSED: (&str, &str) = ("final", "1");

/// Rows and their checksum in the slots of `table`, duplicates collapsed.
pub(crate) async fn content(
    client: &Client,
    table: &str,
    from: u64,
    to: u64,
) -> anyhow::Result<(u64, String)> {
    let sql = format!(
        "SELECT {CONTENT} FROM {} WHERE slot BETWEEN ? AND ?",
        crate::engine::quote_identifier(table)
    );
    client
        .query(&sql)
        .bind(from)
        .bind(to)
        .with_setting(COLLAPSED.0, COLLAPSED.1)
        .fetch_one()
        .await
        .with_context(|| format!("table {table}"))
}

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let client = options.server.client();
    let store = options.server.store();
    match &options.verb {
        Verb::Export(export) => runtime.block_on(export::export(&client, export))?,
        Verb::Verify { folder } => {
            let manifest = manifest::Manifest::read(folder)?;
            manifest.verify_files(folder)?;
            println!(
                "{} files are as their manifest says",
                manifest.files().count()
            );
        }
        Verb::Restore {
            folder,
            into_existing,
        } => runtime.block_on(restore::restore(&client, &store, folder, *into_existing))?,
        Verb::Retain(retain) => {
            return runtime.block_on(crate::retention::retain(&client, &store, retain));
        }
    }
    Ok(ExitCode::SUCCESS)
}
