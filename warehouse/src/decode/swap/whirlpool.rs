//! Orca Whirlpools (concentrated liquidity), an Anchor program. It tells its swaps in the log.

use super::{Event, Instruction, Known, Unread, discriminator, pool, told, vaulted};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match discriminator(instruction)?.0 {
        [248, 198, 158, 145, 225, 117, 135, 200] => pool(instruction, "swap", 2, 1, [4, 6]),
        [43, 4, 237, 11, 26, 201, 30, 98] => pool(instruction, "swap_v2", 4, 3, [8, 10]),
        [195, 96, 237, 108, 68, 162, 219, 230] => {
            two_hops(instruction, "two_hop_swap", 1, [(2, [5, 7]), (3, [9, 11])])
        }
        [186, 143, 209, 29, 254, 2, 194, 117] => two_hops(
            instruction,
            "two_hop_swap_v2",
            14,
            [(0, [9, 10]), (1, [11, 12])],
        ),
        _ => Err(Unread::Unknown),
    }
}

/// Two pools by one instruction: two swaps.
fn two_hops(
    instruction: &Instruction<'_>,
    name: &'static str,
    user: usize,
    hops: [(usize, [usize; 2]); 2],
) -> Result<Known, Unread> {
    let hops = hops.map(|(pool, vaults)| vaulted(instruction, pool, user, vaults));
    Ok(Known {
        name,
        effects: hops.into_iter().collect::<Result<_, _>>()?,
    })
}

/// `Traded`: pool, direction, price before and after, what went in, what came out. Told since 2025.
pub(super) fn logged(data: &[u8]) -> Result<Option<Event>, Unread> {
    let mut data = Reader::new(data);
    if data.array::<8>()? != [225, 202, 73, 175, 147, 43, 160, 150] {
        return Ok(None);
    }
    let pool = data.key()?;
    data.take(1 + 16 + 16)?;
    Ok(Some(told(Some(pool), data.u64()?, data.u64()?)))
}
