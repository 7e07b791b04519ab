//! The report of a run that ends by itself, and its verdict. Pure.

use serde::{Deserialize, Serialize};

/// The whole report, one JSON object.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// `blocks DIR` or `validator`.
    pub source: String,
    pub blocks: Vec<BlockRow>,
    /// Transactions that some stage misses, summed over blocks and stages.
    pub lost: u64,
    /// Transactions that some stage has more than once, summed over blocks and stages.
    pub duplicated: u64,
    /// Gap records of the canonical stream.
    pub gaps: Vec<GapRow>,
    /// Records in the dead-letter topic.
    pub dead_letters: u64,
    pub seconds: f64,
    /// Files that are not complete blocks, each with the reason.
    pub skipped: Vec<FileNote>,
    /// Files that could not be read, each with what is wrong.
    pub failed: Vec<FileNote>,
    /// Why an identity could not be checked, with the number of transactions.
    pub identity_unknown_reasons: std::collections::BTreeMap<String, u64>,
    /// Validator only: blocks whose canonical content differs from RPC `getBlock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_mismatches: Option<u64>,
    /// Validator only: what differs, block by block.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mismatches: Vec<String>,
    /// Validator only: how often the router was killed and restarted during the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_kills: Option<u64>,
}

/// One block file, or one block of the validator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BlockRow {
    /// File name; for the validator `rpc:SLOT`.
    pub file: String,
    pub slot: u64,
    pub transactions_file: u64,
    pub transactions_plugin: u64,
    pub transactions_canonical: u64,
    pub transactions_warehouse: u64,
    pub transactions_ledger: u64,
    pub lamport_identity: Identity,
    pub token_identity: Identity,
    #[serde(skip)]
    pub distinct: Distinct,
}

/// How many of a stage's transactions are different ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distinct {
    pub plugin: u64,
    pub canonical: u64,
    pub warehouse: u64,
    pub ledger: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub exact: u64,
    pub unknown: u64,
    /// Must be 0: the ledger refuses to commit it.
    pub broken: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileNote {
    pub file: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GapRow {
    pub first_slot: u64,
    pub last_slot: u64,
    pub records: u64,
    pub reason: String,
    pub source: String,
    pub detail: String,
}

impl BlockRow {
    fn stages(&self) -> [(&'static str, u64, u64); 4] {
        [
            ("plugin", self.transactions_plugin, self.distinct.plugin),
            (
                "canonical",
                self.transactions_canonical,
                self.distinct.canonical,
            ),
            (
                "warehouse",
                self.transactions_warehouse,
                self.distinct.warehouse,
            ),
            ("ledger", self.transactions_ledger, self.distinct.ledger),
        ]
    }
}

impl Report {
    /// Fills the sums from the rows.
    pub fn sum(&mut self) {
        self.lost = 0;
        self.duplicated = 0;
        for row in &self.blocks {
            for (_, total, distinct) in row.stages() {
                self.lost += row.transactions_file.saturating_sub(distinct);
                self.duplicated += total - distinct.min(total);
            }
        }
    }

    /// Everything that is not as it must be, in words; empty when the run proves itself.
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for row in &self.blocks {
            for (stage, total, distinct) in row.stages() {
                if total != row.transactions_file || distinct != total {
                    found.push(format!(
                        "slot {} ({}): {} transactions in the source, {stage} has {total}, {distinct} of them different",
                        row.slot, row.file, row.transactions_file
                    ));
                }
            }
            for (name, identity) in [
                ("lamport", row.lamport_identity),
                ("token", row.token_identity),
            ] {
                let checked = identity.exact + identity.unknown + identity.broken;
                if identity.broken != 0 || checked != row.transactions_file {
                    found.push(format!(
                        "slot {} ({}): {name} identity: {} exact, {} unknown, {} broken of {} transactions",
                        row.slot,
                        row.file,
                        identity.exact,
                        identity.unknown,
                        identity.broken,
                        row.transactions_file
                    ));
                }
            }
            if row.lamport_identity.unknown != 0 {
                found.push(format!(
                    "slot {} ({}): the lamport identity of {} transactions is unknown",
                    row.slot, row.file, row.lamport_identity.unknown
                ));
            }
        }
        for gap in &self.gaps {
            found.push(format!(
                "gap: slots {} to {} ({}; {})",
                gap.first_slot, gap.last_slot, gap.reason, gap.detail
            ));
        }
        if self.dead_letters != 0 {
            found.push(format!(
                "{} records in the dead-letter topic",
                self.dead_letters
            ));
        }
        for note in &self.failed {
            found.push(format!("{}: {}", note.file, note.reason));
        }
        if self.block_mismatches.unwrap_or(0) != 0 {
            found.extend(self.mismatches.iter().cloned());
        }
        if self.blocks.is_empty() {
            found.push("the source had no complete block".to_owned());
        }
        found
    }

    /// The rows as a table for people. Long runs show the first and last rows.
    pub fn table(&self) -> String {
        const ROWS_MAX: usize = 40;
        let mut text = format!(
            "{:>11} {:>6} {:>7} {:>10} {:>10} {:>7}  {:>15} {:>15}  file\n",
            "slot",
            "source",
            "plugin",
            "canonical",
            "warehouse",
            "ledger",
            "lamports exact",
            "tokens exact"
        );
        let hidden = self.blocks.len().saturating_sub(ROWS_MAX);
        for (number, row) in self.blocks.iter().enumerate() {
            if hidden > 0 && number == ROWS_MAX / 2 {
                text.push_str(&format!("{:>11} … {hidden} rows more …\n", ""));
            }
            if hidden > 0 && number >= ROWS_MAX / 2 && number < ROWS_MAX / 2 + hidden {
                continue;
            }
            let of =
                |identity: &Identity| format!("{} of {}", identity.exact, row.transactions_file);
            text.push_str(&format!(
                "{:>11} {:>6} {:>7} {:>10} {:>10} {:>7}  {:>15} {:>15}  {}\n",
                row.slot,
                row.transactions_file,
                row.transactions_plugin,
                row.transactions_canonical,
                row.transactions_warehouse,
                row.transactions_ledger,
                of(&row.lamport_identity),
                of(&row.token_identity),
                row.file
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> BlockRow {
        BlockRow {
            file: "block".into(),
            slot: 7,
            transactions_file: n,
            transactions_plugin: n,
            transactions_canonical: n,
            transactions_warehouse: n,
            transactions_ledger: n,
            lamport_identity: Identity {
                exact: n,
                ..Identity::default()
            },
            token_identity: Identity {
                exact: n - 1,
                unknown: 1,
                broken: 0,
            },
            distinct: Distinct {
                plugin: n,
                canonical: n,
                warehouse: n,
                ledger: n,
            },
        }
    }

    fn report(row: BlockRow) -> Report {
        let mut report = Report {
            blocks: vec![row],
            ..Report::default()
        };
        report.sum();
        report
    }

    #[test]
    fn agreement_is_silent() {
        let report = report(row(25));
        assert_eq!((report.lost, report.duplicated), (0, 0));
        assert_eq!(report.differences(), Vec::<String>::new());
    }

    #[test]
    fn a_missing_row_is_lost_even_when_a_double_makes_up_the_count() {
        let mut block = row(25);
        block.distinct.warehouse = 24;
        let report = report(block);
        assert_eq!((report.lost, report.duplicated), (1, 1));
        assert_eq!(report.differences().len(), 1);
    }

    #[test]
    fn stages_behind_are_summed() {
        let mut block = row(25);
        block.transactions_ledger = 20;
        block.distinct.ledger = 20;
        block.transactions_canonical = 27;
        let report = report(block);
        assert_eq!((report.lost, report.duplicated), (5, 2));
    }

    #[test]
    fn every_kind_of_trouble_is_named() {
        let mut block = row(25);
        block.lamport_identity = Identity {
            exact: 23,
            unknown: 1,
            broken: 1,
        };
        let mut report = report(block);
        report.dead_letters = 2;
        report.block_mismatches = Some(1);
        report.mismatches.push("slot 9: fee".into());
        report.failed.push(FileNote {
            file: "cut".into(),
            reason: "ends early".into(),
        });
        let text = report.differences().join("\n");
        for word in ["broken", "unknown", "dead-letter", "slot 9", "cut"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(
            Report::default().differences().len(),
            1,
            "an empty run proves nothing"
        );
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let json = serde_json::to_value(report(row(3))).unwrap();
        for key in [
            "source",
            "blocks",
            "lost",
            "duplicated",
            "gaps",
            "dead_letters",
            "seconds",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        for key in [
            "file",
            "slot",
            "transactions_file",
            "transactions_plugin",
            "transactions_canonical",
            "transactions_warehouse",
            "transactions_ledger",
            "lamport_identity",
            "token_identity",
        ] {
            assert!(json["blocks"][0].get(key).is_some(), "{key}");
        }
        assert!(json["blocks"][0]["lamport_identity"]["unknown"].is_u64());
    }
}
