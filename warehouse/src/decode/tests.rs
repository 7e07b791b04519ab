use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::{
    CompiledInstruction, InnerInstruction, InnerInstructions, Message, MessageHeader, TokenBalance,
    TransactionConfig, TransactionError, TransactionStatusMeta, UiTokenAmount,
};
use proptest::prelude::*;

use super::{
    programs::{PROGRAMS, TOKEN, TOKEN_2022, WRAPPED_SOL},
    token_flow::Identity,
    *,
};

const MINT: Key = [99; 32];

fn read(program: Key, data: &[u8], accounts: &[Index]) -> Result<Known, Unread> {
    let instruction = Instruction {
        program: &program,
        data,
        accounts,
    };
    (programs::by_id(&program).unwrap().read)(&instruction)
}

fn movement(program: Key, data: &[u8]) -> TokenMovement {
    match read(program, data, &[9, 8, 7, 6]).unwrap().effects[0] {
        Effect::Tokens(movement) => movement,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn every_program_is_listed_once_and_has_a_version() {
    let mut names: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PROGRAMS.len());
    for program in PROGRAMS {
        assert_eq!(programs::by_id(&program.id).unwrap().name, program.name);
        assert!(program.version > 0);
    }
}

#[test]
fn amounts_are_exact_and_unsaid_is_not_zero() {
    let plain = movement(TOKEN, &[&[3][..], &u64::MAX.to_le_bytes()].concat());
    assert_eq!(
        (plain.kind, plain.amount, plain.fee, plain.mint),
        ("transfer", Some(u64::MAX), Some(0), None)
    );
    let checked = movement(
        TOKEN_2022,
        &[&[12][..], &5_u64.to_le_bytes(), &[6]].concat(),
    );
    assert_eq!(
        (checked.amount, checked.decimals, checked.fee),
        (Some(5), Some(6), None)
    );
    let with_fee = [
        &[26, 1][..],
        &500_u64.to_le_bytes(),
        &[9],
        &3_u64.to_le_bytes(),
    ]
    .concat();
    let with_fee = movement(TOKEN_2022, &with_fee);
    assert_eq!(
        (with_fee.amount, with_fee.decimals, with_fee.fee),
        (Some(500), Some(9), Some(3))
    );
    let withdrawn = movement(TOKEN_2022, &[26, 2]);
    assert_eq!(
        (withdrawn.kind, withdrawn.amount),
        ("withdraw_withheld_from_mint", None)
    );
    let hidden = movement(TOKEN_2022, &[27, 7]);
    assert_eq!(
        (hidden.flow, hidden.amount, hidden.fee),
        (TokenFlow::Confidential, None, None)
    );
}

#[test]
fn a_batch_gives_each_part_its_accounts() {
    let transfer = [&[3][..], &1_u64.to_le_bytes()].concat();
    let burn = [&[8][..], &2_u64.to_le_bytes()].concat();
    let data = [&[255, 3, 9][..], &transfer, &[3, 9], &burn].concat();
    let batch = read(TOKEN, &data, &[1, 2, 3, 4, 5, 6]).unwrap();
    let sources: Vec<_> = batch
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Tokens(movement) => (movement.kind, movement.source),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sources, [("transfer", Some(1)), ("burn", Some(4))]);
    assert_eq!(read(TOKEN, &data, &[1, 2]), Err(Unread::Malformed));
}

fn of_mint(program: Key, data: &[u8]) -> mint::MintStatement {
    match read(program, data, &[9, 8, 7]).unwrap().effects.remove(0) {
        Effect::Mint(statement) => *statement,
        other => panic!("{other:?}"),
    }
}

#[test]
fn instructions_say_parts_of_a_mint() {
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let made = of_mint(TOKEN, &[&[0, 6][..], &[1; 32], &[0]].concat());
    assert_eq!((made.name, made.mint), ("initialize_mint", 9));
    assert_eq!((made.state.decimals, made.state.supply), (Some(6), None));
    assert_eq!(
        (made.state.mint_authority, made.state.freeze_authority),
        (Some(Some([1; 32])), Some(None))
    );
    for (kind, column) in [
        (0, "mint_authority"),
        (1, "freeze_authority"),
        (6, "close_authority"),
        (8, "permanent_delegate"),
    ] {
        for authority in [vec![0], [&[1][..], &[5; 32]].concat()] {
            let set = of_mint(TOKEN_2022, &[&[6, kind][..], &authority].concat());
            assert_eq!(set.state.says(), [column]);
        }
    }
    // Of a token account.
    assert_eq!(read(TOKEN, &[6, 2, 0], &[9, 8]).unwrap().effects, []);
    let fee = [
        &[26, 0, 0, 0][..],
        &250_u16.to_le_bytes(),
        &7_u64.to_le_bytes(),
    ]
    .concat();
    let later = [&[26, 5][..], &250_u16.to_le_bytes(), &7_u64.to_le_bytes()].concat();
    for data in [fee, later] {
        let fee = of_mint(TOKEN_2022, &data)
            .state
            .transfer_fee
            .flatten()
            .unwrap();
        assert_eq!((fee.basis_points, fee.maximum, fee.epoch), (250, 7, None));
    }
    for (data, said) in [
        ([&[36, 0][..], &[1; 32], &[3; 32]].concat(), Some([3; 32])),
        ([&[36, 1][..], &[0; 32]].concat(), None),
    ] {
        assert_eq!(of_mint(TOKEN_2022, &data).state.transfer_hook, Some(said));
    }
    let names = [text("A Coin"), text("AC"), text("https://x")].concat();
    let named = of_mint(
        TOKEN_2022,
        &[&[210, 225, 30, 162, 88, 184, 77, 141][..], &names].concat(),
    );
    assert_eq!((named.mint, named.metadata_authority), (9, Some(8)));
    assert_eq!(
        (named.state.name.as_deref(), named.state.uri.as_deref()),
        (Some("A Coin"), Some("https://x"))
    );
    let field = |field: u8| {
        [
            &[221, 233, 49, 45, 181, 202, 220, 200, field][..],
            &text("B"),
        ]
        .concat()
    };
    assert_eq!(
        of_mint(TOKEN_2022, &field(1)).state.symbol.as_deref(),
        Some("B")
    );
    assert_eq!(read(TOKEN_2022, &field(3), &[9, 8]).unwrap().effects, []);
}

#[test]
fn instructions_say_parts_of_a_program() {
    let said = |data: &[u8], accounts: &[Index]| {
        let known = read(programs::LOADER_UPGRADEABLE, data, accounts).unwrap();
        known.effects.into_iter().find_map(|effect| match effect {
            Effect::Program(statement) => Some(statement),
            _ => None,
        })
    };
    let deployed = said(
        &[&[2, 0, 0, 0][..], &500_u64.to_le_bytes()].concat(),
        &[0, 1, 2, 3, 4, 5, 6, 7],
    );
    let deployed = deployed.unwrap();
    assert_eq!((deployed.program, deployed.programdata), (Some(2), 1));
    assert_eq!((deployed.data_length, deployed.deploys), (Some(500), true));
    let upgraded = said(&[3, 0, 0, 0], &[0, 1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!((upgraded.program, upgraded.programdata), (Some(1), 0));
    assert_eq!(upgraded.upgrade_authority, Some(Some(6)));
    let renounced = said(&[4, 0, 0, 0], &[0, 1]).unwrap();
    assert_eq!(
        (renounced.program, renounced.upgrade_authority),
        (None, Some(None))
    );
    let closed = said(&[5, 0, 0, 0], &[0, 1, 2, 3]).unwrap();
    assert_eq!((closed.program, closed.closed), (Some(3), Some(true)));
    assert_eq!(said(&[5, 0, 0, 0], &[0, 1, 2]), None, "a buffer");
}

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

#[test]
fn what_cannot_be_read_says_why() {
    assert_eq!(read(TOKEN, &[3, 1, 2], &[1, 2, 3]), Err(Unread::Malformed));
    assert_eq!(read(TOKEN, &[], &[]), Err(Unread::Malformed));
    assert_eq!(read(TOKEN, &[26, 2], &[1, 2, 3]), Err(Unread::Unknown));
    assert_eq!(read(TOKEN_2022, &[99], &[]), Err(Unread::Unknown));
    let transfer = [&2_u32.to_le_bytes()[..], &7_u64.to_le_bytes()].concat();
    assert_eq!(
        read(programs::SYSTEM, &transfer, &[1]),
        Err(Unread::Malformed)
    );
    assert_eq!(
        read(programs::SYSTEM, &77_u32.to_le_bytes(), &[]),
        Err(Unread::Unknown)
    );
}

proptest! {
    /// Whatever stands in a block: every reader answers, none panics.
    #[test]
    fn readers_answer_to_any_bytes(
        first in prop_oneof![0_u8..60, Just(255)],
        mut data in prop::collection::vec(any::<u8>(), 0..80),
        accounts in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        for program in PROGRAMS {
            let _ = read(program.id, &data, &accounts);
        }
        if let Some(tag) = data.first_mut() {
            *tag = first;
        }
        for program in PROGRAMS {
            let _ = read(program.id, &data, &accounts);
        }
    }

    /// However much of a transaction is missing or wrong.
    #[test]
    fn whole_transactions_of_any_shape_are_decoded(
        programs in prop::collection::vec(0_usize..PROGRAMS.len() + 2, 1..6),
        data in prop::collection::vec(any::<u8>(), 0..24),
        accounts in prop::collection::vec(0_u8..12, 0..12),
        balances in prop::collection::vec(any::<u64>(), 0..12),
        height in prop::option::of(0_u32..4),
    ) {
        let mut keys: Vec<Vec<u8>> = PROGRAMS.iter().map(|program| program.id.to_vec()).collect();
        keys.push(vec![1; 32]);
        let program = |nth: usize| u32::try_from(nth).unwrap();
        let inner = |nth: &usize| InnerInstruction {
            program_id_index: program(*nth),
            accounts: accounts.clone(),
            data: data.clone(),
            stack_height: height,
        };
        let message = Message {
            account_keys: keys,
            instructions: vec![CompiledInstruction {
                program_id_index: program(programs[0]),
                accounts: accounts.clone(),
                data: data.clone(),
            }],
            ..Message::default()
        };
        let meta = TransactionStatusMeta {
            pre_balances: balances.clone(),
            post_balances: balances,
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: programs.iter().map(inner).collect(),
            }],
            ..TransactionStatusMeta::default()
        };
        let trace = Trace::of(&message, Some(&meta));
        let decoded = decode(&message, Some(&meta), &trace);
        prop_assert_eq!(decoded.readings.len(), trace.calls.len());
    }

    /// Price × limit beside arithmetic that cannot round: the least whole number of lamports that covers it.
    #[test]
    fn the_priority_fee_is_the_least_that_covers(price in 0_u64..u64::MAX / 2_000_000, limit in 0_u32..1_400_000) {
        let micro = u128::from(price) * u128::from(limit);
        let fee = u128::from(fees::priority_fee(price, limit));
        prop_assert!(fee * 1_000_000 >= micro);
        prop_assert!(fee == 0 || (fee - 1) * 1_000_000 < micro);
    }
}

fn balance(index: u32, mint: Key, amount: u64) -> TokenBalance {
    TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            amount: amount.to_string(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

/// One instruction of `program` with accounts 1, 2, 3, between token accounts 1 and 2 of `mint`.
fn alone(
    program: Key,
    data: &[u8],
    mint: Key,
    before: [u64; 2],
    after: [u64; 2],
) -> (Message, TransactionStatusMeta) {
    let message = Message {
        account_keys: vec![
            vec![1; 32],
            vec![2; 32],
            vec![3; 32],
            MINT.to_vec(),
            program.to_vec(),
        ],
        instructions: vec![CompiledInstruction {
            program_id_index: 4,
            accounts: vec![1, 2, 0],
            data: data.to_vec(),
        }],
        ..Message::default()
    };
    let side = |held: [u64; 2]| vec![balance(1, mint, held[0]), balance(2, mint, held[1])];
    let meta = TransactionStatusMeta {
        pre_balances: vec![10; 5],
        post_balances: vec![10; 5],
        pre_token_balances: side(before),
        post_token_balances: side(after),
        ..TransactionStatusMeta::default()
    };
    (message, meta)
}

fn decoded(message: &Message, meta: &TransactionStatusMeta) -> Decoded {
    decode(message, Some(meta), &Trace::of(message, Some(meta)))
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

#[test]
fn calls_beneath_end_where_the_depth_does() {
    let call = |path, stack_height| Call {
        path,
        stack_height,
        program: Some(TOKEN),
        accounts: &[],
        data: &[],
    };
    let deep = [Some(1), Some(2), Some(3), Some(3), Some(2), Some(1)];
    let paths = [0, 1, 2, 3, 4, 1 << 16];
    let trace = Trace {
        keys: Vec::new(),
        calls: paths
            .into_iter()
            .zip(deep)
            .map(|(path, depth)| call(path, depth))
            .collect(),
    };
    assert_eq!(trace.beneath(0), 1..5);
    assert_eq!(trace.beneath(1), 2..4);
    assert_eq!(trace.beneath(4), 5..5);
    assert_eq!(trace.beneath(5), 6..6);
    assert_eq!(trace.beneath(99), 100..100);
}

fn named(program: Key, path: u32, height: u8) -> Call<'static> {
    Call {
        path,
        stack_height: Some(height),
        program: Some(program),
        accounts: &[],
        data: &[],
    }
}

fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn what_is_logged_belongs_to_the_call_that_logged_it() {
    let (outer, inner) = ([5; 32], [6; 32]);
    let calls = [
        named(programs::ED25519, 0, 1),
        named(outer, 1 << 16, 1),
        named(inner, (1 << 16) | 1, 2),
    ];
    let (one, other) = (
        bs58::encode(outer).into_string(),
        bs58::encode(inner).into_string(),
    );
    let log = [
        format!("Program {one} invoke [1]"),
        format!("Program {other} invoke [2]"),
        "Program log: Program data: AAAA".into(),
        "Program data: AQI=".into(),
        format!("Program {other} success"),
        "Program data: Aw==".into(),
        format!("Program {one} success"),
        "Program data: BA==".into(),
    ];
    let found = log::written(&calls, &log);
    let found: Vec<_> = found
        .iter()
        .map(|written| (written.call, written.data.as_slice()))
        .collect();
    assert_eq!(found, [(2, &[1, 2][..]), (1, &[3][..])]);
    // A call that the trace does not have, and a cut: nothing after is believed.
    let strange = format!("Program {} invoke [1]", bs58::encode([9; 32]).into_string());
    assert!(log::written(&calls, &[&[strange][..], &log].concat()).is_empty());
    let cut = [&log[..2], &lines(&["Log truncated"]), &log[3..]].concat();
    assert!(log::written(&calls, &cut).is_empty());
}

proptest! {
    #[test]
    fn no_log_is_too_strange(log in prop::collection::vec("(Program |)([a-zA-Z1-9]{0,44}|11111111111111111111111111111111)( invoke \\[[0-9]{0,3}\\]| success| failed: x|data: [A-Za-z+/=]{0,20}|)", 0..12)) {
        let calls = [named(programs::SYSTEM, 0, 1), named(programs::SYSTEM, 1, 2)];
        log::written(&calls, &log);
    }
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
