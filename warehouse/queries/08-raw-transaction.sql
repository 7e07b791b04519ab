-- A transaction as it came
--
-- The signed message and its execution, byte for byte, as protobuf messages of solana.storage.ConfirmedBlock: for tools of
-- your own. Of transactions that are not final yet too.
--
-- column slot: Slot of its block
-- column tx_index: Place in the block
-- column transaction: Transaction, base64
-- column meta: TransactionStatusMeta, base64; NULL when no status was recorded
-- param signature = 4ERAHcJQzJ2uYoHNCavSz8SrSMgN6j99XZTTvMM9K1Y3fq83Vt2hnuB9QRLAbrqHxmziTpJbNSjpDQF4pWc7YKjV: Its first signature
SELECT slot, tx_index, base64Encode(transaction) AS transaction, base64Encode(meta) AS meta
FROM transactions_whole
WHERE (slot, tx_index) IN (SELECT slot, tx_index FROM transactions_by_signature
    WHERE signature_hash = reinterpretAsUInt64(substring(base58Decode({signature:String}), 1, 8)))
