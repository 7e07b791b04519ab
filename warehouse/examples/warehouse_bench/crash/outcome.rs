//! What a run came to: figures, promises, and where it differs.

use bench::report::Check;

use super::{
    audit::{self, Compared, Letters, Signatures},
    stage::{Done, WINDOW},
};

/// The promises.
const KILLS: f64 = 1_000.0;
const ROWS: f64 = 10_000_000.0;

/// What came out.
pub struct Outcome {
    pub done: Done,
    pub slots: u64,
    pub abandoned: u64,
    pub abandoned_after_confirmation: u64,
    pub rows: u64,
    /// `false`: the sink stopped storing before everything was there.
    pub drained: bool,
    /// As a plain SELECT sees them, and with FINAL.
    pub plain: Signatures,
    pub collapsed: Signatures,
    pub tables_plain: Vec<Compared>,
    pub tables: Vec<Compared>,
    pub views: Vec<Compared>,
    /// Windows whose volumes and candles came from rollups while views were compared.
    pub windows_rolled_up: u64,
    pub letters: Letters,
    pub stopped_well: bool,
    pub killing_seconds: f64,
}

impl Outcome {
    /// Rows that are too many in a plain SELECT, and too few, over all tables.
    fn rows_beside(compared: &[Compared]) -> (u64, u64) {
        let sum = |of: fn(&Compared) -> u64| compared.iter().map(of).sum();
        (
            sum(|one| one.expected.0.saturating_sub(one.stored.0)),
            sum(|one| one.stored.0.saturating_sub(one.expected.0)),
        )
    }

    pub fn checks(&self) -> Vec<Check> {
        let none = |name: &'static str, count: u64| Check::at_most(name, count as f64, 0.0);
        let differing =
            |compared: &[Compared]| compared.iter().filter(|one| !one.is_equal()).count() as u64;
        let (lost, duplicated) = Self::rows_beside(&self.tables_plain);
        vec![
            Check::at_least("kills", self.done.kills() as f64, KILLS),
            Check::at_least("rows", self.rows as f64, ROWS),
            none("not_drained", u64::from(!self.drained)),
            none("transactions_lost", self.plain.lost),
            none("transactions_duplicated", self.plain.duplicated),
            none("transactions_of_abandoned_blocks", self.plain.foreign),
            none(
                "transactions_wrong_with_final",
                self.collapsed.lost + self.collapsed.duplicated + self.collapsed.foreign,
            ),
            none("rows_lost", lost),
            none("rows_duplicated", duplicated),
            none(
                "tables_differing_without_final",
                differing(&self.tables_plain),
            ),
            none("tables_differing", differing(&self.tables)),
            none("views_differing", differing(&self.views)),
            Check::at_least("windows_rolled_up", self.windows_rolled_up as f64, 1.0),
            none(
                "zombies_not_refused",
                self.done.zombies - self.done.zombies_refused,
            ),
            none("poison_without_letter", self.letters.missing),
            none("letters_wrong", self.letters.wrong),
            none("sink_ended_by_itself", self.done.ended_by_itself),
            none("sink_stopped_badly", u64::from(!self.stopped_well)),
        ]
    }

    pub fn print(&self) {
        let done = &self.done;
        println!(
            "{} SIGKILLs in {:.0} s: sink {}, door {}, broker {}; {} lives of the sink; {} of {} replaced sinks refused, each after {} batches or more (tables remember {WINDOW})",
            done.kills(),
            self.killing_seconds,
            done.sink,
            done.door,
            done.broker,
            done.sink_lives,
            done.zombies_refused,
            done.zombies,
            2 * WINDOW
        );
        println!(
            "{} final slots, {} blocks abandoned ({} after their confirmation), {} rows",
            self.slots, self.abandoned, self.abandoned_after_confirmation, self.rows
        );
        for (how, found) in [("plain", self.plain), ("FINAL", self.collapsed)] {
            println!(
                "transactions, {how}: {} expected, {} lost, {} duplicated, {} of abandoned blocks",
                found.expected, found.lost, found.duplicated, found.foreign
            );
        }
        println!(
            "dead letters: {} poison records, {} missing, {} wrong, {} repeated after a kill",
            self.letters.poison, self.letters.missing, self.letters.wrong, self.letters.repeated
        );
        println!("left out of the comparison: {}", audit::left_out());
        for (what, compared) in [
            ("tables, plain", &self.tables_plain),
            ("tables, FINAL", &self.tables),
            ("views", &self.views),
        ] {
            let differing: Vec<&Compared> = compared.iter().filter(|one| !one.is_equal()).collect();
            println!(
                "{what}: {} compared, {} differ",
                compared.len(),
                differing.len()
            );
            for one in differing {
                println!(
                    "  {}: {} rows, expected {}; slots {}",
                    one.name,
                    one.stored.0,
                    one.expected.0,
                    one.slots.join(", ")
                );
            }
        }
    }
}
