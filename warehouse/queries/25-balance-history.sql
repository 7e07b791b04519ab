-- The balance of an account over time
--
-- Every change of an account's lamports and tokens by a final transaction.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column mint: Mint; NULL for lamports
-- column delta: Raw units, debits negative
-- column balance: Raw units after it; NULL when it is no account of that mint any more
-- param account = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: The account
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT slot, tx_index, base58Encode(c.mint) AS mint, delta, post AS balance
FROM balance_changes AS c FINAL
WHERE account = base58Decode({account:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
ORDER BY slot, tx_index, account_index, mint
