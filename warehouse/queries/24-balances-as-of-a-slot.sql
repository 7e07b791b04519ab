-- What an account held as of a slot
--
-- Lamports and tokens of an account from the newest change at or before a final slot.
--
-- column mint: Mint; NULL for lamports
-- column owner: Owner of the token account; NULL for lamports
-- column balance: Raw units
-- column decimals: Decimals of the mint; NULL for lamports
-- column closed: The account was closed, or is no account of that mint any more
-- column changed_in: Slot of the newest change
-- param account = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: The account
-- param slot = 100: As of which slot
SELECT base58Encode(b.mint) AS mint, base58Encode(b.owner) AS owner, balance, decimals, closed, changed_in
FROM balances_as_of(slot = {slot:UInt64}) AS b
WHERE b.account = base58Decode({account:String})
ORDER BY mint
