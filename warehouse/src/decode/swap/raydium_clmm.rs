//! Raydium CLMM (concentrated liquidity), an Anchor program. It tells its swaps in the log.

use super::{Event, Instruction, Known, Unread, discriminator, pool, told};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 2, 0, [5, 6]),
        [43, 4, 237, 11, 26, 201, 30, 98] => pool(instruction, "swap_v2", 2, 0, [5, 6]),
        // `swap_router_base_in` hops through pools that only its remaining accounts name: not read.
        _ => Err(Unread::Unknown),
    }
}

/// `SwapEvent`: pool, sender and two token accounts, then amount and transfer fee of each mint, and whether the first went in.
pub(super) fn logged(data: &[u8]) -> Result<Option<Event>, Unread> {
    let mut data = Reader::new(data);
    if data.array::<8>()? != [64, 198, 205, 232, 38, 8, 113, 226] {
        return Ok(None);
    }
    let pool = data.key()?;
    data.take(3 * 32)?;
    let first = data.u64()?;
    data.take(8)?;
    let second = data.u64()?;
    data.take(8)?;
    let (amount_in, amount_out) = match data.u8()? {
        0 => (second, first),
        _ => (first, second),
    };
    Ok(Some(told(Some(pool), amount_in, amount_out)))
}
