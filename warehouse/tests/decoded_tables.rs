//! Decoded rows in a real engine: from an earlier schema with data in it, through forks, into trades and candles.

mod decode_proof;
mod support;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use decode_proof::recorded;
use event_log::{EventLog, MemoryLog};
use event_schema::{
    Topics,
    proto::{
        confirmed_block::{
            CompiledInstruction, InnerInstruction, InnerInstructions, Message, TokenBalance,
            Transaction, TransactionStatusMeta, UiTokenAmount,
        },
        geyser::{SlotStatus, SubscribeUpdateTransactionInfo},
    },
};
use local_services::{ClickHouseDoor, DoorOptions};
use service_host::Host;
use sha2::{Digest, Sha256};
use support::{ask, block_of, create_topics, status, until};
use warehouse::{
    decode::{Trace, decode, programs},
    sink::{SinkConfig, run_on},
};

struct Bed {
    door: ClickHouseDoor,
    log: MemoryLog,
    topics: Topics,
}

impl Bed {
    async fn start() -> Self {
        let door = tokio::task::spawn_blocking(|| {
            ClickHouseDoor::start(DoorOptions {
                binary: Some(PathBuf::from(env!("CARGO_BIN_EXE_warehouse-door"))),
                ..DoorOptions::default()
            })
        });
        let bed = Self {
            door: door.await.unwrap().unwrap(),
            log: MemoryLog::new(),
            topics: Topics::new("heliograph"),
        };
        create_topics(&bed.log, &bed.topics).await.unwrap();
        bed
    }

    fn sink(&self, idl_folder: PathBuf) -> (Host, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let host = Host::detached();
        let config = SinkConfig {
            clickhouse_url: self.door.url(),
            flush_ms: 20,
            idl_folder,
            ..SinkConfig::default()
        };
        let task = tokio::spawn(run_on(Arc::new(self.log.clone()), config, host.clone()));
        (host, task)
    }

    async fn publish(
        &self,
        slot: u64,
        transactions: Vec<SubscribeUpdateTransactionInfo>,
        statuses: &[SlotStatus],
    ) {
        let writer = self.log.writer().await.unwrap();
        let mut records = block_of(&self.topics, slot, 1, transactions);
        records.extend(statuses.iter().map(|to| status(&self.topics, slot, 1, *to)));
        writer.append(records).await.unwrap();
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&self.door.url(), sql).await
    }

    async fn until(&self, sql: &str, expected: &str) {
        until(&self.door.url(), sql, expected).await;
    }
}

const POOL: u8 = 40;
const BASE: [u8; 32] = [7; 32];

fn balance(index: u32, mint: [u8; 32], amount: u64) -> TokenBalance {
    TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        owner: bs58::encode([50; 32]).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            decimals: 6,
            amount: amount.to_string(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

/// A swap in a constant product pool by its own instruction: `sol` lamports, wrapped, for `tokens`.
fn swap(index: u64, sol: u64, tokens: u64, fails: bool) -> SubscribeUpdateTransactionInfo {
    const VAULT_IN: u32 = 6;
    const VAULT_OUT: u32 = 7;
    let moved = |from: u8, to: u8, amount: u64, authority: u8| InnerInstruction {
        program_id_index: 8,
        accounts: vec![from, to, authority],
        data: [&[3_u8][..], &amount.to_le_bytes()].concat(),
        stack_height: Some(2),
    };
    let key = |byte: u8| vec![byte; 32];
    let mut keys = vec![
        key(1),
        key(2),
        key(3),
        key(POOL),
        key(4),
        key(5),
        key(60),
        key(61),
    ];
    keys.extend([programs::TOKEN.to_vec(), programs::RAYDIUM_CPMM.to_vec()]);
    let holds = |sol_in, tokens_out| {
        vec![
            balance(4, programs::WRAPPED_SOL, 10_000_000_000 - sol_in),
            balance(5, BASE, tokens_out),
            balance(VAULT_IN, programs::WRAPPED_SOL, 1_000_000 + sol_in),
            balance(VAULT_OUT, BASE, 10_000_000_000 - tokens_out),
        ]
    };
    let (sol_moved, tokens_moved) = if fails { (0, 0) } else { (sol, tokens) };
    let mut signature = vec![9; 64];
    signature[..8].copy_from_slice(&index.to_le_bytes());
    SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: false,
        index,
        transaction: Some(Transaction {
            signatures: vec![signature],
            message: Some(Message {
                account_keys: keys,
                recent_blockhash: vec![8; 32],
                instructions: vec![CompiledInstruction {
                    program_id_index: 9,
                    accounts: vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 8],
                    data: [
                        &[143, 190, 90, 218, 196, 30, 51, 222][..],
                        &sol.to_le_bytes(),
                        &0_u64.to_le_bytes(),
                    ]
                    .concat(),
                }],
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            err: fails.then(|| event_schema::proto::confirmed_block::TransactionError {
                err: vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0],
            }),
            fee: 5_000,
            pre_balances: vec![1_000_000; 10],
            post_balances: [vec![995_000], vec![1_000_000; 9]].concat(),
            pre_token_balances: holds(0, 0),
            post_token_balances: holds(sol_moved, tokens_moved),
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: vec![moved(4, 6, sol, 0), moved(7, 5, tokens, 1)],
            }],
            ..TransactionStatusMeta::default()
        }),
    }
}

fn script(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("migrations")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// An earlier version's schema, as that version left it, with a row in it.
async fn schema_of_version_2(bed: &Bed) {
    let journal = "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, checksum String, phase LowCardinality(String), recorded_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')) ENGINE = MergeTree ORDER BY (version, recorded_at)";
    bed.ask(journal).await;
    for (version, name) in [(1, "core_tables"), (2, "views")] {
        let text = script(&format!("{version:04}_{name}.sql"));
        for statement in text.split(";\n").filter(|part| part.contains("CREATE")) {
            bed.ask(statement.trim().trim_end_matches(';')).await;
        }
        let checksum = hex::encode(Sha256::digest(text.as_bytes()));
        bed.ask(&format!("INSERT INTO schema_migrations (version, name, checksum, phase) VALUES ({version}, '{name}', '{checksum}', 'done')")).await;
    }
    for statement in [
        "INSERT INTO transactions (slot, tx_index, fee, success, signature, account_keys) VALUES (1, 0, 5000, true, unhex('0100000000000000ff'), [unhex('0200000000000000'), unhex('03')])",
        "INSERT INTO instructions (slot, tx_index, path, accounts) VALUES (1, 0, 0, [unhex('03')])",
        "INSERT INTO token_transfers (slot, tx_index, path, kind, source, destination, amount) VALUES (1, 0, 0, 'transfer', unhex('03'), NULL, 7)",
    ] {
        bed.ask(statement).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candles_open_and_close_right_and_know_only_the_final_chain() {
    const TRADES: u64 = 1_200;
    let bed = Bed::start().await;
    schema_of_version_2(&bed).await;
    let (host, task) = bed.sink(PathBuf::new());
    // Prices fall and rise again, so that neither the first nor the last is an extreme; the block has > 1,000 transactions.
    let sol = |index: u64| 1_000_000 + (index * 7_919) % 5_000;
    let tokens = 2_000_000;
    let trades: Vec<_> = (0..TRADES)
        .map(|index| swap(index, sol(index), tokens, index % 10 == 9))
        .collect();
    let confirmed = [SlotStatus::SlotConfirmed];
    let finalized = [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized];
    bed.publish(100, trades, &finalized).await;
    // Confirmed only, and abandoned after it was confirmed: in no candle.
    bed.publish(101, vec![swap(0, 9_000_000, 1, false)], &confirmed)
        .await;
    bed.until("SELECT count() FROM swaps WHERE slot IN (100, 101)", "1201")
        .await;
    bed.publish(102, vec![swap(0, 8_000_000, 1, false)], &confirmed)
        .await;
    bed.until("SELECT count() FROM swaps WHERE slot = 102", "1")
        .await;
    let writer = bed.log.writer().await.unwrap();
    writer
        .append(vec![status(&bed.topics, 102, 1, SlotStatus::SlotDead)])
        .await
        .unwrap();
    // The tables lose its rows in any order.
    for table in ["swaps", "instructions", "transactions"] {
        let sql = format!("SELECT count() FROM {table} WHERE slot = 102");
        bed.until(&sql, "0").await;
    }
    bed.until("SELECT count() FROM swaps_finalized", "1200")
        .await;

    let landed: Vec<u64> = (0..TRADES)
        .filter(|index| index % 10 != 9)
        .map(sol)
        .collect();
    let price = |sol: u64| u128::from(sol) * 10_u128.pow(18) / u128::from(tokens);
    let digits = |price: u128| {
        format!(
            "{}.{:018}",
            price / 10_u128.pow(18),
            price % 10_u128.pow(18)
        )
    };
    let expected = [
        digits(price(landed[0])),
        digits(price(*landed.iter().max().unwrap())),
        digits(price(*landed.iter().min().unwrap())),
        digits(price(*landed.last().unwrap())),
        (tokens as u128 * landed.len() as u128).to_string(),
        landed.iter().sum::<u64>().to_string(),
        landed.len().to_string(),
    ];
    for view in ["candles_1s", "candles_1m", "candles_1h"] {
        let sql = format!(
            "SELECT toDecimalString(open, 18), toDecimalString(high, 18), toDecimalString(low, 18), toDecimalString(close, 18), base_volume, quote_volume, trades FROM {view} WHERE pool = unhex('{}')",
            hex::encode([POOL; 32])
        );
        assert_eq!(bed.ask(&sql).await, expected.join("\t"), "{view}");
    }
    // The earlier row is still there, and says that nobody decoded it.
    assert_eq!(
        bed.ask(
            "SELECT fee, token_identity, priority_fee IS NULL FROM transactions WHERE slot = 1"
        )
        .await,
        "5000\tunknown\t1"
    );
    assert_eq!(
        bed.ask("SELECT outcome, decoder_version FROM instructions WHERE slot = 1")
            .await,
        "not_tried\t0"
    );
    // It is found as later ones are.
    for (sql, answer) in [
        (
            "SELECT signature_hash, tx_index FROM transactions_by_signature WHERE slot = 1",
            "1\t0",
        ),
        (
            "SELECT arraySort(groupArray(account_hash)) FROM transactions_by_account WHERE slot = 1",
            "[2,3]",
        ),
        (
            "SELECT toUInt8(substring(account, 1, 1) = unhex('03')), side, asset, amount FROM transfers_by_account WHERE slot = 1",
            "1\tsource\ttoken\t7",
        ),
        (
            "SELECT length(accounts), hex(substring(assumeNotNull(accounts[1]), 1, 2)) FROM instructions_with_accounts WHERE slot = 1",
            "1\t0300",
        ),
    ] {
        assert_eq!(bed.ask(sql).await, answer, "{sql}");
    }
    let cpmm = bs58::encode(programs::RAYDIUM_CPMM).into_string();
    assert_eq!(
        bed.ask(&format!("SELECT seen, decoded, unknown, malformed FROM decode_status WHERE program_base58 = '{cpmm}'")).await,
        "1201\t1201\t0\t0"
    );
    assert_eq!(
        bed.ask("SELECT token_identity, sum(transactions) FROM conservation WHERE slot >= 100 GROUP BY token_identity").await,
        "exact\t1201"
    );
    host.request_drain();
    task.await.unwrap().unwrap();
}

/// Slots abandoned at random, before and after their confirmation, in the order of the chain and out of it: what is left is
/// what the final chain alone would have made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_forks_leave_the_candles_of_the_final_chain() {
    const SLOTS: u64 = 60;
    let bed = Bed::start().await;
    let (host, task) = bed.sink(PathBuf::new());
    // A fixed seed: a failure can be met again.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut kept: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut later = Vec::new();
    let mut order: Vec<u64> = (1..=SLOTS).collect();
    // A backfill comes out of order; minutes and hours then get their first trade last.
    for place in 1..order.len() {
        order.swap(place, random(place as u64 + 1) as usize);
    }
    for slot in order {
        let prices: Vec<u64> = (0..1 + random(4))
            .map(|_| 1_000_000 + random(500_000))
            .collect();
        let trades = prices
            .iter()
            .zip(0..)
            .map(|(sol, index)| swap(index, *sol, 1_000_000, false));
        let trades: Vec<_> = trades.collect();
        match random(4) {
            0 => bed.publish(slot, trades, &[SlotStatus::SlotDead]).await,
            1 => {
                bed.publish(slot, trades, &[SlotStatus::SlotConfirmed])
                    .await;
                later.push((slot, SlotStatus::SlotDead));
            }
            _ => {
                bed.publish(slot, trades, &[SlotStatus::SlotConfirmed])
                    .await;
                later.push((slot, SlotStatus::SlotFinalized));
                kept.insert(slot, prices);
            }
        }
    }
    let writer = bed.log.writer().await.unwrap();
    for (slot, to) in later {
        writer
            .append(vec![status(&bed.topics, slot, 1, to)])
            .await
            .unwrap();
    }
    let trades: usize = kept.values().map(Vec::len).sum();
    assert!(
        kept.len() > 10 && kept.len() < SLOTS as usize,
        "{}",
        kept.len()
    );
    bed.until("SELECT count() FROM trades", &trades.to_string())
        .await;
    // What was abandoned is nowhere, not in the views alone.
    bed.until("SELECT count() FROM swaps", &trades.to_string())
        .await;
    for (view, seconds) in [("candles_1s", 1), ("candles_1m", 60), ("candles_1h", 3_600)] {
        let mut candles: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (slot, prices) in &kept {
            let time = 1_700_000_000 + slot;
            candles
                .entry(time / seconds * seconds)
                .or_default()
                .extend(prices);
        }
        let price = |sol: Option<&u64>| sol.unwrap() * 1_000;
        let expected: Vec<String> = candles
            .iter()
            .map(|(bucket, prices)| {
                let of = [
                    prices.first(),
                    prices.iter().max(),
                    prices.iter().min(),
                    prices.last(),
                ];
                let [open, high, low, close] = of.map(price);
                let volume: u64 = prices.iter().sum();
                format!(
                    "{bucket}\t{open}\t{high}\t{low}\t{close}\t{volume}\t{}",
                    prices.len()
                )
            })
            .collect();
        let scaled = |column: &str| format!("toUInt64({column} * 1000000000)");
        let sql = format!(
            "SELECT toUnixTimestamp(bucket), {}, {}, {}, {}, quote_volume, trades FROM {view} ORDER BY bucket",
            scaled("open"),
            scaled("high"),
            scaled("low"),
            scaled("close")
        );
        assert_eq!(bed.ask(&sql).await, expected.join("\n"), "{view}");
    }
    host.request_drain();
    task.await.unwrap().unwrap();
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

/// A program without a decoder of ours, by the IDL in the folder; what the IDL does not know is called unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_idls_names_what_we_have_no_decoder_for() {
    let folder = tempfile::Builder::new()
        .prefix("heliograph-test-idl-")
        .tempdir()
        .unwrap();
    let program = [77; 32];
    let idl = serde_json::json!({
        "address": bs58::encode(program).into_string(),
        "instructions": [{"name": "placeOrder", "discriminator": [1, 2, 3], "args": [{"name": "price", "type": "u64"}]}],
    });
    std::fs::write(folder.path().join("x.json"), idl.to_string()).unwrap();
    let bed = Bed::start().await;
    let (host, task) = bed.sink(folder.path().to_owned());
    let calls = |data: Vec<u8>, index: u64| {
        let mut update = swap(index, 1, 1, true);
        let message = update
            .transaction
            .as_mut()
            .unwrap()
            .message
            .as_mut()
            .unwrap();
        message.account_keys[9] = program.to_vec();
        message.instructions[0].data = data;
        update
    };
    let known = calls([&[1, 2, 3][..], &u64::MAX.to_le_bytes()].concat(), 0);
    let unknown = calls(vec![9, 9, 9], 1);
    bed.publish(7, vec![known, unknown], &[SlotStatus::SlotConfirmed])
        .await;
    let sql = format!(
        "SELECT groupArray((tx_index, name, outcome, arguments, length(idl))) FROM (SELECT * FROM instructions WHERE program = unhex('{}') ORDER BY tx_index)",
        hex::encode(program)
    );
    let expected = r#"[(0,'place_order','decoded','{"price":"18446744073709551615"}',8),(1,'','unknown','',0)]"#;
    bed.until(&sql, expected).await;
    host.request_drain();
    task.await.unwrap().unwrap();
}

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
