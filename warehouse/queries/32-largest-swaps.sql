-- The largest swaps
--
-- By what was paid in one quote mint, over all exchanges.
--
-- column slot: Slot of the block
-- column signature: First signature of the transaction
-- column protocol: Exchange
-- column pool: Pool
-- column buys: Whether the user got base
-- column base_mint: Mint that is traded
-- column base_amount: Raw units of base
-- column quote_amount: Raw units of quote
-- param quote_mint = EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v: Mint that measures them
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 20: At most so many
SELECT s.slot AS slot, base58Encode(t.signature) AS signature, s.protocol AS protocol, base58Encode(s.pool) AS pool, s.buys AS buys,
    base58Encode(s.base_mint) AS base_mint, s.base_amount AS base_amount, s.quote_amount AS quote_amount
FROM
(
    SELECT * FROM trades
    WHERE quote_mint = base58Decode({quote_mint:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
    ORDER BY quote_amount DESC, slot, tx_index, path
    LIMIT {rows:UInt32}
) AS s
INNER JOIN (SELECT slot, tx_index, signature FROM transactions FINAL WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS t
    ON t.slot = s.slot AND t.tx_index = s.tx_index
ORDER BY quote_amount DESC, slot, s.tx_index, s.path
