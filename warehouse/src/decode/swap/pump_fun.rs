//! Pump.fun (bonding curves), an Anchor program that tells its trades by calls to itself.
//!
//! A curve holds lamports in its own account. A buyer pays by System transfers; a seller is paid without one, so the amount
//! comes from the event. Some instructions take the whole payment into the curve, which passes fees on or keeps them: then
//! the event alone tells what was traded. The newer instructions take any quote mint: with another than wrapped SOL, the
//! curve has a vault for it as for its token.

use super::{
    Effect, Instruction, Known, Quote, SELF_CALL, Shape, Sides, Unread, discriminator, event,
};
use crate::decode::{Index, bytes::Reader};

/// Places of a trade's accounts.
struct Places {
    mint: usize,
    curve: usize,
    vault: usize,
    user: usize,
    /// Quote mint and the curve's vault for it.
    quote: Option<[usize; 2]>,
}

/// `global, fee recipient, mint, curve, vault, user's tokens, user`.
const FIRST: Places = Places {
    mint: 2,
    curve: 3,
    vault: 4,
    user: 6,
    quote: None,
};
const SECOND: Places = Places {
    mint: 1,
    curve: 10,
    vault: 11,
    user: 13,
    quote: Some([2, 12]),
};
/// Fewer accounts: none for fees.
const THIRD: Places = Places {
    mint: 1,
    curve: 5,
    vault: 6,
    user: 8,
    quote: Some([2, 7]),
};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let (name, rest) = discriminator(instruction)?;
    match name {
        [102, 6, 61, 18, 1, 218, 235, 234] => trade(instruction, "buy", &FIRST),
        [51, 230, 133, 164, 1, 127, 131, 173] => trade(instruction, "sell", &FIRST),
        [184, 23, 238, 97, 103, 197, 211, 61] => trade(instruction, "buy_v2", &SECOND),
        [194, 171, 28, 70, 104, 77, 91, 47] => trade(instruction, "buy_exact_quote_in_v2", &SECOND),
        [7, 5, 29, 196, 245, 23, 101, 80] => trade(instruction, "buy_v3", &THIRD),
        [93, 246, 130, 60, 231, 233, 64, 178] => trade(instruction, "sell_v2", &SECOND),
        [24, 30, 200, 40, 5, 28, 7, 119] => Known::named("create"),
        [214, 144, 76, 236, 95, 139, 49, 180] => Known::named("create_v2"),
        [234, 102, 194, 203, 150, 72, 62, 229] => Known::named("extend_account"),
        [187, 203, 18, 31, 206, 237, 254, 41] => Known::named("migrate_v2"),
        SELF_CALL => told(rest),
        _ => Err(Unread::Unknown),
    }
}

fn trade(
    instruction: &Instruction<'_>,
    name: &'static str,
    places: &Places,
) -> Result<Known, Unread> {
    let at = |place: usize| -> Result<Index, Unread> { instruction.account(place) };
    let quote = match places.quote {
        None => None,
        Some([mint, vault]) => Some(Quote {
            mint: at(mint)?,
            vault: at(vault)?,
        }),
    };
    Known::with(
        name,
        Effect::Swap(Shape {
            pool: Some(at(places.curve)?),
            user: at(places.user)?,
            sides: Sides::Curve {
                vault: at(places.vault)?,
                mint: at(places.mint)?,
                quote,
            },
        }),
    )
}

/// `TradeEvent`: mint, lamports, tokens, whether it is a buy, and more; of late also the amount of the quote mint, whatever
/// that is.
fn told(data: &[u8]) -> Result<Known, Unread> {
    let mut data = Reader::new(data);
    if data.array::<8>()? != [189, 219, 127, 211, 78, 230, 97, 238] {
        return Known::named("event");
    }
    data.key()?;
    let (lamports, tokens) = (data.u64()?, data.u64()?);
    let buys = data.u8()? != 0;
    let quote = match quote(&mut data) {
        Ok(quote) => quote,
        // An event of before, whose only quote is lamports.
        Err(_) if lamports > 0 => lamports,
        Err(_) => return Known::named("event_trade"),
    };
    let (amount_in, amount_out) = if buys {
        (quote, tokens)
    } else {
        (tokens, quote)
    };
    event("event_trade", super::told(None, amount_in, amount_out))
}

/// What follows whether it is a buy: the user, five integers, twice an account and two integers (fees);
/// a flag and four integers; the instruction's name; a flag and four integers; a list that was empty in every recorded trade;
/// the quote mint and its amount.
fn quote(data: &mut Reader<'_>) -> Result<u64, Unread> {
    data.take(32 + 5 * 8)?;
    data.take(2 * (32 + 2 * 8))?;
    data.take(1 + 4 * 8)?;
    let name = data.u32()?;
    data.take(usize::try_from(name).map_err(|_| Unread::Malformed)?)?;
    data.take(1 + 4 * 8)?;
    if data.u32()? != 0 {
        return Err(Unread::Malformed);
    }
    data.key()?;
    data.u64()
}
