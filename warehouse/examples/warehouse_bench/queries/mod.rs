//! How long analysts wait, over as many transfers as asked for, made from recorded blocks.

mod made;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use bench::report::{Check, Report};
use clap::Args;
use clickhouse::Client;
use local_services::{ClickHouseDoor, DoorOptions};
use serde_json::json;
use warehouse::{sink::Store, sql::samples::Sample};

use crate::{decode_proof::recorded, stored};
use made::Made;

/// The promises, in milliseconds; of single rows and lists the 95th percentile, of aggregates the median.
const BY_SIGNATURE: f64 = 15.0;
const BY_ACCOUNT: f64 = 30.0;
const DAY: f64 = 1_000.0;
const POOL_DAY: f64 = 50.0;
/// Merges may go on so long before questions are asked.
const SETTLING: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Token transfers to store
    #[arg(long, default_value_t = 10_000_000)]
    pub transfers: u64,
    /// Questions of each kind about single transactions and accounts
    #[arg(long, default_value_t = 200)]
    pub questions: u64,
}

/// Milliseconds of one kind of question.
struct Times {
    name: &'static str,
    millis: Vec<f64>,
    rows: u64,
}

impl Times {
    fn at(&self, percentile: f64) -> f64 {
        let last = self.millis.len().saturating_sub(1);
        let place = (percentile / 100.0 * last as f64).round() as usize;
        self.millis.get(place).copied().unwrap_or(f64::NAN)
    }
}

pub fn run(folder: &Path, options: &Options, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(folder, options, as_json))
}

async fn measure(folder: &Path, options: &Options, as_json: bool) -> anyhow::Result<()> {
    let found = recorded::read(folder);
    let door =
        tokio::task::spawn_blocking(|| ClickHouseDoor::start(DoorOptions::default())).await??;
    let client = Client::default()
        .with_url(door.url())
        .with_database("heliograph");
    stored::load(&found, &client, &door.url()).await?;
    let begin = Instant::now();
    let store = Store::new(&door.url(), "heliograph", "", "");
    let made = made::make(&client, &store, options.transfers).await?;
    let seconds = begin.elapsed().as_secs_f64();
    settle(&client).await?;
    let storage: Vec<(String, u64, u64, u64)> = client
        .query("SELECT table, sum(rows), count(), sum(bytes_on_disk) FROM system.parts WHERE database = 'heliograph' AND active GROUP BY table HAVING sum(rows) > 100000 ORDER BY table")
        .fetch_all()
        .await?;
    println!("made in {seconds:.0} s: {} slots", made.slots);
    for (table, rows, parts, bytes) in &storage {
        println!(
            "  {table:<28} {rows:>12} rows {parts:>4} parts {:>8.1} MiB",
            *bytes as f64 / f64::from(1 << 20)
        );
    }
    let times = ask(&door, &client, &made, options.questions).await?;
    println!(
        "{:<28} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "question", "asked", "p50 ms", "p95 ms", "max ms", "rows"
    );
    for one in &times {
        println!(
            "{:<28} {:>9} {:>8.1} {:>8.1} {:>8.1} {:>8}",
            one.name,
            one.millis.len(),
            one.at(50.0),
            one.at(95.0),
            one.at(100.0),
            one.rows
        );
    }
    let mut report = Report::new(
        "warehouse queries",
        json!({"data": folder, "transfers": options.transfers, "questions": options.questions}),
    );
    report.figure("transfers", made.transfers);
    report.figure("slots", made.slots);
    for (table, rows, _, bytes) in &storage {
        report.figure(&format!("{table}: rows"), *rows);
        report.figure(&format!("{table}: bytes"), *bytes);
    }
    for one in &times {
        report.figure(&format!("{}: p50 ms", one.name), one.at(50.0));
        report.figure(&format!("{}: p95 ms", one.name), one.at(95.0));
    }
    let check = |name: &'static str, percentile, target| {
        let one = times.iter().find(|one| one.name == name);
        let value = one.map_or(f64::NAN, |one| one.at(percentile));
        Check::at_most(format!("{name}_p{percentile:.0}_ms"), value, target)
    };
    report.checks.extend([
        check("by_signature", 95.0, BY_SIGNATURE),
        check("by_account", 95.0, BY_ACCOUNT),
        check("by_hot_account", 95.0, BY_ACCOUNT),
        check("day_of_all_mints", 50.0, DAY),
        check("day_of_a_mint", 50.0, DAY),
        check("pool_day", 50.0, POOL_DAY),
    ]);
    print!("{}", bench::plugin_bench::table::checks(&report));
    if as_json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Waits for merges to come to rest, as a warehouse does between batches.
async fn settle(client: &Client) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut quiet = 0;
    while quiet < 5 && begin.elapsed() < SETTLING {
        let merges: u64 = client
            .query("SELECT count() FROM system.merges")
            .fetch_one()
            .await?;
        quiet = if merges == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if quiet < 5 {
        eprintln!(
            "merges still run after {} s: answers are slower for it",
            SETTLING.as_secs()
        );
    }
    Ok(())
}

async fn ask(
    door: &ClickHouseDoor,
    client: &Client,
    made: &Made,
    questions: u64,
) -> anyhow::Result<Vec<Times>> {
    let asking = Asking {
        url: format!("{}/", door.url()),
        client: reqwest::Client::new(),
    };
    let sample = |name: &str| Sample::find(name).with_context(|| format!("sample {name}"));
    let signature = sample("transaction-by-signature")?;
    // The transaction alone, as `getTransaction` looks for it.
    let alone = "WITH (SELECT groupArray((slot, tx_index)) FROM transactions_by_signature \
                 WHERE signature_hash = reinterpretAsUInt64(substring(base58Decode({signature:String}), 1, 8))) AS places \
                 SELECT slot, tx_index, block_time, base58Encode(assumeNotNull(fee_payer)), success, error, fee, compute_units, instructions \
                 FROM transactions WHERE has(places, (slot, tx_index)) AND signature = base58Decode({signature:String})";
    let account = sample("transfers-of-an-account")?;
    let day = sample("token-volume-daily")?;
    let hot = made.hot_accounts(client).await?;
    let hot = hot.iter().cycle().take(questions as usize).cloned();
    let named = |name: &'static str| move |value: String| vec![(name, value)];
    let signatures = made.signatures(client, questions).await?;
    let by_signature = || signatures.iter().cloned().map(named("signature"));
    let mut times = vec![
        asking.all("by_signature", alone, by_signature()).await?,
        asking
            .all("and_whether_it_is_final", signature.sql, by_signature())
            .await?,
        asking
            .all(
                "by_account",
                account.sql,
                made.cold_accounts(client, questions)
                    .await?
                    .into_iter()
                    .map(|value| vec![("account", value), ("rows", "100".into())]),
            )
            .await?,
        asking
            .all(
                "by_hot_account",
                account.sql,
                hot.map(|value| vec![("account", value), ("rows", "100".into())]),
            )
            .await?,
    ];
    let days = std::iter::repeat_n(made.day.clone(), 7);
    times.push(
        asking
            .all(
                "day_of_all_mints",
                day.sql,
                days.clone()
                    .map(|day| vec![("day", day), ("rows", "50".into())]),
            )
            .await?,
    );
    let of_mint = "SELECT transfers, transferred FROM token_volume_daily WHERE day = {day:Date} AND mint = base58Decode({mint:String})";
    let mint = made.mint(client).await?;
    times.push(
        asking
            .all(
                "day_of_a_mint",
                of_mint,
                days.map(|day| vec![("day", day), ("mint", mint.clone())]),
            )
            .await?,
    );
    let candles = "SELECT bucket, open, high, low, close, base_volume, quote_volume, trades FROM candles_1m \
                   WHERE pool = base58Decode({pool:String}) AND bucket >= toDateTime({day:String}, 'UTC') AND bucket < toDateTime({day:String}, 'UTC') + INTERVAL 1 DAY ORDER BY bucket";
    let pool = made.pool(client).await?;
    let begins = format!("{} 00:00:00", made.day);
    times.push(
        asking
            .all(
                "pool_day",
                candles,
                std::iter::repeat_n((), 20)
                    .map(|()| vec![("pool", pool.clone()), ("day", begins.clone())]),
            )
            .await?,
    );
    Ok(times)
}

/// A client that keeps its connection.
struct Asking {
    url: String,
    client: reqwest::Client,
}

impl Asking {
    async fn all(
        &self,
        name: &'static str,
        sql: &str,
        questions: impl Iterator<Item = Vec<(&'static str, String)>>,
    ) -> anyhow::Result<Times> {
        let (mut millis, mut rows) = (Vec::new(), 0);
        for params in questions {
            let params: Vec<(String, String)> = params
                .into_iter()
                .map(|(name, value)| (format!("param_{name}"), value))
                .collect();
            let begin = Instant::now();
            let response = self
                .client
                .post(&self.url)
                .query(&[("database", "heliograph")])
                .query(&params)
                .body(sql.to_owned())
                .send()
                .await?;
            let status = response.status();
            let text = response.text().await?;
            millis.push(begin.elapsed().as_secs_f64() * 1e3);
            anyhow::ensure!(status.is_success(), "{name}: {text}");
            anyhow::ensure!(!text.is_empty(), "{name}: no rows for {params:?}");
            rows += text.lines().count() as u64;
        }
        let rows = rows / (millis.len() as u64).max(1);
        millis.sort_by(f64::total_cmp);
        Ok(Times { name, millis, rows })
    }
}
