-- What is known of a mint
--
-- Name, decimals, supply, and who has power over it, from the newest confirmed statement of each. NULL means none if the column is in
-- known, else not known. Names prove nothing: anybody may give any name to a mint of theirs.
--
-- column mint: Mint
-- column program: Token program that owns it
-- column name: Name
-- column symbol: Symbol
-- column metadata_source: Where these two are from: mint (Token-2022) or metaplex
-- column decimals: Decimals
-- column supply: Raw units, after the newest observed write
-- column supply_whole: The same in whole tokens
-- column mint_authority: May mint
-- column freeze_authority: May freeze token accounts
-- column permanent_delegate: May move and burn everybody's tokens
-- column transfer_fee_basis_points: Transfer fee in 1/10,000
-- column known: Columns of the view mints that something stated
-- column slot: Slot of the newest statement
-- param mint = EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v: The mint
SELECT base58Encode(m.mint) AS mint, base58Encode(m.program) AS program, name, symbol, metadata_source, decimals, supply,
    supply / exp10(decimals) AS supply_whole, base58Encode(m.mint_authority) AS mint_authority,
    base58Encode(m.freeze_authority) AS freeze_authority, base58Encode(m.permanent_delegate) AS permanent_delegate,
    transfer_fee_basis_points, known, slot
FROM mints AS m
WHERE m.mint = base58Decode({mint:String})
