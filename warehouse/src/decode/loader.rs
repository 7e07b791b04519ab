//! The upgradeable loader: programs deployed, upgraded, closed. Data is bincode, first a `u32`
//! (`solana-loader-v3-interface`, `UpgradeableLoaderInstruction`).

use super::{Instruction, Known, Unread, bytes::Reader};

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
            instruction.lamports("close_program_account", [0, 1], None)?,
        ),
        6 => Known::named("extend_program"),
        7 => Known::named("set_authority_checked"),
        _ => Err(Unread::Unknown),
    }
}
