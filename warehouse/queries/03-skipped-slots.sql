-- Slots without a block
--
-- Slots between a final block and its parent: the leader made no block, or the chain went on without it. What the stream itself lost
-- is in the sample gaps.
--
-- column first_skipped: First slot without a block
-- column last_skipped: Last one before the next block
-- column skipped: How many
-- column next_block: The block after them
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT parent_slot + 1 AS first_skipped, slot - 1 AS last_skipped, slot - parent_slot - 1 AS skipped, slot AS next_block
FROM blocks FINAL
WHERE slot > parent_slot + 1 AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
ORDER BY slot
