-- Rewards per day
--
-- What accounts were credited and debited outside of transactions.
--
-- column day: UTC day; NULL: blocks without a time
-- column kind: fee, rent, staking, voting, deactivated_stake, unspecified
-- column rewards: Entries
-- column accounts: Distinct accounts
-- column lamports: Lamports, debits negative
-- param days = 30: Newest days
SELECT day, kind, rewards, accounts, lamports
FROM rewards_daily
WHERE day IS NULL OR day IN (SELECT DISTINCT day FROM rewards_daily WHERE day IS NOT NULL ORDER BY day DESC LIMIT {days:UInt32})
ORDER BY day DESC NULLS LAST, kind
