-- What is known of mints and programs: their own statements, a row each, and the newest of everything in two views. And decimals
-- beside every amount, from the transaction itself, so that no pair depends on a mint that was never written while somebody looked.

CREATE TABLE IF NOT EXISTS mint_states
(
    mint FixedString(32) COMMENT 'Mint, raw' CODEC(ZSTD(1)),
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index Nullable(UInt32) COMMENT 'Transaction in the block; NULL for writes outside transactions' CODEC(T64, ZSTD(1)),
    path Nullable(UInt32) COMMENT 'Instruction in the transaction, as in instructions.path; NULL for accounts' CODEC(T64, ZSTD(1)),
    event_index UInt16 COMMENT 'Place within a batch instruction, else 0' CODEC(T64, ZSTD(1)),
    write_version Nullable(UInt64) COMMENT 'Order of writes within the validator that observed it; NULL for instructions' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'account: the mint''s account after a write; metaplex: its account of Metaplex''s Token Metadata program after a write; instruction: one of a transaction that succeeded',
    instruction LowCardinality(String) COMMENT 'Its name, as in instructions.name, or create_metadata_account, _v2, _v3 and create of Metaplex''s program; empty for accounts',
    states Array(LowCardinality(String)) COMMENT 'Columns that this row states; NULL in one of them means that there is none, NULL elsewhere that it is not told. transfer_fee stands for the three of that name' CODEC(ZSTD(1)),
    program LowCardinality(Nullable(FixedString(32))) COMMENT 'Token or Token-2022, raw; NULL where Metaplex''s program states it',
    decimals Nullable(UInt8) COMMENT 'Decimals',
    supply Nullable(UInt64) COMMENT 'Raw units in existence after the write' CODEC(T64, ZSTD(1)),
    mint_authority LowCardinality(Nullable(FixedString(32))) COMMENT 'May mint, raw',
    freeze_authority LowCardinality(Nullable(FixedString(32))) COMMENT 'May freeze token accounts, raw',
    close_authority LowCardinality(Nullable(FixedString(32))) COMMENT 'May close the mint, raw (Token-2022)',
    permanent_delegate LowCardinality(Nullable(FixedString(32))) COMMENT 'May move and burn everybody''s tokens, raw (Token-2022)',
    transfer_hook LowCardinality(Nullable(FixedString(32))) COMMENT 'Program that every transfer calls, raw (Token-2022)',
    transfer_fee_basis_points Nullable(UInt16) COMMENT 'Transfer fee that was set last, in 1/10,000 of the amount (Token-2022)',
    transfer_fee_maximum Nullable(UInt64) COMMENT 'The most that it takes of a transfer, raw units' CODEC(T64, ZSTD(1)),
    transfer_fee_epoch Nullable(UInt64) COMMENT 'Epoch from which on it holds; instructions do not tell it' CODEC(T64, ZSTD(1)),
    extensions Array(UInt16) COMMENT 'Extensions of Token-2022, as its ExtensionType numbers them: 1 transfer fee, 3 close authority, 4 confidential transfers, 6 state of new accounts, 9 non-transferable, 10 interest, 12 permanent delegate, 14 transfer hook, 18 metadata pointer, 19 metadata, 25 scaled amounts, 26 pausable, …' CODEC(ZSTD(1)),
    name Nullable(String) COMMENT 'Name; anybody may give any name to a mint of theirs' CODEC(ZSTD(1)),
    symbol Nullable(String) COMMENT 'Symbol; anybody''s choice too' CODEC(ZSTD(1)),
    uri Nullable(String) COMMENT 'Where more is said, outside the chain' CODEC(ZSTD(1)),
    metadata_authority LowCardinality(Nullable(FixedString(32))) COMMENT 'May change name, symbol and uri, raw',
    metadata_mutable Nullable(Bool) COMMENT 'Whether Metaplex''s program lets it',
    decoder_version UInt16 COMMENT 'Version of what read it: for instructions, the program''s decoder' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (mint, slot, source, ifNull(tx_index, 4294967295), ifNull(path, 0), event_index, ifNull(write_version, 0))
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What accounts and instructions state of mints, a row per statement; the view mints has the newest';

CREATE TABLE IF NOT EXISTS program_states
(
    account FixedString(32) COMMENT 'Account that it is about, raw: programdata of the upgradeable loader, else the program itself' CODEC(ZSTD(1)),
    slot UInt64 COMMENT 'Slot of the block' CODEC(Delta, ZSTD(1)),
    tx_index Nullable(UInt32) COMMENT 'Transaction in the block; NULL for writes outside transactions' CODEC(T64, ZSTD(1)),
    path Nullable(UInt32) COMMENT 'Instruction in the transaction, as in instructions.path; NULL for accounts' CODEC(T64, ZSTD(1)),
    write_version Nullable(UInt64) COMMENT 'Order of writes within the validator that observed it; NULL for instructions' CODEC(Delta, ZSTD(1)),
    source LowCardinality(String) COMMENT 'account: the account after a write; instruction: one of a transaction that succeeded',
    instruction LowCardinality(String) COMMENT 'Its name, as in instructions.name: deploy_with_max_data_len, upgrade, extend_program, set_authority, set_authority_checked (of buffers too), close; empty for accounts',
    states Array(LowCardinality(String)) COMMENT 'Columns that this row states; NULL in one of them means that there is none, NULL elsewhere that it is not told' CODEC(ZSTD(1)),
    loader LowCardinality(FixedString(32)) COMMENT 'Loader that owns it, raw',
    program LowCardinality(Nullable(FixedString(32))) COMMENT 'Program, raw; NULL where only its programdata is named',
    programdata LowCardinality(Nullable(FixedString(32))) COMMENT 'Account with code and settings, raw; NULL for loaders without such',
    deployed_slot Nullable(UInt64) COMMENT 'Slot that the code is of: of the last deployment, upgrade or extension as the account states it' CODEC(T64, ZSTD(1)),
    upgrade_authority LowCardinality(Nullable(FixedString(32))) COMMENT 'May replace the code, raw',
    data_length Nullable(UInt64) COMMENT 'Bytes for code, without the header' CODEC(T64, ZSTD(1)),
    closed Nullable(Bool) COMMENT 'Closed, or retracted, of loader v4',
    decoder_version UInt16 COMMENT 'Version of what read it: for instructions, the program''s decoder' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY intDiv(slot, 432000)
ORDER BY (account, slot, source, ifNull(tx_index, 4294967295), ifNull(path, 0), ifNull(write_version, 0))
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What accounts and instructions state of deployed programs, a row per statement, never the code; the view programs has the newest';

ALTER TABLE swaps
    ADD COLUMN IF NOT EXISTS decimals_in Nullable(UInt8) COMMENT 'Decimals of mint_in, as the transaction tells them; NULL where it does not' AFTER mint_out,
    ADD COLUMN IF NOT EXISTS decimals_out Nullable(UInt8) COMMENT 'Decimals of mint_out, as the transaction tells them; NULL where it does not' AFTER decimals_in;

ALTER TABLE routes
    ADD COLUMN IF NOT EXISTS decimals_in Nullable(UInt8) COMMENT 'Decimals of mint_in, as the transaction tells them; NULL where it does not' AFTER mint_out,
    ADD COLUMN IF NOT EXISTS decimals_out Nullable(UInt8) COMMENT 'Decimals of mint_out, as the transaction tells them; NULL where it does not' AFTER decimals_in;

ALTER TABLE token_transfers COMMENT COLUMN IF EXISTS decimals 'Of the mint: as the instruction states, else as the transaction tells otherwise, by its token balances or another instruction; NULL where nothing does';

CREATE OR REPLACE VIEW swaps_finalized
COMMENT 'swaps, final and deduplicated'
AS SELECT * FROM swaps FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW routes_finalized
COMMENT 'routes, final and deduplicated'
AS SELECT * FROM routes FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW mints
(
    mint FixedString(32) COMMENT 'Mint, raw',
    program Nullable(FixedString(32)) COMMENT 'Token or Token-2022, raw',
    decimals Nullable(UInt8) COMMENT 'Decimals',
    supply Nullable(UInt64) COMMENT 'Raw units, after the newest observed write of the account',
    supply_slot Nullable(UInt64) COMMENT 'Slot of that write',
    mint_authority Nullable(FixedString(32)) COMMENT 'May mint, raw',
    freeze_authority Nullable(FixedString(32)) COMMENT 'May freeze token accounts, raw',
    close_authority Nullable(FixedString(32)) COMMENT 'May close the mint, raw',
    permanent_delegate Nullable(FixedString(32)) COMMENT 'May move and burn everybody''s tokens, raw',
    transfer_hook Nullable(FixedString(32)) COMMENT 'Program that every transfer calls, raw',
    transfer_fee_basis_points Nullable(UInt16) COMMENT 'Transfer fee that was set last, in 1/10,000 of the amount',
    transfer_fee_maximum Nullable(UInt64) COMMENT 'The most that it takes of a transfer, raw units',
    transfer_fee_epoch Nullable(UInt64) COMMENT 'Epoch from which on it holds; NULL where no account told it',
    extensions Array(UInt16) COMMENT 'Extensions of Token-2022 by number, as in mint_states',
    metadata_source Nullable(String) COMMENT 'Where name, symbol and uri are from: mint, its own metadata (Token-2022); metaplex; NULL: none was seen',
    name Nullable(String) COMMENT 'Name; no proof of anything',
    symbol Nullable(String) COMMENT 'Symbol; no proof of anything',
    uri Nullable(String) COMMENT 'Where more is said, outside the chain',
    metadata_authority Nullable(FixedString(32)) COMMENT 'May change these three, raw',
    metadata_mutable Nullable(Bool) COMMENT 'Whether Metaplex''s program lets it',
    known Array(String) COMMENT 'Columns that something stated: NULL in one of them means that there is none, NULL elsewhere that it is not known',
    slot UInt64 COMMENT 'Slot of the newest statement'
)
COMMENT 'The newest that is known of every mint, each column by itself, from confirmed blocks. Of mints that were neither written nor initialized since the warehouse begins there is no row. Put mint into WHERE: it is the key'
AS SELECT
    mint,
    any(t.program) AS program,
    argMaxIf(tuple(t.decimals), place, has(states, 'decimals')).1 AS decimals,
    argMaxIf(tuple(t.supply), place, has(states, 'supply')).1 AS supply,
    maxIf(toNullable(t.slot), has(states, 'supply')) AS supply_slot,
    argMaxIf(tuple(t.mint_authority), place, has(states, 'mint_authority')).1 AS mint_authority,
    argMaxIf(tuple(t.freeze_authority), place, has(states, 'freeze_authority')).1 AS freeze_authority,
    argMaxIf(tuple(t.close_authority), place, has(states, 'close_authority')).1 AS close_authority,
    argMaxIf(tuple(t.permanent_delegate), place, has(states, 'permanent_delegate')).1 AS permanent_delegate,
    argMaxIf(tuple(t.transfer_hook), place, has(states, 'transfer_hook')).1 AS transfer_hook,
    argMaxIf((t.transfer_fee_basis_points, t.transfer_fee_maximum, t.transfer_fee_epoch), place, has(states, 'transfer_fee')) AS fee,
    fee.1 AS transfer_fee_basis_points,
    fee.2 AS transfer_fee_maximum,
    fee.3 AS transfer_fee_epoch,
    argMaxIf(t.extensions, place, has(states, 'extensions')) AS extensions,
    multiIf(countIf(own AND has(states, 'name')) > 0, 'mint', countIf(NOT own) > 0, 'metaplex', NULL) AS metadata_source,
    -- What the mint says of itself goes before what Metaplex's account says.
    argMaxIf(tuple(t.name), (own, place), has(states, 'name')).1 AS name,
    argMaxIf(tuple(t.symbol), (own, place), has(states, 'symbol')).1 AS symbol,
    argMaxIf(tuple(t.uri), (own, place), has(states, 'uri')).1 AS uri,
    argMaxIf(tuple(t.metadata_authority), (own, place), has(states, 'metadata_authority')).1 AS metadata_authority,
    argMaxIf(tuple(t.metadata_mutable), place, has(states, 'metadata_mutable')).1 AS metadata_mutable,
    arraySort(groupUniqArrayArray(states)) AS known,
    max(t.slot) AS slot
FROM
(
    -- After its transaction an account is as its write says, whatever the instructions said before.
    SELECT *, program IS NOT NULL AS own,
        (slot, ifNull(tx_index, 4294967295), source != 'instruction', ifNull(write_version, 0), ifNull(path, 0), event_index) AS place
    FROM mint_states
) AS t
GROUP BY mint;

CREATE OR REPLACE VIEW programs
(
    program FixedString(32) COMMENT 'Program, raw',
    program_base58 String COMMENT 'Program as people write it',
    name Nullable(String) COMMENT 'Name under which the warehouse decodes its instructions; NULL for programs without a decoder',
    loader FixedString(32) COMMENT 'Loader that owns it, raw',
    programdata Nullable(FixedString(32)) COMMENT 'Account with code and settings, raw; NULL for loaders without such',
    deployed_slot Nullable(UInt64) COMMENT 'Slot of the last known deployment or upgrade, or of an extension as the account states it',
    upgrade_authority Nullable(FixedString(32)) COMMENT 'May replace the code, raw',
    data_length Nullable(UInt64) COMMENT 'Bytes for code, without the header',
    closed Nullable(Bool) COMMENT 'Closed, or retracted, of loader v4; NULL when not known',
    known Array(String) COMMENT 'Columns that something stated: NULL in one of them means that there is none, NULL elsewhere that it is not known',
    slot UInt64 COMMENT 'Slot of the newest statement'
)
COMMENT 'The newest that is known of every program, each column by itself, from confirmed blocks. Of programs that were neither written, deployed nor upgraded since the warehouse begins there is no row'
AS SELECT
    assumeNotNull(any(t.program)) AS program,
    base58Encode(program) AS program_base58,
    -- Names of warehouse/src/decode/programs.rs.
    transform(program_base58, ['11111111111111111111111111111111', 'TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA', 'TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb', 'ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL', 'Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo', 'MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr', 'Memo4c2pN8afCj432Lb7RMVKi9PbQnnW7ewFFaV3oAH', 'Stake11111111111111111111111111111111111111', 'Vote111111111111111111111111111111111111111', 'ComputeBudget111111111111111111111111111111', 'AddressLookupTab1e1111111111111111111111111', 'BPFLoaderUpgradeab1e11111111111111111111111', 'JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4', '675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8', 'CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C', 'CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK', 'whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc', 'LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo', 'Eo7WjKq67rjJQSZxS6z3YkapzY3eMj6Xy8X5EQVn5UaB', 'cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG', '6EF8rrecthR5Dkzon8Nwu78hRvfCKubJ14M5uBEwF6P', 'pAMMBay6oceH9fJKBRHGP5D4bD4sWpmSwMn52FMfXEA'],
        ['system', 'token', 'token_2022', 'associated_token', 'memo_1', 'memo_3', 'memo_4', 'stake', 'vote', 'compute_budget', 'address_lookup_table', 'loader_upgradeable', 'jupiter', 'raydium_amm', 'raydium_cpmm', 'raydium_clmm', 'whirlpool', 'meteora_dlmm', 'meteora_damm_1', 'meteora_damm_2', 'pump_fun', 'pump_swap'], NULL) AS name,
    any(t.loader) AS loader,
    any(t.programdata) AS programdata,
    argMaxIf(tuple(t.deployed_slot), place, has(states, 'deployed_slot')).1 AS deployed_slot,
    argMaxIf(tuple(t.upgrade_authority), place, has(states, 'upgrade_authority')).1 AS upgrade_authority,
    argMaxIf(tuple(t.data_length), place, has(states, 'data_length')).1 AS data_length,
    argMaxIf(tuple(t.closed), place, has(states, 'closed')).1 AS closed,
    arraySort(groupUniqArrayArray(states)) AS known,
    max(t.slot) AS slot
FROM
(
    SELECT *, (slot, ifNull(tx_index, 4294967295), source != 'instruction', ifNull(write_version, 0), ifNull(path, 0)) AS place
    FROM program_states
) AS t
GROUP BY account
HAVING countIf(t.program IS NOT NULL) > 0
