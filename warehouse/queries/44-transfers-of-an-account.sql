-- Transfers of an account
--
-- The newest movements of tokens and lamports that an account takes part in, as token account, as owner of one, or as account of
-- lamports; of blocks that are not final yet too. For any account, however busy: the rows lie in this order.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column path: Instruction: outer << 16 | inner
-- column side: source, destination, source_owner or destination_owner
-- column asset: token or sol
-- column kind: transfer, mint_to, create_account and their kin
-- column mint: Mint; NULL for lamports, and where nothing names it
-- column amount: Raw units or lamports; NULL when not known
-- column success: Failed transfers moved nothing
-- param account = BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c: The account
-- param rows = 100: At most so many
SELECT slot, tx_index, path, side, asset, kind, base58Encode(mint) AS mint, amount, success
FROM transfers_by_account
WHERE account = base58Decode({account:String})
ORDER BY slot DESC, tx_index DESC, path DESC, event_index DESC, asset DESC, side DESC
LIMIT {rows:UInt32}
