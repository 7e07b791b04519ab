-- Core tables of the warehouse. Every table has its deduplication window, so that a batch inserted twice under one token is
-- stored once, and a natural key under ReplacingMergeTree, so that even a repetition past the window collapses.
-- Keys are raw bytes: text is base58Encode(column), and look-ups are column = base58Decode('…').

CREATE TABLE IF NOT EXISTS blocks
(
    slot UInt64 COMMENT 'Slot number' CODEC(Delta, ZSTD(1)),
    blockhash FixedString(32) COMMENT 'Hash of the block, raw' CODEC(NONE),
    parent_slot UInt64 COMMENT 'Slot of the parent block' CODEC(Delta, ZSTD(1)),
    parent_blockhash FixedString(32) COMMENT 'Hash of the parent block, raw' CODEC(NONE),
    block_time Nullable(DateTime('UTC')) COMMENT 'Estimated production time; NULL when the chain states none',
    block_height Nullable(UInt64) COMMENT 'Number of blocks beneath; NULL when not stated',
    transactions UInt32 COMMENT 'Transactions in the block' CODEC(T64, ZSTD(1)),
    entries UInt32 COMMENT 'Entries in the block' CODEC(T64, ZSTD(1)),
    account_updates UInt32 COMMENT 'Account updates observed with the block' CODEC(T64, ZSTD(1)),
    sources Array(LowCardinality(String)) COMMENT 'Observers that agreed on the block, validator/instance',
    repaired Bool COMMENT 'Completed from elsewhere than a plugin'
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY slot
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per confirmed block';

CREATE TABLE IF NOT EXISTS transactions
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Place in the block, from 0' CODEC(Delta, ZSTD(1)),
    signature FixedString(64) COMMENT 'First signature, raw; stored here and nowhere else' CODEC(NONE),
    is_vote Bool COMMENT 'Simple vote transaction',
    version Int8 COMMENT '-1 legacy, 0, 1',
    fee_payer LowCardinality(Nullable(FixedString(32))) COMMENT 'Account that pays the fee, raw; NULL when the message is unreadable',
    fee Nullable(UInt64) COMMENT 'Lamports; NULL when no status was recorded' CODEC(T64, ZSTD(1)),
    success Nullable(Bool) COMMENT 'NULL when no status was recorded',
    error LowCardinality(String) COMMENT 'Name of the failure, InstructionError:Custom for nested ones; empty on success',
    error_instruction Nullable(UInt8) COMMENT 'Instruction that failed',
    error_custom Nullable(UInt32) COMMENT 'Code of a custom program error',
    compute_units Nullable(UInt64) COMMENT 'Compute units consumed; NULL before the chain recorded them' CODEC(T64, ZSTD(1)),
    cost_units Nullable(UInt64) COMMENT 'Cost in the block cost model; NULL before the chain recorded it' CODEC(T64, ZSTD(1)),
    signatures UInt8 COMMENT 'Number of signatures',
    recent_blockhash LowCardinality(Nullable(FixedString(32))) COMMENT 'Blockhash or nonce the message names, raw',
    account_keys Array(LowCardinality(FixedString(32))) COMMENT 'All accounts in the order instructions refer to them, loaded ones last' CODEC(ZSTD(1)),
    instructions UInt16 COMMENT 'Instructions, outer and inner' CODEC(T64, ZSTD(1)),
    instructions_unresolved UInt16 COMMENT 'Instructions whose program is not among the known accounts; they have no row' CODEC(T64, ZSTD(1)),
    inner_known Bool COMMENT 'Whether inner instructions were recorded at all',
    logs_known Bool COMMENT 'Whether log messages were recorded at all',
    log_messages Array(String) COMMENT 'Program logs' CODEC(ZSTD(3)),
    lamport_identity LowCardinality(String) COMMENT 'exact: sum of lamport changes = -fee; unknown: balances not recorded; broken: they do not add up',
    block_time Nullable(DateTime('UTC')) COMMENT 'Time of the block' CODEC(Delta, ZSTD(1)),
    signature_base58 String ALIAS base58Encode(signature) COMMENT 'Signature as people write it',
    INDEX by_signature signature TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, tx_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per transaction of a confirmed block, votes and failed ones included';

CREATE TABLE IF NOT EXISTS instructions
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    path UInt32 COMMENT 'Outer instruction << 16, plus 0 for itself or 1, 2, … for its inner ones in order' CODEC(Delta, ZSTD(1)),
    stack_height Nullable(UInt8) COMMENT '1 for outer ones; NULL for inner ones before the chain recorded it',
    program LowCardinality(FixedString(32)) COMMENT 'Program called, raw',
    discriminator UInt64 COMMENT 'First eight data bytes, little-endian, zero-filled' CODEC(ZSTD(1)),
    data String COMMENT 'Instruction data' CODEC(ZSTD(3)),
    accounts Array(LowCardinality(FixedString(32))) COMMENT 'Accounts passed, raw' CODEC(ZSTD(1)),
    success Nullable(Bool) COMMENT 'Outcome of the transaction',
    outer_index UInt16 ALIAS bitShiftRight(path, 16) COMMENT 'Outer instruction, from 0',
    inner_index UInt16 ALIAS bitAnd(path, 65535) COMMENT '0 for the outer instruction itself'
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (program, slot, tx_index, path)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Outer and inner instructions of every transaction, failed ones included';

CREATE TABLE IF NOT EXISTS token_transfers
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    path UInt32 COMMENT 'Instruction in the transaction, as in instructions.path' CODEC(Delta, ZSTD(1)),
    event_index UInt16 COMMENT 'Place within a batch instruction, else 0',
    kind LowCardinality(String) COMMENT 'transfer, transfer_checked, transfer_checked_with_fee, mint_to, mint_to_checked, burn, burn_checked, withdraw_withheld_from_mint, withdraw_withheld_from_accounts',
    program LowCardinality(FixedString(32)) COMMENT 'Token or Token-2022, raw',
    mint LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint, raw; NULL when neither the instruction nor any balance names it',
    source LowCardinality(Nullable(FixedString(32))) COMMENT 'Token account debited; NULL for mints',
    destination LowCardinality(Nullable(FixedString(32))) COMMENT 'Token account credited; NULL for burns',
    authority LowCardinality(Nullable(FixedString(32))) COMMENT 'Owner, delegate or mint authority',
    amount Nullable(UInt64) COMMENT 'Raw units; NULL where the instruction states none' CODEC(T64, ZSTD(1)),
    decimals Nullable(UInt8) COMMENT 'As the instruction states; NULL where it states none',
    fee Nullable(UInt64) COMMENT 'Raw units withheld from amount; NULL where it is not stated' CODEC(T64, ZSTD(1)),
    success Nullable(Bool) COMMENT 'Outcome of the transaction: failed transfers are kept, and moved nothing',
    INDEX by_mint mint TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_source source TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination destination TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, tx_index, path, event_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Movements of tokens by the Token programs, outer and inner';

CREATE TABLE IF NOT EXISTS balance_changes
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    account_index UInt16 COMMENT 'Place in transactions.account_keys' CODEC(T64, ZSTD(1)),
    account LowCardinality(FixedString(32)) COMMENT 'Account, raw',
    mint LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint of the tokens, raw; NULL for lamports',
    owner LowCardinality(Nullable(FixedString(32))) COMMENT 'Owner of the token account; NULL for lamports',
    decimals Nullable(UInt8) COMMENT 'Decimals of the mint; NULL for lamports',
    pre Nullable(UInt64) COMMENT 'Before; NULL when the account was no token account of that mint' CODEC(T64, ZSTD(1)),
    post Nullable(UInt64) COMMENT 'After; NULL when the account is no token account of that mint any more' CODEC(T64, ZSTD(1)),
    delta Int128 COMMENT 'After minus before, an absent side counted as nothing held' CODEC(ZSTD(1)),
    is_token Bool MATERIALIZED mint IS NOT NULL COMMENT 'Tokens, not lamports'
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (account, slot, tx_index, account_index, is_token)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Accounts whose lamports or tokens a transaction changed';

CREATE TABLE IF NOT EXISTS account_updates
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    account FixedString(32) COMMENT 'Account, raw' CODEC(ZSTD(1)),
    write_version UInt64 COMMENT 'Order of writes within the validator that observed it' CODEC(Delta, ZSTD(1)),
    tx_index Nullable(UInt32) COMMENT 'Transaction that wrote it; NULL for writes outside transactions',
    lamports UInt64 COMMENT 'Lamports after the write' CODEC(T64, ZSTD(1)),
    owner LowCardinality(FixedString(32)) COMMENT 'Owning program, raw',
    executable Bool COMMENT 'Holds a program',
    rent_epoch UInt64 COMMENT 'As recorded in the account' CODEC(ZSTD(1)),
    data String COMMENT 'Account data after the write' CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (account, slot, write_version)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every observed write of an account in confirmed blocks';

CREATE TABLE IF NOT EXISTS rewards
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    reward_index UInt32 COMMENT 'Place in the list of the block' CODEC(Delta, ZSTD(1)),
    account Nullable(FixedString(32)) COMMENT 'Credited or debited account, raw',
    lamports Int64 COMMENT 'Change in lamports' CODEC(T64, ZSTD(1)),
    post_balance UInt64 COMMENT 'Lamports after it' CODEC(T64, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'fee, rent, staking, voting, deactivated_stake, unspecified',
    commission Nullable(UInt8) COMMENT 'Vote account commission in percent',
    commission_bps Nullable(UInt16) COMMENT 'Vote account commission in basis points'
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, reward_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Balance changes outside transactions';

CREATE TABLE IF NOT EXISTS slot_status
(
    slot UInt64 COMMENT 'Slot of the block',
    blockhash FixedString(32) COMMENT 'Hash of the block, raw',
    status LowCardinality(String) COMMENT 'confirmed, finalized or abandoned',
    version UInt64 COMMENT 'Place of the news in the canonical stream: the newest counts',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the warehouse learnt it'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (slot, blockhash)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What became of every block';

CREATE TABLE IF NOT EXISTS stream_gaps
(
    first_slot UInt64 COMMENT 'First slot of the hole',
    last_slot UInt64 COMMENT 'Last slot of the hole',
    records Nullable(UInt64) COMMENT 'Records known to be missing; NULL when their number is not known',
    reason LowCardinality(String) COMMENT 'lost_at_source, missing_records, never_sealed or unknown',
    source String COMMENT 'Observer with the hole, validator/instance; empty when all have it',
    detail String COMMENT 'For people',
    partition UInt32 COMMENT 'Partition of the canonical stream that reports it',
    offset UInt64 COMMENT 'Its offset there',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When the warehouse learnt it'
)
ENGINE = ReplacingMergeTree
ORDER BY (partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Holes in the stream, with their exact extent';

CREATE TABLE IF NOT EXISTS sink_batches
(
    batch_id UInt64 COMMENT 'Number of the batch, contiguous',
    phase LowCardinality(String) COMMENT 'planned: its extent is decided; done: all of its rows are stored',
    owner String COMMENT 'The sink process that wrote it',
    partitions String COMMENT 'JSON: per partition of the canonical stream, what is applied and where to resume',
    rows UInt64 COMMENT 'Rows of all tables; 0 while planned',
    highest_slot Nullable(UInt64) COMMENT 'Highest confirmed slot in the batch',
    highest_block_time Nullable(DateTime('UTC')) COMMENT 'Newest block time in the batch',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When this row was written'
)
ENGINE = ReplacingMergeTree
ORDER BY (batch_id, phase)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The sink''s own journal: position and exactly-once replay follow from it';

CREATE TABLE IF NOT EXISTS sink_owners
(
    generation UInt64 COMMENT 'Rises with every start of a sink; the highest one may write',
    owner String COMMENT 'Random name of that process',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When it started'
)
ENGINE = ReplacingMergeTree
ORDER BY (generation, owner)
COMMENT 'Which sink process may write'
