-- Trades in a pool
--
-- Swaps as base and quote, newest first. Price is raw quote units per raw base unit.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column block_time: Time of the block
-- column protocol: Exchange
-- column user: Authority of the swap: the trader, or a router acting for one
-- column buys: Whether the user got base
-- column base_mint: Mint that is traded
-- column quote_mint: Mint it is paid in
-- column base_amount: Raw units of base
-- column quote_amount: Raw units of quote
-- column price: Raw quote units per raw base unit, 18 digits
-- param pool = 58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLyQo2: The pool
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
SELECT slot, tx_index, block_time, protocol, base58Encode(t.user) AS user, buys, base58Encode(t.base_mint) AS base_mint,
    base58Encode(t.quote_mint) AS quote_mint, base_amount, quote_amount, price
FROM trades AS t
WHERE pool = base58Decode({pool:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
ORDER BY slot DESC, tx_index DESC, path DESC
LIMIT {rows:UInt32}
