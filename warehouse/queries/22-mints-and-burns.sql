-- Tokens minted and burnt
--
-- Per mint, over a range of slots: how much came into being and how much ceased to be.
--
-- column mint: Mint
-- column mints: Times tokens were minted
-- column minted: Raw units
-- column burns: Times tokens were burnt
-- column burned: Raw units
-- column unknown: Those of either whose amount is not known; they are in no sum
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 50: At most so many
SELECT base58Encode(t.mint) AS mint, countIf(mints) AS mints, sumIf(toUInt128(ifNull(amount, 0)), t.mints) AS minted,
    countIf(NOT t.mints) AS burns, sumIf(toUInt128(ifNull(amount, 0)), NOT t.mints) AS burned, countIf(amount IS NULL) AS unknown
FROM
(
    SELECT mint, amount, kind LIKE 'mint_to%' AS mints
    FROM token_transfers FINAL
    WHERE success = true AND (kind LIKE 'mint_to%' OR kind LIKE '%burn%') AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
        AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
) AS t
GROUP BY t.mint
ORDER BY mints + burns DESC, mint
LIMIT {rows:UInt32}
