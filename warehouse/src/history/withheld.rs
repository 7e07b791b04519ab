//! What earlier runs left withheld from the views of final rows.

use serde::Deserialize;

use super::{
    audit::is_whole,
    shelf::{self, Range},
};
use crate::{
    in_work::InWork,
    sink::{Store, StoreError},
};

#[derive(clickhouse::Row, Deserialize)]
struct Told {
    work: String,
    first_slot: u64,
    last_slot: u64,
}

/// What names of redecodes in `slots_in_work` begin with: their slots have all transactions, and lack what is decoded of them.
pub const REDECODE: &str = "redecode-";

/// Ends what an earlier run did not, where its slots are whole by now. Returns how many slots are still withheld.
pub async fn end_what_is_whole(store: &Store) -> Result<u64, StoreError> {
    let told: Vec<Told> = store
        .fetch(&format!(
            "SELECT work, first_slot, last_slot FROM slots_in_work FINAL WHERE NOT ended AND NOT startsWith(work, '{REDECODE}')"
        ))
        .await?;
    let mut withheld = 0;
    for Told {
        work,
        first_slot: from,
        last_slot: to,
    } in told
    {
        let range = Range { from, to };
        let shelf = shelf::look(store, range).await?;
        let whole = shelf.values().filter(|stored| is_whole(stored)).count() as u64;
        if whole == range.slots() {
            InWork::of(work, vec![(from, to)]).end(store).await?;
        } else {
            withheld += range.slots() - whole;
        }
    }
    Ok(withheld)
}
