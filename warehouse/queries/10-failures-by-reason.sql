-- Why transactions fail
--
-- Failed transactions by error and by the program whose instruction failed, with what they paid for nothing.
--
-- column error: Name of the failure
-- column custom_code: Code of a custom program error, else NULL
-- column program: Program of the outer instruction that failed; NULL when none is named
-- column transactions: How many
-- column fee: Lamports that they paid
-- column example: Signature of one of them
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
SELECT error, error_custom AS custom_code,
    if(i.known = 1, base58Encode(i.program), NULL) AS program,
    count() AS transactions, sum(f.fee) AS fee, base58Encode(min(f.signature)) AS example
FROM
(
    SELECT slot, tx_index, error, error_custom, fee, signature, bitShiftLeft(toUInt32(error_instruction), 16) AS path
    FROM transactions FINAL
    WHERE success = false AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64} AND slot IN (SELECT slot FROM finalized_slots WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64})
) AS f
LEFT JOIN (SELECT slot, tx_index, path, program, 1 AS known FROM instructions FINAL WHERE slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS i
    ON i.slot = f.slot AND i.tx_index = f.tx_index AND i.path = f.path
GROUP BY error, custom_code, program
ORDER BY transactions DESC, error, custom_code, program
