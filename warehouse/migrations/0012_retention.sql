-- What retention took out of the tables, so that who looks for it learns that it was meant.

CREATE TABLE IF NOT EXISTS retention_journal
(
    table_name LowCardinality(String) COMMENT 'Table',
    epoch UInt64 COMMENT 'Its partition: slots from epoch * 432000',
    state LowCardinality(String) COMMENT 'dropping: the partition is about to go; dropped: it is gone; returning: a restore is at work; returned: restored, or being fetched again. The newest row of a table and epoch counts',
    rows UInt64 COMMENT 'Rows it had',
    bytes UInt64 COMMENT 'Bytes on disk it had',
    newest_block UInt64 COMMENT 'Highest number of an insert or mutation in it when its archive was verified',
    archive String COMMENT 'Folder of the archive that was verified; empty: the policy asked for none',
    manifest_sha256 String COMMENT 'SHA-256 of its manifest.json; empty: none',
    recorded_at DateTime64(6, 'UTC') COMMENT 'When'
)
ENGINE = MergeTree
ORDER BY (table_name, epoch, recorded_at)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Partitions that retention dropped, written before they go, and what came back';

CREATE OR REPLACE VIEW dropped_epochs
COMMENT 'Epochs that retention dropped from a table and that did not come back'
AS SELECT
    table_name,
    epoch,
    argMax(rows, recorded_at) AS rows_dropped,
    argMax(bytes, recorded_at) AS bytes_dropped,
    argMax(archive, recorded_at) AS archive_folder,
    argMax(manifest_sha256, recorded_at) AS archive_manifest_sha256,
    max(recorded_at) AS dropped_at
FROM retention_journal
GROUP BY table_name, epoch
HAVING argMax(state, recorded_at) IN ('dropping', 'dropped');
