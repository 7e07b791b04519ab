-- What a transaction did, call by call
--
-- Every instruction, outer and inner, in the order of execution; of transactions that are not final yet too.
--
-- column outer_index: Outer instruction, from 0
-- column inner_index: 0 for the outer one itself, else the place among its inner ones
-- column stack_height: Depth of the call; NULL where it was not recorded
-- column program: Program called
-- column name: Instruction, where a decoder knows it
-- column outcome: decoded, unknown, malformed, foreign or not_tried
-- column accounts: Accounts passed; NULL for one that is not among the known keys
-- column data: Instruction data, hexadecimal
-- param signature = 4ERAHcJQzJ2uYoHNCavSz8SrSMgN6j99XZTTvMM9K1Y3fq83Vt2hnuB9QRLAbrqHxmziTpJbNSjpDQF4pWc7YKjV: Its first signature
SELECT outer_index, inner_index, stack_height, base58Encode(program) AS program, name, outcome,
    arrayMap(account -> base58Encode(account), accounts) AS accounts, hex(data) AS data
FROM instructions_with_accounts
WHERE (slot, tx_index) IN (SELECT slot, tx_index FROM transactions_by_signature
    WHERE signature_hash = reinterpretAsUInt64(substring(base58Decode({signature:String}), 1, 8)))
ORDER BY path
