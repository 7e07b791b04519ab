//! Pure: what hosts had written down against what came out at the other end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event_schema::{GapReason, Kind};
use serde_json::json;

use super::{
    CrashArgs,
    audit::{Audit, Findings},
    count_sheet::{KINDS, THREADS},
    readers::Canonical,
    supervisor::{Life, Moment, Run},
};
use crate::report::{Check, Report};

/// Of a run.
#[derive(Debug)]
pub struct Verdict {
    run: Run,
    findings: Findings,
    canonical: Canonical,
    balances: Vec<Balance>,
    /// Slots for which a callback was begun and about which the router must have decided.
    decided: BTreeSet<u64>,
    /// Of these, neither canonical nor in a gap: with records in the log, and without any.
    unnamed: Vec<u64>,
    unnamed_and_unseen: Vec<u64>,
    /// Records of sources that are nobody's.
    foreign: u64,
}

/// A life's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    pub returned: u64,
    pub begun: u64,
    pub delivered: u64,
    pub lost: u64,
    /// Beyond what callbacks under way when it died explain.
    pub unaccounted: u64,
    /// Nobody lived to say what it had lost: the next one died while it loaded. Then it must have lost nothing.
    pub losses_unknown: bool,
}

impl Balance {
    /// `delivered`, by kind.
    fn of(life: &Life, delivered: &BTreeMap<Kind, u64>) -> Self {
        let counted = |kind: &Kind| delivered.get(kind).copied().unwrap_or(0);
        let mut balance = Self {
            lost: life.lost.unwrap_or(0),
            losses_unknown: life.lost.is_none() && life.last_slot > 0,
            ..Self::default()
        };
        let mut by_kind = 0;
        for (kind, callbacks) in &life.callbacks {
            balance.returned += callbacks.returned;
            balance.begun += callbacks.begun;
            balance.delivered += counted(kind);
            by_kind += outside(callbacks.returned, counted(kind), callbacks.begun);
        }
        let all = outside(
            balance.returned,
            balance.delivered + balance.lost,
            balance.begun,
        );
        // Losses are not told by kind; without any, each kind must balance by itself.
        balance.unaccounted = if balance.lost == 0 {
            all.max(by_kind)
        } else {
            all
        };
        balance
    }
}

/// How far `value` is from the range.
fn outside(least: u64, value: u64, most: u64) -> u64 {
    least.saturating_sub(value) + value.saturating_sub(most)
}

pub fn judge(run: Run, audit: &Audit, canonical: Canonical) -> Verdict {
    let mut by_life: Vec<BTreeMap<Kind, u64>> = vec![BTreeMap::new(); run.lives.len()];
    let mut foreign = 0;
    for ((instance, kind), count) in audit.delivered() {
        if !KINDS.contains(&kind) {
            continue;
        }
        let life = run
            .lives
            .iter()
            .rposition(|life| life.started > 0 && life.started <= instance);
        match life {
            Some(life) => *by_life[life].entry(kind).or_default() += count,
            None => foreign += count,
        }
    }
    let balances = run
        .lives
        .iter()
        .zip(&by_life)
        .map(|(life, delivered)| Balance::of(life, delivered))
        .collect();
    let limit = run.decided();
    let decided: BTreeSet<u64> = run
        .lives
        .iter()
        .filter(|life| life.last_slot > 0)
        .flat_map(|life| life.first_slot..=life.last_slot)
        .filter(|slot| *slot < limit)
        .collect();
    let seen = audit.slots();
    let (unnamed, unnamed_and_unseen) = decided
        .iter()
        .filter(|slot| !canonical.blocks.contains(slot) && !canonical.is_named(**slot))
        .partition(|slot| seen.contains(slot));
    Verdict {
        findings: audit.findings(),
        run,
        canonical,
        balances,
        decided,
        unnamed,
        unnamed_and_unseen,
        foreign,
    }
}

impl Verdict {
    fn sum(&self, of: impl Fn(&Balance) -> u64) -> u64 {
        self.balances.iter().map(of).sum()
    }

    fn gaps(&self) -> BTreeMap<String, usize> {
        let mut gaps = BTreeMap::new();
        for gap in &self.canonical.gaps {
            let reason = GapReason::try_from(gap.reason).unwrap_or(GapReason::Unknown);
            *gaps.entry(format!("{reason:?}")).or_default() += 1;
        }
        gaps
    }

    /// Decided slots that are not canonical, each in a gap.
    fn named(&self) -> usize {
        let canonical = |slot: &&u64| !self.canonical.blocks.contains(slot);
        let missing = self.decided.iter().filter(canonical).count();
        missing - self.unnamed.len() - self.unnamed_and_unseen.len()
    }

    pub fn print(&self) {
        println!(
            "{:<34}{:>10}{:>10}",
            "killed while the plugin was", "hosts", "brokers"
        );
        for moment in Moment::ALL {
            let of = |kills: &BTreeMap<Moment, usize>| kills.get(&moment).copied().unwrap_or(0);
            println!(
                "{:<34}{:>10}{:>10}",
                moment.as_str(),
                of(&self.run.host_kills),
                of(&self.run.broker_kills)
            );
        }
        let findings = &self.findings;
        let rows = [
            ("lives", self.run.lives.len() as u64),
            ("callbacks begun", self.sum(|b| b.begun)),
            ("callbacks returned", self.sum(|b| b.returned)),
            ("  their records in the log", self.sum(|b| b.delivered)),
            ("  counted as lost", self.sum(|b| b.lost)),
            ("  unaccounted", self.sum(|b| b.unaccounted)),
            ("records in the log, seals included", findings.records),
            ("  found in a dead one's memory", self.run.recovered),
            ("  repeated, equal", findings.repetitions),
            (
                "  repeated, different",
                findings.repetitions_with_other_bytes,
            ),
            ("  holes", findings.holes),
            ("  out of order", findings.out_of_order),
            ("sealed slots, per life", findings.sealed_slots),
            ("  with a stated loss", findings.slots_with_stated_losses),
            ("  wrong seals", findings.wrong_seals),
            ("slots that were begun", self.decided.len() as u64),
            ("  canonical", self.canonical.blocks.len() as u64),
            ("  of them from several lives", self.canonical.repaired),
            ("  not canonical, in a gap", self.named() as u64),
            ("  in no gap, though seen", self.unnamed.len() as u64),
            (
                "  in no gap, no record came",
                self.unnamed_and_unseen.len() as u64,
            ),
            ("canonical duplicates", self.canonical.duplicates),
            ("canonical blocks that are wrong", self.canonical.wrong),
        ];
        for (what, count) in rows {
            println!("{what:<44}{count:>10}");
        }
        for (reason, count) in self.gaps() {
            println!("{:<44}{count:>10}", format!("gaps: {reason}"));
        }
        for (life, balance) in self.run.lives.iter().zip(&self.balances) {
            if balance.unaccounted > 0 {
                println!("life {}..{}: {balance:?}", life.first_slot, life.last_slot);
            }
        }
        for (what, slots) in [
            ("seen, in no gap", &self.unnamed),
            ("unseen, in no gap", &self.unnamed_and_unseen),
        ] {
            if !slots.is_empty() {
                println!("{what}: {:?}", &slots[..slots.len().min(20)]);
            }
        }
    }

    pub fn report(&self, args: &CrashArgs, killing: Duration, all: Duration) -> Report {
        let mut report = Report::new(
            "plugin-crash",
            json!({"kills": args.kills, "seed": args.seed, "slot_micros": args.slot_micros}),
        );
        let kills = |kills: &BTreeMap<Moment, usize>| {
            kills
                .iter()
                .map(|(moment, count)| (moment.as_str().to_owned(), json!(count)))
                .collect::<serde_json::Map<_, _>>()
        };
        let findings = &self.findings;
        report.figure("killing_seconds", killing.as_secs_f64());
        report.figure("seconds", all.as_secs_f64());
        report.figure("host_kills", kills(&self.run.host_kills));
        report.figure("broker_kills", kills(&self.run.broker_kills));
        report.figure("gaps", json!(self.gaps()));
        let losses_unknown = self.sum(|b| u64::from(b.losses_unknown));
        for (name, value) in [
            ("lives", self.run.lives.len() as u64),
            ("begun", self.sum(|b| b.begun)),
            ("returned", self.sum(|b| b.returned)),
            ("delivered", self.sum(|b| b.delivered)),
            ("lost", self.sum(|b| b.lost)),
            ("lives_with_unknown_losses", losses_unknown),
            ("records", findings.records),
            ("recovered", self.run.recovered),
            ("repetitions", findings.repetitions),
            ("sealed_slots", findings.sealed_slots),
            (
                "slots_with_stated_losses",
                findings.slots_with_stated_losses,
            ),
            ("slots", self.decided.len() as u64),
            ("canonical_slots", self.canonical.blocks.len() as u64),
            ("repaired_slots", self.canonical.repaired),
            ("named_holes", self.named() as u64),
        ] {
            report.figure(name, value);
        }
        let kills = self.run.kills();
        report
            .checks
            .push(Check::at_least("kills", kills as f64, args.kills as f64));
        let deepest = self.run.lives.iter().map(|life| life.deepest).max();
        for (name, value, most) in [
            ("unaccounted", self.sum(|b| b.unaccounted) + self.foreign, 0),
            ("unreturned_per_thread", deepest.unwrap_or(0), 1),
            (
                "unreturned_per_kill",
                self.balances
                    .iter()
                    .map(|b| b.begun - b.returned)
                    .max()
                    .unwrap_or(0),
                THREADS as u64,
            ),
            ("left_at_the_end", self.run.left, 0),
            ("holes", findings.holes, 0),
            ("out_of_order", findings.out_of_order, 0),
            (
                "repetitions_with_other_bytes",
                findings.repetitions_with_other_bytes,
                0,
            ),
            ("unreadable", findings.unreadable, 0),
            ("wrong_seals", findings.wrong_seals, 0),
            ("canonical_duplicates", self.canonical.duplicates, 0),
            ("canonical_wrong_blocks", self.canonical.wrong, 0),
            ("unnamed_holes", self.unnamed.len() as u64, 0),
            // The router can know of them only by the parent that a later block names.
            (
                "unnamed_holes_without_any_record",
                self.unnamed_and_unseen.len() as u64,
                0,
            ),
        ] {
            report
                .checks
                .push(Check::at_most(name, value as f64, most as f64));
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_crash::count_sheet::Callbacks;

    fn life(begun: u64, returned: u64, lost: Option<u64>) -> Life {
        Life {
            started: 1,
            first_slot: 1,
            last_slot: 9,
            rooted: 3,
            callbacks: [(Kind::Account, Callbacks { begun, returned })].into(),
            deepest: 1,
            lost,
            tiny: false,
        }
    }

    #[test]
    fn what_was_under_way_may_be_there_or_not() {
        let unaccounted = |delivered: u64, lost: u64| {
            let delivered = [(Kind::Account, delivered)].into();
            Balance::of(&life(12, 10, Some(lost)), &delivered).unaccounted
        };
        assert_eq!(
            [9, 10, 11, 12, 13].map(|n| unaccounted(n, 0)),
            [1, 0, 0, 0, 1]
        );
        assert_eq!([5, 6, 8, 9].map(|n| unaccounted(n, 4)), [1, 0, 0, 1]);
        assert!(Balance::of(&life(12, 10, None), &BTreeMap::new()).losses_unknown);
    }
}
