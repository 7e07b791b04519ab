-- What leaders earn
--
-- Blocks and fees by leader, over a range of slots. Tips are not in it: they are paid to accounts of their own.
--
-- column leader: Account that was credited
-- column blocks: Blocks with a reward
-- column lamports: Lamports of fees credited
-- column largest: Most for one block
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 50: At most so many
SELECT base58Encode(l.leader) AS leader, count() AS blocks, sum(l.lamports) AS lamports, max(l.lamports) AS largest
FROM leader_rewards AS l
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
GROUP BY l.leader
ORDER BY lamports DESC, leader
LIMIT {rows:UInt32}
