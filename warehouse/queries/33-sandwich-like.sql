-- Trades that look like sandwiches
--
-- In one block and pool: one user buys, others buy after it, and the first sells again. The shape alone proves nothing: market makers
-- make it too.
--
-- column slot: Slot of the block
-- column pool: Pool
-- column user: Who traded before and after
-- column first_tx: Place of the first trade in the block
-- column last_tx: Place of the opposite one
-- column between: Trades of others between them, in the first one's direction
-- column paid: Raw units of quote that the user paid
-- column got: Raw units of quote that the user got back
-- column gain: got - paid, raw units of quote; of what was sold, not of what may be left
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT a.slot AS slot, base58Encode(a.pool) AS pool, base58Encode(a.user) AS user, a.tx_index AS first_tx, b.tx_index AS last_tx,
    count() AS between, any(a.quote_amount) AS paid, any(b.quote_amount) AS got, toInt128(assumeNotNull(got)) - toInt128(assumeNotNull(paid)) AS gain
FROM (SELECT * FROM trades WHERE buys AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS a
INNER JOIN (SELECT * FROM trades WHERE NOT buys AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS b ON b.slot = a.slot AND b.pool = a.pool AND b.user = a.user
INNER JOIN (SELECT * FROM trades WHERE buys AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS v ON v.slot = a.slot AND v.pool = a.pool
WHERE a.tx_index < v.tx_index AND v.tx_index < b.tx_index AND v.user != a.user
GROUP BY a.slot, a.pool, a.user, a.tx_index, a.path, b.tx_index, b.path
ORDER BY gain DESC
