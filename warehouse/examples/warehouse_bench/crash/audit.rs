//! What is stored beside what must be: signatures and slots beside the generator's own truth; every table and view beside a
//! warehouse that only ever saw the final chain; dead letters beside the poison.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context, bail};
use event_log::{DeadLetter, EventLog, NewRecord, ReaderSpec, Start};
use event_schema::Topics;

use super::{
    contents::Contents,
    history::{Block, Truth},
};

/// Slots per question, to bound the engine's memory. One of ten has a block.
const SLOTS_AT_ONCE: u64 = 10_000;
const SLOTS_NAMED: usize = 8;
/// Rows and a sum over hashes of each row's exact bytes, NULLs included, whatever the order.
const CONTENT: &str = "count(), sum(sipHash64(formatRow('RowBinary', *)))";
/// Tables and views that legitimately differ.
const LEFT_OUT: &[(&str, &str)] = &[
    ("watermark", "the sink's own journal"),
    ("query_log", "what was asked"),
    (
        "rollup_state",
        "how far the sink came; the other warehouse counts everything anew",
    ),
    ("token_volume_rollup", "shown by token_volume_daily"),
    ("candles_rollup", "shown by candles_1m and candles_1h"),
    (
        "slot_status",
        "compared by its own columns, abandoned blocks apart",
    ),
];

/// Asks a door, without panics.
#[derive(Debug, Clone)]
pub struct Door {
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl Door {
    /// Must be called within a runtime; asks from threads outside of it.
    pub fn new(url: &str) -> Self {
        Self {
            url: format!("{url}/?database=heliograph"),
            client: reqwest::Client::new(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    pub async fn ask(&self, sql: &str) -> anyhow::Result<Vec<u8>> {
        let response = self
            .client
            .post(&self.url)
            .body(sql.to_owned())
            .timeout(Duration::from_secs(600))
            .send()
            .await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        if !status.is_success() {
            bail!("{sql}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes.into())
    }

    pub async fn ask_text(&self, sql: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.ask(sql).await?).into_owned())
    }

    pub fn bytes(&self, sql: &str) -> anyhow::Result<Vec<u8>> {
        self.runtime.block_on(self.ask(sql))
    }

    pub fn text(&self, sql: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.bytes(sql)?)?.trim_end().to_owned())
    }

    pub fn lines(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let text = self.text(sql)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    pub fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let text = self.text(sql)?;
        text.parse().with_context(|| format!("{sql}: {text:?}"))
    }
}

/// Rows and checksum.
pub type Content = (u64, u64);

/// One table or view in both warehouses.
#[derive(Debug, Clone)]
pub struct Compared {
    pub name: String,
    pub stored: Content,
    pub expected: Content,
    /// Of a table that differs.
    pub slots: Vec<String>,
}

impl Compared {
    pub fn is_equal(&self) -> bool {
        self.stored == self.expected
    }
}

/// Signatures beside the truth.
#[derive(Debug, Default, Clone, Copy)]
pub struct Signatures {
    pub expected: u64,
    pub lost: u64,
    /// Once too often.
    pub duplicated: u64,
    /// Of abandoned blocks, or of none at all.
    pub foreign: u64,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Letters {
    pub poison: u64,
    pub missing: u64,
    /// With other bytes, without a reason, or of records that are no poison.
    pub wrong: u64,
    /// The same record once more: a sink that dies after putting it aside and before its batch puts it aside again.
    pub repeated: u64,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As a plain SELECT sees it.
    Plain,
    Final,
}

/// Base tables with a slot, except what is left out.
pub fn tables(door: &Door) -> anyhow::Result<Vec<String>> {
    let tables = door.lines(
        "SELECT DISTINCT table FROM system.columns WHERE database = 'heliograph' AND name = 'slot' \
         AND table IN (SELECT name FROM system.tables WHERE database = 'heliograph' AND engine LIKE '%MergeTree') ORDER BY table",
    )?;
    Ok(tables
        .into_iter()
        .filter(|name| !is_left_out(name))
        .collect())
}

/// Views, those with a parameter as they are called.
pub fn views(door: &Door, slots: &[u64]) -> anyhow::Result<Vec<String>> {
    let lines = door.lines(
        "SELECT name, create_table_query LIKE '%{slot:UInt64}%' FROM system.tables WHERE database = 'heliograph' AND engine = 'View' ORDER BY name",
    )?;
    let mut views = Vec::new();
    for line in &lines {
        match line.split_once('\t') {
            Some((name, _)) if is_left_out(name) => {}
            Some((name, "1")) => {
                views.extend(slots.iter().map(|slot| format!("{name}(slot = {slot})")));
            }
            Some((name, _)) => views.push(name.to_owned()),
            None => bail!("system.tables: {line:?}"),
        }
    }
    Ok(views)
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|(left_out, _)| *left_out == name)
}

pub fn left_out() -> String {
    let reasons = LEFT_OUT.iter().map(|(name, why)| format!("{name} ({why})"));
    reasons.collect::<Vec<_>>().join(", ")
}

pub fn content(
    door: &Door,
    name: &str,
    reading: Reading,
    slots: (u64, u64),
) -> anyhow::Result<Content> {
    let from = match reading {
        Reading::Plain => name.to_owned(),
        Reading::Final => format!("{name} FINAL"),
    };
    let by_slot = door.number(&format!(
        "SELECT count() FROM system.columns WHERE database = 'heliograph' AND table = '{name}' AND name = 'slot'"
    ))? == 1;
    if !by_slot {
        return counted(door, &format!("SELECT {CONTENT} FROM {from}"));
    }
    let mut whole = (0, 0_u64);
    let mut first = slots.0;
    while first <= slots.1 {
        let last = (first + SLOTS_AT_ONCE - 1).min(slots.1);
        let sql = format!("SELECT {CONTENT} FROM {from} WHERE slot BETWEEN {first} AND {last}");
        let (rows, sum) = counted(door, &sql)?;
        whole = (whole.0 + rows, whole.1.wrapping_add(sum));
        first = last + 1;
    }
    Ok(whole)
}

/// Slots in which the rows differ, the first few: where to look for the cause.
pub fn differing_slots(
    stored: &Door,
    expected: &Door,
    table: &str,
    slots: (u64, u64),
) -> anyhow::Result<Vec<String>> {
    let sql = format!(
        "SELECT slot, {CONTENT} FROM {table} WHERE slot BETWEEN {} AND {} GROUP BY slot",
        slots.0, slots.1
    );
    let of = |door: &Door| -> anyhow::Result<BTreeSet<String>> {
        Ok(door.lines(&sql)?.into_iter().collect())
    };
    let (stored, expected) = (of(stored)?, of(expected)?);
    let slots: BTreeSet<String> = stored
        .symmetric_difference(&expected)
        .filter_map(|line| Some(line.split_once('\t')?.0.to_owned()))
        .collect();
    Ok(slots.into_iter().take(SLOTS_NAMED).collect())
}

/// What became of the blocks that were not abandoned, and the holes, without what only this stream has.
pub fn statuses(door: &Door) -> anyhow::Result<Content> {
    counted(
        door,
        "SELECT count(), sum(sipHash64(slot, blockhash, status)) FROM slot_status FINAL WHERE status != 'abandoned'",
    )
}

pub fn gaps(door: &Door, reading: Reading) -> anyhow::Result<Content> {
    let collapsed = if reading == Reading::Final {
        "FINAL"
    } else {
        ""
    };
    counted(
        door,
        &format!(
            "SELECT count(), sum(sipHash64(first_slot, last_slot, ifNull(records, 0), reason, source, detail, partition)) FROM stream_gaps {collapsed}"
        ),
    )
}

fn counted(door: &Door, sql: &str) -> anyhow::Result<Content> {
    let text = door.text(sql)?;
    let (rows, sum) = text.split_once('\t').context("two columns")?;
    Ok((rows.parse()?, sum.parse()?))
}

pub fn signatures(
    door: &Door,
    reading: Reading,
    truth: &Truth,
    contents: &Contents,
    slots: (u64, u64),
) -> anyhow::Result<Signatures> {
    const ROW: usize = 8 + 64;
    let collapsed = if reading == Reading::Final {
        "FINAL"
    } else {
        ""
    };
    let mut found = Signatures::default();
    let mut first = slots.0;
    while first <= slots.1 {
        let last = (first + SLOTS_AT_ONCE - 1).min(slots.1);
        let sql = format!(
            "SELECT slot, signature FROM transactions {collapsed} WHERE slot BETWEEN {first} AND {last} FORMAT RowBinary"
        );
        let mut stored: HashMap<Vec<u8>, u64> = HashMap::new();
        for row in door.bytes(&sql)?.chunks(ROW) {
            *stored.entry(row.to_vec()).or_default() += 1;
        }
        for (&slot, &fork) in truth.finals.range(first..=last) {
            for signature in contents.signatures(Block { slot, fork }) {
                let row = [&slot.to_le_bytes()[..], &signature].concat();
                let times = stored.remove(&row).unwrap_or(0);
                found.expected += 1;
                found.lost += u64::from(times == 0);
                found.duplicated += times.saturating_sub(1);
            }
        }
        found.foreign += stored.values().sum::<u64>();
        first = last + 1;
    }
    Ok(found)
}

/// Reads the whole dead-letter topic. `poison`: the records as they were published.
pub async fn letters(
    log: &dyn EventLog,
    topics: &Topics,
    poison: &[NewRecord],
) -> anyhow::Result<Letters> {
    let spec = ReaderSpec {
        partitions: vec![(topics.dead_letters.clone(), 0, Start::Earliest)],
        read_committed: true,
    };
    let mut reader = log.reader(spec).await?;
    let mut by_origin: BTreeMap<String, u64> = BTreeMap::new();
    let mut told: BTreeSet<(Vec<u8>, Vec<u8>, Vec<u8>)> = BTreeSet::new();
    let key =
        |key: &[u8], header: &[u8], value: &[u8]| (key.to_vec(), header.to_vec(), value.to_vec());
    let expected: BTreeSet<_> = poison
        .iter()
        .map(|record| key(&record.key, &record.header, &record.value))
        .collect();
    let mut found = Letters {
        poison: expected.len() as u64,
        ..Letters::default()
    };
    loop {
        let records = reader.poll(1_000, Duration::from_millis(500)).await?;
        if records.is_empty() && reader.lag().await? == 0 {
            break;
        }
        for record in records {
            let Some(letter) = DeadLetter::decode(&record.header) else {
                found.wrong += 1;
                continue;
            };
            let original = key(&record.key, &letter.header, &record.value);
            if letter.reason.is_empty() || !expected.contains(&original) {
                found.wrong += 1;
                continue;
            }
            told.insert(original);
            let times = by_origin.entry(letter.origin).or_default();
            found.repeated += u64::from(*times > 0);
            *times += 1;
        }
    }
    found.missing = (expected.len() - told.len()) as u64;
    // One record, one place: a letter under another place is a copy that nobody wrote.
    found.wrong += (by_origin.len() - told.len()) as u64;
    Ok(found)
}
