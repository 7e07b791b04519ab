//! The two identities every transaction must satisfy before it is posted. Pure.
//!
//! Lamports: Σ(post − pre) = −fee, plus what the runtime itself credited or debited (rent, while it was collected).
//! The runtime forbids anything else, success or failure, so this is exact whenever the outcome was recorded.
//!
//! Tokens, per mint: Σ(post − pre) = minted − burned − withheld. No row before means created (0), no row after means
//! closed (0). Where the record does not allow the check, the verdict is *unknown* and names the reason; it is never
//! guessed. Wrapped SOL is neither minted nor burned: there the difference must equal lamports wrapped or unwrapped,
//! which each account's own lamports confirm.

use std::collections::BTreeMap;

use event_schema::Pubkey;

use crate::chain::ChainTransaction;
use crate::token_instructions::{Effect, KnownKeys};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<R> {
    Exact,
    Unknown(R),
    /// By how much it fails, in words.
    Broken(String),
}

impl<R> Verdict<R> {
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Exact => "exact",
            Verdict::Unknown(_) => "unknown",
            Verdict::Broken(_) => "broken",
        }
    }
}

/// Why lamports could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LamportsUnknown {
    OutcomeNotRecorded,
}

impl LamportsUnknown {
    pub fn as_str(self) -> &'static str {
        "outcome_not_recorded"
    }
}

/// Why tokens could not be checked. The texts are promises: they appear in tables and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokensUnknown {
    OutcomeNotRecorded,
    /// Tokens moved, and there is no balance row at all (blocks of 2020 and 2021).
    TokenBalancesNotRecorded,
    /// A failed transaction with rows before and none after.
    TokenBalancesAfterNotRecorded,
    /// Validators left out Token-2022 accounts until mid 2022.
    Token2022BalancesNotRecorded,
    InnerInstructionsNotRecorded,
    /// The instruction withheld a fee, or paid out withheld ones, without saying how much.
    WithheldFeeNotDerivable,
    Confidential,
    /// Lamports lay on a wrapped-SOL account beside its amount.
    WrappedSolNotSynchronised,
}

impl TokensUnknown {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutcomeNotRecorded => "outcome_not_recorded",
            Self::TokenBalancesNotRecorded => "token_balances_not_recorded",
            Self::TokenBalancesAfterNotRecorded => "token_balances_after_not_recorded",
            Self::Token2022BalancesNotRecorded => "token_2022_balances_not_recorded",
            Self::InnerInstructionsNotRecorded => "inner_instructions_not_recorded",
            Self::WithheldFeeNotDerivable => "withheld_fee_not_derivable",
            Self::Confidential => "confidential",
            Self::WrappedSolNotSynchronised => "wrapped_sol_not_synchronised",
        }
    }
}

/// The lamport identity. Sums of u64 need more than u64: i128 holds 2^63 of them.
pub fn lamports(transaction: &ChainTransaction<'_>) -> Verdict<LamportsUnknown> {
    let sum = |balances: &[u64]| {
        balances
            .iter()
            .map(|balance| i128::from(*balance))
            .sum::<i128>()
    };
    let change = sum(transaction.post_balances) - sum(transaction.pre_balances);
    let by_runtime: i128 = transaction
        .rewards
        .iter()
        .map(|(_, lamports)| i128::from(*lamports))
        .sum();
    let off = change + i128::from(transaction.fee) - by_runtime;
    if off == 0 {
        Verdict::Exact
    } else {
        Verdict::Broken(format!(
            "lamports changed by {change}, the fee is {}, the runtime moved {by_runtime}: off by {off}",
            transaction.fee
        ))
    }
}

/// What happened to one mint in one transaction. Raw units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MintFlow {
    pub minted: u128,
    pub burned: u128,
    /// Per receiving account.
    pub withheld: Vec<(Pubkey, u64)>,
    /// Change per token account (index into the key list), zero changes included.
    pub changes: BTreeMap<usize, i128>,
    /// What the identity leaves over: 0 when exact, lamports wrapped for wrapped SOL.
    pub remainder: i128,
    pub native: bool,
}

/// The token identity of every mint the transaction touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCheck {
    pub verdict: Verdict<TokensUnknown>,
    pub mints: BTreeMap<Pubkey, MintFlow>,
}

pub fn tokens(
    transaction: &ChainTransaction<'_>,
    effects: &[Effect],
    known: &KnownKeys,
) -> TokenCheck {
    let mut mints = flows(transaction, effects, known);
    if !transaction.success
        && transaction.post_tokens.is_empty()
        && !transaction.pre_tokens.is_empty()
    {
        // A failure closes nothing, so these are missing rows, not closed accounts.
        let verdict = Verdict::Unknown(TokensUnknown::TokenBalancesAfterNotRecorded);
        return TokenCheck {
            verdict,
            mints: BTreeMap::new(),
        };
    }
    let no_rows = transaction.pre_tokens.is_empty() && transaction.post_tokens.is_empty();
    if no_rows && transaction.success && !effects.is_empty() {
        let verdict = Verdict::Unknown(TokensUnknown::TokenBalancesNotRecorded);
        return TokenCheck {
            verdict,
            mints: BTreeMap::new(),
        };
    }
    let mut verdict = Verdict::Exact;
    for (mint, flow) in &mut mints {
        let withheld: i128 = flow
            .withheld
            .iter()
            .map(|(_, amount)| i128::from(*amount))
            .sum();
        flow.remainder = flow.changes.values().sum::<i128>() - flow.minted as i128
            + flow.burned as i128
            + withheld;
        verdict = worse(verdict, judge(transaction, effects, known, mint, flow));
    }
    // The remainder of an unknown mint is posted as unexplained; one that nothing is known of has no postings.
    mints.retain(|_, flow| !flow.changes.is_empty() || flow.remainder == 0);
    TokenCheck { verdict, mints }
}

/// Changes from the balance rows, mint and burn from the instructions. A failed transaction's instructions had no
/// effect.
fn flows(
    transaction: &ChainTransaction<'_>,
    effects: &[Effect],
    known: &KnownKeys,
) -> BTreeMap<Pubkey, MintFlow> {
    let mut mints: BTreeMap<Pubkey, MintFlow> = BTreeMap::new();
    for (rows, sign) in [(&transaction.pre_tokens, -1), (&transaction.post_tokens, 1)] {
        for row in rows {
            let flow = mints.entry(row.mint).or_default();
            *flow.changes.entry(row.account).or_default() += sign * i128::from(row.amount);
        }
    }
    for effect in effects.iter().filter(|_| transaction.success) {
        match *effect {
            Effect::Minted { mint, amount } => {
                mints.entry(mint).or_default().minted += u128::from(amount)
            }
            Effect::Burned { mint, amount } => {
                mints.entry(mint).or_default().burned += u128::from(amount)
            }
            Effect::Withheld {
                mint,
                account,
                amount,
            } if amount > 0 => {
                mints
                    .entry(mint)
                    .or_default()
                    .withheld
                    .push((account, amount));
            }
            _ => {}
        }
    }
    for (mint, flow) in &mut mints {
        flow.native = known.is_native(mint);
    }
    mints
}

fn judge(
    transaction: &ChainTransaction<'_>,
    effects: &[Effect],
    known: &KnownKeys,
    mint: &Pubkey,
    flow: &MintFlow,
) -> Verdict<TokensUnknown> {
    if flow.native {
        return wrapped_sol(transaction, mint, flow);
    }
    if flow.remainder == 0 {
        return Verdict::Exact;
    }
    let has = |wanted: Effect| effects.contains(&wanted);
    if has(Effect::Confidential { mint: *mint }) {
        return Verdict::Unknown(TokensUnknown::Confidential);
    }
    if has(Effect::FeeUnsaid { mint: *mint }) {
        return Verdict::Unknown(TokensUnknown::WithheldFeeNotDerivable);
    }
    if !transaction.inner_instructions_recorded {
        return Verdict::Unknown(TokensUnknown::InnerInstructionsNotRecorded);
    }
    let uses_2022 = transaction
        .instructions
        .iter()
        .any(|instruction| instruction.program == known.token_2022);
    if flow.changes.is_empty() && uses_2022 {
        return Verdict::Unknown(TokensUnknown::Token2022BalancesNotRecorded);
    }
    Verdict::Broken(format!(
        "mint {mint}: accounts changed by {}, minted {}, burned {}, withheld {}: off by {}",
        flow.changes.values().sum::<i128>(),
        flow.minted,
        flow.burned,
        flow.withheld
            .iter()
            .map(|(_, amount)| u128::from(*amount))
            .sum::<u128>(),
        flow.remainder
    ))
}

/// A wrapped-SOL account holds its amount in lamports plus a reserve. The reserve is never negative, and does not change
/// while the account lives, unless lamports were sent to it that its amount does not show yet.
fn wrapped_sol(
    transaction: &ChainTransaction<'_>,
    mint: &Pubkey,
    flow: &MintFlow,
) -> Verdict<TokensUnknown> {
    let mut verdict = Verdict::Exact;
    for account in flow.changes.keys() {
        let reserve = |rows: &[crate::chain::TokenRow], lamports: &[u64]| {
            let row = rows
                .iter()
                .find(|row| row.account == *account && row.mint == *mint)?;
            Some(i128::from(lamports[*account]) - i128::from(row.amount))
        };
        let before = reserve(&transaction.pre_tokens, transaction.pre_balances);
        let after = reserve(&transaction.post_tokens, transaction.post_balances);
        let found = match (before, after) {
            (Some(reserve), _) | (_, Some(reserve)) if reserve < 0 => Verdict::Broken(format!(
                "wrapped SOL account {}: its amount exceeds its lamports by {}",
                transaction.keys[*account], -reserve
            )),
            (Some(before), Some(after)) if before != after => {
                Verdict::Unknown(TokensUnknown::WrappedSolNotSynchronised)
            }
            _ => Verdict::Exact,
        };
        verdict = worse(verdict, found);
    }
    verdict
}

fn worse(a: Verdict<TokensUnknown>, b: Verdict<TokensUnknown>) -> Verdict<TokensUnknown> {
    match (&a, &b) {
        (Verdict::Broken(_), _) => a,
        (_, Verdict::Broken(_)) => b,
        (Verdict::Unknown(_), _) => a,
        _ => b,
    }
}
