-- Rows in the order of questions that name no slot: a signature, an account. Small granules, since a question wants few rows.

CREATE TABLE IF NOT EXISTS transactions_by_signature
(
    signature_hash UInt64 COMMENT 'First eight bytes of the signature, little-endian: reinterpretAsUInt64(substring(signature, 1, 8))' CODEC(Delta, ZSTD(1)),
    slot UInt64 COMMENT 'Slot of the block' CODEC(T64, ZSTD(1)),
    tx_index UInt32 COMMENT 'Place in the block' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (signature_hash, slot, tx_index)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'Where a transaction is, votes too; compare transactions.signature, for eight bytes may be two''s';

CREATE TABLE IF NOT EXISTS transactions_by_account
(
    account_hash UInt64 COMMENT 'First eight bytes of the account''s key, little-endian: reinterpretAsUInt64(substring(key, 1, 8))' CODEC(Delta, ZSTD(1)),
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Place in the block' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (account_hash, slot, tx_index)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'Transactions that name an account, as payer, account or program, failed ones too; votes are not among them';

CREATE TABLE IF NOT EXISTS transfers_by_account
(
    account LowCardinality(FixedString(32)) COMMENT 'Token account, owner of one, or account of lamports, raw',
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(T64, ZSTD(1)),
    path UInt32 COMMENT 'Instruction in the transaction, as in instructions.path' CODEC(T64, ZSTD(1)),
    event_index UInt16 COMMENT 'Place within a batch instruction, else 0' CODEC(T64, ZSTD(1)),
    side LowCardinality(String) COMMENT 'What the account is to it: source, destination, source_owner, destination_owner. Owners are those of the token accounts, where the transaction lists their balances',
    asset LowCardinality(String) COMMENT 'token: of token_transfers; sol: of sol_transfers',
    kind LowCardinality(String) COMMENT 'As in those tables',
    mint LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint, raw; NULL for lamports, and where nothing names it',
    amount Nullable(UInt64) COMMENT 'Raw units, or lamports; NULL when not known' CODEC(T64, ZSTD(1)),
    success Nullable(Bool) COMMENT 'Outcome of the transaction: failed transfers are kept, and moved nothing'
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (account, slot, tx_index, path, event_index, asset, side)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'token_transfers and sol_transfers, one row for every account that takes part';

-- What is stored already. Begun anew, should this script be repeated.

TRUNCATE TABLE IF EXISTS transactions_by_signature;

INSERT INTO transactions_by_signature (signature_hash, slot, tx_index)
SELECT reinterpretAsUInt64(substring(signature, 1, 8)), slot, tx_index
FROM transactions FINAL
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

TRUNCATE TABLE IF EXISTS transactions_by_account;

INSERT INTO transactions_by_account (account_hash, slot, tx_index)
SELECT reinterpretAsUInt64(substring(toFixedString(arrayJoin(account_keys), 32), 1, 8)), slot, tx_index
FROM transactions FINAL
WHERE NOT is_vote
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

-- Owners are in no table; a re-decode of the slots brings them.

TRUNCATE TABLE IF EXISTS transfers_by_account;

INSERT INTO transfers_by_account (account, slot, tx_index, path, event_index, side, asset, kind, mint, amount, success)
SELECT assumeNotNull(party.2), slot, tx_index, path, event_index, party.1, 'token', kind, mint, amount, success
FROM token_transfers FINAL
ARRAY JOIN [('source', source), ('destination', destination)] AS party
WHERE party.2 IS NOT NULL
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

INSERT INTO transfers_by_account (account, slot, tx_index, path, event_index, side, asset, kind, mint, amount, success)
SELECT assumeNotNull(party.2), slot, tx_index, path, event_index, party.1, 'sol', kind, NULL, lamports, success
FROM sol_transfers FINAL
ARRAY JOIN [('source', source), ('destination', destination)] AS party
WHERE party.2 IS NOT NULL
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0;

-- Filters that these tables make needless.

ALTER TABLE transactions DROP INDEX IF EXISTS by_signature;

ALTER TABLE token_transfers DROP INDEX IF EXISTS by_source;

ALTER TABLE token_transfers DROP INDEX IF EXISTS by_destination;

ALTER TABLE sol_transfers DROP INDEX IF EXISTS by_source;

ALTER TABLE sol_transfers DROP INDEX IF EXISTS by_destination;
