-- What reports are made from: fees, revenue, volumes, balances. Final slots only, deduplicated, recomputed on every read
-- (docs/decisions/0023). Integers are raw. Sums are of what is known; what is not is counted beside them, and NULL is no zero.
-- A slot of which the chain states no time is in the row whose day is NULL.

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
    FROM transactions AS t FINAL
    WHERE slot IN (SELECT slot FROM finalized_slots)
    GROUP BY slot
) AS paid
LEFT JOIN
(
    SELECT slot, sum(lamports) AS lamports, 1 AS stated
    FROM rewards FINAL
    WHERE kind = 'fee' AND slot IN (SELECT slot FROM finalized_slots)
    GROUP BY slot
) AS credited ON credited.slot = paid.slot;

CREATE OR REPLACE VIEW fee_revenue_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    blocks UInt64 COMMENT 'Final blocks with transactions',
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
    leader_fee Nullable(Int64) COMMENT 'Lamports of fees that leaders were credited, as the blocks'' rewards state',
    burned Nullable(Int64) COMMENT 'Lamports of fees that ceased to be, of the blocks whose fees and reward are known',
    unsettled_blocks UInt64 COMMENT 'Blocks of which burned is not known'
)
COMMENT 'Per UTC day: what final transactions paid, what leaders got, what was burnt. Lamports. Reads all slots; a range of them is cheaper from fee_revenue_by_slot'
AS SELECT
    day,
    count() AS blocks,
    sum(s.transactions) AS transactions,
    sum(s.votes) AS votes,
    sum(s.failed) AS failed,
    sum(s.fee_unknown) AS fee_unknown,
    sum(s.fee) AS fee,
    sum(s.vote_fee) AS vote_fee,
    sum(s.failed_fee) AS failed_fee,
    sum(s.base_fee) AS base_fee,
    sum(s.priority_fee) AS priority_fee,
    sum(s.not_apart) AS not_apart,
    sum(s.not_apart_fee) AS not_apart_fee,
    sum(s.tip) AS tip,
    sum(s.tip_unknown) AS tip_unknown,
    sum(s.compute_units) AS compute_units,
    sum(s.compute_units_unknown) AS compute_units_unknown,
    sum(s.leader_fee) AS leader_fee,
    sum(s.burned) AS burned,
    countIf(s.burned IS NULL) AS unsettled_blocks
FROM fee_revenue_by_slot AS s
GROUP BY day;

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
FROM (SELECT DISTINCT slot, tx_index, program FROM instructions FINAL WHERE slot IN (SELECT slot FROM finalized_slots)) AS called
INNER JOIN
(
    SELECT slot, tx_index, block_time, success, fee, priority_fee, tip, compute_units
    FROM transactions FINAL
    WHERE slot IN (SELECT slot FROM finalized_slots)
) AS t ON t.slot = called.slot AND t.tx_index = called.tx_index
GROUP BY slot, program;

CREATE OR REPLACE VIEW program_fees_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    program FixedString(32) COMMENT 'Program, raw',
    program_base58 String COMMENT 'Program as people write it',
    transactions UInt64 COMMENT 'Transactions that call it, directly or through others; each once, however often it calls',
    failed UInt64 COMMENT 'Failed ones among them',
    fee_unknown UInt64 COMMENT 'Those of which no status, so no fee, was recorded',
    fee Nullable(UInt64) COMMENT 'Lamports that they paid; NULL when of none is known',
    priority_fee Nullable(UInt64) COMMENT 'Lamports of it for priority, where the fee comes apart',
    tip Nullable(UInt64) COMMENT 'Lamports that they tipped',
    compute_units Nullable(UInt64) COMMENT 'Compute units of the whole transactions, not of the program alone'
)
COMMENT 'Per UTC day and program: final transactions that call it and what they paid. One that calls several programs counts in full for each: never add programs up. Reads all slots; a range of them is cheaper from program_fees_by_slot'
AS SELECT
    day,
    program,
    base58Encode(program) AS program_base58,
    sum(s.transactions) AS transactions,
    sum(s.failed) AS failed,
    sum(s.fee_unknown) AS fee_unknown,
    sum(s.fee) AS fee,
    sum(s.priority_fee) AS priority_fee,
    sum(s.tip) AS tip,
    sum(s.compute_units) AS compute_units
FROM program_fees_by_slot AS s
GROUP BY day, program;

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
    toDate(b.block_time) AS day,
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
        slot, mint, decimals, amount, fee,
        kind IN ('transfer', 'transfer_checked', 'transfer_checked_with_fee') AS is_transfer,
        kind IN ('mint_to', 'mint_to_checked') AS is_mint,
        kind IN ('burn', 'burn_checked', 'permissioned_burn', 'permissioned_burn_checked') AS is_burn
    FROM token_transfers FINAL
    WHERE success = true AND slot IN (SELECT slot FROM finalized_slots)
) AS t
LEFT JOIN (SELECT slot, block_time FROM blocks FINAL) AS b ON b.slot = t.slot
GROUP BY day, mint;

CREATE OR REPLACE VIEW swap_volume_daily
(
    day Nullable(Date) COMMENT 'UTC day; NULL: blocks of which the chain states no time',
    protocol String COMMENT 'Exchange',
    base_mint Nullable(FixedString(32)) COMMENT 'Mint that is traded, raw; NULL in the row of untold swaps',
    quote_mint Nullable(FixedString(32)) COMMENT 'Mint it is paid in, raw: USDC, else USDT, else SOL, else the greater key; NULL in the row of untold swaps',
    trades UInt64 COMMENT 'Swaps with both amounts known',
    buys UInt64 COMMENT 'Those in which the user got base',
    base_volume UInt128 COMMENT 'Raw units of base',
    quote_volume UInt128 COMMENT 'Raw units of quote',
    users UInt64 COMMENT 'Distinct authorities of the swaps; a router that acts for many is one',
    untold UInt64 COMMENT 'Swaps of which the transaction does not tell mints or amounts, or that moved nothing: in no volume'
)
COMMENT 'Per UTC day, exchange and pair: final swaps of successful transactions. Raw units of the pools'' side. Legs of routes are swaps: a route over two pools is in two pairs'
AS SELECT
    toDate(block_time) AS day,
    protocol,
    base_mint,
    quote_mint,
    countIf(told) AS trades,
    countIf(told AND buys) AS buys,
    sumIf(toUInt128(ifNull(base_amount, 0)), told) AS base_volume,
    sumIf(toUInt128(ifNull(quote_amount, 0)), told) AS quote_volume,
    uniqExactIf(user, told) AS users,
    countIf(NOT told) AS untold
FROM
(
    SELECT block_time, protocol, base_mint, quote_mint, base_amount, quote_amount, buys, user, true AS told FROM trades
    UNION ALL
    SELECT block_time, protocol, NULL, NULL, NULL, NULL, false, user, false
    FROM swaps_finalized
    WHERE success = true AND NOT ifNull(amount_in > 0 AND amount_out > 0 AND mint_in IS NOT NULL AND mint_out IS NOT NULL, false)
)
GROUP BY day, protocol, base_mint, quote_mint;

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
FROM (SELECT * FROM rewards FINAL WHERE kind = 'fee' AND slot IN (SELECT slot FROM finalized_slots)) AS r
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
FROM (SELECT * FROM rewards FINAL WHERE slot IN (SELECT slot FROM finalized_slots)) AS r
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
        FROM balance_changes FINAL
        WHERE slot <= {slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots)
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
        FROM rewards FINAL
        WHERE account IS NOT NULL AND slot <= {slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots)
    )
    GROUP BY account, mint
)
