-- Token transfers of a wallet
--
-- What came into and went out of the token accounts a wallet owns, newest first. Failed transfers moved nothing and are left out; so is
-- sync_native, which only tells the token account of lamports that it got before.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column path: Instruction: outer << 16 | inner
-- column kind: transfer, mint_to, burn and their kin
-- column mint: Mint; NULL when the transaction names none
-- column direction: in, out, or self when both accounts are the wallet's
-- column amount: Raw units; NULL when not known
-- column fee: Raw units withheld of it; NULL when not known
-- column from_account: Token account debited
-- column to_account: Token account credited
-- param wallet = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: Owner of the token accounts
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
WITH (SELECT groupUniqArray(account) FROM balance_changes WHERE owner = base58Decode({wallet:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS own
SELECT slot, tx_index, path, kind, base58Encode(mint) AS mint,
    multiIf(has(own, source) AND has(own, destination), 'self', has(own, source), 'out', 'in') AS direction,
    amount, fee, base58Encode(source) AS from_account, base58Encode(destination) AS to_account
FROM token_transfers FINAL
WHERE success = true AND kind != 'sync_native' AND (has(own, source) OR has(own, destination)) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
    AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
ORDER BY slot DESC, tx_index DESC, path DESC
LIMIT {rows:UInt32}
