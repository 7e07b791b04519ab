//! Raydium AMM v4. First byte the instruction; accounts as `raydium-amm`'s `AmmInstruction` lists them.

use super::{Event, Instruction, Known, Unread, pool, told};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    match instruction.data.first().ok_or(Unread::Malformed)? {
        0 => Known::named("initialize"),
        1 => Known::named("initialize2"),
        2 => Known::named("monitor_step"),
        3 => Known::named("deposit"),
        4 => Known::named("withdraw"),
        5 => Known::named("migrate_to_open_book"),
        6 => Known::named("set_params"),
        7 => Known::named("withdraw_pnl"),
        8 => Known::named("withdraw_srm"),
        9 => swap(instruction, "swap_base_in"),
        10 => Known::named("pre_initialize"),
        11 => swap(instruction, "swap_base_out"),
        12 => Known::named("simulate_info"),
        13 => Known::named("admin_cancel_orders"),
        14 => Known::named("create_config_account"),
        15 => Known::named("update_config_account"),
        // Without the order book's accounts.
        16 => pool(instruction, "swap_base_in_v2", 1, 7, [3, 4]),
        17 => pool(instruction, "swap_base_out_v2", 1, 7, [3, 4]),
        _ => Err(Unread::Unknown),
    }
}

/// The account of target orders, before the vaults, may be left out.
fn swap(instruction: &Instruction<'_>, name: &'static str) -> Result<Known, Unread> {
    match instruction.accounts.len() {
        17 => pool(instruction, name, 1, 16, [4, 5]),
        // One more than it needs changes nothing.
        18.. => pool(instruction, name, 1, 17, [5, 6]),
        _ => Err(Unread::Malformed),
    }
}

/// `ray_log`: a byte for its kind, then integers of eight. A swap with its amount in (3) states it first and what came out
/// last; one with its amount out (4) states that second and what went in last.
pub(super) fn logged(data: &[u8]) -> Result<Option<Event>, Unread> {
    let mut data = Reader::new(data);
    let kind = data.u8()?;
    let (first, second) = (data.u64()?, data.u64()?);
    data.take(4 * 8)?;
    let last = data.u64()?;
    Ok(match kind {
        3 => Some(told(None, first, last)),
        4 => Some(told(None, last, second)),
        _ => None,
    })
}
