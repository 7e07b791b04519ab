//! What is told: a line per table and epoch, a sum, and the same for machines.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::plan::{Decision, Deed};

pub struct Report {
    applied: bool,
    finalized: Option<u64>,
    lines: Vec<Value>,
    dropped: Sum,
    moved: Sum,
    kept: Sum,
    overdue: u64,
}

#[derive(Default)]
struct Sum {
    partitions: u64,
    rows: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, decision: &Decision) {
        self.partitions += 1;
        self.rows += decision.rows;
        self.bytes += decision.bytes;
    }

    fn json(&self) -> Value {
        json!({"partitions": self.partitions, "rows": self.rows, "bytes": self.bytes})
    }
}

impl Report {
    pub fn new(applied: bool, finalized: Option<u64>) -> Self {
        Self {
            applied,
            finalized,
            lines: Vec::new(),
            dropped: Sum::default(),
            moved: Sum::default(),
            kept: Sum::default(),
            overdue: 0,
        }
    }

    pub fn tell(&mut self, decision: Decision) {
        let (deed, sum) = match &decision.deed {
            Deed::Drop(_) | Deed::Finish => ("drop", &mut self.dropped),
            Deed::Move => ("move", &mut self.moved),
            Deed::Keep => ("keep", &mut self.kept),
        };
        sum.add(&decision);
        let reason = decision.reason.as_ref().map(ToString::to_string);
        let archive = match &decision.deed {
            Deed::Drop(Some(archived)) => Some(archived.folder.as_str()),
            _ => None,
        };
        self.overdue += u64::from(
            decision
                .reason
                .as_ref()
                .is_some_and(|reason| reason.is_overdue()),
        );
        let place = &decision.place;
        let why = match (&decision.deed, archive, &reason) {
            (Deed::Drop(_), Some(archive), _) => format!(": archived in {archive}"),
            (Deed::Drop(_), None, _) => ": the policy asks for no archive".into(),
            (Deed::Finish, ..) => ": went before, as the journal now says".into(),
            (_, _, Some(reason)) => format!(": {reason}"),
            (_, _, None) => String::new(),
        };
        println!(
            "epoch {} of {}: {deed}, {} rows, {} bytes{why}",
            place.epoch, place.table, decision.rows, decision.bytes
        );
        self.lines.push(json!({
            "table": place.table,
            "epoch": place.epoch,
            "deed": deed,
            "rows": decision.rows,
            "bytes": decision.bytes,
            "archive": archive,
            "reason": reason,
        }));
    }

    /// Exit code 1: rules say that something should be gone which is still there.
    pub fn end(self, as_json: bool) -> ExitCode {
        let (dropped, moved) = match self.applied {
            true => ("dropped", "moved"),
            false => ("would be dropped", "would be moved"),
        };
        println!(
            "{} partitions with {} rows and {} bytes {dropped}, {} with {} bytes {moved}, {} kept, {} of them overdue{}",
            self.dropped.partitions,
            self.dropped.rows,
            self.dropped.bytes,
            self.moved.partitions,
            self.moved.bytes,
            self.kept.partitions,
            self.overdue,
            if self.applied {
                ""
            } else {
                "; --apply does it"
            }
        );
        if as_json {
            let told = json!({
                "applied": self.applied,
                "finalized_slot": self.finalized,
                "drop": self.dropped.json(),
                "move": self.moved.json(),
                "keep": self.kept.json(),
                "overdue": self.overdue,
                "partitions": self.lines,
            });
            println!("{told}");
        }
        match self.overdue {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}
