-- Sums of windows of 600 slots, so that a day's volume and candles do not read every row of it. A window is summed up by the
-- sink once all of it is final, by the very view that answers for a window that is not (docs/decisions/0033).

ALTER TABLE sink_batches
    ADD COLUMN IF NOT EXISTS rolled_below UInt64 DEFAULT 0 COMMENT 'Windows of slots below it are rolled up, slots_in_work apart; while planned: also while this batch is being stored';

CREATE OR REPLACE VIEW rollup_state
COMMENT 'One row: windows, intDiv(slot, 600), below raw_from are answered from rollups, except those of raw_too, in which past slots were written since'
AS SELECT
    intDiv(argMax(rolled_below, (batch_id, phase = 'done', recorded_at)), 600) AS raw_from,
    (SELECT groupUniqArrayArray(range(intDiv(first_slot, 600), intDiv(last_slot, 600) + 1)) FROM slots_in_work) AS raw_too
FROM sink_batches;

CREATE OR REPLACE VIEW token_volume_by_window
(
    window UInt64 COMMENT 'intDiv(slot, 600)',
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    mint LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint, raw; NULL: transfers of which the transaction names none',
    decimals Nullable(UInt8) COMMENT 'Decimals of the mint where an instruction states them',
    transfers UInt64 COMMENT 'Transfers between token accounts',
    transfers_unknown UInt64 COMMENT 'Those of them whose amount is not known: they are in no sum',
    transferred UInt128 COMMENT 'Raw units transferred',
    withheld UInt128 COMMENT 'Raw units of it withheld as transfer fees, where known',
    mints UInt64 COMMENT 'Times tokens were minted',
    mints_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    minted UInt128 COMMENT 'Raw units minted',
    burns UInt64 COMMENT 'Times tokens were burnt',
    burns_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    burned UInt128 COMMENT 'Raw units burnt',
    others UInt64 COMMENT 'Other movements'
)
COMMENT 'token_volume_daily in pieces, counted from token_transfers_finalized on every read'
AS SELECT
    window,
    day,
    mint,
    max(t.decimals) AS decimals,
    countIf(is_transfer) AS transfers,
    countIf(is_transfer AND t.amount IS NULL) AS transfers_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_transfer) AS transferred,
    sumIf(toUInt128(ifNull(t.fee, 0)), is_transfer) AS withheld,
    countIf(is_mint) AS mints,
    countIf(is_mint AND t.amount IS NULL) AS mints_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_mint) AS minted,
    countIf(is_burn) AS burns,
    countIf(is_burn AND t.amount IS NULL) AS burns_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_burn) AS burned,
    countIf(NOT (is_transfer OR is_mint OR is_burn)) AS others
FROM
(
    SELECT
        intDiv(slot, 600) AS window, toDate(block_time) AS day, mint, decimals, amount, fee,
        kind IN ('transfer', 'transfer_checked', 'transfer_checked_with_fee') AS is_transfer,
        kind IN ('mint_to', 'mint_to_checked') AS is_mint,
        kind IN ('burn', 'burn_checked', 'permissioned_burn', 'permissioned_burn_checked') AS is_burn
    FROM
    (
        SELECT slot, block_time, mint, decimals, amount, fee, kind
        FROM token_transfers_finalized
        WHERE success = true AND block_time IS NOT NULL
        UNION ALL
        -- Rows of before the column was there, and of blocks without a time.
        SELECT u.slot, b.block_time, u.mint, u.decimals, u.amount, u.fee, u.kind
        FROM (SELECT * FROM token_transfers_finalized WHERE success = true AND block_time IS NULL) AS u
        LEFT JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = u.slot
    )
) AS t
GROUP BY window, day, mint;

CREATE TABLE IF NOT EXISTS token_volume_rollup
(
    slot UInt64 COMMENT 'First slot of the window: window * 600' CODEC(T64, ZSTD(1)),
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time' CODEC(ZSTD(1)),
    mint LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint, raw; NULL: transfers of which the transaction names none',
    decimals Nullable(UInt8) COMMENT 'As in token_volume_by_window' CODEC(ZSTD(1)),
    transfers UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    transfers_unknown UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    transferred UInt128 COMMENT 'As in token_volume_by_window' CODEC(ZSTD(1)),
    withheld UInt128 COMMENT 'As in token_volume_by_window' CODEC(ZSTD(1)),
    mints UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    mints_unknown UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    minted UInt128 COMMENT 'As in token_volume_by_window' CODEC(ZSTD(1)),
    burns UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    burns_unknown UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1)),
    burned UInt128 COMMENT 'As in token_volume_by_window' CODEC(ZSTD(1)),
    others UInt64 COMMENT 'As in token_volume_by_window' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (day, mint, slot)
SETTINGS non_replicated_deduplication_window = 10000, allow_nullable_key = 1
COMMENT 'token_volume_by_window of windows that are final, kept. Ask token_volume_daily, which knows which of them hold';

CREATE OR REPLACE VIEW token_volume_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    mint Nullable(FixedString(32)) COMMENT 'Mint, raw; NULL: transfers of which the transaction names none',
    decimals Nullable(UInt8) COMMENT 'Decimals of the mint where an instruction states them; amounts are not divided by them',
    transfers UInt64 COMMENT 'Transfers between token accounts',
    transfers_unknown UInt64 COMMENT 'Those of them whose amount is not known: they are in no sum',
    transferred UInt128 COMMENT 'Raw units transferred',
    withheld UInt128 COMMENT 'Raw units of it withheld as transfer fees, where known',
    mints UInt64 COMMENT 'Times tokens were minted',
    mints_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    minted UInt128 COMMENT 'Raw units minted',
    burns UInt64 COMMENT 'Times tokens were burnt',
    burns_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    burned UInt128 COMMENT 'Raw units burnt',
    net_minted Int256 COMMENT 'minted - burned',
    others UInt64 COMMENT 'Other movements: closed accounts, wrapped SOL synchronised, withheld fees withdrawn, confidential ones'
)
COMMENT 'Per UTC day and mint: tokens moved by the Token programs in final transactions that succeeded. Raw units'
AS SELECT
    v.day AS day,
    v.mint AS mint,
    max(v.decimals) AS decimals,
    sum(v.transfers) AS transfers,
    sum(v.transfers_unknown) AS transfers_unknown,
    sum(v.transferred) AS transferred,
    sum(v.withheld) AS withheld,
    sum(v.mints) AS mints,
    sum(v.mints_unknown) AS mints_unknown,
    sum(v.minted) AS minted,
    sum(v.burns) AS burns,
    sum(v.burns_unknown) AS burns_unknown,
    sum(v.burned) AS burned,
    toInt256(minted) - toInt256(burned) AS net_minted,
    sum(v.others) AS others
FROM
(
    SELECT * EXCEPT (slot)
    FROM token_volume_rollup FINAL
    WHERE intDiv(slot, 600) < (SELECT raw_from FROM rollup_state)
        AND intDiv(slot, 600) NOT IN (SELECT arrayJoin((SELECT raw_too FROM rollup_state)))
    UNION ALL
    SELECT * EXCEPT (window)
    FROM token_volume_by_window
    WHERE window >= (SELECT raw_from FROM rollup_state)
        OR window IN (SELECT arrayJoin((SELECT raw_too FROM rollup_state)))
) AS v
GROUP BY day, mint;

CREATE OR REPLACE VIEW candles_by_window
COMMENT 'candles_1m in pieces, counted from trades on every read. open_place, close_place: place of the first and the last trade, as in trades; open, high, low and close: times 10^18'
AS SELECT
    intDiv(slot, 600) AS window,
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(assumeNotNull(block_time), INTERVAL 1 MINUTE) AS bucket,
    argMin(price_e18, place) AS open,
    min(place) AS open_place,
    max(price_e18) AS high,
    min(price_e18) AS low,
    argMax(price_e18, place) AS close,
    max(place) AS close_place,
    sum(toUInt128(base_amount)) AS base_volume,
    sum(toUInt128(quote_amount)) AS quote_volume,
    count() AS trades
FROM trades
WHERE block_time IS NOT NULL
GROUP BY window, pool, base_mint, quote_mint, bucket;

CREATE TABLE IF NOT EXISTS candles_rollup
(
    slot UInt64 COMMENT 'First slot of the window: window * 600' CODEC(Delta, ZSTD(1)),
    pool LowCardinality(FixedString(32)) COMMENT 'Pool, raw',
    base_mint LowCardinality(FixedString(32)) COMMENT 'As in trades',
    quote_mint LowCardinality(FixedString(32)) COMMENT 'As in trades',
    bucket DateTime('UTC') COMMENT 'Begin of the minute' CODEC(Delta, ZSTD(1)),
    open UInt128 COMMENT 'First price, times 10^18' CODEC(ZSTD(1)),
    open_place UInt128 COMMENT 'Place of that trade, as in trades' CODEC(ZSTD(1)),
    high UInt128 COMMENT 'Highest price, times 10^18' CODEC(ZSTD(1)),
    low UInt128 COMMENT 'Lowest price, times 10^18' CODEC(ZSTD(1)),
    close UInt128 COMMENT 'Last price, times 10^18' CODEC(ZSTD(1)),
    close_place UInt128 COMMENT 'Place of that trade, as in trades' CODEC(ZSTD(1)),
    base_volume UInt128 COMMENT 'Raw units of base' CODEC(ZSTD(1)),
    quote_volume UInt128 COMMENT 'Raw units of quote' CODEC(ZSTD(1)),
    trades UInt64 COMMENT 'Trades' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (pool, bucket, base_mint, quote_mint, slot)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'candles_by_window of windows that are final, kept. Ask candles_1m and candles_1h, which know which of them hold';

CREATE OR REPLACE VIEW candle_pieces
COMMENT 'Pieces of candles_1m: from the rollup where it holds, else counted'
AS SELECT * EXCEPT (slot)
FROM candles_rollup FINAL
WHERE intDiv(slot, 600) < (SELECT raw_from FROM rollup_state)
    AND intDiv(slot, 600) NOT IN (SELECT arrayJoin((SELECT raw_too FROM rollup_state)))
UNION ALL
SELECT * EXCEPT (window)
FROM candles_by_window
WHERE window >= (SELECT raw_from FROM rollup_state)
    OR window IN (SELECT arrayJoin((SELECT raw_too FROM rollup_state)));

CREATE OR REPLACE VIEW candles_1m
COMMENT 'Candles of one minute per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    bucket,
    reinterpret(toInt256(argMin(p.open, p.open_place)), 'Decimal(76, 18)') AS open,
    reinterpret(toInt256(max(p.high)), 'Decimal(76, 18)') AS high,
    reinterpret(toInt256(min(p.low)), 'Decimal(76, 18)') AS low,
    reinterpret(toInt256(argMax(p.close, p.close_place)), 'Decimal(76, 18)') AS close,
    sum(p.base_volume) AS base_volume,
    sum(p.quote_volume) AS quote_volume,
    sum(p.trades) AS trades
FROM candle_pieces AS p
GROUP BY pool, base_mint, quote_mint, bucket;

CREATE OR REPLACE VIEW candles_1h
COMMENT 'Candles of one hour per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(p.bucket, INTERVAL 1 HOUR) AS bucket,
    reinterpret(toInt256(argMin(p.open, p.open_place)), 'Decimal(76, 18)') AS open,
    reinterpret(toInt256(max(p.high)), 'Decimal(76, 18)') AS high,
    reinterpret(toInt256(min(p.low)), 'Decimal(76, 18)') AS low,
    reinterpret(toInt256(argMax(p.close, p.close_place)), 'Decimal(76, 18)') AS close,
    sum(p.base_volume) AS base_volume,
    sum(p.quote_volume) AS quote_volume,
    sum(p.trades) AS trades
FROM candle_pieces AS p
GROUP BY pool, base_mint, quote_mint, bucket;
