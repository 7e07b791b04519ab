//! The Memo programs: the data is the memo, UTF-8. The first version took any bytes.

use super::{Instruction, Known, Unread};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match std::str::from_utf8(instruction.data) {
        Ok(_) => Known::named("memo"),
        Err(_) => Err(Unread::Malformed),
    }
}
