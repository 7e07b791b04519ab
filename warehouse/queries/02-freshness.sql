-- How fresh is the warehouse?
--
-- The watermark: all slots up to which batch are stored whole, when that was, and how far finality is.
--
-- column batch_id: Newest finished batch
-- column highest_slot: Highest slot stored so far, abandoned since or not
-- column highest_final_slot: Highest final slot
-- column highest_block_time: Newest block time stored
-- column seconds_since_batch: Seconds since that batch was finished
SELECT batch_id, highest_slot, (SELECT max(slot) FROM finalized_slots) AS highest_final_slot, highest_block_time,
    dateDiff('second', recorded_at, now64(3)) AS seconds_since_batch
FROM watermark
