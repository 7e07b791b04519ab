//! Counts a run's transactions at every stage, each in its own place: the observed topic, ClickHouse, PostgreSQL.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use event_log::{EventLog, ReaderSpec, Start};
use event_schema::{Kind, ObservedHeader, Pubkey};
use sqlx::{Row, postgres::PgPoolOptions};

use crate::{configs::CLICKHOUSE_DATABASE, report::Identity};

/// How many, and how many different ones.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub total: u64,
    distinct: HashSet<Box<[u8]>>,
}

impl Tally {
    pub fn add(&mut self, signature: &[u8]) {
        self.total += 1;
        self.distinct.insert(signature.into());
    }

    pub fn distinct(&self) -> u64 {
        self.distinct.len() as u64
    }
}

/// Transactions in the observed topic, per source and slot.
pub async fn observed(
    log: &dyn EventLog,
    topic: &Arc<str>,
) -> anyhow::Result<HashMap<(Pubkey, u64), Tally>> {
    let partitions = log.partitions(topic).await.context("observed topic")?;
    let mut reader = log
        .reader(ReaderSpec {
            partitions: (0..partitions)
                .map(|partition| (topic.clone(), partition, Start::Earliest))
                .collect(),
            read_committed: false,
        })
        .await?;
    let mut tallies: HashMap<(Pubkey, u64), Tally> = HashMap::new();
    loop {
        let records = reader.poll(4096, Duration::from_millis(500)).await?;
        if records.is_empty() && reader.lag().await? == 0 {
            return Ok(tallies);
        }
        for record in records {
            let header = ObservedHeader::decode(&record.header)
                .with_context(|| format!("header at {}", record.position))?;
            if header.kind == Kind::Transaction {
                tallies
                    .entry((header.source.validator, header.slot.0))
                    .or_default()
                    .add(&record.key);
            }
        }
    }
}

/// Records in the dead-letter topic; 0 when the topic was never needed.
pub async fn dead_letters(log: &dyn EventLog, topic: &str) -> anyhow::Result<u64> {
    let Ok(partitions) = log.partitions(topic).await else {
        return Ok(0);
    };
    let mut count = 0;
    for partition in 0..partitions {
        let (low, high) = log.watermarks(topic, partition).await?;
        count += (high - low).max(0) as u64;
    }
    Ok(count)
}

/// What a database has of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub total: u64,
    pub distinct: u64,
}

/// The ledger's part of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSlot {
    pub stored: Stored,
    pub finalized: bool,
    pub lamports: Identity,
    pub tokens: Identity,
}

pub struct Warehouse {
    client: reqwest::Client,
    url: String,
}

impl Warehouse {
    pub fn new(client: reqwest::Client, url: String) -> Self {
        Self { client, url }
    }

    /// Rows of a query, cells as text.
    pub async fn query(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let reply = self
            .client
            .post(&self.url)
            .query(&[("database", CLICKHOUSE_DATABASE)])
            .body(format!("{sql} FORMAT TSV"))
            .send()
            .await
            .with_context(|| format!("ClickHouse at {}", self.url))?;
        let good = reply.status().is_success();
        let text = reply.text().await?;
        if !good {
            bail!("ClickHouse: {}", text.trim());
        }
        Ok(text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect())
    }

    /// Transactions per slot.
    pub async fn slots(&self) -> anyhow::Result<BTreeMap<u64, Stored>> {
        let rows = self
            .query("SELECT slot, count(), uniqExact(signature) FROM transactions GROUP BY slot")
            .await?;
        let mut slots = BTreeMap::new();
        for row in rows {
            let [slot, total, distinct] = &row[..] else {
                bail!("ClickHouse: unexpected row {row:?}");
            };
            slots.insert(
                slot.parse()?,
                Stored {
                    total: total.parse()?,
                    distinct: distinct.parse()?,
                },
            );
        }
        Ok(slots)
    }
}

pub struct Ledger {
    pool: sqlx::PgPool,
}

impl Ledger {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(20))
            .connect_lazy(url)?;
        Ok(Self { pool })
    }

    /// Transactions and identities per slot.
    pub async fn slots(&self) -> anyhow::Result<BTreeMap<u64, LedgerSlot>> {
        // From the blocks outwards: a block without transactions counts as well.
        let rows = sqlx::query(
            "SELECT s.slot AS slot,
                    bool_and(s.state = 'finalized') AS finalized,
                    count(t.signature) AS total,
                    count(DISTINCT t.signature) AS distinct_signatures,
                    count(*) FILTER (WHERE t.lamport_identity = 'exact') AS lamports_exact,
                    count(*) FILTER (WHERE t.lamport_identity = 'unknown') AS lamports_unknown,
                    count(*) FILTER (WHERE t.lamport_identity = 'broken') AS lamports_broken,
                    count(*) FILTER (WHERE t.token_identity = 'exact') AS tokens_exact,
                    count(*) FILTER (WHERE t.token_identity = 'unknown') AS tokens_unknown,
                    count(*) FILTER (WHERE t.token_identity = 'broken') AS tokens_broken
             FROM ledger.slots s
             LEFT JOIN ledger.transactions t ON t.slot = s.slot AND t.blockhash = s.blockhash
             WHERE s.state <> 'abandoned' GROUP BY s.slot",
        )
        .fetch_all(&self.pool)
        .await
        .context("PostgreSQL: ledger.transactions")?;
        let mut slots = BTreeMap::new();
        for row in rows {
            let number = |column: &str| -> anyhow::Result<u64> {
                Ok(u64::try_from(row.try_get::<i64, _>(column)?)?)
            };
            slots.insert(
                number("slot")?,
                LedgerSlot {
                    stored: Stored {
                        total: number("total")?,
                        distinct: number("distinct_signatures")?,
                    },
                    finalized: row.try_get("finalized")?,
                    lamports: Identity {
                        exact: number("lamports_exact")?,
                        unknown: number("lamports_unknown")?,
                        broken: number("lamports_broken")?,
                    },
                    tokens: Identity {
                        exact: number("tokens_exact")?,
                        unknown: number("tokens_unknown")?,
                        broken: number("tokens_broken")?,
                    },
                },
            );
        }
        Ok(slots)
    }

    /// Why token identities of these slots' transactions are unknown, with counts.
    pub async fn unknown_reasons(&self, slots: &[u64]) -> anyhow::Result<BTreeMap<String, u64>> {
        let slots: Vec<i64> = slots
            .iter()
            .map(|slot| i64::try_from(*slot))
            .collect::<Result<_, _>>()?;
        let rows = sqlx::query(
            "SELECT coalesce(token_identity_reason::text, 'not stated') AS reason, count(*) AS total
             FROM ledger.transactions
             WHERE token_identity = 'unknown' AND state <> 'abandoned' AND slot = ANY($1) GROUP BY 1",
        )
        .bind(slots)
        .fetch_all(&self.pool)
        .await
        .context("PostgreSQL: ledger.transactions")?;
        let mut reasons = BTreeMap::new();
        for row in rows {
            let total: i64 = row.try_get("total")?;
            reasons.insert(row.try_get("reason")?, u64::try_from(total)?);
        }
        Ok(reasons)
    }
}
