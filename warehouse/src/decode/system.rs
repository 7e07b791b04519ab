//! The System program: lamports between accounts it owns, and accounts made. Data is bincode, first a `u32` that names the
//! instruction (`solana-system-interface`, `SystemInstruction`).

use super::{Instruction, Known, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mut data = Reader::new(instruction.data);
    let moved = |name, accounts, lamports| {
        Known::with(name, instruction.lamports(name, accounts, Some(lamports))?)
    };
    match data.u32()? {
        0 => moved("create_account", [0, 1], data.u64()?),
        1 => {
            data.key()?;
            Known::named("assign")
        }
        2 => moved("transfer", [0, 1], data.u64()?),
        3 => {
            data.key()?;
            data.skip_string()?;
            moved("create_account_with_seed", [0, 1], data.u64()?)
        }
        4 => Known::named("advance_nonce"),
        5 => moved("withdraw_from_nonce", [0, 1], data.u64()?),
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
        11 => moved("transfer_with_seed", [0, 2], data.u64()?),
        12 => Known::named("upgrade_nonce"),
        // The account may hold its lamports already; then nobody funds it.
        13 => match data.u64()? {
            0 if instruction.account(1).is_err() => Known::named("create_account_allow_prefund"),
            lamports => moved("create_account_allow_prefund", [1, 0], lamports),
        },
        _ => Err(Unread::Unknown),
    }
}
