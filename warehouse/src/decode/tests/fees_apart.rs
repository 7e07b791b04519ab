//! Fees, taken apart by the rule that held.

use super::*;

/// A transaction with these outer instructions of three programs: the budget's, the System program's and another.
fn with_budget(requests: &[Vec<u8>], fee: u64, config: Option<TransactionConfig>) -> fees::Fees {
    let mut instructions: Vec<_> = requests
        .iter()
        .map(|data| CompiledInstruction {
            program_id_index: 1,
            accounts: Vec::new(),
            data: data.clone(),
        })
        .collect();
    for program_id_index in [2, 3] {
        instructions.push(CompiledInstruction {
            program_id_index,
            accounts: vec![0, 0],
            data: [&2_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat(),
        });
    }
    let message = Message {
        header: Some(MessageHeader {
            num_required_signatures: 2,
            ..MessageHeader::default()
        }),
        account_keys: vec![
            fees::TIP_ACCOUNTS[3].to_vec(),
            programs::COMPUTE_BUDGET.to_vec(),
            programs::SYSTEM.to_vec(),
            vec![77; 32],
        ],
        instructions,
        config,
        ..Message::default()
    };
    let meta = TransactionStatusMeta {
        fee,
        ..TransactionStatusMeta::default()
    };
    decoded(&message, &meta).fees
}

#[test]
fn fees_come_apart_by_the_rule_that_held_or_not_at_all() {
    let price = [&[3][..], &1_000_000_u64.to_le_bytes()].concat();
    let limit = [&[2][..], &7_u32.to_le_bytes()].concat();
    let apart = |fees: fees::Fees| (fees.base, fees.priority);
    let requested = with_budget(&[price.clone(), limit], 10_007, None);
    assert_eq!(apart(requested), (Some(10_000), Some(7)));
    assert_eq!(
        (requested.unit_price, requested.unit_limit),
        (Some(1_000_000), Some(7))
    );
    assert_eq!(requested.tip, Some(1), "a transfer to a tip account");
    // Without a limit, now: 200,000 for the foreign program, 3,000 for each of two builtins; earlier: 200,000 for each of two.
    let price = std::slice::from_ref(&price);
    assert_eq!(
        apart(with_budget(price, 10_000 + 206_000, None)),
        (Some(10_000), Some(206_000))
    );
    assert_eq!(
        apart(with_budget(price, 10_000 + 400_000, None)),
        (Some(10_000), Some(400_000))
    );
    assert_eq!(
        apart(with_budget(price, 10_000 + 206_001, None)),
        (None, None)
    );
    assert_eq!(
        apart(with_budget(&[], 10_000, None)),
        (Some(10_000), Some(0))
    );
    let config = TransactionConfig {
        priority_fee: Some(123),
        ..TransactionConfig::default()
    };
    assert_eq!(
        apart(with_budget(&[], 10_123, Some(config))),
        (Some(10_000), Some(123))
    );
}

#[test]
fn tip_accounts_are_eight_different_ones() {
    let distinct: BTreeMap<Key, ()> = fees::TIP_ACCOUNTS
        .into_iter()
        .map(|key| (key, ()))
        .collect();
    assert_eq!(distinct.len(), 8);
}

proptest! {
    /// Price × limit beside arithmetic that cannot round: the least whole number of lamports that covers it.
    #[test]
    fn the_priority_fee_is_the_least_that_covers(price in 0_u64..u64::MAX / 2_000_000, limit in 0_u32..1_400_000) {
        let micro = u128::from(price) * u128::from(limit);
        let fee = u128::from(fees::priority_fee(price, limit));
        prop_assert!(fee * 1_000_000 >= micro);
        prop_assert!(fee == 0 || (fee - 1) * 1_000_000 < micro);
    }
}
