//! The decoders over recorded transactions, beside references that know nothing of them: Agave's own `jsonParsed` reader
//! ([`reference`]) and the balances before and after ([`balances`]). Used by the test `decode` and the example `decode_bench`.
#![allow(dead_code, reason = "test and example each use their own part")]

pub mod balances;
pub mod recorded;
pub mod reference;

use std::collections::BTreeMap;

use event_schema::proto::{confirmed_block::Message, geyser::SubscribeUpdateTransactionInfo};
use warehouse::decode::{Decoded, Reading, Trace, decode, programs};

/// What was counted. Differences are kept as text, the first few of each kind.
#[derive(Debug, Default)]
pub struct Tally {
    pub transactions: u64,
    pub failed: u64,
    pub instructions: u64,
    /// By the program's name: seen, decoded, unknown, malformed.
    pub coverage: BTreeMap<&'static str, Coverage>,
    /// Calls of programs without a reader, by program.
    pub foreign: BTreeMap<String, u64>,
    pub token_identity: BTreeMap<(&'static str, &'static str), u64>,
    pub mint_sums: Comparison,
    pub reference: Comparison,
    /// Instructions that the reference refuses to read and the decoders read.
    pub only_ours: u64,
    /// Swaps of successful transactions, by program and evidence.
    pub swaps: BTreeMap<(&'static str, &'static str), u64>,
    /// Token accounts of pools and users that swaps alone explain.
    pub swap_balances: Comparison,
    pub swap_accounts_shared: u64,
    pub lamports: Comparison,
    pub lamports_unstated: u64,
    pub lamports_found: u64,
    pub fees_known: u64,
    pub fees_unknown: Vec<String>,
    pub tips: u64,
    pub tipping: u64,
    /// Names of token transfer kinds, for the reader of the table.
    pub kinds: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Coverage {
    pub seen: u64,
    pub decoded: u64,
    pub unknown: u64,
    pub malformed: u64,
}

/// Equal or not, and how it differed.
#[derive(Debug, Default)]
pub struct Comparison {
    pub equal: u64,
    pub different: u64,
    pub first: Vec<String>,
}

impl Comparison {
    pub fn count(&mut self, equal: bool, difference: impl FnOnce() -> String) {
        if equal {
            self.equal += 1;
            return;
        }
        self.different += 1;
        if self.first.len() < 30 {
            self.first.push(difference());
        }
    }
}

impl Tally {
    pub fn add(&mut self, place: &str, update: &SubscribeUpdateTransactionInfo) {
        let empty = Message::default();
        let message = update
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref())
            .unwrap_or(&empty);
        let meta = update.meta.as_ref();
        let trace = Trace::of(message, meta);
        let decoded = decode(message, meta, &trace);
        let success = meta.is_some_and(|meta| meta.err.is_none());
        self.transactions += 1;
        self.failed += u64::from(!success);
        self.cover(&trace, &decoded);
        let identity = decoded.token_identity;
        *self
            .token_identity
            .entry((identity.word(), identity.reason()))
            .or_default() += 1;
        if identity.word() != "exact" {
            eprintln!(
                "{place}: token identity {}: {}",
                identity.word(),
                identity.reason()
            );
        }
        reference::compare(self, place, &trace, &decoded);
        if let Some(meta) = meta.filter(|_| success) {
            balances::mint_sums(self, place, &trace, &decoded, meta);
            balances::swaps(self, place, &trace, &decoded, meta);
            for swap in &decoded.swaps {
                let program = program_name(&trace, swap.call);
                *self
                    .swaps
                    .entry((program, swap.evidence.word()))
                    .or_default() += 1;
                if matches!(swap.evidence.word(), "mismatch" | "none") {
                    eprintln!(
                        "{place}: {program} {:?} {:?} → {:?} {:?}",
                        decoded.readings[swap.call].name(),
                        swap.amount_in,
                        swap.amount_out,
                        swap.evidence
                    );
                }
            }
            for placed in &decoded.tokens {
                *self.kinds.entry(placed.movement.kind).or_default() += 1;
            }
            for (placed, unfilled) in decoded.lamports.iter().zip(unfilled(&decoded)) {
                self.lamports_unstated += u64::from(unfilled);
                self.lamports_found += u64::from(unfilled && placed.movement.lamports.is_some());
            }
        }
        match decoded.fees.priority {
            Some(_) => self.fees_known += 1,
            None => self.fees_unknown.push(format!(
                "{place}: fee {:?} of {:?}",
                meta.map(|meta| meta.fee),
                decoded.fees
            )),
        }
        let tip = decoded.fees.tip.unwrap_or(0);
        self.tips += tip;
        self.tipping += u64::from(tip > 0);
    }

    fn cover(&mut self, trace: &Trace<'_>, decoded: &Decoded) {
        for (call, reading) in trace.calls.iter().zip(&decoded.readings) {
            self.instructions += 1;
            let known = call.program.and_then(|program| programs::by_id(&program));
            let Some(program) = known else {
                let name = call
                    .program
                    .map(|program| bs58::encode(program).into_string());
                *self.foreign.entry(name.unwrap_or_default()).or_default() += 1;
                continue;
            };
            let coverage = self.coverage.entry(program.name).or_default();
            coverage.seen += 1;
            match reading.outcome() {
                "decoded" => coverage.decoded += 1,
                "unknown" => coverage.unknown += 1,
                _ => coverage.malformed += 1,
            }
            if let Reading::Unread(_) = reading {
                eprintln!(
                    "not read: {} {} {} accounts, data {}",
                    program.name,
                    reading.outcome(),
                    call.accounts.len(),
                    hex::encode(&call.data[..call.data.len().min(16)])
                );
            }
        }
    }
}

/// Which lamport movements did not state their amount, in the order of [`Decoded::lamports`].
fn unfilled(decoded: &Decoded) -> Vec<bool> {
    let effects = decoded.readings.iter().flat_map(Reading::effects);
    effects
        .filter_map(|effect| match effect {
            warehouse::decode::Effect::Lamports(movement) => Some(movement.lamports.is_none()),
            _ => None,
        })
        .collect()
}

pub fn program_name(trace: &Trace<'_>, call: usize) -> &'static str {
    trace.calls[call]
        .program
        .and_then(|program| programs::by_id(&program))
        .map_or("", |program| program.name)
}
