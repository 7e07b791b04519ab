//! Lamports that an instruction moves without saying how many: whatever the emptied account held at that moment.
//!
//! Balances are followed from before the transaction through every stated movement, those of wrapped lamports among them:
//! they are lamports, and move with the tokens. Programs may also move lamports of accounts they own without a call, which
//! nothing records; so an amount found this way counts only when both accounts end with the balance that the transaction
//! lists.

use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::TransactionStatusMeta;

use super::{Index, Key, LamportMovement, TokenFlow, TokenMovement, programs, token_flow::Placed};

/// Fills the amounts that follow from the balances.
pub fn settle(
    meta: Option<&TransactionStatusMeta>,
    movements: &mut [Placed<LamportMovement>],
    tokens: &[Placed<TokenMovement>],
    mints: &BTreeMap<Index, Key>,
) {
    let Some(meta) = meta
        .filter(|meta| meta.err.is_none() && meta.pre_balances.len() == meta.post_balances.len())
    else {
        return;
    };
    let mut held: Vec<i128> = meta.pre_balances.iter().copied().map(i128::from).collect();
    if let Some(payer) = held.first_mut() {
        *payer -= i128::from(meta.fee);
    }
    let mut wrapped = wrapped(tokens, mints).peekable();
    let mut found = Vec::new();
    for (nth, placed) in movements.iter().enumerate() {
        while let Some((_, source, destination, lamports)) =
            wrapped.next_if(|(call, ..)| *call <= placed.call)
        {
            shift(&mut held, source, destination, lamports);
        }
        let movement = placed.movement;
        let lamports = match movement.lamports {
            Some(lamports) => i128::from(lamports),
            None if movement.empties => {
                let all = at(&held, movement.source);
                found.push((nth, all));
                all
            }
            None => continue,
        };
        shift(&mut held, movement.source, movement.destination, lamports);
    }
    for (_, source, destination, lamports) in wrapped {
        shift(&mut held, source, destination, lamports);
    }
    let ends_right = |index: Index| {
        let listed = meta.post_balances.get(usize::from(index));
        listed.is_some_and(|listed| i128::from(*listed) == at(&held, index))
    };
    for (nth, lamports) in found {
        let movement = &mut movements[nth].movement;
        if ends_right(movement.source) && ends_right(movement.destination) {
            movement.lamports = u64::try_from(lamports).ok();
        }
    }
}

/// Transfers of wrapped lamports: the call, from, to, how many.
fn wrapped<'a>(
    tokens: &'a [Placed<TokenMovement>],
    mints: &'a BTreeMap<Index, Key>,
) -> impl Iterator<Item = (usize, Index, Index, i128)> + 'a {
    tokens.iter().filter_map(|placed| {
        let movement = placed.movement;
        let (source, destination) = (movement.source?, movement.destination?);
        let of_lamports = [source, destination]
            .iter()
            .any(|account| mints.get(account).is_some_and(programs::is_wrapped_sol));
        (movement.flow == TokenFlow::Transfer && of_lamports).then_some((
            placed.call,
            source,
            destination,
            i128::from(movement.amount?),
        ))
    })
}

fn shift(held: &mut [i128], source: Index, destination: Index, lamports: i128) {
    if let Some(held) = held.get_mut(usize::from(source)) {
        *held -= lamports;
    }
    if let Some(held) = held.get_mut(usize::from(destination)) {
        *held += lamports;
    }
}

fn at(held: &[i128], index: Index) -> i128 {
    held.get(usize::from(index)).copied().unwrap_or(0)
}
