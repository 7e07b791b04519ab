-- Transactions as they came, so that getTransaction and a re-decode are possible from the warehouse alone. Cold: nothing but
-- those two reads it.

CREATE TABLE IF NOT EXISTS transactions_raw
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Place in the block, from 0' CODEC(Delta, ZSTD(1)),
    signature_apart Bool COMMENT 'Whether the first signature is left out of transaction; it is transactions.signature',
    transaction String COMMENT 'Protobuf solana.storage.ConfirmedBlock.Transaction, without its first signature where signature_apart' CODEC(ZSTD(3)),
    meta Nullable(String) COMMENT 'Protobuf solana.storage.ConfirmedBlock.TransactionStatusMeta; NULL when no status was recorded' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, tx_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The raw message and its execution, losslessly; transactions_whole gives the signature back';

CREATE OR REPLACE VIEW transactions_whole
COMMENT 'transactions_raw with every signature in its place: transaction and meta are the protobuf messages as they came'
AS SELECT
    raw.slot AS slot,
    raw.tx_index AS tx_index,
    known.signature AS signature,
    known.is_vote AS is_vote,
    -- Field 1, 64 bytes: a message's fields may stand in any order, and repeated ones keep theirs.
    if(raw.signature_apart, concat(unhex('0A40'), known.signature, raw.transaction), raw.transaction) AS transaction,
    raw.meta AS meta
FROM (SELECT * FROM transactions_raw FINAL) AS raw
INNER JOIN (SELECT slot, tx_index, signature, is_vote FROM transactions FINAL) AS known
    ON known.slot = raw.slot AND known.tx_index = raw.tx_index;
