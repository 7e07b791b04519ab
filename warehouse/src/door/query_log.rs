//! One row per statement, in a table of the warehouse: the embedded engine keeps no log of its own.
//!
//! Rows are handed over without waiting. When the queue is full they are dropped and counted: a log must not slow the
//! queries it describes. The table is the door's; everyone reads their own rows through a view, an admin all.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};

use crate::engine::{ffi::Progress, quote_identifier};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryLogConfig {
    pub enabled: bool,
    /// The door's own database.
    pub database: String,
    /// Rows older than this are deleted.
    pub retention_days: u32,
    /// Rows waiting to be written; further ones are dropped and counted.
    pub queue_rows: usize,
    /// Longest statement kept, in bytes; the rest is cut off.
    pub statement_bytes: usize,
}

impl Default for QueryLogConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            database: "heliograph_door".into(),
            retention_days: 30,
            // About 10 MB at the longest statements.
            queue_rows: 2_000,
            statement_bytes: 4_096,
        }
    }
}

/// What became of one statement.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub query_id: String,
    pub user: String,
    pub key: String,
    pub role: String,
    pub address: String,
    /// Equal for statements that differ only in literals.
    pub statement_hash: u64,
    pub statement: String,
    pub duration: Duration,
    pub progress: Progress,
    /// 0: it went well.
    pub exception_code: u32,
    pub exception: String,
    /// Its client left, or an admin ended it.
    pub cancelled: bool,
}

/// Where rows are written: an engine or a server.
pub trait LogStore: Send + 'static {
    /// Runs a statement.
    fn command(&mut self, sql: &str) -> Result<(), String>;
    /// Inserts rows in the format JSONEachRow.
    fn insert(&mut self, sql: &str, rows: &[u8]) -> Result<(), String>;
}

/// The handle that statements are reported to.
pub struct QueryLog {
    queue: Mutex<Option<SyncSender<(SystemTime, Entry)>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: IntCounter,
    statement_bytes: usize,
}

/// Rows are written at the latest after this time.
const FLUSH: Duration = Duration::from_millis(500);
/// Longest name kept.
const NAME_BYTES: usize = 256;
/// Rows per insert.
const BATCH: usize = 1_000;

impl QueryLog {
    /// A log that keeps nothing.
    pub fn disabled(dropped: IntCounter) -> Self {
        Self {
            queue: Mutex::new(None),
            writer: Mutex::new(None),
            dropped,
            statement_bytes: 0,
        }
    }

    /// Creates the table and the view, and starts the writer.
    pub fn start(
        config: &QueryLogConfig,
        view_database: &str,
        mut store: impl LogStore,
        dropped: IntCounter,
    ) -> Result<Self, String> {
        for statement in tables(config, view_database) {
            store
                .command(&statement)
                .map_err(|problem| format!("the query log: {statement}: {problem}"))?;
        }
        let insert = format!(
            "INSERT INTO {}.query_log",
            quote_identifier(&config.database)
        );
        let (sender, receiver) = sync_channel(config.queue_rows.max(1));
        let lost = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("query-log".into())
            .spawn(move || write(receiver, store, &insert, &lost))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            dropped,
            statement_bytes: config.statement_bytes,
        })
    }

    /// Never waits.
    pub fn report(&self, mut entry: Entry) {
        if let Some(queue) = self.queue.lock().as_ref() {
            cut(&mut entry.statement, self.statement_bytes);
            cut(&mut entry.exception, self.statement_bytes);
            // Strangers choose these: a refused request must not leave more than a short row.
            cut(&mut entry.user, NAME_BYTES);
            cut(&mut entry.query_id, NAME_BYTES);
            if queue.try_send((SystemTime::now(), entry)).is_err() {
                self.dropped.inc();
            }
        }
    }

    /// Writes what waits and ends the writer. Blocks.
    pub fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the query log's writer panicked");
        }
    }
}

fn cut(text: &mut String, bytes: usize) {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn tables(config: &QueryLogConfig, view_database: &str) -> [String; 4] {
    let database = quote_identifier(&config.database);
    let days = config.retention_days;
    [
        format!("CREATE DATABASE IF NOT EXISTS {database}"),
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.query_log (
                event_time DateTime64(3, 'UTC') COMMENT 'End of the statement',
                query_id String COMMENT 'Named by the client, or by the door',
                user LowCardinality(String),
                key LowCardinality(String) COMMENT 'Name of the key of that user; empty: the password',
                role LowCardinality(String),
                address LowCardinality(String) COMMENT 'Where the client connected from',
                statement_hash UInt64 COMMENT 'Equal for statements that differ only in literals',
                statement String COMMENT 'As the engine prints it, secrets hidden, cut off at query_log.statement_bytes',
                duration_ms UInt64,
                read_rows UInt64,
                read_bytes UInt64,
                written_rows UInt64,
                written_bytes UInt64,
                result_rows UInt64,
                result_bytes UInt64,
                exception_code UInt32 COMMENT '0: it went well',
                exception String,
                cancelled Bool COMMENT 'Its client left, or an admin ended it'
            ) ENGINE = MergeTree PARTITION BY toDate(event_time) ORDER BY (user, event_time)
            TTL toDateTime(event_time) + INTERVAL {days} DAY"
        ),
        format!(
            "ALTER TABLE {database}.query_log MODIFY TTL toDateTime(event_time) + INTERVAL {days} DAY \
             SETTINGS materialize_ttl_after_modify = 0"
        ),
        // The door writes the user's name into `log_comment` of every session that can read this view; readers cannot
        // change settings.
        format!(
            "CREATE OR REPLACE VIEW {}.query_log AS SELECT * FROM {database}.query_log \
             WHERE user = splitByChar('/', getSetting('log_comment'), 2)[2] AND user != ''",
            quote_identifier(view_database)
        ),
    ]
}

fn write(
    queue: Receiver<(SystemTime, Entry)>,
    mut store: impl LogStore,
    insert: &str,
    lost: &IntCounter,
) {
    let mut open = true;
    while open {
        let Ok(first) = queue.recv() else {
            return;
        };
        let mut rows = Vec::new();
        append(&mut rows, &first);
        let mut count = 1;
        let deadline = Instant::now() + FLUSH;
        while count < BATCH {
            let wait = deadline.saturating_duration_since(Instant::now());
            match queue.recv_timeout(wait) {
                Ok(row) => {
                    append(&mut rows, &row);
                    count += 1;
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        if let Err(problem) = store.insert(insert, &rows) {
            lost.inc_by(count as u64);
            tracing::warn!(%problem, rows = count, "rows of the query log could not be written");
        }
    }
}

fn append(rows: &mut Vec<u8>, (time, entry): &(SystemTime, Entry)) {
    let time = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let row = serde_json::json!({
        "event_time": format!("{}.{:03}", time.as_secs(), time.subsec_millis()),
        "query_id": entry.query_id,
        "user": entry.user,
        "key": entry.key,
        "role": entry.role,
        "address": entry.address,
        "statement_hash": entry.statement_hash,
        "statement": entry.statement,
        "duration_ms": entry.duration.as_millis() as u64,
        "read_rows": entry.progress.read_rows,
        "read_bytes": entry.progress.read_bytes,
        "written_rows": entry.progress.written_rows,
        "written_bytes": entry.progress.written_bytes,
        "result_rows": entry.progress.result_rows,
        "result_bytes": entry.progress.result_bytes,
        "exception_code": entry.exception_code,
        "exception": entry.exception,
        "cancelled": entry.cancelled,
    });
    rows.extend_from_slice(row.to_string().as_bytes());
    rows.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// A store that can be held up.
    struct Held {
        rows: Arc<Mutex<Vec<u8>>>,
        gate: mpsc::Receiver<()>,
    }

    impl LogStore for Held {
        fn command(&mut self, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn insert(&mut self, _: &str, rows: &[u8]) -> Result<(), String> {
            let _ = self.gate.recv();
            self.rows.lock().extend_from_slice(rows);
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (open, gate) = mpsc::channel();
        let rows = Arc::<Mutex<Vec<u8>>>::default();
        let dropped = IntCounter::new("dropped", "d").unwrap();
        let config = QueryLogConfig {
            queue_rows: 10,
            statement_bytes: 5,
            ..QueryLogConfig::default()
        };
        let store = Held {
            rows: rows.clone(),
            gate,
        };
        let log = QueryLog::start(&config, "d", store, dropped.clone()).unwrap();
        for number in 0..2_000 {
            log.report(Entry {
                query_id: number.to_string(),
                statement: "ééééé".into(),
                user: "x".repeat(100_000),
                ..Entry::default()
            });
        }
        drop(open);
        log.close();
        let text = String::from_utf8(rows.lock().clone()).unwrap();
        let written = text.lines().count() as u64;
        assert_eq!(written + dropped.get(), 2_000);
        assert!((10..=1_011).contains(&written), "{written}");
        assert!(text.contains("\"statement\":\"éé\""), "{text}");
        assert!(text.lines().all(|row| row.len() < 1_000));
    }
}
