//! Rows of recorded blocks beside what the decoders say of them.

use super::*;

#[derive(Debug, Default)]
struct Expected {
    transactions: u64,
    decoded: u64,
    swaps: u64,
    routes: u64,
    sol_transfers: u64,
    priority_fees: u64,
    tips: u64,
}

impl Expected {
    fn add(&mut self, update: &SubscribeUpdateTransactionInfo) {
        let message = update
            .transaction
            .as_ref()
            .unwrap()
            .message
            .as_ref()
            .unwrap();
        let meta = update.meta.as_ref();
        let trace = Trace::of(message, meta);
        let decoded = decode(message, meta, &trace);
        let count = |matches: usize| matches as u64;
        self.transactions += 1;
        self.decoded += count(
            decoded
                .readings
                .iter()
                .filter(|reading| reading.outcome() == "decoded")
                .count(),
        );
        self.swaps += count(
            decoded
                .swaps
                .iter()
                .filter(|swap| swap.shape.pool.is_some())
                .count(),
        );
        self.routes += count(
            decoded
                .swaps
                .iter()
                .filter(|swap| swap.shape.pool.is_none())
                .count(),
        );
        self.sol_transfers += count(decoded.lamports.len());
        self.priority_fees += decoded.fees.priority.unwrap_or(0);
        self.tips += decoded.fees.tip.unwrap_or(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_blocks_give_the_rows_that_the_decoders_say() {
    let Some(folder) = recorded::data_folder() else {
        eprintln!(
            "SKIPPED: HELIOGRAPH_DATA is not set; 0 recorded mainnet blocks went through the engine"
        );
        return;
    };
    let found = recorded::read(&folder);
    let bed = Bed::start().await;
    let (host, task) = bed.sink(PathBuf::new());
    let mut expected = Expected::default();
    let mut blocks: BTreeMap<u64, Vec<SubscribeUpdateTransactionInfo>> = BTreeMap::new();
    for (name, block) in &found.blocks {
        let prefix = format!("{name}#");
        let of_block = found
            .transactions
            .iter()
            .filter(|recorded| recorded.place.starts_with(&prefix) && !recorded.rewritten);
        // One block lies there in two encodings.
        blocks.insert(
            block.slot,
            of_block.map(|recorded| recorded.update.clone()).collect(),
        );
    }
    for (slot, transactions) in blocks {
        transactions.iter().for_each(|update| expected.add(update));
        let statuses = [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized];
        bed.publish(slot, transactions, &statuses).await;
    }
    println!("{expected:?}");
    bed.until(
        "SELECT count() FROM transactions_finalized",
        &expected.transactions.to_string(),
    )
    .await;
    for (sql, count) in [
        ("SELECT count() FROM swaps_finalized", expected.swaps),
        ("SELECT count() FROM routes_finalized", expected.routes),
        (
            "SELECT count() FROM sol_transfers_finalized",
            expected.sol_transfers,
        ),
        (
            "SELECT count() FROM instructions_finalized WHERE outcome = 'decoded'",
            expected.decoded,
        ),
        (
            "SELECT sum(priority_fee) FROM fees_and_tips",
            expected.priority_fees,
        ),
        ("SELECT sum(tip) FROM fees_and_tips", expected.tips),
        (
            "SELECT countIf(token_identity = 'broken' OR lamport_identity = 'broken') FROM transactions",
            0,
        ),
        // No pair without decimals, whatever was seen of its mints, and they are those of the balances.
        (
            "SELECT countIf(mint_in IS NOT NULL AND decimals_in IS NULL OR mint_out IS NOT NULL AND decimals_out IS NULL) FROM (SELECT mint_in, mint_out, decimals_in, decimals_out FROM swaps_finalized UNION ALL SELECT mint_in, mint_out, decimals_in, decimals_out FROM routes_finalized)",
            0,
        ),
        (
            "SELECT countIf(b.decimals != t.decimals) FROM token_transfers AS t INNER JOIN (SELECT DISTINCT mint, decimals FROM balance_changes WHERE mint IS NOT NULL) AS b ON b.mint = t.mint WHERE t.success = true",
            0,
        ),
        // What came in or went out is there to be summed, and every trade has its candle.
        (
            "SELECT toInt64(sum(trades)) - (SELECT count() FROM trades) FROM candles_1m",
            0,
        ),
    ] {
        assert_eq!(bed.ask(sql).await, count.to_string(), "{sql}");
    }
    // Six tables with a comment on each of their columns.
    let comments = "SELECT uniqExact(table), count() > 80, countIf(comment = '') FROM system.columns WHERE database = currentDatabase() AND table IN ('sol_transfers', 'swaps', 'routes', 'transactions', 'instructions', 'token_transfers')";
    assert_eq!(bed.ask(comments).await, "6\t1\t0");
    // The guide's questions are answered.
    let guide = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/decoded-tables.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let questions: Vec<&str> = guide
        .split("```sql")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(questions.len() >= 6, "{}", questions.len());
    for question in questions {
        let answer = bed.ask(question).await;
        assert!(!answer.is_empty(), "no rows: {question}");
        println!(
            "{question}\n{}\n",
            answer.lines().take(12).collect::<Vec<_>>().join("\n")
        );
    }
    host.request_drain();
    task.await.unwrap().unwrap();
}
