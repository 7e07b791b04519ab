-- Transactions of version 1
--
-- Messages that state priority fee and limits in their head instead of by instructions.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column signature: First signature
-- column success: Outcome
-- column priority_fee: Lamports for priority
-- column unit_limit: Compute units requested; NULL when not stated
-- column compute_units: Compute units used
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT slot, tx_index, base58Encode(signature) AS signature, success, priority_fee, unit_limit, compute_units
FROM transactions FINAL
WHERE version = 1 AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
ORDER BY slot, tx_index
