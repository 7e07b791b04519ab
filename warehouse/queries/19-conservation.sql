-- Does everything add up?
--
-- Transactions of confirmed blocks by whether lamports and tokens are conserved. broken must not appear; unknown says why.
--
-- column lamport_identity: exact: sum of lamport changes = -fee; unknown: not recorded; broken
-- column token_identity: exact: movements explain every token balance; unknown: not decidable; broken
-- column token_identity_reason: Why it is not exact; empty when it is
-- column transactions: How many
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT lamport_identity, token_identity, token_identity_reason, sum(c.transactions) AS transactions
FROM conservation AS c
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
GROUP BY lamport_identity, token_identity, token_identity_reason
ORDER BY transactions DESC
