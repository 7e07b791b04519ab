//! Movements of tokens, which must explain the balances; and what the balances tell besides.

use super::*;

#[test]
fn decimals_are_those_of_balances_or_of_what_the_program_checked() {
    let checked = [&[12][..], &5_u64.to_le_bytes(), &[9]].concat();
    let of = |fails: bool, listed: bool| {
        let (mut message, mut meta) = alone(TOKEN, &checked, MINT, [100, 0], [95, 5]);
        message.instructions[0].accounts = vec![1, 3, 2, 0];
        // Other decimals than the instruction's, to tell them apart.
        for balance in meta
            .pre_token_balances
            .iter_mut()
            .chain(&mut meta.post_token_balances)
        {
            balance.ui_token_amount.as_mut().unwrap().decimals = 6;
        }
        if !listed {
            meta.pre_token_balances.clear();
            meta.post_token_balances.clear();
        }
        meta.err = fails.then(TransactionError::default);
        let decimals = decoded(&message, &meta).decimals;
        assert_eq!(decimals.get(&WRAPPED_SOL), Some(&9));
        decimals.get(&MINT).copied()
    };
    assert_eq!((of(false, true), of(true, true)), (Some(6), Some(6)));
    // What a failed instruction claims is no fact.
    assert_eq!((of(false, false), of(true, false)), (Some(9), None));
}

fn transfer(amount: u64) -> Vec<u8> {
    [&[3][..], &amount.to_le_bytes()].concat()
}

#[test]
fn a_withheld_fee_is_found_from_the_balances() {
    let (message, meta) = alone(TOKEN_2022, &transfer(100), MINT, [500, 0], [400, 97]);
    let decoded_fee = decoded(&message, &meta);
    assert_eq!(decoded_fee.token_identity, Identity::Exact);
    assert_eq!(decoded_fee.tokens[0].movement.fee, Some(3));
    let (message, meta) = alone(TOKEN_2022, &transfer(100), MINT, [500, 0], [400, 100]);
    assert_eq!(decoded(&message, &meta).tokens[0].movement.fee, Some(0));
}

#[test]
fn what_does_not_add_up_is_called_broken() {
    // The Token program has no fees, so three tokens are missing.
    let (message, meta) = alone(TOKEN, &transfer(100), MINT, [500, 0], [400, 97]);
    assert!(matches!(
        decoded(&message, &meta).token_identity,
        Identity::Broken(_)
    ));
    // More arrived than left.
    let (message, meta) = alone(TOKEN_2022, &transfer(100), MINT, [500, 0], [400, 101]);
    assert!(matches!(
        decoded(&message, &meta).token_identity,
        Identity::Broken(_)
    ));
    // Failed, and yet it moved.
    let (message, mut meta) = alone(TOKEN, &transfer(100), MINT, [500, 0], [400, 100]);
    assert_eq!(decoded(&message, &meta).token_identity, Identity::Exact);
    meta.err = Some(TransactionError { err: vec![8] });
    assert!(matches!(
        decoded(&message, &meta).token_identity,
        Identity::Broken(_)
    ));
}

#[test]
fn what_is_not_recorded_is_unknown_and_not_broken() {
    let (message, mut meta) = alone(TOKEN, &transfer(100), MINT, [500, 0], [400, 100]);
    meta.post_token_balances.clear();
    meta.pre_token_balances.clear();
    assert_eq!(
        decoded(&message, &meta).token_identity,
        Identity::Unknown("a balance is not listed")
    );
    // A token instruction that nobody understands may be what moved them.
    let (message, meta) = alone(TOKEN_2022, &[99], MINT, [500, 0], [400, 100]);
    assert_eq!(
        decoded(&message, &meta).token_identity,
        Identity::Unknown("a token instruction was not understood")
    );
    let (message, mut meta) = alone([77; 32], &[1], MINT, [500, 0], [400, 100]);
    meta.inner_instructions_none = true;
    assert_eq!(
        decoded(&message, &meta).token_identity,
        Identity::Unknown("inner instructions are not recorded")
    );
    let (message, _) = alone(TOKEN, &transfer(1), MINT, [0, 0], [0, 0]);
    let trace = Trace::of(&message, None);
    let bare = decode(&message, None, &trace);
    assert_eq!(bare.token_identity, Identity::Unknown("no status recorded"));
    assert_eq!(
        (bare.fees.base, bare.fees.priority, bare.fees.tip),
        (None, None, None)
    );
}

#[test]
fn a_close_of_wrapped_lamports_moves_all_of_them() {
    let (message, mut meta) = alone(TOKEN, &[9], WRAPPED_SOL, [700, 0], [0, 0]);
    meta.post_token_balances.remove(0);
    meta.pre_balances = vec![50, 2_039_980, 5, 1, 1];
    meta.post_balances = vec![50, 0, 2_039_985, 1, 1];
    let closed = decoded(&message, &meta);
    assert_eq!(closed.token_identity, Identity::Exact);
    assert_eq!(closed.tokens[0].movement.amount, Some(700));
    assert_eq!(closed.lamports[0].movement.lamports, Some(2_039_980));
    // Lamports that end elsewhere: the amount is not known, and so not told.
    meta.post_balances[2] -= 1;
    assert_eq!(decoded(&message, &meta).lamports[0].movement.lamports, None);
}

/// One operation on token accounts 0–5; the even ones hold the first mint, the odd ones the second.
#[derive(Debug, Clone)]
enum Operation {
    Transfer { from: u8, to: u8, share: u8 },
    Mint { to: u8, amount: u64 },
    Burn { from: u8, share: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0_u8..6, 0_u8..3, any::<u8>()).prop_map(|(from, nth, share)| Operation::Transfer {
            from,
            to: from % 2 + nth * 2,
            share,
        }),
        (0_u8..6, 0_u64..1 << 40).prop_map(|(to, amount)| Operation::Mint { to, amount }),
        (0_u8..6, any::<u8>()).prop_map(|(from, share)| Operation::Burn { from, share }),
    ]
}

/// A model of the Token program that keeps balances only; what it did is told as instructions.
fn played(operations: &[Operation], start: [u64; 6]) -> (Message, TransactionStatusMeta) {
    const MINTS: [u8; 2] = [10, 11];
    let mut held = start;
    let mut instructions = Vec::new();
    let mut tell = |tag: u8, amount: u64, accounts: Vec<u8>| {
        instructions.push(CompiledInstruction {
            program_id_index: 12,
            accounts,
            data: [&[tag][..], &amount.to_le_bytes()].concat(),
        });
    };
    let part = |held: u64, share: u8| (u128::from(held) * u128::from(share) / 255) as u64;
    for operation in operations {
        match *operation {
            Operation::Transfer { from, to, share } => {
                let amount = part(held[usize::from(from)], share);
                held[usize::from(from)] -= amount;
                held[usize::from(to)] += amount;
                tell(3, amount, vec![from, to, 9]);
            }
            Operation::Mint { to, amount } => {
                held[usize::from(to)] += amount;
                tell(7, amount, vec![MINTS[usize::from(to % 2)], to, 9]);
            }
            Operation::Burn { from, share } => {
                let amount = part(held[usize::from(from)], share);
                held[usize::from(from)] -= amount;
                tell(8, amount, vec![from, MINTS[usize::from(from % 2)], 9]);
            }
        }
    }
    let keys = (0..12_u8).map(|place| vec![60 + place; 32]);
    let message = Message {
        account_keys: keys.chain([TOKEN.to_vec()]).collect(),
        instructions,
        ..Message::default()
    };
    let side = |held: [u64; 6]| {
        let balances = held.into_iter().zip(0_u32..);
        balances
            .map(|(held, place)| balance(place, [70 + (place % 2) as u8; 32], held))
            .collect()
    };
    let meta = TransactionStatusMeta {
        pre_balances: vec![1; 13],
        post_balances: vec![1; 13],
        pre_token_balances: side(start),
        post_token_balances: side(held),
        ..TransactionStatusMeta::default()
    };
    (message, meta)
}

proptest! {
    /// Whatever was done, the balances are explained; and one unit too many or too few, anywhere, is not.
    #[test]
    fn a_single_unit_that_nobody_moved_is_found(
        operations in prop::collection::vec(operation(), 0..12),
        start in prop::array::uniform6(0_u64..1 << 50),
        place in 0_usize..6,
        more in any::<bool>(),
    ) {
        let (message, mut meta) = played(&operations, start);
        prop_assert_eq!(decoded(&message, &meta).token_identity, Identity::Exact);
        let amount = meta.post_token_balances[place].ui_token_amount.as_mut().unwrap();
        let held: u64 = amount.amount.parse().unwrap();
        amount.amount = if more { held + 1 } else { held.saturating_sub(1) }.to_string();
        let changed = more || held > 0;
        let verdict = decoded(&message, &meta).token_identity;
        prop_assert_eq!(verdict.word(), if changed { "broken" } else { "exact" });
    }
}
