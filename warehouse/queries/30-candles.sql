-- Candles of a pool
--
-- Minute by minute, newest first. There are candles_1s and candles_1h too.
--
-- column bucket: Begin of the minute, UTC
-- column open: First price: raw quote units per raw base unit
-- column high: Highest
-- column low: Lowest
-- column close: Last
-- column base_volume: Raw units of base
-- column quote_volume: Raw units of quote
-- column trades: Trades
-- param pool = 58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLyQo2: The pool
-- param rows = 60: At most so many
SELECT bucket, open, high, low, close, base_volume, quote_volume, trades
FROM candles_1m
WHERE pool = base58Decode({pool:String})
ORDER BY bucket DESC
LIMIT {rows:UInt32}
