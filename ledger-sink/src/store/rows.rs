//! Bulk inserts: one statement per table and commit, columns as arrays.

use std::collections::BTreeMap;

use event_schema::Slot;
use sqlx::{Postgres, Row, Transaction};

use crate::book::BlockId;
use crate::entry::{BlockEntry, TransactionEntry};
use crate::identity::Verdict;
use crate::postings::Posting;
use crate::store::StoreError;

/// Slots, times and counts of this chain fit; what does not is capped rather than wrapped.
pub(super) fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Inserts the blocks that are not there yet and returns their row ids.
pub(super) async fn insert_slots(
    transaction: &mut Transaction<'_, Postgres>,
    blocks: &[&BlockEntry],
) -> Result<BTreeMap<BlockId, i64>, StoreError> {
    let column = |value: &dyn Fn(&BlockEntry) -> i64| -> Vec<i64> {
        blocks.iter().map(|block| value(block)).collect()
    };
    let count = |block: &BlockEntry, is: &dyn Fn(&TransactionEntry) -> bool| -> i64 {
        block.transactions.iter().filter(|entry| is(entry)).count() as i64
    };
    let hashes: Vec<String> = blocks
        .iter()
        .map(|block| block.blockhash.to_string())
        .collect();
    let times: Vec<Option<i64>> = blocks.iter().map(|block| block.block_time).collect();
    let rows = sqlx::query(
        "INSERT INTO slots (slot, blockhash, parent_slot, state, block_time, transactions,
                            lamports_exact, lamports_unknown, lamports_broken, tokens_exact, tokens_unknown, tokens_broken)
         SELECT slot, blockhash, parent_slot, 'confirmed', block_time, transactions, le, lu, lb, te, tu, tb
         FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
              AS given (slot, blockhash, parent_slot, block_time, transactions, le, lu, lb, te, tu, tb)
         ON CONFLICT (slot, blockhash) DO NOTHING
         RETURNING slot, blockhash, id",
    )
    .bind(column(&|block| bigint(block.slot.0)))
    .bind(&hashes)
    .bind(column(&|block| bigint(block.parent_slot.0)))
    .bind(&times)
    .bind(column(&|block| block.transactions.len() as i64))
    .bind(column(&|block| count(block, &|entry| matches!(entry.lamports, Verdict::Exact))))
    .bind(column(&|block| count(block, &|entry| matches!(entry.lamports, Verdict::Unknown(_)))))
    .bind(column(&|block| count(block, &|entry| matches!(entry.lamports, Verdict::Broken(_)))))
    .bind(column(&|block| count(block, &|entry| matches!(entry.tokens, Verdict::Exact))))
    .bind(column(&|block| count(block, &|entry| matches!(entry.tokens, Verdict::Unknown(_)))))
    .bind(column(&|block| count(block, &|entry| matches!(entry.tokens, Verdict::Broken(_)))))
    .fetch_all(&mut **transaction)
    .await?;
    let mut ids = BTreeMap::new();
    for row in rows {
        let (slot, hash): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        // Both were written from these types a moment ago.
        if let Ok(hash) = hash.parse() {
            ids.insert((Slot(slot as u64), hash), row.try_get(2)?);
        }
    }
    Ok(ids)
}

pub(super) async fn insert_transactions(
    transaction: &mut Transaction<'_, Postgres>,
    blocks: &[(i64, &BlockEntry)],
) -> Result<(), StoreError> {
    let all: Vec<(i64, i64, &TransactionEntry)> = blocks
        .iter()
        .flat_map(|(id, block)| {
            block
                .transactions
                .iter()
                .map(|entry| (*id, bigint(block.slot.0), entry))
        })
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let signatures: Vec<String> = all
        .iter()
        .map(|(_, _, entry)| {
            entry
                .signature
                .map_or_else(String::new, |it| it.to_string())
        })
        .collect();
    let fees: Vec<String> = all
        .iter()
        .map(|(_, _, entry)| entry.fee.to_string())
        .collect();
    let lamports: Vec<&str> = all
        .iter()
        .map(|(_, _, entry)| entry.lamports.as_str())
        .collect();
    let lamport_reasons: Vec<Option<&str>> = all
        .iter()
        .map(|(_, _, entry)| match &entry.lamports {
            Verdict::Exact => None,
            Verdict::Unknown(reason) => Some(reason.as_str()),
            Verdict::Broken(why) => Some(why.as_str()),
        })
        .collect();
    let tokens: Vec<&str> = all
        .iter()
        .map(|(_, _, entry)| entry.tokens.as_str())
        .collect();
    let token_reasons: Vec<Option<&str>> = all
        .iter()
        .map(|(_, _, entry)| match &entry.tokens {
            Verdict::Exact => None,
            Verdict::Unknown(reason) => Some(reason.as_str()),
            Verdict::Broken(why) => Some(why.as_str()),
        })
        .collect();
    sqlx::query(
        "INSERT INTO block_transactions (block_id, slot, tx_index, signature, is_vote, success, fee,
             lamport_identity, lamport_identity_reason, token_identity, token_identity_reason)
         SELECT block_id, slot, tx_index, signature, is_vote, success, fee::numeric, li, lr, ti, tr
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bool[], $6::bool[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::text[])
              AS given (block_id, slot, tx_index, signature, is_vote, success, fee, li, lr, ti, tr)",
    )
    .bind(all.iter().map(|(id, _, _)| *id).collect::<Vec<i64>>())
    .bind(all.iter().map(|(_, slot, _)| *slot).collect::<Vec<i64>>())
    .bind(all.iter().map(|(_, _, entry)| bigint(entry.index)).collect::<Vec<i64>>())
    .bind(&signatures)
    .bind(all.iter().map(|(_, _, entry)| entry.is_vote).collect::<Vec<bool>>())
    .bind(all.iter().map(|(_, _, entry)| entry.success).collect::<Vec<bool>>())
    .bind(&fees)
    .bind(&lamports)
    .bind(&lamport_reasons)
    .bind(&tokens)
    .bind(&token_reasons)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The postings of a block with the index of their transaction; -1 for the block's own.
pub(super) fn postings(block: &BlockEntry) -> impl Iterator<Item = (i64, usize, &Posting)> {
    let rewards = block
        .rewards
        .iter()
        .enumerate()
        .map(|(ordinal, posting)| (-1, ordinal, posting));
    let transactions = block.transactions.iter().flat_map(|entry| {
        entry
            .postings
            .iter()
            .enumerate()
            .map(|(ordinal, posting)| (bigint(entry.index), ordinal, posting))
    });
    rewards.chain(transactions)
}

pub(super) async fn insert_postings(
    transaction: &mut Transaction<'_, Postgres>,
    blocks: &[(i64, &BlockEntry)],
) -> Result<u64, StoreError> {
    let (mut ids, mut slots, mut indexes, mut ordinals) = (vec![], vec![], vec![], vec![]);
    let (mut accounts, mut assets, mut amounts) = (vec![], vec![], vec![]);
    for (id, block) in blocks {
        for (index, ordinal, posting) in postings(block) {
            ids.push(*id);
            slots.push(bigint(block.slot.0));
            indexes.push(index);
            ordinals.push(ordinal as i32);
            accounts.push(posting.account.to_string());
            assets.push(posting.asset.to_string());
            amounts.push(posting.amount.to_string());
        }
    }
    if ids.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO postings (block_id, slot, tx_index, reversal, ordinal, account, asset, amount)
         SELECT block_id, slot, tx_index, FALSE, ordinal, account, asset, amount::numeric
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[])
              AS given (block_id, slot, tx_index, ordinal, account, asset, amount)",
    )
    .bind(&ids)
    .bind(&slots)
    .bind(&indexes)
    .bind(&ordinals)
    .bind(&accounts)
    .bind(&assets)
    .bind(&amounts)
    .execute(&mut **transaction)
    .await?;
    Ok(ids.len() as u64)
}
