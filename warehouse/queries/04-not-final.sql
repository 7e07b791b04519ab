-- Blocks that are not final
--
-- Confirmed ones whose finality has not come, and abandoned ones, whose rows are gone. Of a slot that was made twice both are told.
--
-- column slot: Slot of the block
-- column blockhash: Its hash
-- column status: confirmed or abandoned
-- column recorded_at: When the warehouse learnt it
-- param rows = 100: At most so many, newest first
SELECT slot, base58Encode(blockhash) AS blockhash, status, recorded_at
FROM slot_status FINAL
WHERE status != 'finalized'
ORDER BY slot DESC
LIMIT {rows:UInt32}
