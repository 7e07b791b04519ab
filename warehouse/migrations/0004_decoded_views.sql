-- Final, deduplicated and recomputed on every read: no view here keeps a state that a retry could count twice or an abandoned
-- slot could leave behind (docs/decisions/0023).

CREATE OR REPLACE VIEW transactions_finalized
COMMENT 'transactions, final ones only'
AS SELECT * FROM transactions WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW instructions_finalized
COMMENT 'instructions, final ones only'
AS SELECT * FROM instructions WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW token_transfers_finalized
COMMENT 'token_transfers, final ones only'
AS SELECT * FROM token_transfers WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW sol_transfers_finalized
COMMENT 'sol_transfers, final ones only'
AS SELECT * FROM sol_transfers WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW swaps_finalized
COMMENT 'swaps, final and deduplicated'
AS SELECT * FROM swaps FINAL WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW routes_finalized
COMMENT 'routes, final and deduplicated'
AS SELECT * FROM routes FINAL WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW fees_and_tips
COMMENT 'What final transactions paid: for signatures, for priority, as tips; lamports'
AS SELECT slot, tx_index, block_time, fee_payer, is_vote, success, fee, base_fee, priority_fee, tip, unit_price, unit_limit, compute_units
FROM transactions FINAL
WHERE slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW conservation
COMMENT 'Per slot: do lamports and tokens add up, transaction by transaction'
AS SELECT
    slot,
    lamport_identity,
    token_identity,
    token_identity_reason,
    count() AS transactions
FROM transactions FINAL
GROUP BY slot, lamport_identity, token_identity, token_identity_reason;

CREATE OR REPLACE VIEW decode_status
COMMENT 'Per program and epoch of 432,000 slots: instructions seen, decoded, unknown to the decoder, malformed, of programs without one, and of rows older than the decoders'
AS SELECT
    program,
    base58Encode(program) AS program_base58,
    intDiv(slot, 432000) AS epoch,
    max(decoder_version) AS newest_decoder_version,
    count() AS seen,
    countIf(outcome = 'decoded') AS decoded,
    countIf(outcome = 'unknown') AS unknown,
    countIf(outcome = 'malformed') AS malformed,
    countIf(outcome = 'foreign') AS foreign,
    countIf(outcome = 'not_tried') AS not_tried
FROM instructions FINAL
GROUP BY program, epoch;

CREATE OR REPLACE VIEW stake_events
COMMENT 'Instructions of the Stake program in final transactions that succeeded; the first account is the stake account, except where a merge names its destination first'
AS SELECT slot, tx_index, path, name, accounts[1] AS stake_account, if(name = 'delegate', accounts[2], NULL) AS vote_account, accounts
FROM instructions FINAL
WHERE program = base58Decode('Stake11111111111111111111111111111111111111') AND success = true AND slot IN (SELECT slot FROM finalized_slots);

CREATE OR REPLACE VIEW trades
COMMENT 'Final swaps of successful transactions as base and quote: quote is USDC, else USDT, else SOL, else the mint whose key is greater. price: raw quote units per raw base unit, 18 digits'
AS WITH [base58Decode('So11111111111111111111111111111111111111112'), base58Decode('Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB'), base58Decode('EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v')] AS quotes
SELECT
    slot, tx_index, path, event_index, block_time, protocol, pool, user,
    (indexOf(quotes, mint_in), mint_in) > (indexOf(quotes, mint_out), mint_out) AS buys,
    if(buys, mint_out, mint_in) AS base_mint,
    if(buys, mint_in, mint_out) AS quote_mint,
    if(buys, amount_out, amount_in) AS base_amount,
    if(buys, amount_in, amount_out) AS quote_amount,
    divideDecimal(toDecimal256(assumeNotNull(quote_amount), 0), toDecimal256(assumeNotNull(base_amount), 0), 18) AS price
FROM swaps_finalized
WHERE success = true AND amount_in > 0 AND amount_out > 0 AND mint_in IS NOT NULL AND mint_out IS NOT NULL;

CREATE OR REPLACE VIEW candles_1s
COMMENT 'Candles of one second per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(assumeNotNull(block_time), INTERVAL 1 SECOND) AS bucket,
    argMin(price, (slot, tx_index, path, event_index)) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, (slot, tx_index, path, event_index)) AS close,
    sum(toUInt128(assumeNotNull(base_amount))) AS base_volume,
    sum(toUInt128(assumeNotNull(quote_amount))) AS quote_volume,
    count() AS trades
FROM trades
WHERE block_time IS NOT NULL
GROUP BY pool, base_mint, quote_mint, bucket;

CREATE OR REPLACE VIEW candles_1m
COMMENT 'Candles of one minute per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(assumeNotNull(block_time), INTERVAL 1 MINUTE) AS bucket,
    argMin(price, (slot, tx_index, path, event_index)) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, (slot, tx_index, path, event_index)) AS close,
    sum(toUInt128(assumeNotNull(base_amount))) AS base_volume,
    sum(toUInt128(assumeNotNull(quote_amount))) AS quote_volume,
    count() AS trades
FROM trades
WHERE block_time IS NOT NULL
GROUP BY pool, base_mint, quote_mint, bucket;

CREATE OR REPLACE VIEW candles_1h
COMMENT 'Candles of one hour per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(assumeNotNull(block_time), INTERVAL 1 HOUR) AS bucket,
    argMin(price, (slot, tx_index, path, event_index)) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, (slot, tx_index, path, event_index)) AS close,
    sum(toUInt128(assumeNotNull(base_amount))) AS base_volume,
    sum(toUInt128(assumeNotNull(quote_amount))) AS quote_volume,
    count() AS trades
FROM trades
WHERE block_time IS NOT NULL
GROUP BY pool, base_mint, quote_mint, bucket;
