//! The Associated Token Account program. It moves nothing itself: creation and recovery call the System and Token programs,
//! whose calls stand beneath (`spl-associated-token-account-interface`).

use super::{Instruction, Known, Unread};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match instruction.data.first() {
        // The first version of the program had one instruction, without data.
        None | Some(0) => Known::named("create"),
        Some(1) => Known::named("create_idempotent"),
        Some(2) => Known::named("recover_nested"),
        Some(_) => Err(Unread::Unknown),
    }
}
