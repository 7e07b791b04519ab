//! The upgradeable loader: programs deployed, upgraded, closed. Data is bincode, first a `u32`
//! (`solana-loader-v3-interface`, `UpgradeableLoaderInstruction`).

use super::{Effect, Instruction, Known, LamportMovement, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match Reader::new(instruction.data).u32()? {
        0 => Known::named("initialize_buffer"),
        1 => Known::named("write"),
        2 => Known::named("deploy_with_max_data_len"),
        // The buffer's lamports go to the spill account, less what the program data account needs.
        3 => Known::named("upgrade"),
        4 => Known::named("set_authority"),
        5 => Known::with(
            "close",
            Effect::Lamports(LamportMovement {
                kind: "close_program_account",
                source: instruction.account(0)?,
                destination: instruction.account(1)?,
                lamports: None,
                empties: true,
            }),
        ),
        6 => Known::named("extend_program"),
        7 => Known::named("set_authority_checked"),
        _ => Err(Unread::Unknown),
    }
}
