//! What tells the rows of one insert from all others of their table, so that one can look whether they are there. Pure.
//!
//! ClickHouse notes an insert's token before it gives the insert's part its name. If it is killed between the two, it takes
//! every repetition for stored, and the rows are nowhere. So a token says that an insert was tried; only the rows say that it
//! was stored (docs/decisions/0034).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use crate::retention::epoch_of;

/// A condition for each part that the insert makes: there, or not, as a whole. An insert makes one per partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness(Vec<String>);

impl Witness {
    /// Rows of blocks: nobody else inserts rows of these slots.
    pub fn of_slots(slots: impl IntoIterator<Item = u64>) -> Self {
        // A partition of the tables is an epoch.
        let mut epochs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for slot in slots {
            epochs.entry(epoch_of(slot)).or_default().insert(slot);
        }
        let conditions = epochs.values().map(|slots| list("slot", slots));
        Self(conditions.collect())
    }

    /// Rows of a table without partitions, by two columns.
    pub fn of_keys<A: Display, B: Display>(
        columns: [&str; 2],
        keys: impl IntoIterator<Item = (A, B)>,
    ) -> Self {
        let keys: Vec<String> = keys
            .into_iter()
            .map(|(a, b)| format!("({a}, {b})"))
            .collect();
        if keys.is_empty() {
            return Self::default();
        }
        let [a, b] = columns;
        Self(vec![list(&format!("({a}, {b})"), &keys)])
    }

    pub fn parts(&self) -> usize {
        self.0.len()
    }

    /// Asks, part by part, whether its rows are in `table`: one row of `1` and `0`.
    pub fn question(&self, table: &str) -> String {
        let ask = |condition: &String| {
            format!("(SELECT count() FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT 1))")
        };
        let asked: Vec<String> = self.0.iter().map(ask).collect();
        format!("SELECT {}", asked.join(", "))
    }

    /// The rows of all parts.
    pub fn condition(&self) -> String {
        self.0.join(" OR ")
    }
}

fn list<T: Display>(what: &str, values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("{what} IN ({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_own_condition() {
        let witness = Witness::of_slots([432_001, 431_999, 432_000, 432_001]);
        assert_eq!(
            witness.question("t"),
            "SELECT (SELECT count() FROM (SELECT 1 FROM t WHERE slot IN (431999) LIMIT 1)), \
             (SELECT count() FROM (SELECT 1 FROM t WHERE slot IN (432000, 432001) LIMIT 1))"
        );
        assert_eq!(
            witness.condition(),
            "slot IN (431999) OR slot IN (432000, 432001)"
        );
        let witness = Witness::of_keys(["slot", "version"], [(7, 70), (8, 71)]);
        assert_eq!(witness.condition(), "(slot, version) IN ((7, 70), (8, 71))");
        assert_eq!(
            Witness::of_keys(["a", "b"], [(0, 0); 0]),
            Witness::default()
        );
    }
}
