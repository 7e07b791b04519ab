-- Who holds a token
--
-- Owners by what their token accounts hold as of a final slot. Only accounts that changed since the warehouse begins are known.
--
-- column owner: Owner
-- column balance: Raw units, over all accounts of the owner
-- column accounts: Token accounts with something in them
-- column decimals: Decimals of the mint
-- param mint = 9EVYPRc8t8shPpE5MksyPXZWxnPrX9uuo8zGdpSDeYpo: The mint
-- param slot = 121: As of which slot
-- param rows = 50: At most so many
SELECT base58Encode(b.owner) AS owner, sum(toUInt128(b.balance)) AS balance, count() AS accounts, any(b.decimals) AS decimals
FROM balances_as_of(slot = {slot:UInt64}) AS b
WHERE b.mint = base58Decode({mint:String}) AND b.balance > 0
GROUP BY b.owner
ORDER BY balance DESC, owner
LIMIT {rows:UInt32}
