-- The price of priority, slot by slot
--
-- Micro-lamports per compute unit that transactions bid; those that ask for none are not in the percentiles.
--
-- column slot: Slot
-- column bidding: Transactions that bid a price
-- column not_bidding: Transactions that bid none, votes left out
-- column unit_price_p50_p90_p99: Micro-lamports per compute unit: half, 9 of 10, 99 of 100 bid no more
-- column priority_fee: Lamports paid for priority
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT slot, countIf(unit_price IS NOT NULL) AS bidding, countIf(unit_price IS NULL) AS not_bidding,
    quantilesExact(0.5, 0.9, 0.99)(unit_price) AS unit_price_p50_p90_p99, sum(t.priority_fee) AS priority_fee
FROM fees_and_tips AS t
WHERE NOT is_vote AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}
GROUP BY slot
ORDER BY slot DESC
