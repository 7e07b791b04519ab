//! `warehouse-archive retain`: old epochs are dropped, or moved to a cold volume, as a policy file says.
//!
//! ```text
//! policy file ─▶ policy ┐
//! tables ─▶ state ──────┼─▶ plan (pure) ─▶ deeds ─▶ journal, then the partition
//! archives ─▶ proof ────┘
//! ```
//!
//! * A partition goes whole or not at all: it is an epoch of a table.
//! * It goes when an archive was just found to hold exactly its rows, and nothing came in since.
//! * The journal says so before it goes: whoever misses the rows learns that it was meant. A run that was killed is ended by
//!   the next.
//! * Never touched: the epoch of the newest final slot and beyond, and epochs with a slot that is not decided.
//!
//! What it deliberately does not do: rows by their age, parts of an epoch, exports (a separate step, so that archives can be
//! copied elsewhere first).

mod deeds;
mod journal;
mod plan;
mod policy;
mod proof;
mod report;
mod state;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Args;
use clickhouse::Client;

use crate::{history::schema_is_current, sink::Store};
use deeds::Doer;
use plan::{Proof, Reason};
use policy::Policy;
use proof::Archives;
use report::Report;

pub(crate) use journal::{Dropped, advance, exists, notes};
pub(crate) use plan::{Note, NoteState, Place, SLOTS_PER_EPOCH, epoch_of};

#[derive(Args, Debug)]
pub struct Retain {
    /// The policy file (TOML): keep_epochs, cold_after_epochs, archive, require_archive, in [default] and [tables.NAME]
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Do it. Without, only say what would be done
    #[arg(long)]
    pub apply: bool,
    /// End with one JSON object on the last line
    #[arg(long)]
    pub json: bool,
}

pub async fn retain(client: &Client, store: &Store, options: &Retain) -> anyhow::Result<ExitCode> {
    let policy = Policy::read(&options.policy)?;
    schema_is_current(store).await?;
    let tables = state::tables(store).await?;
    policy.check_tables(&tables.keys().cloned().collect())?;
    let cold_disks = state::cold_disks(store, &policy).await?;
    ensure!(
        !state::is_redecoding(store).await?,
        "a redecode is under way or broke off, and holds rows in redecode_staging: let it end, or repeat it, then come again"
    );
    let state = state::read(store, tables.keys(), &cold_disks).await?;
    let mut report = Report::new(options.apply, state.finalized);
    let mut archives = Archives::default();
    let mut doer = Doer {
        store,
        policy: &policy,
        storage_policies: tables,
        cold_disks,
    };
    for mut decision in plan::plan(&policy, &state, |_| Proof::Unknown) {
        let place = decision.place.clone();
        if decision.reason == Some(Reason::NotProven)
            && let Some(partition) = state.partitions.get(&place)
            && let Some(root) = policy.rules(&place.table).archive
        {
            eprintln!(
                "comparing epoch {} of {} with its archive",
                place.epoch, place.table
            );
            let note = state.notes.get(&place);
            // What comes in from here on is noticed before the partition goes.
            let proof = archives.prove(client, &root, &place, partition, note).await;
            decision = plan::decide(&policy, &state, &place, partition, proof);
        }
        if options.apply {
            decision = doer.execute(decision, &state).await?;
        }
        report.tell(decision);
    }
    Ok(report.end(options.json))
}
