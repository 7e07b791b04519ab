//! `heliograph bench warehouse NAME [--json]`: the warehouse's measurements. An example, so that what only measurement needs
//! (the reader of recorded blocks, Agave's parser) stays out of what operators deploy.

mod bytes;
mod crash;
mod decode;
#[path = "../../tests/decode_proof/mod.rs"]
mod decode_proof;
mod fresh;
mod ingest;
mod queries;
mod stored;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use decode_proof::recorded;

#[derive(Parser)]
#[command(name = "heliograph bench warehouse", about = "Measures the warehouse")]
struct Arguments {
    #[command(subcommand)]
    name: Name,
    /// End with one JSON object on the last line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Name {
    /// The decoders over recorded transactions: coverage per program, conservation, equality with independent references
    Decode(Data),
    /// Bytes on disk per transaction and column, beside a plain schema of the same rows in the same engine
    Bytes(Data),
    /// Rows per second of processor time into the same table: our Native blocks, RowBinary, JSONEachRow
    Ingest {
        #[command(flatten)]
        data: Data,
        /// Rows per round and format
        #[arg(long, default_value_t = 400_000)]
        rows: usize,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Rows per insert
        #[arg(long, default_value_t = 50_000)]
        batch: usize,
    },
    /// Answers by signature, by account, of a day and of a pool, over transfers made from the recorded blocks
    Queries {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        options: queries::Options,
    },
    /// Sink, door and broker are killed again and again: is every row there once, and nothing of abandoned blocks
    Crash {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        options: crash::Options,
    },
    /// From a transaction's callback in the validator until its row is queryable, at a rate, through all the real processes
    Fresh {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        options: fresh::Options,
    },
}

/// What is measured on.
#[derive(Args)]
struct Data {
    /// Folder of recorded blocks and transactions [default: $HELIOGRAPH_DATA, else the blocks the repository carries]
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Data {
    fn folder(self) -> PathBuf {
        self.data.or_else(recorded::data_folder).unwrap_or_else(|| {
            eprintln!("HELIOGRAPH_DATA is not set: only the repository's own blocks are read");
            recorded::carried()
        })
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.name {
        Name::Decode(data) => decode::run(&data.folder(), arguments.json),
        Name::Bytes(data) => bytes::run(&data.folder(), arguments.json),
        Name::Ingest {
            data,
            rows,
            rounds,
            batch,
        } => ingest::run(&data.folder(), (rows, rounds, batch), arguments.json),
        Name::Queries { data, options } => queries::run(&data.folder(), &options, arguments.json),
        Name::Crash { data, options } => crash::run(&data.folder(), &options, arguments.json),
        Name::Fresh { data, options } => fresh::run(&data.folder(), &options, arguments.json),
    }
}
