//! What Token-2022 adds to the Token program: transfer fees, confidential balances, permissioned burns, and settings that
//! move nothing. An extension's instructions share its tag; their second byte says which.

use super::{
    Effect, Instruction, Known, TokenFlow, TokenMovement, Unread,
    bytes::Reader,
    mint::{MintState, MintStatement, TransferFee},
    token::{Mover, known, of_mint},
};

/// `data`: what follows the tag.
pub(super) fn read(
    instruction: &Instruction<'_>,
    tag: u8,
    mut data: Reader<'_>,
) -> Result<Known, Unread> {
    match tag {
        25 => of_mint(
            instruction,
            "initialize_mint_close_authority",
            MintState {
                close_authority: Some(data.optional_key()?),
                ..MintState::default()
            },
        ),
        26 => transfer_fee(instruction, &mut data),
        27 => confidential_transfer(instruction, &mut data),
        28 => pick(
            &mut data,
            &[
                "initialize_default_account_state",
                "update_default_account_state",
            ],
        ),
        29 => Known::named("reallocate"),
        30 => pick(
            &mut data,
            &[
                "enable_required_memo_transfers",
                "disable_required_memo_transfers",
            ],
        ),
        31 => Known::named("create_native_mint"),
        32 => Known::named("initialize_non_transferable_mint"),
        33 => pick(
            &mut data,
            &[
                "initialize_interest_bearing_config",
                "update_interest_bearing_config_rate",
            ],
        ),
        34 => pick(&mut data, &["enable_cpi_guard", "disable_cpi_guard"]),
        35 => of_mint(
            instruction,
            "initialize_permanent_delegate",
            MintState {
                permanent_delegate: Some(data.nonzero_key()?),
                ..MintState::default()
            },
        ),
        36 => transfer_hook(instruction, &mut data),
        37 => confidential_transfer_fee(instruction, &mut data),
        39 => pick(
            &mut data,
            &["initialize_metadata_pointer", "update_metadata_pointer"],
        ),
        40 => pick(
            &mut data,
            &["initialize_group_pointer", "update_group_pointer"],
        ),
        41 => pick(
            &mut data,
            &[
                "initialize_group_member_pointer",
                "update_group_member_pointer",
            ],
        ),
        42 => confidential_mint_burn(instruction, &mut data),
        43 => pick(
            &mut data,
            &["initialize_scaled_ui_amount_config", "update_multiplier"],
        ),
        44 => pick(
            &mut data,
            &["initialize_pausable_config", "pause", "resume"],
        ),
        46 => permissioned_burn(instruction, &mut data),
        _ => interface(instruction),
    }
}

fn pick(data: &mut Reader<'_>, names: &[&'static str]) -> Result<Known, Unread> {
    let name = names.get(usize::from(data.u8()?));
    name.map_or(Err(Unread::Unknown), |name| Known::named(name))
}

fn transfer_fee(instruction: &Instruction<'_>, data: &mut Reader<'_>) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    match data.u8()? {
        0 => {
            // Who may change the fee, and who may take what is withheld.
            data.optional_key()?;
            data.optional_key()?;
            set_fee(instruction, data, "initialize_transfer_fee_config")
        }
        1 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            fee: Some(data.u64()?),
            ..mover.movement(
                "transfer_checked_with_fee",
                TokenFlow::Transfer,
                [Some(1), Some(0), Some(2), Some(3)],
            )?
        }),
        2 => withdraw_withheld(
            &mover,
            "withdraw_withheld_tokens_from_mint",
            "withdraw_withheld_from_mint",
        ),
        3 => withdraw_withheld(
            &mover,
            "withdraw_withheld_tokens_from_accounts",
            "withdraw_withheld_from_accounts",
        ),
        4 => known(mover.movement(
            "harvest_withheld_tokens_to_mint",
            TokenFlow::Harvest,
            [Some(0), None, None, None],
        )?),
        5 => set_fee(instruction, data, "set_transfer_fee"),
        _ => Err(Unread::Unknown),
    }
}

fn set_fee(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
    name: &'static str,
) -> Result<Known, Unread> {
    let fee = TransferFee {
        basis_points: data.u16()?,
        maximum: data.u64()?,
        epoch: None,
    };
    let state = MintState {
        transfer_fee: Some(Some(fee)),
        ..MintState::default()
    };
    of_mint(instruction, name, state)
}

fn transfer_hook(instruction: &Instruction<'_>, data: &mut Reader<'_>) -> Result<Known, Unread> {
    let name = match data.u8()? {
        0 => {
            // Who may change the hook.
            data.key()?;
            "initialize_transfer_hook"
        }
        1 => "update_transfer_hook",
        _ => return Err(Unread::Unknown),
    };
    let state = MintState {
        transfer_hook: Some(data.nonzero_key()?),
        ..MintState::default()
    };
    of_mint(instruction, name, state)
}

/// The kinds are older than the names, and stay as they are stored.
fn withdraw_withheld(
    mover: &Mover<'_>,
    name: &'static str,
    kind: &'static str,
) -> Result<Known, Unread> {
    let accounts = [Some(0), None, Some(1), Some(2)];
    let movement = mover.movement(kind, TokenFlow::WithdrawWithheld, accounts)?;
    Known::with(name, Effect::Tokens(movement))
}

fn confidential_transfer(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    match data.u8()? {
        0 => Known::named("initialize_confidential_transfer_mint"),
        1 => Known::named("update_confidential_transfer_mint"),
        2 => Known::named("configure_confidential_transfer_account"),
        3 => Known::named("approve_confidential_transfer_account"),
        4 => Known::named("empty_confidential_transfer_account"),
        5 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement(
                "deposit_confidential_transfer",
                TokenFlow::Shield,
                [Some(1), Some(0), None, Some(2)],
            )?
        }),
        6 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement(
                "withdraw_confidential_transfer",
                TokenFlow::Unshield,
                [Some(1), None, Some(0), None],
            )?
        }),
        7 => confidential(
            &mover,
            "confidential_transfer",
            [Some(1), Some(0), Some(2), None],
        ),
        8 => Known::named("apply_pending_confidential_transfer_balance"),
        9 => Known::named("enable_confidential_transfer_confidential_credits"),
        10 => Known::named("disable_confidential_transfer_confidential_credits"),
        11 => Known::named("enable_confidential_transfer_non_confidential_credits"),
        12 => Known::named("disable_confidential_transfer_non_confidential_credits"),
        13 => confidential(
            &mover,
            "confidential_transfer_with_fee",
            [Some(1), Some(0), Some(2), None],
        ),
        14 => Known::named("configure_confidential_account_with_registry"),
        _ => Err(Unread::Unknown),
    }
}

fn confidential_transfer_fee(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    match data.u8()? {
        0 => Known::named("initialize_confidential_transfer_fee_config"),
        1 => confidential(
            &mover,
            "withdraw_withheld_confidential_transfer_tokens_from_mint",
            [Some(0), None, Some(1), None],
        ),
        2 => confidential(
            &mover,
            "withdraw_withheld_confidential_transfer_tokens_from_accounts",
            [Some(0), None, Some(1), None],
        ),
        3 => confidential(
            &mover,
            "harvest_withheld_confidential_transfer_tokens_to_mint",
            [Some(0), None, None, None],
        ),
        4 => Known::named("enable_confidential_transfer_fee_harvest_to_mint"),
        5 => Known::named("disable_confidential_transfer_fee_harvest_to_mint"),
        _ => Err(Unread::Unknown),
    }
}

fn confidential_mint_burn(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    match data.u8()? {
        0 => Known::named("initialize_confidential_mint_burn_mint"),
        1 => Known::named("rotate_confidential_mint_burn_supply_el_gamal_pubkey"),
        2 => Known::named("update_confidential_mint_burn_decryptable_supply"),
        3 => confidential(&mover, "confidential_mint", [Some(1), None, Some(0), None]),
        4 => confidential(&mover, "confidential_burn", [Some(1), Some(0), None, None]),
        5 => Known::named("apply_pending_burn"),
        _ => Err(Unread::Unknown),
    }
}

fn permissioned_burn(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    let accounts = [Some(1), Some(0), None, Some(3)];
    match data.u8()? {
        0 => Known::named("initialize_permissioned_burn_config"),
        1 => known(TokenMovement {
            amount: Some(data.u64()?),
            ..mover.movement("permissioned_burn", TokenFlow::Burn, accounts)?
        }),
        2 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement("permissioned_burn_checked", TokenFlow::Burn, accounts)?
        }),
        3 => confidential(
            &mover,
            "permissioned_confidential_burn",
            [Some(1), Some(0), None, None],
        ),
        _ => Err(Unread::Unknown),
    }
}

fn confidential(
    mover: &Mover<'_>,
    kind: &'static str,
    accounts: [Option<usize>; 4],
) -> Result<Known, Unread> {
    known(TokenMovement {
        fee: None,
        ..mover.movement(kind, TokenFlow::Confidential, accounts)?
    })
}

/// Instructions of the metadata and group interfaces, which Token-2022 implements: eight bytes name them. The account with
/// the metadata is the mint itself.
fn interface(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let Some((name, rest)) = instruction.data.split_first_chunk::<8>() else {
        return Err(Unread::Unknown);
    };
    let mut rest = Reader::new(rest);
    Known::named(match name {
        [210, 225, 30, 162, 88, 184, 77, 141] => {
            return initialize_metadata(instruction, &mut rest);
        }
        [221, 233, 49, 45, 181, 202, 220, 200] => {
            return update_metadata_field(instruction, &mut rest);
        }
        [234, 18, 32, 56, 89, 141, 37, 181] => "remove_token_metadata_key",
        [215, 228, 166, 228, 84, 100, 86, 123] => {
            let state = MintState {
                metadata_authority: Some(rest.nonzero_key()?),
                ..MintState::default()
            };
            return of_mint(instruction, "update_token_metadata_authority", state);
        }
        [250, 166, 180, 250, 13, 12, 184, 70] => "emit_token_metadata",
        [121, 113, 108, 39, 54, 51, 0, 4] => "initialize_token_group",
        [108, 37, 171, 143, 248, 30, 18, 110] => "update_token_group_max_size",
        [161, 105, 88, 1, 237, 221, 216, 203] => "update_token_group_authority",
        [152, 32, 222, 176, 223, 237, 116, 134] => "initialize_token_group_member",
        _ => return Err(Unread::Unknown),
    })
}

fn initialize_metadata(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let name = "initialize_token_metadata";
    let statement = MintStatement {
        name,
        mint: instruction.account(0)?,
        metadata_authority: Some(instruction.account(1)?),
        state: MintState {
            name: Some(data.text()?),
            symbol: Some(data.text()?),
            uri: Some(data.text()?),
            ..MintState::default()
        },
    };
    Known::with(name, Effect::Mint(Box::new(statement)))
}

/// Fields that a project adds of its own are not told.
fn update_metadata_field(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
) -> Result<Known, Unread> {
    let name = "update_token_metadata_field";
    let mut state = MintState::default();
    match data.u8()? {
        0 => state.name = Some(data.text()?),
        1 => state.symbol = Some(data.text()?),
        2 => state.uri = Some(data.text()?),
        3 => return Known::named(name),
        _ => return Err(Unread::Malformed),
    }
    of_mint(instruction, name, state)
}
