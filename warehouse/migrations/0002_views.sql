-- Finalized-only views, the newest state of accounts, and the watermark.

CREATE VIEW IF NOT EXISTS finalized_slots
COMMENT 'Slots whose block is final'
AS SELECT slot, blockhash FROM slot_status FINAL WHERE status = 'finalized';

CREATE VIEW IF NOT EXISTS blocks_finalized
COMMENT 'blocks, final ones only'
AS SELECT * FROM blocks WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS transactions_finalized
COMMENT 'transactions, final ones only'
AS SELECT * FROM transactions WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS instructions_finalized
COMMENT 'instructions, final ones only'
AS SELECT * FROM instructions WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS token_transfers_finalized
COMMENT 'token_transfers, final ones only'
AS SELECT * FROM token_transfers WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS balance_changes_finalized
COMMENT 'balance_changes, final ones only'
AS SELECT * FROM balance_changes WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS rewards_finalized
COMMENT 'rewards, final ones only'
AS SELECT * FROM rewards WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE VIEW IF NOT EXISTS accounts_latest
COMMENT 'The newest confirmed state of every account seen'
AS SELECT
    account,
    max((slot, write_version)) AS at,
    argMax(lamports, (slot, write_version)) AS lamports,
    argMax(owner, (slot, write_version)) AS owner,
    argMax(executable, (slot, write_version)) AS executable,
    argMax(rent_epoch, (slot, write_version)) AS rent_epoch,
    argMax(data, (slot, write_version)) AS data
FROM account_updates
GROUP BY account;

CREATE VIEW IF NOT EXISTS watermark
COMMENT 'What is stored whole: the newest finished batch and the highest slot of all finished ones'
AS SELECT
    max(batch_id) AS batch_id,
    max(highest_slot) AS highest_slot,
    max(highest_block_time) AS highest_block_time,
    max(recorded_at) AS recorded_at
FROM sink_batches
WHERE phase = 'done'
