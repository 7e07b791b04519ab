//! The decoders over recorded transactions, beside references that know nothing of them: Agave's own `jsonParsed` reader
//! ([`reference`]) and the balances before and after ([`balances`]). Used by the test `decode` and the example `warehouse_bench`.
#![allow(dead_code, reason = "test and example each use their own part")]

pub mod balances;
pub mod parsed;
pub mod recorded;
pub mod reference;

use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::Message;
use warehouse::decode::{Decoded, Effect, Reading, Trace, decode, programs};

/// What was counted. Differences are kept as text, the first few of each kind.
#[derive(Debug, Default)]
pub struct Tally {
    pub transactions: u64,
    pub failed: u64,
    /// Of them from `jsonParsed` replies: balances are their reference, and what is said of instructions is none.
    pub rewritten: u64,
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
    pub lamport_identity: BTreeMap<&'static str, u64>,
    pub curve_lamports: Comparison,
    /// What is worth a look, as text.
    pub notes: Vec<String>,
    pub lamports_unstated: u64,
    pub lamports_found: u64,
    /// Transfer fees that no instruction states, found from the balances: how many, and of them not 0.
    pub withheld_found: u64,
    pub withheld_not_zero: u64,
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
    pub fn of(found: &recorded::Folder) -> Self {
        let mut tally = Self::default();
        for recorded in &found.transactions {
            tally.add(recorded);
        }
        tally
    }

    pub fn add(&mut self, recorded: &recorded::Recorded) {
        let (place, update) = (recorded.place.as_str(), &recorded.update);
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
            self.notes.push(format!(
                "{place}: tokens {}: {}",
                identity.word(),
                identity.reason()
            ));
        }
        let lamports = balances::lamport_identity(meta);
        *self.lamport_identity.entry(lamports).or_default() += 1;
        if recorded.rewritten {
            self.rewritten += 1;
        } else {
            reference::compare(self, place, &trace, &decoded);
        }
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
                    self.notes.push(format!(
                        "{place}: {program} {} {:?} → {:?}: {}",
                        decoded.readings[swap.call].name().unwrap_or_default(),
                        swap.amount_in,
                        swap.amount_out,
                        swap.evidence.word()
                    ));
                }
            }
            for placed in &decoded.tokens {
                *self.kinds.entry(placed.movement.kind).or_default() += 1;
            }
            let read = decoded.readings.iter().flat_map(Reading::effects);
            let read = read.filter_map(|effect| match effect {
                Effect::Tokens(movement) => Some(movement.fee),
                _ => None,
            });
            for (placed, read) in decoded.tokens.iter().zip(read) {
                let found = placed.movement.fee.filter(|_| read.is_none());
                self.withheld_found += u64::from(found.is_some());
                self.withheld_not_zero += u64::from(found.is_some_and(|fee| fee > 0));
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
                self.notes.push(format!(
                    "not read: {} {} instruction, {} accounts, data {}…",
                    program.name,
                    reading.outcome(),
                    call.accounts.len(),
                    hex::encode(&call.data[..call.data.len().min(8)])
                ));
            }
        }
    }

    pub fn identity_count(&self, word: &str) -> u64 {
        let of_word = self
            .token_identity
            .iter()
            .filter(|((found, _), _)| *found == word);
        of_word.map(|(_, count)| count).sum()
    }

    /// For people.
    pub fn print(&self) {
        println!(
            "{} transactions ({} failed, {} out of jsonParsed replies), {} instructions; {} of programs without a decoder ({} programs)",
            self.transactions,
            self.failed,
            self.rewritten,
            self.instructions,
            self.foreign.values().sum::<u64>(),
            self.foreign.len()
        );
        println!(
            "{:<24}{:>8}{:>9}{:>9}{:>11}{:>10}",
            "program", "seen", "decoded", "unknown", "malformed", "share"
        );
        for (program, coverage) in &self.coverage {
            println!(
                "{program:<24}{:>8}{:>9}{:>9}{:>11}{:>9.2}%",
                coverage.seen,
                coverage.decoded,
                coverage.unknown,
                coverage.malformed,
                coverage.percent()
            );
        }
        for ((word, reason), count) in &self.token_identity {
            println!("tokens of a transaction add up: {word} {reason} {count}");
        }
        for (word, count) in &self.lamport_identity {
            println!("lamports of a transaction add up: {word} {count}");
        }
        let compared = [
            (
                "instructions beside Agave's own jsonParsed",
                &self.reference,
            ),
            (
                "mints whose changes are minted − burned − withheld",
                &self.mint_sums,
            ),
            (
                "vaults whose change is the sum of their swaps",
                &self.swap_balances,
            ),
            (
                "curves whose lamports change by their swaps",
                &self.curve_lamports,
            ),
        ];
        for (what, comparison) in compared {
            println!(
                "{what}: {} equal, {} different",
                comparison.equal, comparison.different
            );
        }
        println!(
            "{} more instructions decoded that Agave's reader refuses; {} vaults and curves touched by more than swaps",
            self.only_ours, self.swap_accounts_shared
        );
        for ((program, evidence), count) in &self.swaps {
            println!("swaps of {program}, resting on {evidence}: {count}");
        }
        println!(
            "lamport movements without a stated amount: {}, found from balances: {}",
            self.lamports_unstated, self.lamports_found
        );
        println!(
            "transfer fees not stated, found from balances: {}, of them not 0: {}",
            self.withheld_found, self.withheld_not_zero
        );
        println!(
            "fees that come apart: {} of {}; {} transactions tip, {} lamports",
            self.fees_known, self.transactions, self.tipping, self.tips
        );
        self.notes.iter().for_each(|note| println!("note: {note}"));
    }
}

impl Coverage {
    pub fn percent(&self) -> f64 {
        100.0 * self.decoded as f64 / self.seen as f64
    }
}

/// Which lamport movements did not state their amount, in the order of [`Decoded::lamports`].
fn unfilled(decoded: &Decoded) -> Vec<bool> {
    let effects = decoded.readings.iter().flat_map(Reading::effects);
    effects
        .filter_map(|effect| match effect {
            Effect::Lamports(movement) => Some(movement.lamports.is_none()),
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
