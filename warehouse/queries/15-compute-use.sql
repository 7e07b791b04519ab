-- Compute units, asked for and used
--
-- Per slot: how full blocks are, and how much more is reserved than used. Transactions before the chain recorded use are counted apart.
--
-- column slot: Slot
-- column transactions: Transactions, votes included
-- column used: Compute units used, where recorded
-- column used_unknown: Transactions of which use was not recorded
-- column requested: Compute units requested, of those that request any
-- column used_of_requested: Compute units that these used
-- column largest: Most that one transaction used
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT slot, count() AS transactions, sum(compute_units) AS used, countIf(compute_units IS NULL) AS used_unknown,
    sum(toUInt64(unit_limit)) AS requested, sumIf(compute_units, unit_limit IS NOT NULL) AS used_of_requested, max(compute_units) AS largest
FROM transactions FINAL
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
GROUP BY slot
ORDER BY slot DESC
