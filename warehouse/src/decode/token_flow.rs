//! Do a transaction's token movements explain its token balances? Per account, to the last unit.
//!
//! For every token account: balance after − balance before = what flowed in − what flowed out. Transfers leave one account
//! and enter another, so with every account explained, each mint's sum is minted − burned − withheld, wrapped lamports
//! aside, which are lamports and are kept by the identity of those. What an instruction leaves unsaid and the balances tell
//! without ambiguity (a transfer fee withheld, withheld fees withdrawn, lamports unwrapped by a close) is filled in.

use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::{TokenBalance, TransactionStatusMeta};

use super::{Index, Key, TokenFlow, TokenMovement, Trace, key_of_base58, programs};

const WRAPPED_SOL_DECIMALS: u8 = 9;

/// A movement and the call that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<M> {
    /// Place in [`Trace::calls`].
    pub call: usize,
    /// Place among the effects of the call that move the same kind of thing.
    pub event_index: u16,
    pub movement: M,
}

/// Whether things add up; ordered by how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    Exact,
    /// Not decidable, for this reason.
    Unknown(&'static str),
    /// They do not add up, in this way.
    Broken(&'static str),
}

impl Identity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Unknown(_) => "unknown",
            Self::Broken(_) => "broken",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Unknown(reason) | Self::Broken(reason) => reason,
        }
    }
}

/// Balances and flows of one token account.
#[derive(Debug, Default, Clone)]
struct Account {
    mint: Option<Key>,
    start: Option<u64>,
    end: Option<u64>,
    /// In either list of balances.
    listed: bool,
    /// A listed amount is no number, or the account changed its mint.
    unreadable: bool,
    /// In − out, as far as stated.
    flow: i128,
    /// Movements into it from which a fee may have been withheld, and their sum.
    bearing_fees: Vec<usize>,
    bearing_fees_sum: i128,
    /// Withheld fees that came to it, amount not stated.
    withdrawn: Vec<usize>,
    /// Lamports that became its tokens or ceased to be, amount not stated.
    wraps: Vec<usize>,
    opened: bool,
}

/// What a transaction tells of the mints it deals with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mints {
    /// Mints of the token accounts that it lists, opens, or names with their mint.
    pub of_account: BTreeMap<Index, Key>,
    pub decimals: BTreeMap<Key, u8>,
}

/// Listed balances say a mint's decimals, and so does an instruction that the program held against the mint: one of a
/// transaction that succeeded. Those of wrapped lamports never change.
pub fn mints(
    trace: &Trace<'_>,
    meta: Option<&TransactionStatusMeta>,
    movements: &[Placed<TokenMovement>],
) -> Mints {
    let mut mints = Mints::default();
    let succeeded = meta.is_some_and(|meta| meta.err.is_none());
    for placed in movements {
        let movement = placed.movement;
        let Some(mint) = movement.mint.and_then(|mint| trace.key(mint)) else {
            continue;
        };
        let accounts = [movement.source, movement.destination];
        for account in accounts.into_iter().flatten() {
            mints.of_account.insert(account, mint);
        }
        if let Some(decimals) = movement.decimals.filter(|_| succeeded) {
            mints.decimals.insert(mint, decimals);
        }
    }
    for mint in [programs::WRAPPED_SOL, programs::WRAPPED_SOL_2022] {
        mints.decimals.insert(mint, WRAPPED_SOL_DECIMALS);
    }
    let listed = meta.into_iter().flat_map(|meta| {
        meta.pre_token_balances
            .iter()
            .chain(&meta.post_token_balances)
    });
    for balance in listed {
        let Some(mint) = key_of_base58(&balance.mint) else {
            continue;
        };
        if let Ok(account) = Index::try_from(balance.account_index) {
            mints.of_account.insert(account, mint);
        }
        if let Some(decimals) = decimals(balance) {
            mints.decimals.insert(mint, decimals);
        }
    }
    mints
}

/// Fills what the balances tell, and judges. `unread`: why there may be movements beyond these, if there may.
pub fn settle(
    trace: &Trace<'_>,
    meta: Option<&TransactionStatusMeta>,
    movements: &mut [Placed<TokenMovement>],
    unread: Option<&'static str>,
) -> Identity {
    let Some(meta) = meta else {
        return Identity::Unknown("no status recorded");
    };
    let mut accounts = listed(meta);
    if meta.err.is_some() {
        let moved = accounts
            .values()
            .any(|account| account.start != account.end);
        return if moved {
            Identity::Broken("a failed transaction moved tokens")
        } else {
            Identity::Exact
        };
    }
    for (nth, placed) in movements.iter().enumerate() {
        apply(&mut accounts, trace, nth, &placed.movement);
    }
    let of_accounts = accounts
        .iter()
        .map(|(index, account)| judge(*index, account, meta, movements))
        .max();
    let verdict = of_accounts.unwrap_or(Identity::Exact);
    // What was not read may be what is missing.
    match (verdict, unread) {
        (Identity::Broken(_), Some(reason)) => Identity::Unknown(reason),
        (verdict, _) => verdict,
    }
}

fn listed(meta: &TransactionStatusMeta) -> BTreeMap<Index, Account> {
    let mut accounts: BTreeMap<Index, Account> = BTreeMap::new();
    let sides = [
        (&meta.pre_token_balances, false),
        (&meta.post_token_balances, true),
    ];
    for (balances, after) in sides {
        for balance in balances {
            let Ok(index) = Index::try_from(balance.account_index) else {
                continue;
            };
            let account = accounts.entry(index).or_default();
            let mint = key_of_base58(&balance.mint);
            account.unreadable |= account.listed && account.mint != mint;
            account.listed = true;
            account.mint = mint;
            let amount = amount(balance);
            account.unreadable |= amount.is_none() || mint.is_none();
            *(if after {
                &mut account.end
            } else {
                &mut account.start
            }) = amount;
        }
    }
    accounts
}

fn apply(
    accounts: &mut BTreeMap<Index, Account>,
    trace: &Trace<'_>,
    nth: usize,
    movement: &TokenMovement,
) {
    let amount = i128::from(movement.amount.unwrap_or(0));
    let mint = movement.mint.and_then(|mint| trace.key(mint));
    let mut at = |index: Option<Index>, change: &mut dyn FnMut(&mut Account)| {
        if let Some(index) = index {
            let account = accounts.entry(index).or_default();
            account.mint = account.mint.or(mint);
            change(account);
        }
    };
    let (source, destination) = (movement.source, movement.destination);
    match movement.flow {
        TokenFlow::Transfer => {
            at(source, &mut |account| account.flow -= amount);
            at(destination, &mut |account| {
                account.flow += amount - i128::from(movement.fee.unwrap_or(0));
                if movement.fee.is_none() {
                    account.bearing_fees.push(nth);
                    account.bearing_fees_sum += amount;
                }
            });
        }
        TokenFlow::Mint | TokenFlow::Unshield => {
            at(destination, &mut |account| account.flow += amount);
        }
        TokenFlow::Burn | TokenFlow::Shield => at(source, &mut |account| account.flow -= amount),
        TokenFlow::WithdrawWithheld => at(destination, &mut |account| account.withdrawn.push(nth)),
        TokenFlow::Unwrap if movement.amount.is_some() => {
            at(source, &mut |account| account.flow -= amount);
        }
        TokenFlow::SyncNative | TokenFlow::Unwrap | TokenFlow::Close => {
            at(source, &mut |account| account.wraps.push(nth));
        }
        TokenFlow::Open => at(destination, &mut |account| account.opened = true),
        TokenFlow::Harvest | TokenFlow::Confidential => {}
    }
}

fn judge(
    index: Index,
    account: &Account,
    meta: &TransactionStatusMeta,
    movements: &mut [Placed<TokenMovement>],
) -> Identity {
    if account.unreadable {
        return Identity::Unknown("a listed balance is unreadable");
    }
    let held = |side: Option<u64>| i128::from(side.unwrap_or(0));
    let unexplained = held(account.end) - held(account.start) - account.flow;
    if account
        .mint
        .is_some_and(|mint| programs::is_wrapped_sol(&mint))
    {
        return judge_wrapped(index, account, unexplained, meta, movements);
    }
    match (
        account.bearing_fees.as_slice(),
        account.withdrawn.as_slice(),
    ) {
        ([], []) if unexplained == 0 => Identity::Exact,
        // All of them bore no fee, since none is missing.
        (bearing, []) if unexplained == 0 => {
            bearing.iter().for_each(|nth| set_fee(movements, *nth, 0));
            Identity::Exact
        }
        (bearing @ [_, ..], []) if (-account.bearing_fees_sum..0).contains(&unexplained) => {
            if let ([only], Ok(fee)) = (bearing, u64::try_from(-unexplained)) {
                set_fee(movements, *only, fee);
            }
            Identity::Exact
        }
        ([], [only]) if unexplained >= 0 => {
            set_amount(movements, *only, unexplained);
            Identity::Exact
        }
        ([], [_, _, ..]) if unexplained >= 0 => Identity::Exact,
        ([_, ..], [_, ..]) => Identity::Unknown("fees were withheld and withdrawn in one account"),
        // Closed within the transaction it was opened in: in neither list, and its mint may be named nowhere.
        _ if !account.listed && account.mint.is_none() && !account.wraps.is_empty() => {
            Identity::Exact
        }
        _ if !account.listed => Identity::Unknown("a balance is not listed"),
        _ => Identity::Broken("movements do not explain a balance"),
    }
}

/// Wrapped lamports come and go as lamports, so their account's lamports must agree with its tokens.
fn judge_wrapped(
    index: Index,
    account: &Account,
    unexplained: i128,
    meta: &TransactionStatusMeta,
    movements: &mut [Placed<TokenMovement>],
) -> Identity {
    if unexplained == 0 && account.wraps.is_empty() {
        return Identity::Exact;
    }
    if account.wraps.is_empty() && !account.opened {
        return if account.listed {
            Identity::Broken("movements do not explain a balance")
        } else {
            Identity::Unknown("a balance is not listed")
        };
    }
    let lamports = |balances: &[u64]| balances.get(usize::from(index)).copied();
    let (Some(before), Some(after)) = (lamports(&meta.pre_balances), lamports(&meta.post_balances))
    else {
        return Identity::Unknown("lamports are not listed");
    };
    let agrees = match (account.start, account.end) {
        (Some(start), Some(end)) => {
            i128::from(end) - i128::from(start) == i128::from(after) - i128::from(before)
        }
        (Some(start), None) => before >= start,
        (None, Some(end)) => after >= end,
        (None, None) => true,
    };
    if !agrees {
        return Identity::Unknown("wrapped lamports out of step with their account");
    }
    if let ([only], false) = (account.wraps.as_slice(), account.opened) {
        set_amount(movements, *only, unexplained.abs());
    }
    Identity::Exact
}

fn set_fee(movements: &mut [Placed<TokenMovement>], nth: usize, fee: u64) {
    if let Some(placed) = movements.get_mut(nth) {
        placed.movement.fee = Some(fee);
    }
}

fn set_amount(movements: &mut [Placed<TokenMovement>], nth: usize, amount: i128) {
    if let Some(placed) = movements.get_mut(nth) {
        placed.movement.amount = u64::try_from(amount).ok();
    }
}

pub fn decimals(balance: &TokenBalance) -> Option<u8> {
    u8::try_from(balance.ui_token_amount.as_ref()?.decimals).ok()
}

/// The raw amount; the floating one beside it is never read.
pub fn amount(balance: &TokenBalance) -> Option<u64> {
    balance.ui_token_amount.as_ref()?.amount.parse().ok()
}
