//! Jupiter's aggregator, version 6: routes over pools of other programs. An Anchor program that tells the legs of a route by
//! calls to itself: one call per leg, or (in the newer instructions) one call with all of them.

use super::{
    Effect, Event, Instruction, Known, Leg, SELF_CALL, Shape, Sides, Unread, discriminator, event,
};
use crate::decode::bytes::Reader;

/// Places of a route's accounts: who pays, from where, to where, and the account that may stand in for the last.
struct Places {
    user: usize,
    source: usize,
    destination: usize,
    instead: Option<usize>,
}

const fn places(user: usize, source: usize, destination: usize, instead: Option<usize>) -> Places {
    Places {
        user,
        source,
        destination,
        instead,
    }
}

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let (name, rest) = discriminator(instruction)?;
    match name {
        [229, 23, 203, 151, 122, 227, 173, 42] => {
            route(instruction, "route", &places(1, 2, 3, Some(4)))
        }
        [187, 100, 250, 204, 49, 196, 175, 20] => {
            route(instruction, "route_v2", &places(0, 1, 2, Some(7)))
        }
        [150, 86, 71, 116, 167, 93, 14, 104] => route(
            instruction,
            "route_with_token_ledger",
            &places(1, 2, 3, Some(4)),
        ),
        [208, 51, 239, 151, 123, 43, 237, 92] => {
            route(instruction, "exact_out_route", &places(1, 2, 3, Some(4)))
        }
        [157, 138, 184, 82, 21, 244, 243, 36] => {
            route(instruction, "exact_out_route_v2", &places(0, 1, 2, Some(7)))
        }
        [193, 32, 155, 51, 65, 214, 156, 129] => {
            route(instruction, "shared_accounts_route", &places(2, 3, 6, None))
        }
        [209, 152, 83, 147, 124, 254, 216, 233] => route(
            instruction,
            "shared_accounts_route_v2",
            &places(1, 2, 5, None),
        ),
        [230, 121, 143, 80, 119, 159, 106, 170] => route(
            instruction,
            "shared_accounts_route_with_token_ledger",
            &places(2, 3, 6, None),
        ),
        [176, 209, 105, 168, 154, 125, 69, 62] => route(
            instruction,
            "shared_accounts_exact_out_route",
            &places(2, 3, 6, None),
        ),
        [53, 96, 229, 202, 216, 187, 250, 24] => route(
            instruction,
            "shared_accounts_exact_out_route_v2",
            &places(1, 2, 5, None),
        ),
        [147, 241, 123, 100, 244, 132, 174, 118] => Known::named("create_token_account"),
        SELF_CALL => told(rest),
        _ => Err(Unread::Unknown),
    }
}

fn route(
    instruction: &Instruction<'_>,
    name: &'static str,
    places: &Places,
) -> Result<Known, Unread> {
    let destination = instruction.account(places.destination)?;
    // An Anchor account that is not given is the program itself, whose place among the keys is not known here; the event
    // authority before it is followed by the program, which is.
    let instead = places.instead.and_then(|place| {
        let given = instruction.account(place).ok()?;
        let program = instruction.accounts.get(place + 1..)?;
        (!program.contains(&given)).then_some(given)
    });
    Known::with(
        name,
        Effect::Swap(Shape {
            pool: None,
            user: instruction.account(places.user)?,
            sides: Sides::Route {
                source: instruction.account(places.source)?,
                destination: instead.unwrap_or(destination),
            },
        }),
    )
}

fn told(data: &[u8]) -> Result<Known, Unread> {
    let mut data = Reader::new(data);
    match data.array::<8>()? {
        // `SwapEvent`: pool, then the leg.
        [64, 198, 205, 232, 38, 8, 113, 226] => {
            let pool = data.key()?;
            event(
                "event_swap",
                Event {
                    pool: Some(pool),
                    legs: vec![leg(&mut data)?],
                },
            )
        }
        // `SwapsEvent`: how many, then the legs.
        [152, 47, 78, 235, 192, 96, 110, 106] => {
            let count = data.u32()?;
            let legs = (0..count)
                .map(|_| leg(&mut data))
                .collect::<Result<_, _>>()?;
            event("event_swaps", Event { pool: None, legs })
        }
        _ => Known::named("event"),
    }
}

fn leg(data: &mut Reader<'_>) -> Result<Leg, Unread> {
    Ok(Leg {
        mint_in: Some(data.key()?),
        amount_in: data.u64()?,
        mint_out: Some(data.key()?),
        amount_out: data.u64()?,
    })
}
