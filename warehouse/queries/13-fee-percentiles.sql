-- What transactions pay
--
-- Fees, priority fees and tips of final transactions that are no votes: percentiles and sums, per outcome.
--
-- column success: Outcome; NULL when no status was recorded
-- column transactions: How many
-- column fee_p50_p90_p99: Lamports of fee: half, 9 of 10, 99 of 100 pay no more
-- column priority_fee_p50_p90_p99: The same of the priority fee, where it is known
-- column tip_p50_p90_p99: The same of the tip, of those that tip
-- column fee: Lamports of fee, sum
-- column priority_fee: Lamports for priority, sum
-- column tip: Lamports tipped, sum
-- column tipping: How many tip
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT success, count() AS transactions,
    quantilesExact(0.5, 0.9, 0.99)(t.fee) AS fee_p50_p90_p99,
    quantilesExact(0.5, 0.9, 0.99)(t.priority_fee) AS priority_fee_p50_p90_p99,
    quantilesExactIf(0.5, 0.9, 0.99)(t.tip, t.tip > 0) AS tip_p50_p90_p99,
    sum(t.fee) AS fee, sum(t.priority_fee) AS priority_fee, sum(t.tip) AS tip, countIf(t.tip > 0) AS tipping
FROM fees_and_tips AS t
WHERE NOT is_vote AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
GROUP BY success
ORDER BY success
