-- Programs deployed and upgraded
--
-- Programs whose code was made or replaced in a range of slots, and those that were closed or changed hands; of blocks that are not final
-- yet too. An instruction counts, not the account's write after it.
--
-- column slot: Slot of the block
-- column tx_index: Place in the block
-- column instruction: deploy_with_max_data_len, upgrade, extend_program, set_authority, set_authority_checked or close
-- column program: Program; NULL where only its programdata is named and nothing else told of it
-- column name: Name under which the warehouse decodes it
-- column programdata: Account with its code
-- column authority: Who may replace the code from then on; NULL: nobody, or not stated
-- column authority_stated: Whether the instruction states who
-- param first_slot = 89: First slot of the range
-- param last_slot = 121: Last slot of it
-- rows: any
SELECT s.slot AS slot, s.tx_index AS tx_index, s.instruction AS instruction, coalesce(base58Encode(s.program), p.program_base58) AS program, p.name AS name,
    base58Encode(s.programdata) AS programdata, base58Encode(s.upgrade_authority) AS authority, has(s.states, 'upgrade_authority') AS authority_stated
FROM (SELECT * FROM program_states FINAL WHERE source = 'instruction' AND slot BETWEEN {first_slot:UInt64} AND {last_slot:UInt64}) AS s
LEFT JOIN (SELECT toNullable(program_base58) AS program_base58, name, programdata FROM programs) AS p ON p.programdata = s.programdata
ORDER BY slot, tx_index, s.path
