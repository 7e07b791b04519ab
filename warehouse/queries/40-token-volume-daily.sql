-- Token volume per day
--
-- Transfers, mints and burns per mint on one UTC day. Raw units.
--
-- column mint: Mint; NULL: transfers of which the transaction names none
-- column decimals: Decimals where an instruction states them
-- column transfers: Transfers
-- column transfers_unknown: Those of them whose amount is not known
-- column transferred: Raw units transferred
-- column withheld: Raw units of it withheld as transfer fees
-- column minted: Raw units minted
-- column burned: Raw units burnt
-- column net_minted: minted - burned
-- param day = 2026-11-22: The day
-- param rows = 50: At most so many
SELECT base58Encode(v.mint) AS mint, decimals, transfers, transfers_unknown, transferred, withheld, minted, burned, net_minted
FROM token_volume_daily AS v
WHERE day = {day:Date}
ORDER BY transfers DESC, mint
LIMIT {rows:UInt32}
