//! What a transaction paid for its place: the base fee, the priority fee, and tips to Jito's block engine.
//!
//! The priority fee is price × limit, micro-lamports rounded up to lamports, as Agave 4.2.2 computes it
//! (`solana-compute-budget`, `compute_budget_limits.rs`, `get_prioritization_fee`). Without a requested limit the runtime
//! takes 200,000 units per instruction, 3,000 for each of a builtin program (`solana-compute-budget-instruction`,
//! `calculate_default_compute_unit_limit`); before SIMD-170 it was 200,000 per instruction that is no request. Which rule held
//! in a slot is not in the transaction, but the fee it paid is: an amount is reported only when fee − base fee equals it.

use event_schema::proto::confirmed_block::{Message, TransactionStatusMeta};

use super::{
    Key, LamportMovement, Trace,
    compute_budget::{Request, request},
    programs::{
        COMPUTE_BUDGET, ED25519, LOADER, LOADER_4, LOADER_DEPRECATED, LOADER_UPGRADEABLE,
        SECP256K1, SECP256R1, SYSTEM, VOTE, key,
    },
    token_flow::Placed,
};

/// Lamports per signature, of the message and of those its precompiles verify.
const LAMPORTS_PER_SIGNATURE: u64 = 5_000;
const MICRO_LAMPORTS_PER_LAMPORT: u128 = 1_000_000;
const UNITS_PER_INSTRUCTION: u32 = 200_000;
const UNITS_PER_BUILTIN: u32 = 3_000;
const UNIT_LIMIT_MAX: u32 = 1_400_000;

/// Programs whose instructions get [`UNITS_PER_BUILTIN`].
const BUILTINS: &[Key] = &[
    SYSTEM,
    VOTE,
    COMPUTE_BUDGET,
    LOADER_UPGRADEABLE,
    LOADER_DEPRECATED,
    LOADER,
    LOADER_4,
    SECP256K1,
    ED25519,
];

/// Accounts that tips to Jito's block engine go to, as Jito publishes them for mainnet.
pub const TIP_ACCOUNTS: [Key; 8] = [
    key("96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5"),
    key("HFqU5x63VTqvQss8hp11i4wVV8bD44PvwucfZ2bU7gRe"),
    key("Cw8CFyM9FkoMi7K7Crf6HNQqf4uEMzpKw6QNghXLvLkY"),
    key("ADaUMid9yfUytqMBgopwjb2DTLSokTSzL1zt6iGPaS49"),
    key("DfXygSm4jCyNCybVYYK6DwvWqjKee8pbDmJGcLWNDXjh"),
    key("ADuUkR4vqLUMWXxW9gh6D6L8pMSawimctcNZ5pGwDcEt"),
    key("DttWaMuVvTiduZRnguLF7jNxTgiMBZ1hyAumKUiL2KRL"),
    key("3AVi9Tg9Uo68tJfuvoKvqKNWKkC5wPdSSdeBnnKZ6jT6"),
];

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fees {
    /// For signatures; `None` when the fee does not come apart.
    pub base: Option<u64>,
    /// Lamports for priority; `None` when the fee does not come apart.
    pub priority: Option<u64>,
    /// Micro-lamports per compute unit, as requested.
    pub unit_price: Option<u64>,
    /// Compute units, as requested.
    pub unit_limit: Option<u32>,
    pub heap_bytes: Option<u32>,
    pub loaded_accounts_bytes: Option<u32>,
    /// Lamports to tip accounts; `None` when the outcome or the inner instructions are not recorded.
    pub tip: Option<u64>,
}

/// Price × limit in lamports, rounded up.
pub fn priority_fee(unit_price: u64, unit_limit: u32) -> u64 {
    let micro_lamports = u128::from(unit_price).saturating_mul(u128::from(unit_limit));
    u64::try_from(micro_lamports.div_ceil(MICRO_LAMPORTS_PER_LAMPORT)).unwrap_or(u64::MAX)
}

pub fn fees(
    trace: &Trace<'_>,
    message: &Message,
    meta: Option<&TransactionStatusMeta>,
    lamports: &[Placed<LamportMovement>],
) -> Fees {
    let mut fees = requested(trace, message);
    let signatures = signatures(trace, message);
    let (Some(meta), Some(base)) = (meta, signatures.checked_mul(LAMPORTS_PER_SIGNATURE)) else {
        return fees;
    };
    if let Some(priority) = meta.fee.checked_sub(base)
        && candidates(trace, message, &fees).contains(&priority)
    {
        fees.base = Some(base);
        fees.priority = Some(priority);
    }
    fees.tip = tip(trace, meta, lamports);
    fees
}

fn requests<'a>(trace: &'a Trace<'_>) -> impl Iterator<Item = Request> + 'a {
    outer(trace)
        .filter(|(program, _)| *program == Some(COMPUTE_BUDGET))
        .filter_map(|(_, data)| request(data).ok())
}

fn outer<'a>(trace: &'a Trace<'_>) -> impl Iterator<Item = (Option<Key>, &'a [u8])> + 'a {
    trace
        .calls
        .iter()
        .filter(|call| call.path & 0xffff == 0)
        .map(|call| (call.program, call.data))
}

fn requested(trace: &Trace<'_>, message: &Message) -> Fees {
    let mut fees = Fees::default();
    if let Some(config) = &message.config {
        fees.unit_limit = config.compute_unit_limit;
        fees.heap_bytes = config.heap_size;
        fees.loaded_accounts_bytes = config.loaded_accounts_data_size_limit;
    }
    for request in requests(trace) {
        match request {
            Request::UnitsAndFee { units, .. } => fees.unit_limit = Some(units),
            Request::HeapBytes(bytes) => fees.heap_bytes = Some(bytes),
            Request::UnitLimit(units) => fees.unit_limit = Some(units),
            Request::UnitPrice(price) => fees.unit_price = Some(price),
            Request::LoadedAccountsBytes(bytes) => fees.loaded_accounts_bytes = Some(bytes),
        }
    }
    fees
}

/// What the priority fee is, by each rule that may have held.
fn candidates(trace: &Trace<'_>, message: &Message, fees: &Fees) -> Vec<u64> {
    if let Some(config) = &message.config {
        // Version 1 states lamports.
        return vec![config.priority_fee.unwrap_or(0)];
    }
    let additional = requests(trace).find_map(|request| match request {
        Request::UnitsAndFee { additional_fee, .. } => Some(u64::from(additional_fee)),
        _ => None,
    });
    let Some(price) = fees.unit_price else {
        return vec![additional.unwrap_or(0)];
    };
    match fees.unit_limit {
        Some(limit) => vec![priority_fee(price, limit.min(UNIT_LIMIT_MAX))],
        None => default_limits(trace)
            .map(|limit| priority_fee(price, limit))
            .to_vec(),
    }
}

fn default_limits(trace: &Trace<'_>) -> [u32; 2] {
    let count = |wanted: &dyn Fn(&Key) -> bool| {
        let found = outer(trace).filter(|(program, _)| program.as_ref().is_none_or(wanted));
        u32::try_from(found.count()).unwrap_or(u32::MAX)
    };
    let all = count(&|_| true);
    let others = count(&|program| !BUILTINS.contains(program));
    let builtins = (all - others).saturating_mul(UNITS_PER_BUILTIN);
    let now = others
        .saturating_mul(UNITS_PER_INSTRUCTION)
        .saturating_add(builtins);
    let before = count(&|program| *program != COMPUTE_BUDGET).saturating_mul(UNITS_PER_INSTRUCTION);
    [now.min(UNIT_LIMIT_MAX), before.min(UNIT_LIMIT_MAX)]
}

/// Signatures paid for: the message's, and those a precompile's first byte counts.
fn signatures(trace: &Trace<'_>, message: &Message) -> u64 {
    let own = message
        .header
        .as_ref()
        .map_or(0, |header| header.num_required_signatures);
    let verified = outer(trace)
        .filter(|(program, _)| {
            program.is_some_and(|program| [ED25519, SECP256K1, SECP256R1].contains(&program))
        })
        .filter_map(|(_, data)| data.first())
        .map(|count| u64::from(*count));
    u64::from(own) + verified.sum::<u64>()
}

fn tip(
    trace: &Trace<'_>,
    meta: &TransactionStatusMeta,
    lamports: &[Placed<LamportMovement>],
) -> Option<u64> {
    if meta.err.is_some() {
        return Some(0);
    }
    if meta.inner_instructions_none {
        return None;
    }
    let tips = lamports.iter().filter(|placed| {
        placed.movement.lamports.is_some()
            && trace
                .key(placed.movement.destination)
                .is_some_and(|destination| TIP_ACCOUNTS.contains(&destination))
    });
    Some(
        tips.filter_map(|placed| placed.movement.lamports)
            .fold(0, u64::saturating_add),
    )
}
