-- What my own queries cost
--
-- Your newest statements, as the door logged them, within a second. Statements with other values have the same hash.
--
-- column event_time: When it ran
-- column duration_ms: Milliseconds
-- column read_rows: Rows read
-- column read_bytes: Bytes read
-- column exception_code: 0, or the error's code
-- column statement: The statement
-- rows: any
-- param rows = 20: How many
SELECT event_time, duration_ms, read_rows, read_bytes, exception_code, statement
FROM query_log
ORDER BY event_time DESC
LIMIT {rows:UInt32}
