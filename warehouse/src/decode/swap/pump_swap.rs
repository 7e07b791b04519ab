//! PumpSwap (constant product), an Anchor program that tells its swaps by calls to itself. Base is the pool's token, quote
//! mostly wrapped SOL. Its fees are transfers beside: on a buy from the user, on a sale from the pool's quote vault.

use super::{Instruction, Known, SELF_CALL, Unread, discriminator, event, pool};
use crate::decode::bytes::Reader;

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let (name, rest) = discriminator(instruction)?;
    match name {
        [102, 6, 61, 18, 1, 218, 235, 234] => pool(instruction, "buy", 0, 1, [7, 8]),
        [198, 46, 21, 82, 180, 217, 232, 112] => {
            pool(instruction, "buy_exact_quote_in", 0, 1, [7, 8])
        }
        [51, 230, 133, 164, 1, 127, 131, 173] => pool(instruction, "sell", 0, 1, [7, 8]),
        [233, 146, 209, 142, 207, 104, 64, 188] => Known::named("create_pool"),
        [242, 35, 198, 137, 82, 225, 242, 182] => Known::named("deposit"),
        [183, 18, 70, 156, 148, 109, 161, 34] => Known::named("withdraw"),
        [140, 233, 33, 94, 132, 90, 194, 143] => Known::named("init_boost"),
        [160, 57, 89, 42, 181, 139, 43, 66] => Known::named("collect_coin_creator_fee"),
        [139, 52, 134, 85, 228, 229, 108, 241] => Known::named("transfer_creator_fees_to_pump"),
        [1, 33, 78, 185, 33, 67, 44, 92] => Known::named("transfer_creator_fees_to_pump_v2"),
        [234, 102, 194, 203, 150, 72, 62, 229] => Known::named("extend_account"),
        [86, 31, 192, 87, 163, 87, 79, 238] => Known::named("sync_user_volume_accumulator"),
        [16, 4, 71, 28, 204, 1, 40, 27] => Known::named("claim_token_incentives"),
        SELF_CALL => told(rest),
        _ => Err(Unread::Unknown),
    }
}

/// Fourteen integers of eight bytes, then the pool. In a buy the second is the base out and the thirteenth the quote with
/// the liquidity providers' fee, which is what the pool gains. In a sale the second is the base in and the thirteenth the
/// quote without that fee, which is what it loses.
fn told(data: &[u8]) -> Result<Known, Unread> {
    let mut data = Reader::new(data);
    let (name, buys) = match data.array::<8>()? {
        [103, 244, 82, 31, 44, 245, 119, 119] => ("event_buy", true),
        [62, 47, 55, 10, 165, 3, 220, 42] => ("event_sell", false),
        _ => return Known::named("event"),
    };
    data.take(8)?;
    let base = data.u64()?;
    data.take(10 * 8)?;
    let quote = data.u64()?;
    data.take(8)?;
    let pool = data.key()?;
    let (amount_in, amount_out) = if buys { (quote, base) } else { (base, quote) };
    event(name, super::told(Some(pool), amount_in, amount_out))
}
