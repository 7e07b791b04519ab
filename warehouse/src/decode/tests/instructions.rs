//! What single instructions say, program by program.

use super::*;

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
}
