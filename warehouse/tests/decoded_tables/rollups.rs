//! Volumes and candles from rollups are what the rows say: while the sink rolls up, after late blocks, after past slots were
//! written, and after retention took the rows.

use std::time::{Duration, Instant};

use super::*;
use warehouse::sink::WINDOW;

/// First slot of a window. Blocks say a second per slot from 1,700,000,000 on, so the minute at its end goes on in the next one.
const FIRST: u64 = 30_000;
const PATIENCE: Duration = Duration::from_secs(90);
/// Slots between blocks.
const STRIDE: u64 = 20;

/// Sums over the rows themselves, written down apart from the views' own.
const VOLUME_OF_ROWS: &str = "
    SELECT toDate(b.block_time) AS day, t.mint AS mint, count() AS transfers, sum(toUInt128(ifNull(t.amount, 0))) AS transferred
    FROM (SELECT * FROM token_transfers FINAL WHERE success = true AND startsWith(kind, 'transfer')) AS t
    INNER JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = t.slot
    WHERE t.slot IN (SELECT slot FROM slot_status FINAL WHERE status = 'finalized')
    GROUP BY day, mint";
const VOLUME: &str =
    "SELECT day, mint, transfers, transferred FROM token_volume_daily WHERE transfers > 0";
const CANDLES_OF_ROWS: &str = "
    SELECT pool, toStartOfMinute(assumeNotNull(block_time)) AS bucket, count() AS trades, sum(toUInt128(base_amount)) AS base_volume,
        argMin(price, (slot, tx_index, path, event_index)) AS open, argMax(price, (slot, tx_index, path, event_index)) AS close,
        min(price) AS low, max(price) AS high
    FROM trades GROUP BY pool, base_mint, quote_mint, bucket";
const CANDLES: &str =
    "SELECT pool, bucket, trades, base_volume, open, close, low, high FROM candles_1m";
const HOURS: &str = "
    SELECT pool, toStartOfHour(bucket) AS hour, sum(trades), sum(base_volume), argMin(open, bucket), argMax(close, bucket), min(low), max(high)
    FROM candles_1m GROUP BY pool, base_mint, quote_mint, hour";
const CANDLES_1H: &str =
    "SELECT pool, bucket, trades, base_volume, open, close, low, high FROM candles_1h";

fn digest(sql: &str) -> String {
    format!("SELECT (count(), sum(sipHash64(formatRow('RowBinary', *)))) FROM ({sql})")
}

impl Bed {
    /// A final block of trades, one of them failed.
    async fn trades(&self, slot: u64) {
        let trades = (0..6).map(|index| {
            let sol = 1_000_000 + (slot * 7_919 + index * 104_729) % 5_000;
            swap(index, sol, 2_000_000 + index, index == 4)
        });
        let finalized = [SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized];
        self.publish(slot, trades.collect(), &finalized).await;
    }

    async fn blocks(&self, from: u64, to: u64) {
        for slot in (from..to).step_by(STRIDE as usize) {
            self.trades(slot).await;
        }
        self.stored(to - STRIDE).await;
    }

    async fn stored(&self, slot: u64) {
        let stored = format!("SELECT count() FROM blocks_finalized WHERE slot = {slot}");
        self.until(&stored, "1").await;
    }

    /// The chain goes on from `next` until windows below `slot` are rolled up; all the while the answers are the same.
    async fn goes_on(&self, next: &mut u64, slot: u64) {
        let rolled = format!("SELECT raw_from >= {} FROM rollup_state", slot / WINDOW);
        let begun = Instant::now();
        while self.ask(&rolled).await != "1" {
            self.trades(*next).await;
            self.stored(*next).await;
            self.same().await;
            *next += 1;
            assert!(begun.elapsed() < PATIENCE, "not rolled up: slot {next}");
        }
    }

    async fn number(&self, sql: &str) -> u64 {
        self.ask(sql).await.parse().unwrap()
    }

    async fn same(&self) {
        for (view, rows) in [
            (VOLUME, VOLUME_OF_ROWS),
            (CANDLES, CANDLES_OF_ROWS),
            (CANDLES_1H, HOURS),
        ] {
            let both = format!(
                "SELECT ({}) AS shown, ({}) AS counted, shown = counted, shown.1 > 0",
                digest(view),
                digest(rows)
            );
            let answer = self.ask(&both).await;
            assert!(answer.ends_with("\t1\t1"), "{view}: {answer}");
        }
    }

    /// Rows of the rollups that questions are answered from.
    async fn counts_of_rollups(&self) -> (u64, u64) {
        let of = |table: &str| {
            format!(
                "SELECT count() FROM {table} FINAL WHERE slot < (SELECT raw_from * 600 FROM rollup_state)"
            )
        };
        (
            self.number(&of("token_volume_rollup")).await,
            self.number(&of("candles_rollup")).await,
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_is_the_same_before_and_after() {
    let stream = Bed::start().await;
    let (host, sink) = stream.sink(PathBuf::new());
    let mut next = FIRST + 3 * WINDOW;
    stream.blocks(FIRST, next).await;
    stream.goes_on(&mut next, FIRST + 3 * WINDOW).await;
    stream.same().await;
    let (volumes, candles) = stream.counts_of_rollups().await;
    assert!(volumes > 0 && candles > 0);

    // They are what answers: a wrong sum would show.
    let of = "SELECT sum(transfers) FROM token_volume_daily";
    let before = stream.number(of).await;
    let (slot, transfers) = (FIRST + 2 * WINDOW, 1_000_000);
    stream.ask(&format!("INSERT INTO token_volume_rollup (slot, day, mint, transfers) VALUES ({slot}, '2000-01-01', NULL, {transfers})")).await;
    assert_eq!(stream.number(of).await, before + transfers);
    // And a window in which past slots are being written is counted anew.
    let work = format!(
        "INSERT INTO slots_in_work VALUES ('history-1-1', {}, {}, false, now64(3))",
        slot + 1,
        slot + 1
    );
    stream.ask(&work).await;
    assert_eq!(stream.number(of).await, before);
    // Once it has ended, the window is rolled up again, and the work is forgotten.
    stream
        .ask(&work.replace("false, now64(3)", "true, now64(3)"))
        .await;
    stream.until("SELECT count() FROM slots_in_work", "0").await;
    assert_eq!(stream.number(of).await, before);
    stream.same().await;
    host.request_drain();
    sink.await.unwrap().unwrap();
}

/// A block that was repaired comes long after its neighbours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_block_is_in_no_sum_twice_and_in_none_too_late() {
    let stream = Bed::start().await;
    let (host, sink) = stream.sink(PathBuf::new());
    let mut next = FIRST + 3 * WINDOW;
    stream.blocks(FIRST, next).await;
    stream.goes_on(&mut next, FIRST + 3 * WINDOW).await;
    let late = FIRST + WINDOW + 7;
    stream.trades(late).await;
    stream.stored(late).await;
    stream.same().await;
    // The sink ends before it has rolled up again, and another one goes on.
    host.request_drain();
    sink.await.unwrap().unwrap();
    stream.same().await;
    let (host, sink) = stream.sink(PathBuf::new());
    let taken_back = "SELECT raw_from FROM rollup_state";
    assert_eq!(stream.number(taken_back).await, FIRST / WINDOW + 1);
    stream.goes_on(&mut next, FIRST + 3 * WINDOW).await;
    stream.same().await;
    host.request_drain();
    sink.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_stay_when_retention_took_what_was_summed_up() {
    let stream = Bed::start().await;
    let (host, sink) = stream.sink(PathBuf::new());
    let mut next = FIRST + 2 * WINDOW;
    stream.blocks(FIRST, next).await;
    stream.goes_on(&mut next, FIRST + 2 * WINDOW).await;
    let candles = digest(&format!(
        "{CANDLES} WHERE bucket < toDateTime({}, 'UTC')",
        1_700_000_000 + FIRST + 2 * WINDOW - 60
    ));
    let before = stream.ask(&candles).await;
    for statement in [
        "INSERT INTO retention_journal (table_name, epoch, state) VALUES ('swaps', 0, 'dropped')"
            .to_owned(),
        format!("DELETE FROM swaps WHERE slot < {}", FIRST + 2 * WINDOW),
        // Something else of these slots is restored.
        format!(
            "INSERT INTO slots_in_work VALUES ('restore-1', {FIRST}, {}, true, now64(3) - INTERVAL 1 MINUTE)",
            FIRST + 10
        ),
    ] {
        stream.ask(&statement).await;
    }
    stream.until("SELECT count() FROM slots_in_work", "0").await;
    assert_eq!(stream.ask(&candles).await, before);
    host.request_drain();
    sink.await.unwrap().unwrap();
}
