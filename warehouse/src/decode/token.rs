//! The Token and Token-2022 programs: which instructions move, make, destroy or withhold tokens, and how many.
//!
//! The programs' source is the contract (`spl-token-2022-interface`, `TokenInstruction::unpack`): first byte the instruction,
//! amounts little-endian. What an instruction does not say (a transfer's mint, a withheld fee) is `None` here and never
//! guessed as zero; [`super::token_flow`] finds from the balances what can be found.

use super::{
    Effect, Instruction, Known, LamportMovement, TokenFlow, TokenMovement, Unread,
    bytes::Reader,
    mint::{MintState, MintStatement},
    programs, token_extension,
};

/// The instruction that holds others. The program refuses batches within batches.
const BATCH: u8 = 255;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match instruction.data.split_first() {
        Some((&BATCH, parts)) => batch(instruction, parts),
        _ => single(instruction),
    }
}

/// Parts of a batch: account count, data length, data; their accounts follow one another.
fn batch(instruction: &Instruction<'_>, parts: &[u8]) -> Result<Known, Unread> {
    let mut effects = Vec::new();
    let mut data = Reader::new(parts);
    let mut accounts = instruction.accounts;
    while !data.rest().is_empty() {
        let (count, length) = (usize::from(data.u8()?), usize::from(data.u8()?));
        let part = data.take(length)?;
        let (own, others) = accounts.split_at_checked(count).ok_or(Unread::Malformed)?;
        if part.first() == Some(&BATCH) {
            return Err(Unread::Malformed);
        }
        let part = Instruction {
            program: instruction.program,
            data: part,
            accounts: own,
        };
        effects.extend(single(&part)?.effects);
        accounts = others;
    }
    Ok(Known {
        name: "batch",
        effects,
    })
}

/// What the readers of movements need to know of their instruction.
pub(super) struct Mover<'a>(pub &'a Instruction<'a>);

impl Mover<'_> {
    /// Places in the instruction's accounts; those named must be there.
    pub fn movement(
        &self,
        kind: &'static str,
        flow: TokenFlow,
        [mint, source, destination, authority]: [Option<usize>; 4],
    ) -> Result<TokenMovement, Unread> {
        let place = |place: Option<usize>| place.map(|place| self.0.account(place)).transpose();
        // The Token program has no transfer fees; in Token-2022 only a transfer can bear one.
        let fee = (*self.0.program == programs::TOKEN || flow != TokenFlow::Transfer).then_some(0);
        Ok(TokenMovement {
            kind,
            flow,
            amount: None,
            decimals: None,
            fee,
            mint: place(mint)?,
            source: place(source)?,
            destination: place(destination)?,
            authority: place(authority)?,
        })
    }
}

pub(super) fn known(movement: TokenMovement) -> Result<Known, Unread> {
    Known::with(movement.kind, Effect::Tokens(movement))
}

/// An instruction on the mint that is its first account, which says this of it.
pub(super) fn of_mint(
    instruction: &Instruction<'_>,
    name: &'static str,
    state: MintState,
) -> Result<Known, Unread> {
    let statement = MintStatement {
        name,
        mint: instruction.account(0)?,
        metadata_authority: None,
        state,
    };
    Known::with(name, Effect::Mint(Box::new(statement)))
}

fn initialize_mint(
    instruction: &Instruction<'_>,
    data: &mut Reader<'_>,
    name: &'static str,
) -> Result<Known, Unread> {
    let state = MintState {
        decimals: Some(data.u8()?),
        mint_authority: Some(Some(data.key()?)),
        freeze_authority: Some(data.optional_key()?),
        ..MintState::default()
    };
    of_mint(instruction, name, state)
}

/// Authorities of token accounts, and those of extensions that are not told of, say nothing of a mint.
fn set_authority(instruction: &Instruction<'_>, data: &mut Reader<'_>) -> Result<Known, Unread> {
    let (kind, authority) = (data.u8()?, data.optional_key()?);
    let mut state = MintState::default();
    match kind {
        0 => state.mint_authority = Some(authority),
        1 => state.freeze_authority = Some(authority),
        6 => state.close_authority = Some(authority),
        8 => state.permanent_delegate = Some(authority),
        _ => return Known::named("set_authority"),
    }
    of_mint(instruction, "set_authority", state)
}

fn single(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mover = Mover(instruction);
    let mut data = Reader::new(instruction.data);
    match data.u8()? {
        0 => initialize_mint(instruction, &mut data, "initialize_mint"),
        1 => open(instruction, "initialize_account"),
        2 => Known::named("initialize_multisig"),
        3 => known(TokenMovement {
            amount: Some(data.u64()?),
            ..mover.movement(
                "transfer",
                TokenFlow::Transfer,
                [None, Some(0), Some(1), Some(2)],
            )?
        }),
        4 => Known::named("approve"),
        5 => Known::named("revoke"),
        6 => set_authority(instruction, &mut data),
        7 => known(TokenMovement {
            amount: Some(data.u64()?),
            ..mover.movement(
                "mint_to",
                TokenFlow::Mint,
                [Some(0), None, Some(1), Some(2)],
            )?
        }),
        8 => known(TokenMovement {
            amount: Some(data.u64()?),
            ..mover.movement("burn", TokenFlow::Burn, [Some(1), Some(0), None, Some(2)])?
        }),
        9 => close(instruction),
        10 => Known::named("freeze_account"),
        11 => Known::named("thaw_account"),
        12 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement(
                "transfer_checked",
                TokenFlow::Transfer,
                [Some(1), Some(0), Some(2), Some(3)],
            )?
        }),
        13 => Known::named("approve_checked"),
        14 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement(
                "mint_to_checked",
                TokenFlow::Mint,
                [Some(0), None, Some(1), Some(2)],
            )?
        }),
        15 => known(TokenMovement {
            amount: Some(data.u64()?),
            decimals: Some(data.u8()?),
            ..mover.movement(
                "burn_checked",
                TokenFlow::Burn,
                [Some(1), Some(0), None, Some(2)],
            )?
        }),
        16 => open(instruction, "initialize_account2"),
        17 => known(mover.movement(
            "sync_native",
            TokenFlow::SyncNative,
            [None, Some(0), None, None],
        )?),
        18 => open(instruction, "initialize_account3"),
        19 => Known::named("initialize_multisig2"),
        20 => initialize_mint(instruction, &mut data, "initialize_mint2"),
        21 => Known::named("get_account_data_size"),
        22 => Known::named("initialize_immutable_owner"),
        23 => Known::named("amount_to_ui_amount"),
        24 => Known::named("ui_amount_to_amount"),
        38 => Known::with(
            "withdraw_excess_lamports",
            Effect::Lamports(LamportMovement {
                kind: "withdraw_excess_lamports",
                source: instruction.account(0)?,
                destination: instruction.account(1)?,
                lamports: None,
                empties: false,
            }),
        ),
        45 => unwrap_lamports(instruction, &mut data),
        tag if *instruction.program == programs::TOKEN_2022 => {
            token_extension::read(instruction, tag, data)
        }
        _ => Err(Unread::Unknown),
    }
}

/// The account's tokens become none, its lamports all go to the destination.
fn close(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let tokens = Mover(instruction).movement(
        "close_account",
        TokenFlow::Close,
        [None, Some(0), Some(1), Some(2)],
    )?;
    let lamports = instruction.lamports("close_account", [0, 1], None)?;
    Ok(Known {
        name: "close_account",
        effects: vec![Effect::Tokens(tokens), lamports],
    })
}

fn open(instruction: &Instruction<'_>, name: &'static str) -> Result<Known, Unread> {
    let opened =
        Mover(instruction).movement(name, TokenFlow::Open, [Some(1), None, Some(0), None])?;
    known(opened)
}

fn unwrap_lamports(instruction: &Instruction<'_>, data: &mut Reader<'_>) -> Result<Known, Unread> {
    let amount = match data.u8()? {
        0 => None,
        1 => Some(data.u64()?),
        _ => return Err(Unread::Malformed),
    };
    let tokens = TokenMovement {
        amount,
        ..Mover(instruction).movement(
            "unwrap_lamports",
            TokenFlow::Unwrap,
            [None, Some(0), Some(1), Some(2)],
        )?
    };
    let lamports = LamportMovement {
        kind: "unwrap_lamports",
        source: instruction.account(0)?,
        destination: instruction.account(1)?,
        lamports: amount,
        empties: false,
    };
    Ok(Known {
        name: "unwrap_lamports",
        effects: vec![Effect::Tokens(tokens), Effect::Lamports(lamports)],
    })
}
