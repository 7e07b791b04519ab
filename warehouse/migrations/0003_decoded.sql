-- What the decoders say. Rows of earlier versions keep what they have: an unknown outcome, decoder version 0.

ALTER TABLE transactions
    ADD COLUMN IF NOT EXISTS base_fee Nullable(UInt64) COMMENT 'Lamports of fee for signatures; NULL when the fee does not come apart' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS priority_fee Nullable(UInt64) COMMENT 'Lamports of fee for priority, price x limit rounded up as the runtime does, and equal to fee - base_fee; NULL when the fee does not come apart' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS tip Nullable(UInt64) COMMENT 'Lamports to the published tip accounts of Jito, of a transaction that succeeded; NULL when inner instructions are not recorded' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unit_price Nullable(UInt64) COMMENT 'Micro-lamports per compute unit as requested; NULL when not requested' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unit_limit Nullable(UInt32) COMMENT 'Compute units as requested; NULL when not requested' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS heap_bytes Nullable(UInt32) COMMENT 'Heap as requested; NULL when not requested' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS loaded_accounts_bytes Nullable(UInt32) COMMENT 'Limit of account data loaded, as requested; NULL when not requested' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS token_identity LowCardinality(String) DEFAULT 'unknown' COMMENT 'exact: movements explain every token balance; unknown: not decidable; broken: they do not',
    ADD COLUMN IF NOT EXISTS token_identity_reason LowCardinality(String) DEFAULT 'stored by an earlier version' COMMENT 'Why it is not exact; empty when it is';

ALTER TABLE instructions
    ADD COLUMN IF NOT EXISTS name LowCardinality(String) DEFAULT '' COMMENT 'Instruction as jsonParsed or the program''s IDL calls it, in snake case; empty when not decoded',
    ADD COLUMN IF NOT EXISTS outcome LowCardinality(String) DEFAULT 'not_tried' COMMENT 'decoded; unknown: the program is known, the instruction is not; malformed: data or accounts too short; foreign: no decoder for the program; not_tried: stored by an earlier version',
    ADD COLUMN IF NOT EXISTS decoder_version UInt16 DEFAULT 0 COMMENT 'Version of the program''s decoder; 0 without one' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS arguments String DEFAULT '' COMMENT 'Of instructions read through an IDL: arguments as JSON, integers of 64 bits and more as strings; else empty' CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS idl LowCardinality(String) DEFAULT '' COMMENT 'Of instructions read through an IDL: first eight digits of the file''s SHA-256; else empty';

ALTER TABLE token_transfers
    ADD COLUMN IF NOT EXISTS decoder_version UInt16 DEFAULT 0 COMMENT 'Version of the program''s decoder; 0 in rows of earlier versions' CODEC(T64, ZSTD(1));

ALTER TABLE token_transfers COMMENT COLUMN IF EXISTS kind 'transfer, transfer_checked, transfer_checked_with_fee, mint_to, mint_to_checked, burn, burn_checked, permissioned_burn and its kin, withdraw_withheld_from_mint, withdraw_withheld_from_accounts, harvest_withheld_tokens_to_mint, close_account, sync_native, unwrap_lamports, deposit_/withdraw_confidential_transfer, and confidential kinds, whose amounts nobody but the parties knows';

ALTER TABLE token_transfers COMMENT COLUMN IF EXISTS amount 'Raw units; where the instruction states none: what the balances tell without ambiguity, else NULL';

ALTER TABLE token_transfers COMMENT COLUMN IF EXISTS fee 'Raw units withheld from amount; where the instruction states none: what the balances tell without ambiguity, else NULL';

CREATE TABLE IF NOT EXISTS sol_transfers
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    path UInt32 COMMENT 'Instruction in the transaction, as in instructions.path' CODEC(Delta, ZSTD(1)),
    event_index UInt16 COMMENT 'Place within a batch instruction, else 0' CODEC(T64, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'transfer, transfer_with_seed, create_account and its kin, withdraw_from_nonce, stake_split, stake_withdraw, stake_merge, move_stake, move_stake_lamports, vote_withdraw, close_account, close_lookup_table, close_program_account, unwrap_lamports, withdraw_excess_lamports',
    program LowCardinality(FixedString(32)) COMMENT 'Program that moves them, raw',
    source LowCardinality(Nullable(FixedString(32))) COMMENT 'Account debited, raw; NULL when not among the known keys',
    destination LowCardinality(Nullable(FixedString(32))) COMMENT 'Account credited, raw; NULL when not among the known keys',
    lamports Nullable(UInt64) COMMENT 'As the instruction states; where it states none: what the balances tell without ambiguity, else NULL' CODEC(T64, ZSTD(1)),
    stated Bool COMMENT 'Whether the instruction itself states the amount',
    success Nullable(Bool) COMMENT 'Outcome of the transaction: failed transfers are kept, and moved nothing',
    decoder_version UInt16 COMMENT 'Version of the program''s decoder' CODEC(T64, ZSTD(1)),
    INDEX by_source source TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination destination TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, tx_index, path, event_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Movements of lamports by instructions, outer and inner; what programs move of their own accounts without a call shows in balance_changes only';

CREATE TABLE IF NOT EXISTS swaps
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    path UInt32 COMMENT 'Instruction in the transaction, as in instructions.path' CODEC(Delta, ZSTD(1)),
    event_index UInt16 COMMENT 'Among the swaps of one instruction' CODEC(T64, ZSTD(1)),
    block_time Nullable(DateTime('UTC')) COMMENT 'Time of the block' CODEC(Delta, ZSTD(1)),
    program LowCardinality(FixedString(32)) COMMENT 'Exchange, raw',
    protocol LowCardinality(String) COMMENT 'Its name: raydium_amm, raydium_cpmm, raydium_clmm, whirlpool, meteora_dlmm, meteora_damm_1, meteora_damm_2, pump_fun, pump_swap',
    pool LowCardinality(FixedString(32)) COMMENT 'Pool or bonding curve, raw',
    user LowCardinality(Nullable(FixedString(32))) COMMENT 'Authority of the swap, raw: the trader, or a router acting for one',
    mint_in LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint the pool gained, raw; wrapped SOL for lamports; NULL when the transaction does not tell',
    mint_out LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint the pool lost, raw; wrapped SOL for lamports; NULL when the transaction does not tell',
    amount_in Nullable(UInt64) COMMENT 'Raw units the pool gained; NULL when the transaction does not tell' CODEC(T64, ZSTD(1)),
    amount_out Nullable(UInt64) COMMENT 'Raw units the pool lost; NULL when the transaction does not tell' CODEC(T64, ZSTD(1)),
    evidence LowCardinality(String) COMMENT 'transfers_and_event: both agree; transfers: no event recorded; event: lamports without a transfer; mismatch: they differ, the amounts are the transfers''; none',
    success Nullable(Bool) COMMENT 'Outcome of the transaction: swaps of failed ones are kept, and moved nothing',
    decoder_version UInt16 COMMENT 'Version of the program''s decoder' CODEC(T64, ZSTD(1)),
    INDEX by_slot slot TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (pool, slot, tx_index, path, event_index)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Swaps with pools, the legs of routes among them; amounts are the pool''s side';

CREATE TABLE IF NOT EXISTS routes
(
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index UInt32 COMMENT 'Transaction in the block' CODEC(Delta, ZSTD(1)),
    path UInt32 COMMENT 'Instruction in the transaction, as in instructions.path; its legs are the swaps beneath it' CODEC(Delta, ZSTD(1)),
    block_time Nullable(DateTime('UTC')) COMMENT 'Time of the block' CODEC(Delta, ZSTD(1)),
    program LowCardinality(FixedString(32)) COMMENT 'Aggregator, raw',
    protocol LowCardinality(String) COMMENT 'Its name: jupiter',
    user LowCardinality(Nullable(FixedString(32))) COMMENT 'Who swaps, raw',
    mint_in LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint given, raw; NULL when the transaction does not tell',
    mint_out LowCardinality(Nullable(FixedString(32))) COMMENT 'Mint got, raw; NULL when the transaction does not tell',
    amount_in Nullable(UInt64) COMMENT 'Raw units given; NULL when the transaction does not tell' CODEC(T64, ZSTD(1)),
    amount_out Nullable(UInt64) COMMENT 'Raw units got; NULL when the transaction does not tell' CODEC(T64, ZSTD(1)),
    evidence LowCardinality(String) COMMENT 'transfers_and_event, transfers, mismatch (fees on the way, or a circle back to the same mint) or none, as in swaps',
    success Nullable(Bool) COMMENT 'Outcome of the transaction: routes of failed ones are kept, and moved nothing',
    decoder_version UInt16 COMMENT 'Version of the program''s decoder' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (slot, tx_index, path)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What users of aggregators gave and got; never add these to swaps, whose rows are the legs';
