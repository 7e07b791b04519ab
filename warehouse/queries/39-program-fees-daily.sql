-- What transactions of a program pay, per day
--
-- Transactions that call a program, and their fees. A transaction that calls several counts in full for each: never add programs up.
--
-- column day: UTC day; NULL: blocks without a time
-- column program: Program
-- column transactions: Transactions that call it
-- column failed: Failed ones among them
-- column fee: Lamports that they paid
-- column priority_fee: Lamports of it for priority
-- column tip: Lamports that they tipped
-- column compute_units: Compute units of the whole transactions
-- param day = 2026-11-22: The day
-- param rows = 25: At most so many
SELECT day, program_base58 AS program, transactions, failed, fee, priority_fee, tip, compute_units
FROM program_fees_daily
WHERE day = {day:Date}
ORDER BY fee DESC, program
LIMIT {rows:UInt32}
