//! A long chain out of few recorded blocks: slot after slot has one of them, under new signatures. Accounts that many
//! transfers name stay what they are; the others are new ones every few copies, so that there are busy and quiet accounts.
//! Everything happens in the engine.

use anyhow::Context;
use clickhouse::Client;
use warehouse::sink::{ROLLUPS, Store, WINDOW, roll_up};

/// First slot of the made chain: an epoch's begin, far from the recorded ones.
const FIRST: u64 = 2_000 * 432_000;
/// 2027-01-01 00:00:00 UTC, the time of that slot; slots take 400 ms.
const BEGIN: u64 = 1_798_761_600;
/// Copies in which a quiet account is the same one.
const COPIES_PER_ACCOUNT: u64 = 40;
/// Transfers per statement, about.
const PER_STATEMENT: u64 = 3_000_000;
const SETTINGS: &str =
    "SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0, max_insert_threads = 2";

/// What was made.
pub struct Made {
    pub slots: u64,
    pub transfers: u64,
    /// The first whole day of it, or its only one.
    pub day: String,
}

pub async fn make(client: &Client, store: &Store, transfers: u64) -> anyhow::Result<Made> {
    for statement in BASE {
        run(client, statement).await?;
    }
    let blocks: Vec<(u64, u64)> = client
        .query("SELECT slot, count() FROM base.token_transfers GROUP BY slot ORDER BY slot")
        .fetch_all()
        .await?;
    let per_copy: u64 = blocks.iter().map(|(_, count)| count).sum();
    anyhow::ensure!(per_copy > 0, "the recorded blocks have no token transfers");
    let copies = transfers.div_ceil(per_copy);
    let copies_per_statement = (PER_STATEMENT / per_copy).max(1);
    let count = blocks.len() as u64;
    let (mut first, mut told) = (0, std::time::Instant::now());
    while first < copies {
        let copies_now = copies_per_statement.min(copies - first);
        for ((recorded, _), place) in blocks.iter().zip(0_u64..) {
            let of = Copies {
                recorded: *recorded,
                place,
                blocks: count,
                first,
                count: copies_now,
            };
            for statement in of.statements() {
                run(client, &statement).await?;
            }
        }
        first += copies_now;
        if told.elapsed().as_secs() >= 5 || first == copies {
            told = std::time::Instant::now();
            eprintln!("{} of {transfers} transfers made", first * per_copy);
        }
    }
    let slots = copies * count;
    // As a sink leaves it that has stored all this.
    let begun = std::time::Instant::now();
    let rolled_below = roll_up_windows(store, slots).await?;
    eprintln!("rolled up in {:.0} s", begun.elapsed().as_secs_f64());
    run(
        client,
        &format!(
            "INSERT INTO sink_batches (batch_id, phase, recorded_at, decided_below, rolled_below) VALUES (1, 'done', now64(3), {}, {rolled_below})",
            FIRST + slots
        ),
    )
    .await?;
    let days = slots * 2 / 5 / 86_400;
    Ok(Made {
        slots,
        transfers: copies * per_copy,
        day: if days > 1 { "2027-01-02" } else { "2027-01-01" }.into(),
    })
}

/// All whole windows of the made chain. Gives the slot below which they are.
async fn roll_up_windows(store: &Store, slots: u64) -> anyhow::Result<u64> {
    let end = FIRST + slots / WINDOW * WINDOW;
    // So that their rows are final to the views.
    let decided = format!(
        "INSERT INTO sink_batches (batch_id, phase, recorded_at, decided_below) VALUES (0, 'done', now64(3), {end})"
    );
    store.execute(&decided).await?;
    for slot in (FIRST..end).step_by(WINDOW as usize) {
        for rollup in ROLLUPS {
            roll_up(store, rollup, slot, "1").await?;
        }
    }
    Ok(end)
}

/// Recorded rows with what must be known of them for every copy.
const BASE: &[&str] = &[
    "CREATE DATABASE base",
    "CREATE TABLE base.busy ENGINE = MergeTree ORDER BY account AS
     SELECT toFixedString(account, 32) AS account FROM transfers_by_account GROUP BY account HAVING count() >= 20 OR uniqExact(slot) > 1",
    "CREATE TABLE base.transfers_by_account ENGINE = MergeTree ORDER BY slot AS
     SELECT *, toFixedString(account, 32) IN (SELECT account FROM base.busy) AS is_busy FROM transfers_by_account",
    "CREATE TABLE base.token_transfers ENGINE = MergeTree ORDER BY slot AS
     SELECT *, toFixedString(ifNull(source, ''), 32) IN (SELECT account FROM base.busy) AS source_is_busy,
            toFixedString(ifNull(destination, ''), 32) IN (SELECT account FROM base.busy) AS destination_is_busy FROM token_transfers",
    "CREATE TABLE base.transactions ENGINE = MergeTree ORDER BY slot AS
     SELECT * REPLACE (arraySlice(account_keys, 1, 0) AS account_keys, arraySlice(log_messages, 1, 0) AS log_messages) FROM transactions",
    "CREATE TABLE base.swaps ENGINE = MergeTree ORDER BY slot AS SELECT * FROM swaps",
    "CREATE TABLE base.blocks ENGINE = MergeTree ORDER BY slot AS SELECT * FROM blocks",
];

/// So many copies of one recorded block.
struct Copies {
    recorded: u64,
    /// Among the blocks.
    place: u64,
    blocks: u64,
    first: u64,
    count: u64,
}

impl Copies {
    fn statements(&self) -> Vec<String> {
        let Self {
            recorded,
            place,
            blocks,
            first,
            count,
        } = self;
        let slot = format!("toUInt64({FIRST} + copy * {blocks} + {place})");
        let time =
            format!("toDateTime({BEGIN} + intDiv((copy * {blocks} + {place}) * 2, 5), 'UTC')");
        let copies = format!("(SELECT number AS copy FROM numbers({first}, {count})) AS copies");
        let key = |column: &str, busy: &str| {
            format!(
                "if({busy} OR isNull({column}), {column}, toFixedString(concat(reinterpretAsFixedString(sipHash64(toString({column}), intDiv(copy, {COPIES_PER_ACCOUNT}))), substring(toString(assumeNotNull({column})), 9)), 32)) AS {column}"
            )
        };
        let random = |number: u64| {
            format!("reinterpretAsFixedString(sipHash128(copy, {place}, tx_index, {number}))")
        };
        let signature = format!(
            "toFixedString(concat({}), 64) AS signature",
            [0, 1, 2, 3].map(random).join(", ")
        );
        // Column by column, in the table's order.
        let insert = |table: &str, left_out: &str, replaced: &[&str]| {
            format!(
                "INSERT INTO {table} SELECT * EXCEPT ({left_out}) REPLACE ({}) FROM {copies} CROSS JOIN (SELECT * FROM base.{table} WHERE slot = {recorded}) AS base {SETTINGS}",
                replaced.join(", ")
            )
        };
        let slot_as = format!("{slot} AS slot");
        let time_as = format!("{time} AS block_time");
        let hash = format!("reinterpretAsFixedString(sipHash128(copy, {place}))");
        let last = first + count;
        vec![
            insert("blocks", "copy", &[&slot_as, &time_as]),
            format!(
                "INSERT INTO slot_status (slot, blockhash, status, version, recorded_at) SELECT {slot}, toFixedString(concat({hash}, {hash}), 32), 'finalized', copy, {time} FROM {copies} {SETTINGS}"
            ),
            insert("transactions", "copy", &[&slot_as, &time_as, &signature]),
            insert(
                "token_transfers",
                "copy, source_is_busy, destination_is_busy",
                &[
                    &slot_as,
                    &time_as,
                    &key("source", "source_is_busy"),
                    &key("destination", "destination_is_busy"),
                ],
            ),
            insert(
                "transfers_by_account",
                "copy, is_busy",
                &[&slot_as, &key("account", "is_busy")],
            ),
            insert("swaps", "copy", &[&slot_as, &time_as]),
            format!(
                "INSERT INTO transactions_by_signature (signature_hash, slot, tx_index) SELECT reinterpretAsUInt64(substring(signature, 1, 8)), slot, tx_index FROM transactions \
                 WHERE slot >= {FIRST} + {first} * {blocks} AND slot < {FIRST} + {last} * {blocks} AND slot % {blocks} = ({FIRST} + {place}) % {blocks} {SETTINGS}"
            ),
        ]
    }
}

impl Made {
    pub async fn signatures(&self, client: &Client, count: u64) -> anyhow::Result<Vec<String>> {
        self.texts(client, &format!("SELECT base58Encode(signature) FROM transactions WHERE slot >= {FIRST} AND NOT is_vote AND cityHash64(slot, tx_index) % greatest(1, intDiv({}, {count})) = 0 LIMIT {count}", self.transfers / 4)).await
    }

    /// Of quiet accounts, any.
    pub async fn cold_accounts(&self, client: &Client, count: u64) -> anyhow::Result<Vec<String>> {
        self.texts(client, &format!("SELECT DISTINCT base58Encode(account) FROM transfers_by_account WHERE slot >= {FIRST} AND toFixedString(account, 32) NOT IN (SELECT account FROM base.busy) AND cityHash64(slot, tx_index, path) % greatest(1, intDiv({}, {count})) = 0 LIMIT {count}", self.transfers / 4)).await
    }

    /// The busiest ones.
    pub async fn hot_accounts(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        self.texts(client, "SELECT base58Encode(account) FROM base.transfers_by_account GROUP BY account ORDER BY count() DESC LIMIT 5").await
    }

    pub async fn mint(&self, client: &Client) -> anyhow::Result<String> {
        let sql = "SELECT base58Encode(assumeNotNull(mint)) FROM base.token_transfers WHERE success = true AND mint IS NOT NULL GROUP BY mint ORDER BY count() DESC LIMIT 1";
        self.texts(client, sql).await?.pop().context("no mint")
    }

    /// The pool with the most trades.
    pub async fn pool(&self, client: &Client) -> anyhow::Result<String> {
        let sql = "SELECT base58Encode(pool) FROM base.swaps WHERE success = true AND amount_in > 0 AND amount_out > 0 GROUP BY pool ORDER BY count() DESC LIMIT 1";
        self.texts(client, sql).await?.pop().context("no pool")
    }

    async fn texts(&self, client: &Client, sql: &str) -> anyhow::Result<Vec<String>> {
        let found: Vec<String> = client
            .query(sql)
            .fetch_all()
            .await
            .with_context(|| sql.to_owned())?;
        anyhow::ensure!(!found.is_empty(), "nothing to ask for: {sql}");
        Ok(found)
    }
}

async fn run(client: &Client, sql: &str) -> anyhow::Result<()> {
    client
        .query(&sql.replace('?', "??"))
        .execute()
        .await
        .with_context(|| sql.to_owned())
}
