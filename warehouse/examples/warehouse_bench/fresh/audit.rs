//! What is stored beside what was driven: every transaction once, in its place.

use std::collections::HashMap;

use anyhow::ensure;
use clickhouse::Client;

use super::schedule::Schedule;

/// Slots per question.
const SLOTS_AT_ONCE: u64 = 50;
/// Slot, index, signature in RowBinary.
const ROW_BYTES: usize = 8 + 4 + 64;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub driven: u64,
    /// Rows of the table.
    pub stored: u64,
    pub lost: u64,
    /// Rows once too often.
    pub duplicated: u64,
    /// Rows in another place, or of no transaction that was driven.
    pub foreign: u64,
}

/// Without FINAL: a repetition would be seen.
pub async fn audit(client: &Client, schedule: &Schedule) -> anyhow::Result<Account> {
    let mut account = Account {
        stored: client
            .query("SELECT count() FROM transactions")
            .fetch_one()
            .await?,
        ..Account::default()
    };
    let mut looked_at = 0;
    for from in (0..schedule.slots).step_by(SLOTS_AT_ONCE as usize) {
        let to = (from + SLOTS_AT_ONCE).min(schedule.slots);
        let (first, end) = (schedule.slot(from), schedule.slot(to));
        let question = format!(
            "SELECT slot, tx_index, signature FROM transactions WHERE slot >= {first} AND slot < {end}"
        );
        let mut cursor = client.query(&question).fetch_bytes("RowBinary")?;
        let bytes = cursor.collect().await?;
        ensure!(bytes.len() % ROW_BYTES == 0, "{question}: a broken answer");
        let rows = bytes.chunks_exact(ROW_BYTES);
        looked_at += rows.len() as u64;
        account.compare(schedule, from..to, rows);
    }
    // Rows of other slots.
    account.foreign += account.stored.saturating_sub(looked_at);
    Ok(account)
}

impl Account {
    fn compare<'r>(
        &mut self,
        schedule: &Schedule,
        slots: std::ops::Range<u64>,
        rows: impl Iterator<Item = &'r [u8]>,
    ) {
        let mut found: HashMap<Vec<u8>, u64> = HashMap::new();
        for nth in slots {
            for index in 0..schedule.count(nth) {
                let signature = Schedule::signature(schedule.first(nth) + index);
                found.insert(row(schedule.slot(nth), index as u32, &signature), 0);
            }
        }
        self.driven += found.len() as u64;
        for row in rows {
            match found.get_mut(row) {
                Some(times) => *times += 1,
                None => self.foreign += 1,
            }
        }
        for times in found.values() {
            self.lost += u64::from(*times == 0);
            self.duplicated += times.saturating_sub(1);
        }
    }
}

/// As RowBinary has it.
fn row(slot: u64, index: u32, signature: &[u8]) -> Vec<u8> {
    [&slot.to_le_bytes()[..], &index.to_le_bytes(), signature].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_repetitions_and_strangers_are_told_apart() {
        let schedule = Schedule {
            slot_ms: 1_000,
            rate: 4,
            warm_slots: 0,
            slots: 1,
        };
        let of = |number: u64| {
            row(
                schedule.slot(0),
                number as u32,
                &Schedule::signature(number),
            )
        };
        let stranger = row(schedule.slot(0), 1, &Schedule::signature(9));
        let rows = [of(0), of(1), of(1), of(1), of(3), stranger];
        let mut account = Account::default();
        account.compare(&schedule, 0..1, rows.iter().map(Vec::as_slice));
        let expected = Account {
            driven: 4,
            stored: 0,
            lost: 1,
            duplicated: 2,
            foreign: 1,
        };
        assert_eq!(account, expected);
    }
}
