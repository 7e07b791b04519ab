-- What happens to stakes
--
-- Instructions of the Stake program in final transactions that succeeded.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column name: initialize, delegate, deactivate, withdraw, merge, …
-- column stake_account: Stake account
-- column vote_account: Whom it is delegated to; NULL unless it is a delegation
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 100: At most so many
SELECT slot, tx_index, name, base58Encode(e.stake_account) AS stake_account, base58Encode(e.vote_account) AS vote_account
FROM stake_events AS e
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
ORDER BY slot DESC, tx_index DESC, path DESC
LIMIT {rows:UInt32}
