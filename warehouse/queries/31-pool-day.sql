-- A pool's day
--
-- Trades, volume, users and prices of a pool on one UTC day.
--
-- column trades: Trades
-- column buys: Those in which the user got base
-- column users: Distinct authorities of the swaps
-- column base_volume: Raw units of base
-- column quote_volume: Raw units of quote
-- column open: First price: raw quote units per raw base unit
-- column high: Highest
-- column low: Lowest
-- column close: Last
-- param pool = 58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLyQo2: The pool
-- param day = 2026-11-22: The day
SELECT count() AS trades, countIf(t.buys) AS buys, uniqExact(user) AS users, sum(toUInt128(assumeNotNull(base_amount))) AS base_volume,
    sum(toUInt128(assumeNotNull(quote_amount))) AS quote_volume, argMin(price, (slot, tx_index, path, event_index)) AS open,
    max(price) AS high, min(price) AS low, argMax(price, (slot, tx_index, path, event_index)) AS close
FROM trades AS t
WHERE pool = base58Decode({pool:String}) AND toDate(block_time) = {day:Date}
