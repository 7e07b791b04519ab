-- Holes in the stream
--
-- Slots of which an observer, or all of them, lost records. A hole of one observer alone is none in the tables.
--
-- column first_slot: First slot of the hole
-- column last_slot: Last one
-- column records: Records lost; NULL when that is not known
-- column reason: lost_at_source, missing_records, never_sealed or unknown
-- column source: Observer with the hole; empty when all have it
-- column blocks_stored: Blocks of these slots that the warehouse has all the same
-- column recorded_at: When the warehouse learnt it
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT first_slot, last_slot, records, reason, source,
    arrayCount(slot -> slot BETWEEN first_slot AND last_slot, (SELECT groupArray(slot) FROM blocks FINAL WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})) AS blocks_stored,
    recorded_at
FROM stream_gaps FINAL
WHERE last_slot >= {first_slot:UInt64} AND first_slot <= {last_slot:UInt64}
ORDER BY first_slot, recorded_at
