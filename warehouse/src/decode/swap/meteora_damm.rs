//! Meteora DAMM, both versions: Anchor programs.
//!
//! The first keeps its tokens in vaults of another program, shared with other pools, and its fees are transfers beside. The
//! event it logs counts what its shares of the vault are worth, rounded, and so is not compared: of four recorded swaps two
//! differ from the transfers by millionths. The second has vaults of its own and tells its swaps by calls to itself.

use super::{Instruction, Known, SELF_CALL, Unread, discriminator, pool};

pub fn read_1(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 0, 12, [5, 6]),
        _ => Err(Unread::Unknown),
    }
}

pub fn read_2(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 1, 8, [4, 5]),
        [65, 75, 63, 76, 235, 91, 91, 136] => pool(instruction, "swap2", 1, 8, [4, 5]),
        // Its events are named, not compared: no recorded swap is at hand to prove their layout.
        SELF_CALL => Known::named("event"),
        _ => Err(Unread::Unknown),
    }
}
