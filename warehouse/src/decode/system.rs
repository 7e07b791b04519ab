//! The System program: lamports between accounts it owns, and accounts made. Data is bincode, first a `u32` that names the
//! instruction (`solana-system-interface`, `SystemInstruction`).

use super::{Effect, Index, Instruction, Known, LamportMovement, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mut data = Reader::new(instruction.data);
    match data.u32()? {
        0 => moved(
            "create_account",
            instruction.account(0)?,
            instruction.account(1)?,
            data.u64()?,
        ),
        1 => {
            data.key()?;
            Known::named("assign")
        }
        2 => moved(
            "transfer",
            instruction.account(0)?,
            instruction.account(1)?,
            data.u64()?,
        ),
        3 => {
            data.key()?;
            data.skip_string()?;
            moved(
                "create_account_with_seed",
                instruction.account(0)?,
                instruction.account(1)?,
                data.u64()?,
            )
        }
        4 => Known::named("advance_nonce"),
        5 => moved(
            "withdraw_from_nonce",
            instruction.account(0)?,
            instruction.account(1)?,
            data.u64()?,
        ),
        6 => {
            data.key()?;
            Known::named("initialize_nonce")
        }
        7 => {
            data.key()?;
            Known::named("authorize_nonce")
        }
        8 => {
            data.u64()?;
            Known::named("allocate")
        }
        9 => Known::named("allocate_with_seed"),
        10 => Known::named("assign_with_seed"),
        11 => moved(
            "transfer_with_seed",
            instruction.account(0)?,
            instruction.account(2)?,
            data.u64()?,
        ),
        12 => Known::named("upgrade_nonce"),
        // The account may hold its lamports already; then nobody funds it.
        13 => match (data.u64()?, instruction.account(1)) {
            (lamports, Ok(funder)) => moved(
                "create_account_allow_prefund",
                funder,
                instruction.account(0)?,
                lamports,
            ),
            (0, Err(_)) => Known::named("create_account_allow_prefund"),
            (_, Err(missing)) => Err(missing),
        },
        _ => Err(Unread::Unknown),
    }
}

fn moved(
    name: &'static str,
    source: Index,
    destination: Index,
    lamports: u64,
) -> Result<Known, Unread> {
    Known::with(
        name,
        Effect::Lamports(LamportMovement {
            kind: name,
            source,
            destination,
            lamports: Some(lamports),
            empties: false,
        }),
    )
}
