//! What a transaction did to balances, and whether it adds up.

use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::{TokenBalance, TransactionStatusMeta};

use crate::{
    decode::{
        key_of_base58,
        token_flow::{amount, decimals},
    },
    sink::tables::{BalanceChangeRow, Key},
};

/// `exact`: Σ(post − pre) = −fee. `unknown`: the balances are not listed, or not for every account.
pub fn lamport_identity(meta: Option<&TransactionStatusMeta>) -> &'static str {
    let Some(meta) = meta else { return "unknown" };
    if meta.pre_balances.is_empty() || meta.pre_balances.len() != meta.post_balances.len() {
        return "unknown";
    }
    let sum = |balances: &[u64]| {
        balances
            .iter()
            .map(|balance| i128::from(*balance))
            .sum::<i128>()
    };
    if sum(&meta.post_balances) - sum(&meta.pre_balances) == -i128::from(meta.fee) {
        "exact"
    } else {
        "broken"
    }
}

/// Accounts whose lamports or tokens changed, by account index, lamports first.
pub fn changes(
    slot: u64,
    tx_index: u32,
    keys: &[Key],
    meta: &TransactionStatusMeta,
) -> Vec<BalanceChangeRow> {
    let mut rows = lamports(slot, tx_index, keys, meta);
    rows.extend(tokens(slot, tx_index, keys, meta));
    rows
}

fn lamports(
    slot: u64,
    tx_index: u32,
    keys: &[Key],
    meta: &TransactionStatusMeta,
) -> Vec<BalanceChangeRow> {
    let pairs = meta
        .pre_balances
        .iter()
        .zip(&meta.post_balances)
        .zip(keys)
        .zip(0_u16..);
    pairs
        .filter(|(((pre, post), _), _)| pre != post)
        .map(|(((pre, post), account), account_index)| BalanceChangeRow {
            slot,
            tx_index,
            account_index,
            account: *account,
            mint: None,
            owner: None,
            decimals: None,
            pre: Some(*pre),
            post: Some(*post),
            delta: i128::from(*post) - i128::from(*pre),
        })
        .collect()
}

/// A side that is not listed was no token account of that mint at that moment: it is `None`, and holds nothing.
fn tokens(
    slot: u64,
    tx_index: u32,
    keys: &[Key],
    meta: &TransactionStatusMeta,
) -> Vec<BalanceChangeRow> {
    #[derive(Default)]
    struct Sides<'a> {
        pre: Option<&'a TokenBalance>,
        post: Option<&'a TokenBalance>,
    }
    let mut by_account: BTreeMap<(u32, &str), Sides<'_>> = BTreeMap::new();
    for balance in &meta.pre_token_balances {
        by_account
            .entry((balance.account_index, &balance.mint))
            .or_default()
            .pre = Some(balance);
    }
    for balance in &meta.post_token_balances {
        by_account
            .entry((balance.account_index, &balance.mint))
            .or_default()
            .post = Some(balance);
    }
    let row = |((index, mint), sides): ((u32, &str), Sides<'_>)| {
        let either = sides.post.or(sides.pre)?;
        let (pre, post) = (sides.pre.and_then(amount), sides.post.and_then(amount));
        // An amount that is listed but unreadable makes the difference unknown: no row rather than a wrong one.
        if (sides.pre.is_some() && pre.is_none())
            || (sides.post.is_some() && post.is_none())
            || pre == post
        {
            return None;
        }
        Some(BalanceChangeRow {
            slot,
            tx_index,
            account_index: u16::try_from(index).ok()?,
            account: *keys.get(usize::try_from(index).ok()?)?,
            mint: Some(key_of_base58(mint)?),
            owner: key_of_base58(&either.owner),
            decimals: decimals(either),
            pre,
            post,
            delta: i128::from(post.unwrap_or(0)) - i128::from(pre.unwrap_or(0)),
        })
    };
    by_account.into_iter().filter_map(row).collect()
}
