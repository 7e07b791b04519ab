-- The newest blocks
--
-- What was stored last: when it was made, how much is in it, whether it is final, and which observers agreed on it.
--
-- column slot: Slot of the block
-- column block_time: When it was made; NULL when the chain states no time
-- column blockhash: Its hash
-- column parent_slot: Slot of the block before it
-- column transactions: Transactions in it
-- column status: confirmed or finalized
-- column sources: Observers that agreed on it
-- param rows = 20: How many
SELECT b.slot AS slot, b.block_time AS block_time, base58Encode(b.blockhash) AS blockhash, b.parent_slot AS parent_slot,
    b.transactions AS transactions, s.status AS status, b.sources AS sources
FROM (SELECT * FROM blocks FINAL ORDER BY slot DESC LIMIT {rows:UInt32}) AS b
INNER JOIN (SELECT slot, blockhash, status FROM slot_status FINAL) AS s ON s.slot = b.slot AND s.blockhash = b.blockhash
ORDER BY slot DESC
