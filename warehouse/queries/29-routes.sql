-- Routes and their legs
--
-- What users of aggregators gave and got, and through which pools. Never add legs to routes.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column user: Who swaps
-- column mint_in: Mint given
-- column amount_in: Raw units given
-- column mint_out: Mint got
-- column amount_out: Raw units got
-- column legs: Exchange, raw units in and out, per leg in order
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 50: At most so many
SELECT r.slot AS slot, r.tx_index AS tx_index, base58Encode(r.user) AS user, base58Encode(r.mint_in) AS mint_in, r.amount_in AS amount_in,
    base58Encode(r.mint_out) AS mint_out, r.amount_out AS amount_out,
    arrayMap(leg -> (leg.3, leg.4, leg.5), arraySort(groupArray((s.path, s.event_index, s.protocol, s.amount_in, s.amount_out)))) AS legs
FROM (SELECT * FROM routes_finalized WHERE success = true AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS r
INNER JOIN (SELECT * FROM swaps_finalized WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS s
    ON s.slot = r.slot AND s.tx_index = r.tx_index AND bitShiftRight(s.path, 16) = bitShiftRight(r.path, 16)
WHERE s.path > r.path
GROUP BY r.slot, r.tx_index, r.path, r.user, r.mint_in, r.amount_in, r.mint_out, r.amount_out
ORDER BY slot DESC, tx_index DESC
LIMIT {rows:UInt32}
