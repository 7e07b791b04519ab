-- Fees, tips and what was burnt, per day
--
-- The report's source: what users paid, what leaders got, what ceased to be. Lamports.
--
-- column day: UTC day; NULL: blocks without a time
-- column blocks: Final blocks with transactions
-- column transactions: Transactions
-- column votes: Votes among them
-- column failed: Failed ones among them
-- column fee: Lamports that all paid
-- column vote_fee: Lamports of it that votes paid
-- column base_fee: Lamports of it for signatures
-- column priority_fee: Lamports of it for priority
-- column not_apart_fee: Lamports of it that do not come apart
-- column tip: Lamports tipped beside it
-- column leader_fee: Lamports that leaders were credited
-- column burned: Lamports that ceased to be, where both are known
-- column unsettled_blocks: Blocks of which that is not known
SELECT day, blocks, transactions, votes, failed, fee, vote_fee, base_fee, priority_fee, not_apart_fee, tip, leader_fee, burned,
    unsettled_blocks
FROM fee_revenue_daily
ORDER BY day DESC NULLS LAST
