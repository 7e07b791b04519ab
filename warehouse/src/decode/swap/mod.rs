//! Swaps: which pool, what went in, what came out.
//!
//! A program's reader names the accounts of a swap ([`Shape`]). The amounts are those of the token transfers beneath the
//! call, as exact as the balances they explain; where the program also tells its swap ([`Event`]), by a call to itself or in
//! the log, the two are compared and the row says which it rests on ([`Evidence`]). Amounts are the pool's side: what its
//! vaults gained and lost. Fees that go elsewhere on the way are transfers of their own.
//!
//! A route of an aggregator is a swap too, of what its user gave and got, with no pool; its legs are the pools' swaps. Sums
//! over both would count twice, so they are stored apart.

mod amounts;
pub mod jupiter;
pub mod meteora_damm;
pub mod meteora_dlmm;
pub mod pump_fun;
pub mod pump_swap;
pub mod raydium_amm;
pub mod raydium_clmm;
pub mod raydium_cpmm;
pub mod whirlpool;

pub use amounts::settle;

use super::{Effect, Index, Instruction, Key, Known, Unread};

/// First bytes of an instruction by which an Anchor program tells an event to itself.
pub const SELF_CALL: [u8; 8] = [228, 69, 165, 46, 81, 203, 154, 29];

/// The accounts of one swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `None` for a route.
    pub pool: Option<Index>,
    pub user: Index,
    pub sides: Sides,
}

/// Where its amounts are to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// A pool's two token accounts; the transfers tell which of them gained.
    Vaults([Index; 2]),
    /// What leaves the user's token account and what reaches the other.
    Route { source: Index, destination: Index },
    /// A bonding curve: tokens in a vault, and lamports in the pool's own account; or, where `quote` names another mint than
    /// wrapped SOL, that mint in a vault too.
    Curve {
        vault: Index,
        mint: Index,
        quote: Option<Quote>,
    },
}

/// What a curve's token is traded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    pub mint: Index,
    pub vault: Index,
}

/// What a program says of its own swap, as far as it says it; pool's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `None` where the event leaves it to the call.
    pub pool: Option<Key>,
    pub legs: Vec<Leg>,
}

/// An amount in, an amount out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leg {
    pub mint_in: Option<Key>,
    pub amount_in: u64,
    pub mint_out: Option<Key>,
    pub amount_out: u64,
}

/// What the amounts of a swap rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// Transfers, and the program's own event says the same.
    TransfersAndEvent,
    /// Transfers; there is no event to compare them with.
    Transfers,
    /// The program's event: lamports of a curve leave without a transfer.
    Event,
    /// Transfers and event differ; the amounts are the transfers'.
    Mismatch,
    /// Neither both amounts nor an event.
    None,
}

impl Evidence {
    pub fn word(self) -> &'static str {
        match self {
            Self::TransfersAndEvent => "transfers_and_event",
            Self::Transfers => "transfers",
            Self::Event => "event",
            Self::Mismatch => "mismatch",
            Self::None => "none",
        }
    }
}

/// One swap of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Place in [`Trace::calls`].
    pub call: usize,
    /// Among the swaps of one instruction.
    pub event_index: u16,
    pub shape: Shape,
    pub mint_in: Option<Key>,
    pub mint_out: Option<Key>,
    pub amount_in: Option<u64>,
    pub amount_out: Option<u64>,
    pub evidence: Evidence,
}

/// An instruction of an Anchor program: its first eight bytes and the rest.
fn discriminator<'a>(instruction: &Instruction<'a>) -> Result<([u8; 8], &'a [u8]), Unread> {
    match instruction.data.split_first_chunk::<8>() {
        Some((name, rest)) => Ok((*name, rest)),
        None => Err(Unread::Malformed),
    }
}

/// An instruction that is one swap with two vaults, at these places of its accounts.
fn pool(
    instruction: &Instruction<'_>,
    name: &'static str,
    pool: usize,
    user: usize,
    vaults: [usize; 2],
) -> Result<Known, Unread> {
    Known::with(name, vaulted(instruction, pool, user, vaults)?)
}

/// A swap with two vaults at these places of the instruction's accounts.
fn vaulted(
    instruction: &Instruction<'_>,
    pool: usize,
    user: usize,
    [one, other]: [usize; 2],
) -> Result<Effect, Unread> {
    Ok(Effect::Swap(Shape {
        pool: Some(instruction.account(pool)?),
        user: instruction.account(user)?,
        sides: Sides::Vaults([instruction.account(one)?, instruction.account(other)?]),
    }))
}

/// One leg of one pool, whose mints the event leaves to the pool.
fn told(pool: Option<Key>, amount_in: u64, amount_out: u64) -> Event {
    let leg = Leg {
        amount_in,
        amount_out,
        ..Leg::default()
    };
    Event {
        pool,
        legs: vec![leg],
    }
}

fn event(name: &'static str, event: Event) -> Result<Known, Unread> {
    Known::with(name, Effect::SwapEvent(event))
}

#[cfg(test)]
mod tests;
