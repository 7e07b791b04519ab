-- Swaps of a wallet
--
-- What a wallet swapped itself, on every exchange. What an aggregator did for it is in the sample routes.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column protocol: Exchange
-- column pool: Pool
-- column mint_in: Mint given
-- column amount_in: Raw units given; NULL when the transaction does not tell
-- column mint_out: Mint got
-- column amount_out: Raw units got; NULL when the transaction does not tell
-- column evidence: What the amounts rest on
-- param wallet = 2RJD1KnDRGEkvuFfAGrJ7PD28LRE9LRDjZznDywagzmr: The wallet
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
SELECT slot, tx_index, protocol, base58Encode(s.pool) AS pool, base58Encode(s.mint_in) AS mint_in, amount_in,
    base58Encode(s.mint_out) AS mint_out, amount_out, evidence
FROM swaps_finalized AS s
WHERE success = true AND s.user = base58Decode({wallet:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
ORDER BY slot DESC, tx_index DESC, path DESC
LIMIT {rows:UInt32}
