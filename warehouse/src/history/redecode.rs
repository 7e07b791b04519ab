//! Stored transactions decoded again from their raw form, a few slots at a time.
//!
//! A slot's decoded rows are deleted and inserted anew. The signature of a transaction is nowhere but in `transactions`, so
//! its new rows lie in a staging table before the old ones go: a run that broke off is ended by the next from there. While a
//! piece is being replaced, its decoded rows are not there, so no view of final rows shows its slots, like those of a backfill.

use clickhouse::Row;
use event_schema::proto::{
    Message as _,
    confirmed_block::{Transaction, TransactionStatusMeta},
    geyser::SubscribeUpdateTransactionInfo,
};
use serde::Deserialize;
use serde_bytes::ByteBuf;
use serde_json::json;

use super::{
    Outcome,
    progress::Progress,
    shelf::{self, Range},
    withheld::REDECODE,
};
use crate::{
    decode::idl::Idls,
    in_work::{self, InWork},
    sink::{BlockRows, Seconds, Store, TableBlock},
};

/// Slots of one piece: about 20,000 transactions of mainnet.
const PIECE: usize = 16;
const STAGING: &str = "redecode_staging";
/// Tables that are not made by decoding.
const KEPT: &[&str] = &[
    "blocks",
    "transactions",
    "transactions_raw",
    "transactions_by_signature",
    "transactions_by_account",
    "account_updates",
    "rewards",
];
/// Tables of which decoding makes some rows, and accounts the others.
const PARTLY_DECODED: &[&str] = &["mint_states", "program_states"];

#[derive(Row, Deserialize)]
struct RawRow {
    slot: u64,
    tx_index: u32,
    is_vote: bool,
    block_time: Option<u32>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
    #[serde(with = "serde_bytes")]
    transaction: Vec<u8>,
    meta: Option<ByteBuf>,
}

pub async fn redecode(store: &Store, range: Range, idls: Idls) -> anyhow::Result<Outcome> {
    let broken_off = broken_off(store).await?;
    let staged = end_what_broke_off(store).await?;
    let slots = format!(
        "SELECT DISTINCT slot FROM transactions_raw WHERE slot BETWEEN {} AND {} AND slot IN (SELECT slot FROM finalized_slots) ORDER BY slot",
        range.from, range.to
    );
    let mut slots: Vec<u64> = store.fetch(&slots).await?;
    // Decoding stores rows in tables that are to be without them.
    let dropped = shelf::dropped(store, range).await?;
    let stored = slots.len();
    slots.retain(|slot| !dropped.touches(*slot));
    let passed = stored - slots.len();
    slots.extend(staged);
    slots.extend(slots_of(store, &broken_off).await?);
    slots.sort_unstable();
    slots.dedup();
    let without = format!(
        "SELECT DISTINCT slot FROM transactions WHERE slot BETWEEN {} AND {} AND slot NOT IN (SELECT slot FROM transactions_raw WHERE slot BETWEEN {} AND {})",
        range.from, range.to, range.from, range.to
    );
    let without: Vec<u64> = store.fetch(&without).await?;
    let without = without
        .iter()
        .filter(|slot| !dropped.touches(**slot))
        .count();
    let run = uuid::Uuid::new_v4().simple().to_string();
    let progress = Progress::new("decoded", slots.len() as u64);
    let (mut transactions, mut done) = (0, 0);
    store
        .execute(&format!(
            "CREATE TABLE IF NOT EXISTS {STAGING} AS transactions ENGINE = MergeTree ORDER BY (slot, tx_index)"
        ))
        .await?;
    for piece in slots.chunks(PIECE) {
        let name = format!("{REDECODE}{run}-{done}");
        let work = InWork::of(name, in_work::ranges(&piece.iter().copied().collect()));
        work.begin(store).await?;
        transactions += redecode_piece(store, piece, &idls, &run).await?;
        work.end(store).await?;
        done += piece.len() as u64;
        progress.tell(done, || format!("{transactions} transactions"));
    }
    store.execute(&format!("DROP TABLE {STAGING} SYNC")).await?;
    for (name, first, last) in broken_off {
        InWork::of(name, vec![(first, last)]).end(store).await?;
    }
    let mut text = format!(
        "slots {} to {}: {transactions} transactions of {} slots decoded again",
        range.from,
        range.to,
        slots.len()
    );
    if without > 0 {
        text += &format!(
            "; {without} slots have no raw form and stay as they are (verify --repair fetches them)"
        );
    }
    if passed > 0 {
        text += &format!("; {passed} slots are of epochs dropped by policy and stay as they are");
    }
    Ok(Outcome {
        text,
        json: json!({
            "from": range.from,
            "to": range.to,
            "dropped_by_policy": passed,
            "slots": slots.len(),
            "transactions": transactions,
            "slots_without_raw_form": without,
        }),
        well: without == 0,
    })
}

/// What earlier runs told to be replacing, and did not end: name, first and last slot.
async fn broken_off(store: &Store) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let told = format!(
        "SELECT work, first_slot, last_slot FROM slots_in_work FINAL WHERE NOT ended AND startsWith(work, '{REDECODE}')"
    );
    Ok(store.fetch(&told).await?)
}

async fn slots_of(store: &Store, works: &[(String, u64, u64)]) -> anyhow::Result<Vec<u64>> {
    let mut slots = Vec::new();
    for (_, first, last) in works {
        let raw = format!(
            "SELECT DISTINCT slot FROM transactions_raw WHERE slot BETWEEN {first} AND {last}"
        );
        slots.extend(store.fetch::<u64>(&raw).await?);
    }
    Ok(slots)
}

/// Puts back the transactions that an earlier run had taken out of their table. Gives the slots, whose other rows may be gone.
async fn end_what_broke_off(store: &Store) -> anyhow::Result<Vec<u64>> {
    let exists: Vec<u8> = store.fetch(&format!("EXISTS TABLE {STAGING}")).await?;
    if exists.first() != Some(&1) {
        return Ok(Vec::new());
    }
    let slots: Vec<u64> = store
        .fetch(&format!(
            "SELECT DISTINCT slot FROM {STAGING} ORDER BY slot"
        ))
        .await?;
    if !slots.is_empty() {
        eprintln!("ending a run that broke off, at slots {slots:?}");
        swap_transactions(store, &list(&slots)).await?;
    }
    store.execute(&format!("DROP TABLE {STAGING} SYNC")).await?;
    Ok(slots)
}

async fn swap_transactions(store: &Store, slots: &str) -> anyhow::Result<()> {
    store
        .execute(&format!("DELETE FROM transactions WHERE slot IN ({slots})"))
        .await?;
    store
        .execute(&format!(
            "INSERT INTO transactions SELECT * FROM {STAGING} SETTINGS insert_deduplicate = 0"
        ))
        .await?;
    store
        .execute(&format!("TRUNCATE TABLE {STAGING} SYNC"))
        .await?;
    Ok(())
}

fn list(slots: &[u64]) -> String {
    let texts: Vec<String> = slots.iter().map(u64::to_string).collect();
    texts.join(", ")
}

async fn redecode_piece(
    store: &Store,
    slots: &[u64],
    idls: &Idls,
    run: &str,
) -> anyhow::Result<u64> {
    let within = list(slots);
    let sql = format!(
        "SELECT raw.slot AS slot, raw.tx_index AS tx_index, known.is_vote AS is_vote, block.block_time AS block_time, unhex(hex(known.signature)) AS signature, if(raw.signature_apart, concat(unhex('0A40'), unhex(hex(known.signature)), raw.transaction), raw.transaction) AS transaction, raw.meta AS meta \
         FROM (SELECT * FROM transactions_raw FINAL WHERE slot IN ({within})) AS raw \
         INNER JOIN (SELECT slot, tx_index, signature, is_vote FROM transactions FINAL WHERE slot IN ({within})) AS known ON known.slot = raw.slot AND known.tx_index = raw.tx_index \
         INNER JOIN (SELECT slot, block_time FROM blocks FINAL WHERE slot IN ({within})) AS block ON block.slot = raw.slot \
         ORDER BY slot, tx_index"
    );
    let raw: Vec<RawRow> = store.fetch(&sql).await?;
    let mut rows = BlockRows::default();
    for row in &raw {
        let place = || format!("transaction {} of slot {}", row.tx_index, row.slot);
        let transaction = Transaction::decode(row.transaction.as_slice())
            .map_err(|error| anyhow::anyhow!("{}: its raw form: {error}", place()))?;
        let meta = row
            .meta
            .as_ref()
            .map(|meta| TransactionStatusMeta::decode(meta.as_slice()));
        let meta = meta
            .transpose()
            .map_err(|error| anyhow::anyhow!("{}: its raw metadata: {error}", place()))?;
        let update = SubscribeUpdateTransactionInfo {
            signature: row.signature.clone(),
            is_vote: row.is_vote,
            transaction: Some(transaction),
            meta,
            index: row.tx_index.into(),
        };
        rows.add_transaction(
            row.slot,
            row.tx_index,
            &update,
            row.block_time.map(Seconds),
            idls,
        );
    }
    let staged = TableBlock {
        table: STAGING,
        ..TableBlock::of(&rows.transactions)
    };
    store.insert(&staged, None).await?;
    for block in rows
        .tables()
        .iter()
        .filter(|block| !KEPT.contains(&block.table))
    {
        let decoded = if PARTLY_DECODED.contains(&block.table) {
            " AND source = 'instruction'"
        } else {
            ""
        };
        store
            .execute(&format!(
                "DELETE FROM {} WHERE slot IN ({within}){decoded}",
                block.table
            ))
            .await?;
        let token = format!(
            "redecode-{run}-{}-{}",
            block.table,
            slots.first().unwrap_or(&0)
        );
        store.insert(block, Some(&token)).await?;
    }
    swap_transactions(store, &within).await?;
    Ok(raw.len() as u64)
}
