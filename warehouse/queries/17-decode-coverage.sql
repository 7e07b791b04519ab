-- What the decoders read, and what not
--
-- Per program, in all confirmed blocks: calls by outcome. foreign are programs without a decoder; an IDL makes them readable.
--
-- column program: Program
-- column seen: Calls
-- column decoded: Read in full
-- column unknown: Of a known program, but not known themselves
-- column malformed: Data or accounts too short
-- column foreign: Of a program without a decoder
-- column not_tried: Stored before there were decoders
-- param rows = 50: At most so many
SELECT program_base58 AS program, sum(s.seen) AS seen, sum(s.decoded) AS decoded, sum(s.unknown) AS unknown,
    sum(s.malformed) AS malformed, sum(s.foreign) AS foreign, sum(s.not_tried) AS not_tried
FROM decode_status AS s
GROUP BY program
ORDER BY seen DESC, program
LIMIT {rows:UInt32}
