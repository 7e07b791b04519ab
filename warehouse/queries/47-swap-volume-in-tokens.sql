-- Swap volume in whole tokens
--
-- What pools took and gave per exchange and pair, over a range of slots, divided by the decimals that the transactions themselves tell; no
-- mint is missing because nobody saw its account. Legs of routes are swaps. Names where they are known.
--
-- column protocol: Exchange
-- column mint_in: Mint that pools took
-- column symbol_in: Its symbol; NULL when not known
-- column mint_out: Mint that pools gave
-- column symbol_out: Its symbol; NULL when not known
-- column swaps: Swaps in this direction
-- column volume_in: Whole tokens that pools took
-- column volume_out: Whole tokens that pools gave
-- column unknown: Swaps of which an amount or its decimals are not known; that side of them is in no sum
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 50: At most so many
SELECT v.protocol AS protocol, base58Encode(v.mint_in) AS mint_in, i.symbol AS symbol_in, base58Encode(v.mint_out) AS mint_out, o.symbol AS symbol_out,
    v.swaps AS swaps, v.volume_in AS volume_in, v.volume_out AS volume_out, v.unknown AS unknown
FROM
(
    SELECT protocol, mint_in, mint_out, count() AS swaps,
        sum(amount_in / exp10(decimals_in)) AS volume_in, sum(amount_out / exp10(decimals_out)) AS volume_out,
        countIf(amount_in IS NULL OR amount_out IS NULL OR decimals_in IS NULL OR decimals_out IS NULL) AS unknown
    FROM swaps_finalized
    WHERE success = true AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
    GROUP BY protocol, mint_in, mint_out
) AS v
LEFT JOIN (SELECT toNullable(mint) AS mint, symbol FROM mints WHERE mint IN (SELECT arrayJoin([mint_in, mint_out]) FROM swaps WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})) AS i ON i.mint = v.mint_in
LEFT JOIN (SELECT toNullable(mint) AS mint, symbol FROM mints WHERE mint IN (SELECT arrayJoin([mint_in, mint_out]) FROM swaps WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})) AS o ON o.mint = v.mint_out
ORDER BY swaps DESC, mint_in, mint_out, protocol
LIMIT {rows:UInt32}
