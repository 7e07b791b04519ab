-- Trades and candles as before, and faster: prices are divided as integers, which the engine's decimals do digit by digit;
-- ranks of quote mints are found per key, not per row; and places in the chain are compared as one number.

CREATE OR REPLACE VIEW trades
COMMENT 'Final swaps of successful transactions as base and quote: quote is USDC, else USDT, else SOL, else the mint whose key is greater. price: raw quote units per raw base unit, 18 digits; price_e18: the same times 10^18; place: slot, tx_index, path and event_index as one number'
AS WITH
    [base58Decode('So11111111111111111111111111111111111111112'), base58Decode('Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB'), base58Decode('EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v')] AS quotes,
    transform(mint_in, quotes, [1, 2, 3], 0) AS rank_in,
    transform(mint_out, quotes, [1, 2, 3], 0) AS rank_out
SELECT
    slot, tx_index, path, event_index, block_time, protocol, pool, user,
    rank_in > rank_out OR (rank_in = rank_out AND assumeNotNull(mint_in > mint_out)) AS buys,
    if(buys, mint_out, mint_in) AS base_mint,
    if(buys, mint_in, mint_out) AS quote_mint,
    assumeNotNull(if(buys, amount_out, amount_in)) AS base_amount,
    assumeNotNull(if(buys, amount_in, amount_out)) AS quote_amount,
    reinterpret(toInt256(price_e18), 'Decimal(76, 18)') AS price,
    intDiv(toUInt128(quote_amount) * toUInt128(1000000000000000000), toUInt128(base_amount)) AS price_e18,
    bitOr(bitOr(bitShiftLeft(toUInt128(slot), 80), bitShiftLeft(toUInt128(tx_index), 48)), bitOr(bitShiftLeft(toUInt128(path), 16), toUInt128(event_index))) AS place
FROM swaps_finalized
WHERE success = true AND amount_in > 0 AND amount_out > 0 AND mint_in IS NOT NULL AND mint_out IS NOT NULL;

CREATE OR REPLACE VIEW candles_1s
COMMENT 'Candles of one second per pool over trades; open and close by (slot, tx_index, path, event_index). Trades of blocks without a time are in none'
AS SELECT
    pool,
    base_mint,
    quote_mint,
    toStartOfInterval(assumeNotNull(block_time), INTERVAL 1 SECOND) AS bucket,
    reinterpret(toInt256(argMin(price_e18, place)), 'Decimal(76, 18)') AS open,
    reinterpret(toInt256(max(price_e18)), 'Decimal(76, 18)') AS high,
    reinterpret(toInt256(min(price_e18)), 'Decimal(76, 18)') AS low,
    reinterpret(toInt256(argMax(price_e18, place)), 'Decimal(76, 18)') AS close,
    sum(toUInt128(base_amount)) AS base_volume,
    sum(toUInt128(quote_amount)) AS quote_volume,
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
    reinterpret(toInt256(argMin(price_e18, place)), 'Decimal(76, 18)') AS open,
    reinterpret(toInt256(max(price_e18)), 'Decimal(76, 18)') AS high,
    reinterpret(toInt256(min(price_e18)), 'Decimal(76, 18)') AS low,
    reinterpret(toInt256(argMax(price_e18, place)), 'Decimal(76, 18)') AS close,
    sum(toUInt128(base_amount)) AS base_volume,
    sum(toUInt128(quote_amount)) AS quote_volume,
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
    reinterpret(toInt256(argMin(price_e18, place)), 'Decimal(76, 18)') AS open,
    reinterpret(toInt256(max(price_e18)), 'Decimal(76, 18)') AS high,
    reinterpret(toInt256(min(price_e18)), 'Decimal(76, 18)') AS low,
    reinterpret(toInt256(argMax(price_e18, place)), 'Decimal(76, 18)') AS close,
    sum(toUInt128(base_amount)) AS base_volume,
    sum(toUInt128(quote_amount)) AS quote_volume,
    count() AS trades
FROM trades
WHERE block_time IS NOT NULL
GROUP BY pool, base_mint, quote_mint, bucket;
