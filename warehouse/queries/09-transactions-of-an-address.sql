-- Transactions that touch an address
--
-- Every final transaction that names the address, as payer, account or program, newest first; votes are not among them.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column block_time: Time of the block
-- column signature: First signature
-- column pays: Whether the address pays the fee
-- column success: Outcome
-- column fee: Lamports
-- param address = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: The address
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
SELECT slot, tx_index, block_time, base58Encode(signature) AS signature, ifNull(fee_payer = base58Decode({address:String}), false) AS pays,
    success, fee
FROM transactions FINAL
WHERE (slot, tx_index) IN (SELECT slot, tx_index FROM transactions_by_account
    WHERE account_hash = reinterpretAsUInt64(substring(base58Decode({address:String}), 1, 8))
        AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
    ORDER BY slot DESC, tx_index DESC LIMIT {rows:UInt32})
    AND has(account_keys, toFixedString(base58Decode({address:String}), 32))
ORDER BY slot DESC, tx_index DESC
LIMIT {rows:UInt32}
