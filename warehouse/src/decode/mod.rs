//! What a transaction's instructions say, in typed form. Pure: no I/O, no clock, and nothing is guessed.
//!
//! ```text
//! message, meta ─▶ call::Trace ─▶ one reader per program ─▶ Reading ─▶ token_flow   per account: do the movements explain the balances?
//!                 calls in order,  system, token, stake, …            ─▶ lamport_flow same for lamports; amounts of closes
//!                 with their depth                                    ─▶ swap         pool, mints and amounts of each swap
//!                                                                     ─▶ fees         what was paid for priority, and as tips
//!
//! account ─▶ mint, metaplex, program_state: what it says of a mint or a program; some instructions say parts of it
//! ```
//!
//! A reader is a function of one instruction: its data and its accounts. It answers with a name and its [`Effect`]s, or says
//! why it cannot: [`Unread`]. A program without a reader is [`Reading::Foreign`]. None of these is ever a zero.
//!
//! What this module deliberately does not do: it asks no chain for an account's state, so whatever only an account tells
//! (a mint's fee, a pool's mints) comes from the transaction's own balances or stays unknown.

pub mod address_lookup_table;
pub mod associated_token;
pub mod bytes;
pub mod call;
pub mod compute_budget;
pub mod fees;
pub mod idl;
pub mod lamport_flow;
pub mod loader;
pub mod log;
pub mod memo;
pub mod metaplex;
pub mod mint;
pub mod program_state;
pub mod programs;
pub mod stake;
pub mod swap;
pub mod system;
pub mod token;
pub mod token_extension;
pub mod token_flow;
pub mod transaction;
pub mod vote;

#[cfg(test)]
mod tests;

pub use call::{Call, Trace};
pub use transaction::{Decoded, decode};

/// A public key, raw.
pub type Key = [u8; 32];

/// The key that `base58` writes.
pub fn key_of_base58(base58: &str) -> Option<Key> {
    let mut key = [0; 32];
    let length = bs58::decode(base58).onto(&mut key).ok()?;
    (length == key.len()).then_some(key)
}

/// Place of an account among the transaction's keys.
pub type Index = u8;

/// What a reader is given.
#[derive(Debug, Clone, Copy)]
pub struct Instruction<'a> {
    pub program: &'a Key,
    pub data: &'a [u8],
    /// Places in the transaction's keys.
    pub accounts: &'a [Index],
}

impl Instruction<'_> {
    /// The account at this place of the instruction; without it the instruction is malformed.
    pub fn account(&self, place: usize) -> Result<Index, Unread> {
        self.accounts.get(place).copied().ok_or(Unread::Malformed)
    }

    /// Lamports from the account at one place of the instruction to that at another; `None`: all that the source holds.
    pub fn lamports(
        &self,
        kind: &'static str,
        [source, destination]: [usize; 2],
        lamports: Option<u64>,
    ) -> Result<Effect, Unread> {
        Ok(Effect::Lamports(LamportMovement {
            kind,
            source: self.account(source)?,
            destination: self.account(destination)?,
            lamports,
            empties: lamports.is_none(),
        }))
    }
}

/// Why an instruction of a known program could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The program has instructions that this version of the reader does not know, and this is one.
    Unknown,
    /// A known instruction whose data or accounts are too short.
    Malformed,
}

/// An instruction that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// As JSON-RPC's `jsonParsed` calls it, in snake case, where that has a name for it; else as the program's IDL does.
    pub name: &'static str,
    pub effects: Vec<Effect>,
}

impl Known {
    pub fn named(name: &'static str) -> Result<Self, Unread> {
        Ok(Self {
            name,
            effects: Vec::new(),
        })
    }

    pub fn with(name: &'static str, effect: Effect) -> Result<Self, Unread> {
        Ok(Self {
            name,
            effects: vec![effect],
        })
    }
}

/// What an instruction does beyond its own accounts' data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Lamports(LamportMovement),
    Tokens(TokenMovement),
    /// A swap with a pool; its amounts are in the calls beneath.
    Swap(swap::Shape),
    /// What a program says of its own swap, told by a call to itself.
    SwapEvent(swap::Event),
    /// What the instruction makes of a mint.
    Mint(Box<mint::MintStatement>),
    /// What it makes of a program.
    Program(program_state::ProgramStatement),
}

/// Lamports from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LamportMovement {
    pub kind: &'static str,
    pub source: Index,
    pub destination: Index,
    /// `None`: everything the source holds at that moment, or what the program computes.
    pub lamports: Option<u64>,
    /// Whether the source is emptied: the amount then follows from the balances.
    pub empties: bool,
}

/// Tokens into, out of or between token accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenMovement {
    pub kind: &'static str,
    pub flow: TokenFlow,
    pub amount: Option<u64>,
    pub decimals: Option<u8>,
    /// Withheld by a transfer fee; known only where the instruction states it, or where the program has no fees.
    pub fee: Option<u64>,
    pub mint: Option<Index>,
    pub source: Option<Index>,
    pub destination: Option<Index>,
    pub authority: Option<Index>,
}

/// How a movement counts in the balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFlow {
    /// Leaves `source`; all but the fee reaches `destination`.
    Transfer,
    /// Appears in `destination`.
    Mint,
    /// Vanishes from `source`.
    Burn,
    /// Fees withheld earlier reach `destination`; how many is not stated.
    WithdrawWithheld,
    /// Withheld fees move from accounts to their mint: outside of all balances.
    Harvest,
    /// From the public to the confidential balance of `source`.
    Shield,
    /// From the confidential to the public balance of `destination`.
    Unshield,
    /// Between confidential balances: outside of all public ones, and of unknown amount.
    Confidential,
    /// The wrapped amount of `source` becomes what its lamports say.
    SyncNative,
    /// Wrapped lamports leave `source` for `destination` as lamports; no amount: all of them.
    Unwrap,
    /// `source` is closed: it holds nothing, or wrapped lamports, which leave as lamports.
    Close,
    /// `destination` becomes a token account; of wrapped lamports it may hold some from the start.
    Open,
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    Known(Known),
    Unread(Unread),
    /// No reader for that program, or the program is not among the known keys.
    Foreign,
}

impl Reading {
    /// The word for it in `instructions.outcome`.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Known(_) => "decoded",
            Self::Unread(Unread::Unknown) => "unknown",
            Self::Unread(Unread::Malformed) => "malformed",
            Self::Foreign => "foreign",
        }
    }

    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Known(known) => Some(known.name),
            _ => None,
        }
    }

    pub fn effects(&self) -> &[Effect] {
        match self {
            Self::Known(known) => &known.effects,
            _ => &[],
        }
    }
}
