//! Raydium CLMM (concentrated liquidity), an Anchor program. Its swap event goes to the log only.

use super::{Instruction, Known, Unread, discriminator, pool};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 2, 0, [5, 6]),
        [43, 4, 237, 11, 26, 201, 30, 98] => pool(instruction, "swap_v2", 2, 0, [5, 6]),
        // `swap_router_base_in` hops through pools that only its remaining accounts name: not read.
        _ => Err(Unread::Unknown),
    }
}
