//! Everything wrong in a range, told and, on request, repaired.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{
    LEFT_TO_THE_STREAM, Outcome, Verify,
    audit::{Finding, audit},
    fill::{Filler, fetch_all},
    shelf, source, withheld,
};
use crate::{
    decode::idl::Idls,
    retention::Dropped,
    sink::{BlockRows, Store},
};

/// Findings told one by one; the rest is counted.
const TOLD: usize = 100;
const LEFT: &str = "of an epoch that the policy dropped from other tables: restore it from its archive, or fetch it whole by backfill --refetch-dropped";

pub async fn verify(store: &Store, options: &Verify, idls: Idls) -> anyhow::Result<Outcome> {
    let range = options.span.range()?;
    if let Some(newest) = shelf::newest(store).await?
        && range.to > newest.saturating_sub(LEFT_TO_THE_STREAM)
    {
        eprintln!(
            "slots behind {} may still be on their way: the stream has stored slot {newest}",
            newest.saturating_sub(LEFT_TO_THE_STREAM)
        );
    }
    let nodes = options.rpc.nodes()?;
    let chain = match options.rpc.urls.is_empty() {
        true => None,
        false => Some(source::listed(&nodes, range).await?),
    };
    let dropped = shelf::dropped(store, range).await?;
    let found = audit(
        &shelf::look(store, range).await?,
        chain.as_ref(),
        range,
        &dropped,
    );
    let mut left = found.clone();
    let mut failed = Vec::new();
    if options.repair
        && let Some(chain) = &chain
        && !found.is_empty()
    {
        failed = repair(store, options, idls, &nodes, &found, chain, &dropped).await?;
        left = audit(
            &shelf::look(store, range).await?,
            Some(chain),
            range,
            &dropped,
        );
    }
    let blocks = chain.as_ref().map(BTreeSet::len);
    let mut text = match blocks {
        Some(blocks) => format!(
            "slots {} to {}: {blocks} finalized blocks on the chain; {} findings",
            range.from,
            range.to,
            found.len()
        ),
        None => format!(
            "slots {} to {}: no node was asked, so a block that nothing names is not missed; {} findings",
            range.from,
            range.to,
            found.len()
        ),
    };
    for (epoch, tables) in dropped.epochs() {
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        text += &format!(
            "\nepoch {epoch}: dropped by policy, and not looked for: {}",
            tables.join(", ")
        );
    }
    for finding in found.iter().take(TOLD) {
        text += &format!("\n{finding}");
    }
    if found.len() > TOLD {
        text += &format!("\n… and {} more", found.len() - TOLD);
    }
    for (slot, reason) in &failed {
        text += &format!("\nslot {slot}: not repaired: {reason}");
    }
    if options.repair {
        text += &format!("\nafter the repair: {} findings", left.len());
    }
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for finding in &found {
        *kinds.entry(finding.kind()).or_default() += 1;
    }
    let slots: Vec<_> = found
        .iter()
        .take(TOLD)
        .map(|finding| json!({"slot": finding.slot(), "finding": finding.kind(), "text": finding.to_string()}))
        .collect();
    let dropped_by_policy: Vec<_> = dropped
        .epochs()
        .map(|(epoch, tables)| json!({"epoch": epoch, "tables": tables}))
        .collect();
    Ok(Outcome {
        text,
        json: json!({
            "from": range.from,
            "to": range.to,
            "blocks_on_chain": blocks,
            "findings": found.len(),
            "by_kind": kinds,
            "slots": slots,
            "left": left.len(),
            "failed": failed.len(),
            "dropped_by_policy": dropped_by_policy,
        }),
        well: left.is_empty() && failed.is_empty(),
    })
}

/// Rows of blocks that are not on the chain go; the others are fetched. Gives back what could not be repaired.
async fn repair(
    store: &Store,
    options: &Verify,
    idls: Idls,
    nodes: &chain_blocks::rpc::Nodes,
    found: &[Finding],
    chain: &BTreeSet<u64>,
    dropped: &Dropped,
) -> anyhow::Result<Vec<(u64, String)>> {
    let (mut foreign, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for finding in found {
        match finding {
            Finding::NotOnChain { slot } if !chain.contains(slot) => {
                foreign.insert(*slot);
            }
            // The block whose parent does not fit, and its parent: one of them is the wrong one.
            Finding::Unlinked { slot, parent_slot } => {
                wanted.extend([*slot, *parent_slot]);
            }
            other => {
                wanted.insert(other.slot());
            }
        }
    }
    for slot in &foreign {
        for table in BlockRows::TABLES {
            let sql = format!("DELETE FROM {table} WHERE slot = {slot}");
            store.execute(&sql).await?;
        }
    }
    wanted.retain(|slot| chain.contains(slot));
    // Fetching a block stores it in every table.
    let (left, wanted): (Vec<u64>, Vec<u64>) =
        wanted.into_iter().partition(|slot| dropped.touches(*slot));
    let mut filler = Filler::new(store, idls);
    let mut failed = fetch_all(nodes, &wanted, options.rpc.concurrency.into(), &mut filler).await?;
    filler.flush().await?;
    withheld::end_what_is_whole(store).await?;
    failed.append(&mut filler.done.refused);
    failed.extend(left.into_iter().map(|slot| (slot, LEFT.to_owned())));
    Ok(failed)
}
