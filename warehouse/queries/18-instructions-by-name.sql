-- What a program is asked to do
--
-- Calls of one program by instruction and outcome.
--
-- column name: Instruction; empty when not decoded
-- column outcome: decoded, unknown, malformed, foreign or not_tried
-- column calls: How many
-- column failed: Calls in transactions that failed
-- param program = TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA: The program
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT name, outcome, count() AS calls, countIf(success = false) AS failed
FROM instructions FINAL
WHERE program = base58Decode({program:String}) AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
GROUP BY name, outcome
ORDER BY calls DESC, name
