//! Every table and view of two warehouses, side by side.

use std::time::Duration;

use anyhow::Context;

use super::{
    audit::{self, Compared, Door, Reading},
    stage::{self, Progress},
};

pub struct Comparison {
    pub tables_plain: Vec<Compared>,
    pub tables: Vec<Compared>,
    pub views: Vec<Compared>,
}

pub fn compare(
    stored: &Door,
    expected: &Door,
    slots: (u64, u64),
    asked: &[u64],
    progress: &Progress,
) -> anyhow::Result<Comparison> {
    let tables = audit::tables(expected)?;
    let views = audit::views(expected, asked)?;
    let both = |name: &str, reading| -> anyhow::Result<Compared> {
        stage::pause(Duration::ZERO, progress)?;
        let of = |door| audit::content(door, name, reading, slots);
        let mut compared = Compared {
            name: name.to_owned(),
            stored: of(stored).with_context(|| name.to_owned())?,
            expected: of(expected).with_context(|| name.to_owned())?,
            slots: Vec::new(),
        };
        if !compared.is_equal() && tables.iter().any(|table| table == name) {
            compared.slots = audit::differing_slots(stored, expected, name, slots)?;
        }
        Ok(compared)
    };
    let of_tables = |reading| -> anyhow::Result<Vec<Compared>> {
        let mut compared: Vec<Compared> = tables
            .iter()
            .map(|name| both(name, reading))
            .collect::<anyhow::Result<_>>()?;
        compared.push(Compared {
            name: "stream_gaps".into(),
            stored: audit::gaps(stored, reading)?,
            expected: audit::gaps(expected, reading)?,
            slots: Vec::new(),
        });
        Ok(compared)
    };
    let mut collapsed = of_tables(Reading::Final)?;
    // Every piece of news is a row of this table, so it counts with FINAL only.
    collapsed.push(Compared {
        name: "slot_status".into(),
        stored: audit::statuses(stored)?,
        expected: audit::statuses(expected)?,
        slots: Vec::new(),
    });
    Ok(Comparison {
        tables_plain: of_tables(Reading::Plain)?,
        tables: collapsed,
        views: views
            .iter()
            .map(|name| both(name, Reading::Plain))
            .collect::<anyhow::Result<_>>()?,
    })
}
