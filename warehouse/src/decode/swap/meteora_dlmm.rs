//! Meteora DLMM (liquidity in bins), an Anchor program that tells its swaps by calls to itself.

use super::{Instruction, Known, SELF_CALL, Unread, discriminator, event, pool};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let (name, rest) = discriminator(instruction)?;
    match name {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 0, 10, [2, 3]),
        [65, 75, 63, 76, 235, 91, 91, 136] => pool(instruction, "swap2", 0, 10, [2, 3]),
        [250, 73, 101, 33, 38, 207, 75, 184] => pool(instruction, "swap_exact_out", 0, 10, [2, 3]),
        [43, 215, 247, 132, 137, 60, 243, 81] => {
            pool(instruction, "swap_exact_out2", 0, 10, [2, 3])
        }
        [56, 173, 230, 208, 173, 228, 156, 205] => {
            pool(instruction, "swap_with_price_impact", 0, 10, [2, 3])
        }
        [74, 98, 192, 214, 177, 51, 75, 51] => {
            pool(instruction, "swap_with_price_impact2", 0, 10, [2, 3])
        }
        SELF_CALL => told(rest),
        _ => Err(Unread::Unknown),
    }
}

/// `Swap`: pair, user, first and last bin (`i32`), amounts in and out. Newer versions tell a second event of the same swap.
fn told(data: &[u8]) -> Result<Known, Unread> {
    let mut data = Reader::new(data);
    match data.array::<8>()? {
        [81, 108, 227, 190, 205, 208, 10, 196] => {
            let pool = data.key()?;
            data.take(32 + 4 + 4)?;
            let (amount_in, amount_out) = (data.u64()?, data.u64()?);
            event("event_swap", super::told(Some(pool), amount_in, amount_out))
        }
        _ => Known::named("event"),
    }
}
