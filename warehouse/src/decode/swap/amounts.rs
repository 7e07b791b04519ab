//! The amounts of swaps: which transfers lie beneath a swap, what the vaults gained and lost by them, and whether the
//! program's own event says the same.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Event, Evidence, Leg, Shape, Sides, Swap, raydium_amm, raydium_clmm, raydium_cpmm, whirlpool,
};
use crate::decode::{
    Effect, Index, Key, LamportMovement, Reading, TokenFlow, TokenMovement, Trace, log::Written,
    programs, token_flow::Placed,
};

/// All swaps, with the amounts that the calls beneath them show.
pub fn settle(
    trace: &Trace<'_>,
    readings: &[Reading],
    tokens: &[Placed<TokenMovement>],
    lamports: &[Placed<LamportMovement>],
    mints: &BTreeMap<Index, Key>,
    written: &[Written],
) -> Vec<Swap> {
    let mut swaps = Vec::new();
    for (call, reading) in readings.iter().enumerate() {
        let shapes = reading.effects().iter().filter_map(|effect| match effect {
            Effect::Swap(shape) => Some(*shape),
            _ => None,
        });
        let shapes: Vec<Shape> = shapes.collect();
        if shapes.is_empty() {
            continue;
        }
        let beneath = trace.beneath(call);
        let mut events = events(trace, readings, call, beneath.clone());
        let program = trace.calls.get(call).and_then(|call| call.program);
        let own = written.iter().filter(|written| written.call == call);
        events.extend(own.filter_map(|written| logged(&program?, &written.data)));
        let alone = shapes.len() == 1;
        swaps.extend(shapes.into_iter().zip(0_u16..).map(|(shape, event_index)| {
            let scene = Scene {
                trace,
                tokens: within(tokens, &beneath),
                lamports: within(lamports, &beneath),
                mints,
                // Which of several swaps an event belongs to, only its pool could tell.
                events: if alone { &events } else { &[] },
            };
            scene.swap(call, event_index, shape)
        }));
    }
    swaps
}

fn within<'m, M>(movements: &'m [Placed<M>], calls: &Range<usize>) -> &'m [Placed<M>] {
    let first = movements.partition_point(|placed| placed.call < calls.start);
    let end = movements.partition_point(|placed| placed.call < calls.end);
    movements.get(first..end).unwrap_or_default()
}

/// What a program that tells its swaps in the log says there.
fn logged(program: &Key, data: &[u8]) -> Option<Event> {
    let read = match *program {
        programs::RAYDIUM_AMM => raydium_amm::logged,
        programs::RAYDIUM_CPMM => raydium_cpmm::logged,
        programs::RAYDIUM_CLMM => raydium_clmm::logged,
        programs::WHIRLPOOL => whirlpool::logged,
        _ => return None,
    };
    read(data).ok().flatten()
}

/// What the program of `call` told of itself in the calls right beneath it.
fn events(
    trace: &Trace<'_>,
    readings: &[Reading],
    call: usize,
    beneath: Range<usize>,
) -> Vec<Event> {
    let Some(own) = trace.calls.get(call) else {
        return Vec::new();
    };
    let below = trace.calls.iter().zip(readings).skip(beneath.start);
    below
        .take(beneath.len())
        .filter(|(call, _)| {
            let right_beneath = match (own.stack_height, call.stack_height) {
                (Some(own), Some(depth)) => depth == own.saturating_add(1),
                _ => true,
            };
            call.program == own.program && right_beneath
        })
        .flat_map(|(_, reading)| reading.effects())
        .filter_map(|effect| match effect {
            Effect::SwapEvent(event) => Some(event.clone()),
            _ => None,
        })
        .collect()
}

/// A token account's flows beneath one call.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    gained: u64,
    lost: u64,
}

/// What one swap is judged by.
struct Scene<'a> {
    trace: &'a Trace<'a>,
    tokens: &'a [Placed<TokenMovement>],
    lamports: &'a [Placed<LamportMovement>],
    mints: &'a BTreeMap<Index, Key>,
    events: &'a [Event],
}

impl Scene<'_> {
    fn swap(&self, call: usize, event_index: u16, shape: Shape) -> Swap {
        let empty = Swap {
            call,
            event_index,
            shape,
            mint_in: None,
            mint_out: None,
            amount_in: None,
            amount_out: None,
            evidence: Evidence::None,
        };
        match shape.sides {
            Sides::Vaults(vaults) => self.vaults(empty, vaults),
            Sides::Route {
                source,
                destination,
            } => self.route(empty, source, destination),
            Sides::Curve { vault, mint, quote } => match quote {
                Some(quote) if !self.is_sol(quote.mint) => self.vaults(empty, [vault, quote.vault]),
                _ => self.curve(empty, vault, mint),
            },
        }
    }

    fn is_sol(&self, mint: Index) -> bool {
        self.trace
            .key(mint)
            .is_none_or(|mint| programs::is_wrapped_sol(&mint))
    }

    fn flow(&self, account: Index) -> Flow {
        let mut flow = Flow::default();
        for placed in self.tokens {
            let movement = placed.movement;
            // A pool only passes tokens on; a route may also lead through a program that makes or destroys them.
            let moves = matches!(
                movement.flow,
                TokenFlow::Transfer | TokenFlow::Mint | TokenFlow::Burn
            );
            let Some(amount) = movement.amount.filter(|_| moves) else {
                continue;
            };
            if movement.source == Some(account) {
                flow.lost = flow.lost.saturating_add(amount);
            }
            if movement.destination == Some(account) {
                let arrived = amount.saturating_sub(movement.fee.unwrap_or(0));
                flow.gained = flow.gained.saturating_add(arrived);
            }
        }
        flow
    }

    fn vaults(&self, mut swap: Swap, [one, other]: [Index; 2]) -> Swap {
        let net = |account| {
            let flow = self.flow(account);
            i128::from(flow.gained) - i128::from(flow.lost)
        };
        let (gained, lost) = match (net(one), net(other)) {
            (gain, loss) if gain > 0 && loss <= 0 => ((one, gain), (other, loss)),
            (loss, gain) if gain > 0 && loss <= 0 => ((other, gain), (one, loss)),
            _ => return swap,
        };
        swap.mint_in = self.mints.get(&gained.0).copied();
        swap.mint_out = self.mints.get(&lost.0).copied();
        swap.amount_in = u64::try_from(gained.1).ok();
        swap.amount_out = u64::try_from(-lost.1).ok();
        self.compared(swap)
    }

    fn route(&self, mut swap: Swap, source: Index, destination: Index) -> Swap {
        swap.mint_in = self.mints.get(&source).copied();
        swap.mint_out = self.mints.get(&destination).copied();
        let (given, got) = (self.flow(source).lost, self.flow(destination).gained);
        if given > 0 {
            swap.amount_in = Some(given);
            swap.amount_out = Some(got);
        }
        self.compared(swap)
    }

    fn curve(&self, mut swap: Swap, vault: Index, mint: Index) -> Swap {
        let tokens = self.flow(vault);
        let base = self.trace.key(mint);
        let paid = self
            .lamports
            .iter()
            .filter(|placed| Some(placed.movement.destination) == swap.shape.pool)
            .filter_map(|placed| placed.movement.lamports)
            .fold(0_u64, u64::saturating_add);
        if tokens.lost > 0 {
            swap.mint_in = Some(programs::WRAPPED_SOL);
            swap.mint_out = base;
            // A curve may pass on a part of what it is paid, without a call: then only the event knows what stays.
            let told: Vec<u64> = self.legs().map(|leg| leg.amount_in).collect();
            let all_stays = paid > 0 && told.iter().all(|told| *told == paid);
            swap.amount_in = all_stays.then_some(paid);
            swap.amount_out = Some(tokens.lost);
        } else if tokens.gained > 0 {
            swap.mint_in = base;
            swap.mint_out = Some(programs::WRAPPED_SOL);
            swap.amount_in = Some(tokens.gained);
        }
        self.compared(swap)
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.events.iter().flat_map(|event| &event.legs)
    }

    /// Beside the program's events.
    fn compared(&self, mut swap: Swap) -> Swap {
        if self.legs().next().is_none() {
            let seen = swap.amount_in.is_some() && swap.amount_out.is_some();
            swap.evidence = if seen {
                Evidence::Transfers
            } else {
                Evidence::None
            };
            return swap;
        }
        let same =
            |told: Option<Key>, seen: Option<Key>| told.is_none() || seen.is_none() || told == seen;
        let told_in = self
            .legs()
            .filter(|leg| same(leg.mint_in, swap.mint_in))
            .fold(0_u64, |sum, leg| sum.saturating_add(leg.amount_in));
        let told_out = self
            .legs()
            .filter(|leg| same(leg.mint_out, swap.mint_out))
            .fold(0_u64, |sum, leg| sum.saturating_add(leg.amount_out));
        let agrees = |seen: Option<u64>, told| seen.is_none_or(|seen| seen == told);
        swap.evidence = match (swap.amount_in, swap.amount_out) {
            (None, None) => Evidence::None,
            (seen_in, seen_out) if !agrees(seen_in, told_in) || !agrees(seen_out, told_out) => {
                Evidence::Mismatch
            }
            (Some(_), Some(_)) => Evidence::TransfersAndEvent,
            _ => {
                swap.amount_in = Some(told_in);
                swap.amount_out = Some(told_out);
                Evidence::Event
            }
        };
        swap
    }
}
