//! Raydium CPMM (constant product, Token-2022 too), an Anchor program. It tells its swaps in the log.

use super::{Event, Instruction, Known, Unread, discriminator, pool, told};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [143, 190, 90, 218, 196, 30, 51, 222] => pool(instruction, "swap_base_input", 3, 0, [6, 7]),
        [55, 217, 98, 86, 163, 74, 180, 173] => pool(instruction, "swap_base_output", 3, 0, [6, 7]),
        [175, 175, 109, 31, 13, 152, 155, 237] => Known::named("initialize"),
        [242, 35, 198, 137, 82, 225, 242, 182] => Known::named("deposit"),
        [183, 18, 70, 156, 148, 109, 161, 34] => Known::named("withdraw"),
        [136, 136, 252, 221, 194, 66, 126, 89] => Known::named("collect_protocol_fee"),
        [167, 138, 78, 149, 223, 194, 6, 126] => Known::named("collect_fund_fee"),
        [20, 22, 86, 123, 198, 28, 219, 132] => Known::named("collect_creator_fee"),
        _ => Err(Unread::Unknown),
    }
}

/// `SwapEvent`: pool, both vaults before, what went in, what came out.
pub(super) fn logged(data: &[u8]) -> Result<Option<Event>, Unread> {
    let mut data = Reader::new(data);
    if data.array::<8>()? != [64, 198, 205, 232, 38, 8, 113, 226] {
        return Ok(None);
    }
    let pool = data.key()?;
    data.take(2 * 8)?;
    Ok(Some(told(Some(pool), data.u64()?, data.u64()?)))
}
