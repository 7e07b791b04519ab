-- Which programs are called most
--
-- Calls, directly and through other programs, and the transactions they are in.
--
-- column program: Program
-- column calls: Instructions, outer and inner
-- column outer_calls: Outer ones among them
-- column transactions: Transactions that call it
-- column failed_calls: Calls in transactions that failed
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 25: At most so many
SELECT base58Encode(program) AS program, count() AS calls, countIf(inner_index = 0) AS outer_calls,
    uniqExact(slot, tx_index) AS transactions, countIf(success = false) AS failed_calls
FROM instructions AS i FINAL
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
GROUP BY i.program
ORDER BY calls DESC, program
LIMIT {rows:UInt32}
