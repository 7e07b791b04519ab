-- Fees, tips and what was burnt, over a range of slots
--
-- The same for any range, an epoch's say, without reading the rest.
--
-- column blocks: Final blocks with transactions
-- column transactions: Transactions
-- column fee: Lamports that all paid
-- column base_fee: Lamports of it for signatures
-- column priority_fee: Lamports of it for priority
-- column tip: Lamports tipped beside it
-- column leader_fee: Lamports that leaders were credited
-- column burned: Lamports that ceased to be
-- column unsettled_blocks: Blocks of which that is not known
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT count() AS blocks, sum(f.transactions) AS transactions, sum(f.fee) AS fee, sum(f.base_fee) AS base_fee,
    sum(f.priority_fee) AS priority_fee, sum(f.tip) AS tip, sum(f.leader_fee) AS leader_fee, sum(f.burned) AS burned,
    countIf(f.burned IS NULL) AS unsettled_blocks
FROM fee_revenue_by_slot AS f
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
