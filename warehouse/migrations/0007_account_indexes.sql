-- The accounts of an instruction are among its transaction's keys: places in that list take a tenth of what keys take.

ALTER TABLE instructions
    ADD COLUMN IF NOT EXISTS account_indexes Array(UInt8) COMMENT 'Accounts passed, as places in transactions.account_keys, from 0; a place beyond the list is of an account that is not known. instructions_with_accounts has the keys' CODEC(ZSTD(1)) AFTER data;

ALTER TABLE instructions COMMENT COLUMN IF EXISTS accounts 'Of rows stored before account_indexes: accounts passed, raw; else empty';

CREATE OR REPLACE VIEW instructions_with_accounts
COMMENT 'instructions with the keys of the accounts passed, raw; NULL for one that is not known. Give a range of slots: keys are in transactions'
AS SELECT
    i.slot AS slot,
    i.tx_index AS tx_index,
    i.path AS path,
    i.outer_index AS outer_index,
    i.inner_index AS inner_index,
    i.stack_height AS stack_height,
    i.program AS program,
    i.discriminator AS discriminator,
    i.data AS data,
    if(empty(i.accounts),
        arrayMap(place -> if(place < length(t.account_keys), toNullable(toFixedString(t.account_keys[place + 1], 32)), NULL), i.account_indexes),
        arrayMap(account -> toNullable(toFixedString(account, 32)), i.accounts)) AS accounts,
    i.success AS success,
    i.name AS name,
    i.outcome AS outcome,
    i.decoder_version AS decoder_version,
    i.arguments AS arguments,
    i.idl AS idl
FROM (SELECT slot, tx_index, account_keys FROM transactions FINAL) AS t
INNER JOIN (SELECT *, outer_index, inner_index FROM instructions FINAL) AS i
    ON t.slot = i.slot AND t.tx_index = i.tx_index;

CREATE OR REPLACE VIEW stake_events
COMMENT 'Instructions of the Stake program in final transactions that succeeded; the first account is the stake account, except where a merge names its destination first'
AS SELECT slot, tx_index, path, name, accounts[1] AS stake_account, if(name = 'delegate', accounts[2], NULL) AS vote_account, accounts
FROM instructions_with_accounts
WHERE program = base58Decode('Stake11111111111111111111111111111111111111') AND success = true AND slot IN (SELECT slot FROM finalized_slots);
