-- A transaction by its signature
--
-- Where it is, whether it is final, what came of it, what it paid and used.
--
-- column slot: Slot of its block
-- column tx_index: Place in the block
-- column block_time: Time of the block
-- column final: Whether the block is final
-- column fee_payer: Who paid
-- column success: Outcome; NULL when no status was recorded
-- column error: Name of the failure; empty on success
-- column fee: Lamports
-- column compute_units: Compute units used
-- column instructions: Instructions, inner ones too
-- column log_messages: What its programs said
-- param signature = 4ERAHcJQzJ2uYoHNCavSz8SrSMgN6j99XZTTvMM9K1Y3fq83Vt2hnuB9QRLAbrqHxmziTpJbNSjpDQF4pWc7YKjV: Its first signature
WITH (SELECT groupArray((slot, tx_index)) FROM transactions_by_signature
    WHERE signature_hash = reinterpretAsUInt64(substring(base58Decode({signature:String}), 1, 8))) AS places
SELECT slot, tx_index, block_time,
    slot IN (SELECT slot FROM slot_status FINAL WHERE status = 'finalized' AND has(arrayMap(place -> place.1, places), slot)) AS final,
    base58Encode(assumeNotNull(fee_payer)) AS fee_payer, success, error, fee, compute_units, instructions, log_messages
FROM transactions
WHERE has(places, (slot, tx_index)) AND signature = base58Decode({signature:String})
LIMIT 1 BY slot, tx_index
