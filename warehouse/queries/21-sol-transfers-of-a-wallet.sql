-- SOL transfers of a wallet
--
-- Lamports that instructions moved to or from an account, newest first. Fees and rewards are no transfers; they are in balance_changes
-- and rewards.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column path: Instruction: outer << 16 | inner
-- column kind: transfer, create_account, stake_withdraw and their kin
-- column source: Account debited
-- column destination: Account credited
-- column lamports: Lamports; NULL when the transaction does not tell
-- column stated: Whether the instruction states the amount itself
-- param wallet = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: The account
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
SELECT slot, tx_index, path, kind, base58Encode(t.source) AS source, base58Encode(t.destination) AS destination, lamports, stated
FROM sol_transfers AS t FINAL
WHERE success = true AND (t.source = base58Decode({wallet:String}) OR t.destination = base58Decode({wallet:String}))
    AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
ORDER BY slot DESC, tx_index DESC, path DESC
LIMIT {rows:UInt32}
