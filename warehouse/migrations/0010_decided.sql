-- What is final, without a list of all final slots: below the sink's bound everything stored is, except what is being written
-- there just now; from it on, slots are looked up one by one. The views of final rows ask so, and are all deduplicated
-- (docs/decisions/0029).

ALTER TABLE sink_batches
    ADD COLUMN IF NOT EXISTS decided_below UInt64 DEFAULT 0 COMMENT 'Rows of slots below it are final; while planned: also while this batch is being stored',
    ADD COLUMN IF NOT EXISTS final_to String DEFAULT '{}' COMMENT 'JSON: per partition of the canonical stream, its highest final slot';

ALTER TABLE token_transfers
    ADD COLUMN IF NOT EXISTS block_time Nullable(DateTime('UTC')) COMMENT 'Time of the block; NULL where the chain states none, and in rows stored before this column' CODEC(Delta, ZSTD(1)),
    ADD INDEX IF NOT EXISTS by_time block_time TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS slots_in_work
(
    work String COMMENT 'What writes them: a piece of a backfill, a repair or a restore',
    first_slot UInt64 COMMENT 'First slot of it',
    last_slot UInt64 COMMENT 'Last slot of it',
    ended Bool COMMENT 'Whether they are whole; until then no view of final rows shows those below the bound',
    recorded_at DateTime64(3, 'UTC') COMMENT 'When this row was written'
)
ENGINE = ReplacingMergeTree(ended)
ORDER BY (work, first_slot, last_slot)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Past slots whose rows are being written';

-- Slots that an earlier release began to fill and did not end; what is near the stream's newest slot is the sink's to end.
TRUNCATE TABLE IF EXISTS slots_in_work;

INSERT INTO slots_in_work (work, first_slot, last_slot, ended, recorded_at)
SELECT 'before this table', slot, slot, false, now64(3, 'UTC')
FROM (SELECT DISTINCT slot FROM transactions WHERE slot NOT IN (SELECT slot FROM slot_status)
    AND slot + 512 < (SELECT ifNull(maxOrNull(highest_slot), 18446744073709551615) FROM sink_batches WHERE phase = 'done'));

CREATE OR REPLACE VIEW finality
COMMENT 'One row: slots below decided_below are final, as far as they are stored and not withheld'
AS SELECT argMax(decided_below, (batch_id, phase = 'done', recorded_at)) AS decided_below FROM sink_batches;

CREATE OR REPLACE VIEW slots_withheld
COMMENT 'Past slots that are being written, or whose writing broke off: warehouse-history writes them again'
AS SELECT arrayJoin(range(first_slot, last_slot + 1)) AS slot FROM slots_in_work FINAL WHERE NOT ended;

CREATE OR REPLACE VIEW finalized_lately
COMMENT 'Final slots from decided_below on'
AS SELECT slot FROM slot_status FINAL WHERE slot >= (SELECT decided_below FROM finality) AND status = 'finalized';

CREATE OR REPLACE VIEW watermark
COMMENT 'What is stored whole: the newest finished batch, the highest slot of all finished ones, and below which slot all is final'
AS SELECT
    max(batch_id) AS batch_id,
    max(highest_slot) AS highest_slot,
    max(highest_block_time) AS highest_block_time,
    max(recorded_at) AS recorded_at,
    (SELECT decided_below FROM finality) AS decided_below
FROM sink_batches
WHERE phase = 'done';

CREATE OR REPLACE VIEW blocks_finalized
COMMENT 'blocks, final and deduplicated'
AS SELECT * FROM blocks FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW transactions_finalized
COMMENT 'transactions, final and deduplicated'
AS SELECT * FROM transactions FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW instructions_finalized
COMMENT 'instructions, final and deduplicated'
AS SELECT * FROM instructions FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW token_transfers_finalized
COMMENT 'token_transfers, final and deduplicated'
AS SELECT * FROM token_transfers FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW sol_transfers_finalized
COMMENT 'sol_transfers, final and deduplicated'
AS SELECT * FROM sol_transfers FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW swaps_finalized
COMMENT 'swaps, final and deduplicated'
AS SELECT * FROM swaps FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW routes_finalized
COMMENT 'routes, final and deduplicated'
AS SELECT * FROM routes FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW balance_changes_finalized
COMMENT 'balance_changes, final and deduplicated'
AS SELECT * FROM balance_changes FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW rewards_finalized
COMMENT 'rewards, final and deduplicated'
AS SELECT * FROM rewards FINAL
WHERE (slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately);

CREATE OR REPLACE VIEW fees_and_tips
COMMENT 'What final transactions paid: for signatures, for priority, as tips; lamports'
AS SELECT slot, tx_index, block_time, fee_payer, is_vote, success, fee, base_fee, priority_fee, tip, unit_price, unit_limit, compute_units
FROM transactions_finalized;

CREATE OR REPLACE VIEW stake_events
COMMENT 'Instructions of the Stake program in final transactions that succeeded; the first account is the stake account, except where a merge names its destination first'
AS SELECT slot, tx_index, path, name, accounts[1] AS stake_account, if(name = 'delegate', accounts[2], NULL) AS vote_account, accounts
FROM instructions_with_accounts
WHERE program = base58Decode('Stake11111111111111111111111111111111111111') AND success = true
    AND ((slot < (SELECT decided_below FROM finality) AND slot NOT IN (SELECT slot FROM slots_withheld)) OR slot IN (SELECT slot FROM finalized_lately));

CREATE OR REPLACE VIEW fee_revenue_by_slot
(
    slot UInt64 COMMENT 'Slot',
    day Nullable(Date) COMMENT 'UTC day of the block; NULL when the chain states no time',
    transactions UInt64 COMMENT 'Transactions, votes and failed ones included',
    votes UInt64 COMMENT 'Simple vote transactions among them',
    failed UInt64 COMMENT 'Failed ones among them',
    fee_unknown UInt64 COMMENT 'Those of which no status, so no fee, was recorded',
    fee Nullable(UInt64) COMMENT 'Lamports that all paid; NULL when of none is known',
    vote_fee UInt64 COMMENT 'Lamports of it that votes paid',
    failed_fee UInt64 COMMENT 'Lamports of it that failed ones paid',
    base_fee Nullable(UInt64) COMMENT 'Lamports of it for signatures, where the fee comes apart',
    priority_fee Nullable(UInt64) COMMENT 'Lamports of it for priority, where the fee comes apart',
    not_apart UInt64 COMMENT 'Transactions whose fee does not come apart',
    not_apart_fee UInt64 COMMENT 'Lamports of fee that they paid: fee = base_fee + priority_fee + not_apart_fee',
    tip Nullable(UInt64) COMMENT 'Lamports to the published tip accounts of Jito; beside the fee, not in it',
    tip_unknown UInt64 COMMENT 'Transactions of which it is not known whether they tipped',
    compute_units Nullable(UInt64) COMMENT 'Compute units consumed; NULL when of none is known',
    compute_units_unknown UInt64 COMMENT 'Transactions of which they were not recorded',
    leader_fee Nullable(Int64) COMMENT 'Lamports of fees that the leader was credited, as the block''s rewards state; NULL when they state none',
    burned Nullable(Int64) COMMENT 'fee - leader_fee: lamports that ceased to be; NULL unless all fees and the reward are known. Since SIMD-0096 it is half of the base fee, priority going wholly to the leader, and before it half of all fees; but this is what the block says, not what a rule lets expect'
)
COMMENT 'Per final slot: what its transactions paid, what the leader got, what was burnt. Lamports. Put slot into WHERE to read no more than you need'
AS SELECT
    paid.slot AS slot,
    toDate(paid.block_time) AS day,
    transactions, votes, failed, fee_unknown, fee, vote_fee, failed_fee, base_fee, priority_fee, not_apart, not_apart_fee,
    tip, tip_unknown, compute_units, compute_units_unknown,
    if(credited.stated = 1, credited.lamports, NULL) AS leader_fee,
    if(fee_unknown = 0, toInt64(fee) - leader_fee, NULL) AS burned
FROM
(
    SELECT
        slot,
        any(t.block_time) AS block_time,
        count() AS transactions,
        countIf(t.is_vote) AS votes,
        countIf(t.success = false) AS failed,
        countIf(t.fee IS NULL) AS fee_unknown,
        sum(t.fee) AS fee,
        sumIf(ifNull(t.fee, 0), t.is_vote) AS vote_fee,
        sumIf(ifNull(t.fee, 0), t.success = false) AS failed_fee,
        sum(t.base_fee) AS base_fee,
        sum(t.priority_fee) AS priority_fee,
        countIf(t.fee IS NOT NULL AND t.base_fee IS NULL) AS not_apart,
        sumIf(ifNull(t.fee, 0), t.base_fee IS NULL) AS not_apart_fee,
        sum(t.tip) AS tip,
        countIf(t.tip IS NULL) AS tip_unknown,
        sum(t.compute_units) AS compute_units,
        countIf(t.compute_units IS NULL) AS compute_units_unknown
    FROM transactions_finalized AS t
    GROUP BY slot
) AS paid
LEFT JOIN
(
    SELECT slot, sum(lamports) AS lamports, 1 AS stated
    FROM rewards_finalized
    WHERE kind = 'fee'
    GROUP BY slot
) AS credited ON credited.slot = paid.slot;

CREATE OR REPLACE VIEW program_fees_by_slot
(
    slot UInt64 COMMENT 'Slot',
    day Nullable(Date) COMMENT 'UTC day of the block; NULL when the chain states no time',
    program FixedString(32) COMMENT 'Program, raw',
    transactions UInt64 COMMENT 'Transactions that call it, directly or through others; each once, however often it calls',
    failed UInt64 COMMENT 'Failed ones among them',
    fee_unknown UInt64 COMMENT 'Those of which no status, so no fee, was recorded',
    fee Nullable(UInt64) COMMENT 'Lamports that they paid; NULL when of none is known',
    priority_fee Nullable(UInt64) COMMENT 'Lamports of it for priority, where the fee comes apart',
    tip Nullable(UInt64) COMMENT 'Lamports that they tipped',
    compute_units Nullable(UInt64) COMMENT 'Compute units of the whole transactions, not of the program alone'
)
COMMENT 'Per final slot and program: the transactions that call it and what they paid. One that calls several programs counts in full for each: never add programs up. Put slot into WHERE to read no more than you need'
AS SELECT
    called.slot AS slot,
    any(toDate(t.block_time)) AS day,
    called.program AS program,
    count() AS transactions,
    countIf(t.success = false) AS failed,
    countIf(t.fee IS NULL) AS fee_unknown,
    sum(t.fee) AS fee,
    sum(t.priority_fee) AS priority_fee,
    sum(t.tip) AS tip,
    sum(t.compute_units) AS compute_units
FROM (SELECT DISTINCT slot, tx_index, program FROM instructions_finalized) AS called
INNER JOIN
(
    SELECT slot, tx_index, block_time, success, fee, priority_fee, tip, compute_units
    FROM transactions_finalized
) AS t ON t.slot = called.slot AND t.tx_index = called.tx_index
GROUP BY slot, program;

CREATE OR REPLACE VIEW leader_rewards
(
    slot UInt64 COMMENT 'Slot',
    block_time Nullable(DateTime('UTC')) COMMENT 'Time of the block; NULL when the chain states none',
    day Nullable(Date) COMMENT 'Its UTC day',
    leader Nullable(FixedString(32)) COMMENT 'Account that was credited the block''s fees, raw',
    lamports Int64 COMMENT 'Lamports credited; tips are not in it',
    post_balance UInt64 COMMENT 'Lamports the account then had'
)
COMMENT 'Fees that leaders of final blocks were credited, as the blocks'' rewards state'
AS SELECT r.slot AS slot, b.block_time AS block_time, toDate(b.block_time) AS day, r.account AS leader, r.lamports AS lamports, r.post_balance AS post_balance
FROM (SELECT * FROM rewards_finalized WHERE kind = 'fee') AS r
LEFT JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = r.slot;

CREATE OR REPLACE VIEW rewards_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    kind String COMMENT 'fee, rent, staking, voting, deactivated_stake, unspecified',
    rewards UInt64 COMMENT 'Entries',
    accounts UInt64 COMMENT 'Distinct accounts',
    lamports Int128 COMMENT 'Lamports, debits negative'
)
COMMENT 'Per UTC day and kind: balance changes outside transactions, of final blocks'
AS SELECT toDate(b.block_time) AS day, r.kind AS kind, count() AS rewards, uniqExact(r.account) AS accounts, sum(toInt128(r.lamports)) AS lamports
FROM rewards_finalized AS r
LEFT JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = r.slot
GROUP BY day, kind;

CREATE OR REPLACE VIEW balances_as_of
COMMENT 'balances_as_of(slot = N): what accounts held after the final slot N, from the newest change at or before it. account, mint (NULL: lamports) and owner, raw; decimals; balance in raw units; closed: it was closed, or is a token account of that mint no more, and balance is 0; changed_in: slot of that change. Accounts that did not change since the warehouse begins are absent: not known, which is not 0'
AS SELECT
    account,
    mint,
    newest.1 AS owner,
    newest.2 AS decimals,
    ifNull(newest.3, 0) AS balance,
    if(mint IS NULL, balance = 0, newest.3 IS NULL) AS closed,
    changed.1 AS changed_in
FROM
(
    SELECT
        account,
        mint,
        -- In a tuple, since argMax passes over NULL, and the newest state may be one.
        argMax((owner, decimals, post), (slot, phase, place)) AS newest,
        max((slot, phase, place)) AS changed
    FROM
    (
        SELECT account, mint, owner, decimals, post, slot, 1 AS phase, tx_index AS place
        FROM balance_changes_finalized
        WHERE slot <= {slot:UInt64}
        UNION ALL
        -- What a block credits outside of transactions: of stakes and votes before the first of them, of fees and rent after the last.
        -- In the very types of the other half: a cast would keep a condition on the account from its key.
        SELECT
            toLowCardinality(assumeNotNull(account)),
            CAST(NULL AS LowCardinality(Nullable(FixedString(32)))),
            CAST(NULL AS LowCardinality(Nullable(FixedString(32)))),
            CAST(NULL AS Nullable(UInt8)),
            toNullable(post_balance),
            slot,
            if(kind IN ('fee', 'rent'), 2, 0),
            reward_index
        FROM rewards_finalized
        WHERE account IS NOT NULL AND slot <= {slot:UInt64}
    )
    GROUP BY account, mint
);

CREATE OR REPLACE VIEW token_volume_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    mint Nullable(FixedString(32)) COMMENT 'Mint, raw; NULL: transfers of which the transaction names none',
    decimals Nullable(UInt8) COMMENT 'Decimals of the mint where an instruction states them; amounts are not divided by them',
    transfers UInt64 COMMENT 'Transfers between token accounts',
    transfers_unknown UInt64 COMMENT 'Those of them whose amount is not known: they are in no sum',
    transferred UInt128 COMMENT 'Raw units transferred',
    withheld UInt128 COMMENT 'Raw units of it withheld as transfer fees, where known',
    mints UInt64 COMMENT 'Times tokens were minted',
    mints_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    minted UInt128 COMMENT 'Raw units minted',
    burns UInt64 COMMENT 'Times tokens were burnt',
    burns_unknown UInt64 COMMENT 'Those of them whose amount is not known',
    burned UInt128 COMMENT 'Raw units burnt',
    net_minted Int256 COMMENT 'minted - burned',
    others UInt64 COMMENT 'Other movements: closed accounts, wrapped SOL synchronised, withheld fees withdrawn, confidential ones'
)
COMMENT 'Per UTC day and mint: tokens moved by the Token programs in final transactions that succeeded. Raw units'
AS SELECT
    t.day AS day,
    t.mint AS mint,
    max(t.decimals) AS decimals,
    countIf(is_transfer) AS transfers,
    countIf(is_transfer AND t.amount IS NULL) AS transfers_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_transfer) AS transferred,
    sumIf(toUInt128(ifNull(t.fee, 0)), is_transfer) AS withheld,
    countIf(is_mint) AS mints,
    countIf(is_mint AND t.amount IS NULL) AS mints_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_mint) AS minted,
    countIf(is_burn) AS burns,
    countIf(is_burn AND t.amount IS NULL) AS burns_unknown,
    sumIf(toUInt128(ifNull(t.amount, 0)), is_burn) AS burned,
    toInt256(minted) - toInt256(burned) AS net_minted,
    countIf(NOT (is_transfer OR is_mint OR is_burn)) AS others
FROM
(
    SELECT
        toDate(block_time) AS day, mint, decimals, amount, fee,
        kind IN ('transfer', 'transfer_checked', 'transfer_checked_with_fee') AS is_transfer,
        kind IN ('mint_to', 'mint_to_checked') AS is_mint,
        kind IN ('burn', 'burn_checked', 'permissioned_burn', 'permissioned_burn_checked') AS is_burn
    FROM
    (
        SELECT block_time, mint, decimals, amount, fee, kind
        FROM token_transfers_finalized
        WHERE success = true AND block_time IS NOT NULL
        UNION ALL
        -- Rows of before the column was there, and of blocks without a time.
        SELECT b.block_time, u.mint, u.decimals, u.amount, u.fee, u.kind
        FROM (SELECT * FROM token_transfers_finalized WHERE success = true AND block_time IS NULL) AS u
        LEFT JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = u.slot
    )
) AS t
GROUP BY day, mint;
