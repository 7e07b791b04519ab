//! What the API reads. One function per route.

use serde_json::{Map, Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Counts over every block that was not abandoned, and whether the books balance.
pub(super) async fn check(pool: &PgPool, deep: bool) -> Result<Value> {
    let mut snapshot = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *snapshot)
        .await?;
    let totals = sqlx::query(
        "SELECT COALESCE(sum(transactions), 0)::bigint AS transactions,
                COALESCE(sum(lamports_exact), 0)::bigint AS lamports_exact,
                COALESCE(sum(lamports_unknown), 0)::bigint AS lamports_unknown,
                COALESCE(sum(lamports_broken), 0)::bigint AS lamports_broken,
                COALESCE(sum(tokens_exact), 0)::bigint AS tokens_exact,
                COALESCE(sum(tokens_unknown), 0)::bigint AS tokens_unknown,
                COALESCE(sum(tokens_broken), 0)::bigint AS tokens_broken
         FROM slots WHERE state <> 'abandoned'",
    )
    .fetch_one(&mut *snapshot)
    .await?;
    let states =
        sqlx::query("SELECT state, count(*), min(slot), max(slot) FROM slots GROUP BY state")
            .fetch_all(&mut *snapshot)
            .await?;
    let mut slots = Map::new();
    for row in &states {
        let (count, first, last): (i64, i64, i64) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        slots.insert(
            row.try_get(0)?,
            json!({ "count": count, "first": first, "last": last }),
        );
    }
    let lamport_reasons = reasons(
        sqlx::query(
            "SELECT lamport_identity_reason, count(*) FROM transactions
             WHERE lamport_identity = 'unknown' AND state <> 'abandoned' GROUP BY 1",
        )
        .fetch_all(&mut *snapshot)
        .await?,
    )?;
    let token_reasons = reasons(
        sqlx::query(
            "SELECT token_identity_reason, count(*) FROM transactions
             WHERE token_identity = 'unknown' AND state <> 'abandoned' GROUP BY 1",
        )
        .fetch_all(&mut *snapshot)
        .await?,
    )?;
    let unbalanced = sqlx::query(
        "SELECT asset, sum(net)::text FROM balances GROUP BY asset HAVING sum(net) <> 0 ORDER BY asset LIMIT 20",
    )
    .fetch_all(&mut *snapshot)
    .await?;
    let mut faults: Vec<String> = Vec::new();
    for row in &unbalanced {
        let (asset, sum): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        faults.push(format!("the balances of {asset} sum to {sum} instead of 0"));
    }
    if deep {
        for query in [
            "SELECT format('entry %s/%s of asset %s sums to %s', block_id, tx_index, asset, sum(amount)) FROM postings
             GROUP BY block_id, tx_index, reversal, asset HAVING sum(amount) <> 0 LIMIT 20",
            "SELECT format('balance of %s in %s is %s, its postings sum to %s', account, asset, net, total)
             FROM balances FULL JOIN (SELECT account, asset, sum(amount) AS total FROM postings GROUP BY account, asset)
                  AS posted USING (account, asset)
             WHERE net IS DISTINCT FROM total LIMIT 20",
        ] {
            for row in sqlx::query(query).fetch_all(&mut *snapshot).await? {
                faults.push(row.try_get(0)?);
            }
        }
    }
    let positions = sqlx::query(
        "SELECT topic, partition, next_offset FROM positions ORDER BY topic, partition",
    )
    .fetch_all(&mut *snapshot)
    .await?;
    let gaps: i64 = sqlx::query("SELECT count(*) FROM gaps")
        .fetch_one(&mut *snapshot)
        .await?
        .try_get(0)?;
    snapshot.commit().await?;
    let mut answer = identities(&totals)?;
    answer.insert(
        "transactions".into(),
        totals.try_get::<i64, _>("transactions")?.into(),
    );
    answer.insert(
        "unknown_reasons".into(),
        json!({ "lamports": lamport_reasons, "token": token_reasons }),
    );
    answer.insert("balanced".into(), faults.is_empty().into());
    answer.insert("faults".into(), faults.into());
    answer.insert("deep".into(), deep.into());
    answer.insert("slots".into(), slots.into());
    answer.insert("gaps".into(), gaps.into());
    answer.insert(
        "position".into(),
        positions
            .iter()
            .map(position)
            .collect::<Result<Vec<Value>>>()?
            .into(),
    );
    Ok(answer.into())
}

fn position(row: &PgRow) -> Result<Value> {
    let (topic, partition, next): (String, i32, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(json!({ "topic": topic, "partition": partition, "next_offset": next }))
}

fn reasons(rows: Vec<PgRow>) -> Result<Map<String, Value>> {
    rows.iter()
        .map(|row| {
            Ok((
                row.try_get::<Option<String>, _>(0)?.unwrap_or_default(),
                row.try_get::<i64, _>(1)?.into(),
            ))
        })
        .collect()
}

fn identities(row: &PgRow) -> Result<Map<String, Value>> {
    let mut answer = Map::new();
    for (name, column) in [
        ("lamport_identity", "lamports"),
        ("token_identity", "tokens"),
    ] {
        let mut counts = Map::new();
        for verdict in ["exact", "unknown", "broken"] {
            counts.insert(
                verdict.into(),
                row.try_get::<i64, _>(&*format!("{column}_{verdict}"))?
                    .into(),
            );
        }
        answer.insert(name.into(), counts.into());
    }
    Ok(answer)
}

/// The block on the chain, and every block of the slot the ledger knows.
pub(super) async fn slot(pool: &PgPool, slot: i64) -> Result<Option<Value>> {
    let rows = sqlx::query(
        "SELECT slot, blockhash, parent_slot, state, block_time, transactions, lamports_exact, lamports_unknown,
                lamports_broken, tokens_exact, tokens_unknown, tokens_broken
         FROM slots WHERE slot = $1 ORDER BY state = 'abandoned', id",
    )
    .bind(slot)
    .fetch_all(pool)
    .await?;
    let mut blocks = Vec::new();
    for row in &rows {
        let mut block = identities(row)?;
        block.insert("slot".into(), row.try_get::<i64, _>("slot")?.into());
        block.insert(
            "blockhash".into(),
            row.try_get::<String, _>("blockhash")?.into(),
        );
        block.insert(
            "parent_slot".into(),
            row.try_get::<i64, _>("parent_slot")?.into(),
        );
        block.insert("state".into(), row.try_get::<String, _>("state")?.into());
        block.insert(
            "block_time".into(),
            row.try_get::<Option<i64>, _>("block_time")?.into(),
        );
        block.insert(
            "transactions".into(),
            row.try_get::<i64, _>("transactions")?.into(),
        );
        blocks.push(block);
    }
    let Some(mut answer) = blocks.first().cloned() else {
        return Ok(None);
    };
    answer.insert(
        "blocks".into(),
        blocks
            .into_iter()
            .map(Value::from)
            .collect::<Vec<Value>>()
            .into(),
    );
    Ok(Some(answer.into()))
}

/// The newest landing that was not abandoned, with its postings; the others by slot.
pub(super) async fn transaction(pool: &PgPool, signature: &str) -> Result<Option<Value>> {
    let landings = sqlx::query(
        "SELECT block_id, slot, tx_index, blockhash, state, is_vote, success, fee::text AS fee, lamport_identity,
                lamport_identity_reason, token_identity, token_identity_reason, block_time
         FROM transactions WHERE signature = $1 ORDER BY state = 'abandoned', slot DESC, block_id DESC",
    )
    .bind(signature)
    .fetch_all(pool)
    .await?;
    let Some(landing) = landings.first() else {
        return Ok(None);
    };
    let (block, index): (i64, i64) = (landing.try_get("block_id")?, landing.try_get("tx_index")?);
    let rows = sqlx::query(
        "SELECT account, asset, amount::text, reversal FROM postings WHERE block_id = $1 AND tx_index = $2
         ORDER BY reversal, ordinal",
    )
    .bind(block)
    .bind(index)
    .fetch_all(pool)
    .await?;
    let mut postings = Vec::new();
    for row in &rows {
        let (account, asset, amount): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let reversal: bool = row.try_get(3)?;
        postings.push(
            json!({ "account": account, "asset": asset, "amount": amount, "reversal": reversal }),
        );
    }
    let others = landings.iter().skip(1).map(|row| {
        let (slot, state): (i64, String) = (row.try_get("slot")?, row.try_get("state")?);
        Ok(json!({ "slot": slot, "state": state }))
    });
    Ok(Some(json!({
        "signature": signature,
        "slot": landing.try_get::<i64, _>("slot")?,
        "index": index,
        "blockhash": landing.try_get::<String, _>("blockhash")?,
        "state": landing.try_get::<String, _>("state")?,
        "block_time": landing.try_get::<Option<i64>, _>("block_time")?,
        "is_vote": landing.try_get::<bool, _>("is_vote")?,
        "success": landing.try_get::<bool, _>("success")?,
        "fee": landing.try_get::<String, _>("fee")?,
        "lamport_identity": landing.try_get::<String, _>("lamport_identity")?,
        "lamport_identity_reason": landing.try_get::<Option<String>, _>("lamport_identity_reason")?,
        "token_identity": landing.try_get::<String, _>("token_identity")?,
        "token_identity_reason": landing.try_get::<Option<String>, _>("token_identity_reason")?,
        "postings": postings,
        "other_landings": others.collect::<Result<Vec<Value>>>()?,
    })))
}

/// Per asset: `net` is the sum of this ledger's postings, `balance` the balance on chain after the newest entry.
pub(super) async fn account(pool: &PgPool, account: &str) -> Result<Option<Value>> {
    let rows = sqlx::query(
        "SELECT asset, net::text, observed::text, observed_slot FROM balances WHERE account = $1
         ORDER BY asset <> 'SOL', asset",
    )
    .bind(account)
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut balances = Vec::new();
    for row in &rows {
        let (asset, net): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (balance, slot): (Option<String>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        balances.push(json!({ "asset": asset, "net": net, "balance": balance, "slot": slot }));
    }
    Ok(Some(json!({ "account": account, "balances": balances })))
}
