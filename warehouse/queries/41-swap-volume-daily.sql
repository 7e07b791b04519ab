-- Swap volume per day
--
-- Trades, volume and users per exchange and pair. Raw units of the pools' side; legs of routes are trades.
--
-- column day: UTC day; NULL: blocks without a time
-- column protocol: Exchange
-- column base_mint: Mint that is traded; NULL: swaps of which the transaction does not tell
-- column quote_mint: Mint it is paid in
-- column trades: Trades
-- column base_volume: Raw units of base
-- column quote_volume: Raw units of quote
-- column users: Distinct authorities
-- column untold: Swaps whose mints or amounts are not known
-- param quote_mint = EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v: Pairs paid in this mint
SELECT day, protocol, base58Encode(v.base_mint) AS base_mint, base58Encode(v.quote_mint) AS quote_mint, trades, base_volume, quote_volume,
    users, untold
FROM swap_volume_daily AS v
WHERE v.quote_mint = base58Decode({quote_mint:String}) OR v.quote_mint IS NULL
ORDER BY day DESC NULLS LAST, quote_volume DESC, base_mint
