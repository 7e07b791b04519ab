//! The Address Lookup Table program. Data is bincode, first a `u32` (`solana-address-lookup-table-interface`). Rent of a new
//! or longer table is a System transfer beneath; closing a table empties it.

use super::{Instruction, Known, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match Reader::new(instruction.data).u32()? {
        0 => Known::named("create_lookup_table"),
        1 => Known::named("freeze_lookup_table"),
        2 => Known::named("extend_lookup_table"),
        3 => Known::named("deactivate_lookup_table"),
        4 => Known::with(
            "close_lookup_table",
            instruction.lamports("close_lookup_table", [0, 2], None)?,
        ),
        _ => Err(Unread::Unknown),
    }
}
