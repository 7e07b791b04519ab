//! The running sums of postings, moved by one statement per commit.

use std::collections::BTreeMap;

use sqlx::{Postgres, Transaction};

use crate::entry::BlockEntry;
use crate::postings::{Account, Asset};
use crate::store::StoreError;
use crate::store::rows::{bigint, postings};

#[derive(Default)]
struct Change {
    net: i128,
    /// The newest balance on chain that the batch tells, with its slot and place in the block.
    observed: Option<((u64, i64), u64)>,
}

pub(super) async fn add(
    transaction: &mut Transaction<'_, Postgres>,
    blocks: &[(i64, &BlockEntry)],
) -> Result<(), StoreError> {
    // Sorted by key, so that rows are always locked in one order.
    let mut changes: BTreeMap<(Account, Asset), Change> = BTreeMap::new();
    for (_, block) in blocks {
        for (index, _, posting) in postings(block) {
            let change = changes.entry((posting.account, posting.asset)).or_default();
            change.net += posting.amount;
            if let Some(balance) = posting.balance_after {
                // What a block credits by itself comes after its transactions.
                let place = (block.slot.0, if index < 0 { i64::MAX } else { index });
                if change.observed.is_none_or(|(before, _)| before <= place) {
                    change.observed = Some((place, balance));
                }
            }
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let accounts: Vec<String> = changes
        .keys()
        .map(|(account, _)| account.to_string())
        .collect();
    let assets: Vec<String> = changes.keys().map(|(_, asset)| asset.to_string()).collect();
    let nets: Vec<String> = changes
        .values()
        .map(|change| change.net.to_string())
        .collect();
    let observed: Vec<Option<String>> = changes
        .values()
        .map(|change| change.observed.map(|(_, balance)| balance.to_string()))
        .collect();
    let slots: Vec<Option<i64>> = changes
        .values()
        .map(|change| change.observed.map(|((slot, _), _)| bigint(slot)))
        .collect();
    sqlx::query(
        "INSERT INTO balances AS old (account, asset, net, observed, observed_slot)
         SELECT account, asset, net::numeric, observed::numeric, observed_slot
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
              AS given (account, asset, net, observed, observed_slot)
         ON CONFLICT (account, asset) DO UPDATE SET
             net = old.net + excluded.net,
             observed = CASE WHEN excluded.observed_slot >= COALESCE(old.observed_slot, -1)
                             THEN excluded.observed ELSE old.observed END,
             observed_slot = GREATEST(old.observed_slot, excluded.observed_slot)",
    )
    .bind(&accounts)
    .bind(&assets)
    .bind(&nets)
    .bind(&observed)
    .bind(&slots)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Takes back what the blocks added. The balance on chain goes back with it.
pub(super) async fn subtract(
    transaction: &mut Transaction<'_, Postgres>,
    blocks: &[i64],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE balances SET net = net + given.amount, observed = observed + given.amount
         FROM (SELECT account, asset, sum(amount) AS amount FROM postings
               WHERE block_id = ANY($1) AND reversal GROUP BY account, asset) AS given
         WHERE balances.account = given.account AND balances.asset = given.asset",
    )
    .bind(blocks)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
