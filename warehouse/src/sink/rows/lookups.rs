//! Where to find a transaction by its signature or by an account, and transfers by an account: rows in the order of those
//! questions.

use event_schema::proto::confirmed_block::{TokenBalance, TransactionStatusMeta};

use super::first_eight;
use crate::{
    decode::{Index, Key, Trace, key_of_base58},
    sink::tables::{
        AccountTransactionRow, AccountTransferRow, SignatureRow, SolTransferRow, TokenTransferRow,
    },
};

pub fn signature(slot: u64, tx_index: u32, signature: &[u8]) -> SignatureRow {
    SignatureRow {
        signature_hash: first_eight(signature),
        slot,
        tx_index,
    }
}

/// One row per account that the transaction names.
pub fn accounts<'k>(
    slot: u64,
    tx_index: u32,
    keys: &'k [Key],
) -> impl Iterator<Item = AccountTransactionRow> + use<'k> {
    keys.iter().map(move |key| AccountTransactionRow {
        account_hash: first_eight(key),
        slot,
        tx_index,
    })
}

/// A row for each side that is known: token accounts and their owners.
pub fn token_transfer(
    row: &TokenTransferRow,
    trace: &Trace<'_>,
    meta: Option<&TransactionStatusMeta>,
) -> impl Iterator<Item = AccountTransferRow> + use<> {
    let owner = |account: Option<Key>, lists: [&[TokenBalance]; 2]| {
        let place = trace.keys.iter().position(|key| Some(*key) == account)?;
        owner_of(Index::try_from(place).ok()?, lists)
    };
    let (before, after): (&[_], &[_]) = meta.map_or((&[], &[]), |meta| {
        (&meta.pre_token_balances, &meta.post_token_balances)
    });
    let sides = [
        ("source", row.source),
        ("destination", row.destination),
        ("source_owner", owner(row.source, [before, after])),
        ("destination_owner", owner(row.destination, [after, before])),
    ];
    let of = AccountTransferRow {
        account: [0; 32],
        slot: row.slot,
        tx_index: row.tx_index,
        path: row.path,
        event_index: row.event_index,
        side: "",
        asset: "token",
        kind: row.kind,
        mint: row.mint,
        amount: row.amount,
        success: row.success,
    };
    known(sides, of)
}

pub fn sol_transfer(row: &SolTransferRow) -> impl Iterator<Item = AccountTransferRow> + use<> {
    let of = AccountTransferRow {
        account: [0; 32],
        slot: row.slot,
        tx_index: row.tx_index,
        path: row.path,
        event_index: row.event_index,
        side: "",
        asset: "sol",
        kind: row.kind,
        mint: None,
        amount: row.lamports,
        success: row.success,
    };
    known(
        [("source", row.source), ("destination", row.destination)],
        of,
    )
}

fn known<const N: usize>(
    sides: [(&'static str, Option<Key>); N],
    of: AccountTransferRow,
) -> impl Iterator<Item = AccountTransferRow> {
    sides.into_iter().filter_map(move |(side, account)| {
        Some(AccountTransferRow {
            account: account?,
            side,
            ..of.clone()
        })
    })
}

/// As the first list that knows the account says.
fn owner_of(account: Index, lists: [&[TokenBalance]; 2]) -> Option<Key> {
    let mut balances = lists.into_iter().flatten();
    let balance = balances.find(|balance| balance.account_index == u32::from(account))?;
    key_of_base58(&balance.owner)
}
