-- What the tables cost on disk
--
-- Bytes and rows per table, and bytes per transaction stored.
--
-- column table: Table
-- column rows: Rows, repetitions that are not merged yet included
-- column bytes: Bytes on disk
-- column bytes_per_transaction: Bytes per row of transactions
-- column about: What it holds
SELECT t.name AS table, total_rows AS rows, total_bytes AS bytes,
    round(total_bytes / (SELECT count() FROM transactions), 1) AS bytes_per_transaction, comment AS about
FROM system.tables AS t
WHERE database = currentDatabase() AND total_rows IS NOT NULL AND engine LIKE '%MergeTree'
ORDER BY bytes DESC
