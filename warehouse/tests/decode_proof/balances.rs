//! Balances before and after, beside what the decoders say moved. Nothing here looks at how they found it.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::proto::confirmed_block::TransactionStatusMeta;
use warehouse::decode::{
    Decoded, Index, Key, TokenFlow, Trace, programs,
    swap::{Evidence, Sides},
};

use super::Tally;

/// Change of every listed token account.
fn deltas(meta: &TransactionStatusMeta) -> BTreeMap<Index, (Key, i128)> {
    let mut found = BTreeMap::new();
    for (balances, sign) in [
        (&meta.pre_token_balances, -1),
        (&meta.post_token_balances, 1),
    ] {
        for balance in balances {
            let amount: i128 = balance
                .ui_token_amount
                .as_ref()
                .unwrap()
                .amount
                .parse()
                .unwrap();
            let mint: Key = bs58::decode(&balance.mint)
                .into_vec()
                .unwrap()
                .try_into()
                .unwrap();
            found
                .entry(balance.account_index as Index)
                .or_insert((mint, 0))
                .1 += sign * amount;
        }
    }
    found
}

/// All lamports that left accounts arrived in others, but the fee.
pub fn lamport_identity(meta: Option<&TransactionStatusMeta>) -> &'static str {
    let listed = meta.filter(|meta| {
        !meta.pre_balances.is_empty() && meta.pre_balances.len() == meta.post_balances.len()
    });
    let Some(meta) = listed else { return "unknown" };
    let sum = |balances: &[u64]| balances.iter().copied().map(u128::from).sum::<u128>();
    if sum(&meta.pre_balances) == sum(&meta.post_balances) + u128::from(meta.fee) {
        "exact"
    } else {
        "broken"
    }
}

/// Per mint: the sum of all changes is what was minted, less what was burned, withheld or shielded.
pub fn mint_sums(
    tally: &mut Tally,
    place: &str,
    trace: &Trace<'_>,
    decoded: &Decoded,
    meta: &TransactionStatusMeta,
) {
    if decoded.token_identity.word() != "exact" {
        return;
    }
    let mut sums: BTreeMap<Key, i128> = BTreeMap::new();
    for (mint, delta) in deltas(meta).into_values() {
        *sums.entry(mint).or_default() += delta;
    }
    let mut undecided = BTreeSet::new();
    for placed in &decoded.tokens {
        let movement = placed.movement;
        let mint = movement
            .mint
            .and_then(|mint| trace.key(mint))
            .or_else(|| decoded.mints.get(&movement.source?).copied())
            .or_else(|| decoded.mints.get(&movement.destination?).copied());
        let Some(mint) = mint else { continue };
        let amount = movement.amount.map(i128::from);
        let change = match movement.flow {
            TokenFlow::Transfer => movement.fee.map(|fee| -i128::from(fee)),
            TokenFlow::Mint | TokenFlow::Unshield | TokenFlow::WithdrawWithheld => amount,
            TokenFlow::Burn | TokenFlow::Shield => amount.map(|amount| -amount),
            _ => Some(0),
        };
        match change {
            Some(change) => *sums.entry(mint).or_default() -= change,
            None => drop(undecided.insert(mint)),
        }
    }
    for (mint, left) in sums {
        if !programs::is_wrapped_sol(&mint) && !undecided.contains(&mint) {
            tally.mint_sums.count(left == 0, || {
                format!(
                    "{place}: {} is off by {left}",
                    bs58::encode(mint).into_string()
                )
            });
        }
    }
}

/// Every vault of a pool, where swaps are all that touched it: its change is their sum.
pub fn swaps(
    tally: &mut Tally,
    place: &str,
    trace: &Trace<'_>,
    decoded: &Decoded,
    meta: &TransactionStatusMeta,
) {
    let mut told: BTreeMap<Index, i128> = BTreeMap::new();
    let mut lamports: BTreeMap<Index, i128> = BTreeMap::new();
    let mut calls = BTreeSet::new();
    for swap in &decoded.swaps {
        let (Some(amount_in), Some(amount_out)) = (swap.amount_in, swap.amount_out) else {
            continue;
        };
        let (amount_in, amount_out) = (i128::from(amount_in), i128::from(amount_out));
        let vaults = match swap.shape.sides {
            Sides::Vaults(vaults) => vaults.to_vec(),
            Sides::Curve {
                vault,
                quote: Some(quote),
                ..
            } if ![swap.mint_in, swap.mint_out].contains(&Some(programs::WRAPPED_SOL)) => {
                vec![vault, quote.vault]
            }
            Sides::Curve { vault, .. } => {
                let stays = swap.evidence == Evidence::TransfersAndEvent
                    || swap.mint_in != Some(programs::WRAPPED_SOL);
                // What a curve keeps as a fee beside the trade, no call and no event tells.
                if !stays {
                    let pool = swap.shape.pool.and_then(|pool| trace.key(pool));
                    tally.notes.push(format!(
                        "{place}: curve {} rests on its event alone: {amount_in} → {amount_out}",
                        bs58::encode(pool.unwrap_or_default()).into_string()
                    ));
                    tally.swap_accounts_shared += 1;
                } else if let Some(curve) = swap.shape.pool {
                    let change = if swap.mint_in == Some(programs::WRAPPED_SOL) {
                        amount_in
                    } else {
                        -amount_out
                    };
                    *lamports.entry(curve).or_default() += change;
                }
                vec![vault]
            }
            Sides::Route { .. } => continue,
        };
        calls.extend(trace.beneath(swap.call));
        for vault in vaults {
            let mint = decoded.mints.get(&vault).copied();
            let sum = told.entry(vault).or_default();
            *sum += if mint == swap.mint_in { amount_in } else { 0 };
            *sum -= if mint == swap.mint_out { amount_out } else { 0 };
        }
    }
    let touched_otherwise = |account: Index| {
        decoded.tokens.iter().any(|placed| {
            let touches =
                [placed.movement.source, placed.movement.destination].contains(&Some(account));
            touches && !calls.contains(&placed.call)
        })
    };
    let deltas = deltas(meta);
    for (vault, told) in told {
        if touched_otherwise(vault) {
            tally.swap_accounts_shared += 1;
            continue;
        }
        let delta = deltas.get(&vault).map_or(0, |(_, delta)| *delta);
        tally.swap_balances.count(delta == told, || {
            format!("{place}: vault {vault} changed by {delta}, swaps say {told}")
        });
    }
    for (curve, told) in lamports {
        let at = usize::from(curve);
        let (before, after) = (meta.pre_balances[at], meta.post_balances[at]);
        let delta = i128::from(after) - i128::from(before);
        let other_call = decoded.lamports.iter().any(|placed| {
            let touches = [placed.movement.source, placed.movement.destination].contains(&curve);
            touches && !calls.contains(&placed.call)
        });
        // A curve made, enlarged or emptied in the same transaction has rent in it too.
        if before == 0 || after == 0 || other_call {
            tally.swap_accounts_shared += 1;
            continue;
        }
        tally.curve_lamports.count(delta == told, || {
            format!("{place}: curve {curve} changed by {delta}, swaps say {told}")
        });
    }
}
