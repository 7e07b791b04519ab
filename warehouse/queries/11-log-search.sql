-- Search in what programs say
--
-- Final transactions with a log line that contains a text.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column signature: First signature
-- column success: Outcome
-- column lines: The lines that contain the text
-- param text = insufficient lamports: The text, upper and lower case as it stands
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- param rows = 50: At most so many
SELECT slot, tx_index, base58Encode(signature) AS signature, success,
    arrayFilter(line -> position(line, {text:String}) > 0, log_messages) AS lines
FROM transactions FINAL
WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AND notEmpty(lines)
ORDER BY slot DESC, tx_index DESC
LIMIT {rows:UInt32}
