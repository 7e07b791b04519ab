//! The ClickHouse side of the sink: the door of the embedded engine or a real server, by URL, with the same statements.

use std::time::Duration;

use clickhouse::Client;

use super::native::TableBlock;

/// Bytes handed to the connection at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Between looks for statements that are still at work.
const LOOK: Duration = Duration::from_millis(50);
/// Looks after which waiting is told.
const QUIET_LOOKS: u32 = 40;
/// Longest wait for the acknowledgement of one insert.
const INSERT_SECONDS: u64 = 120;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    client: Client,
    url: String,
}

/// A failure, and whether trying again can help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "ClickHouse at {url} does not answer ({problem}). Start it, or set clickhouse_url to its address"
    )]
    Unavailable { url: String, problem: String },
    #[error("ClickHouse at {url} refused for now: {problem}")]
    Busy { url: String, problem: String },
    #[error("ClickHouse at {url} refused: {problem}")]
    Refused { url: String, problem: String },
}

impl StoreError {
    pub fn retry_helps(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// Codes that the same request will meet again: wrong types, missing tables or columns, syntax, rights.
const PERMANENT: &[u32] = &[
    6, 16, 20, 26, 27, 33, 36, 41, 43, 44, 46, 47, 48, 50, 53, 60, 62, 70, 80, 81, 115, 117, 124,
    164, 184, 192, 193, 349, 497, 516,
];

impl Store {
    /// `url` as `http://host:port`.
    pub fn new(url: &str, database: &str, user: &str, password: &str) -> Self {
        let mut client = Client::default().with_url(url).with_database(database);
        if !user.is_empty() {
            client = client.with_user(user).with_password(password);
        }
        Self {
            client,
            url: url.to_owned(),
        }
    }

    /// Creates the database on a server that lacks it.
    pub async fn create_database(&self, database: &str) -> Result<(), StoreError> {
        let statement = format!("CREATE DATABASE IF NOT EXISTS `{database}`");
        self.client
            .clone()
            .with_database("")
            .query(&statement)
            .execute()
            .await
            .map_err(|error| self.failed(error))
    }

    /// Runs a statement without a result.
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        // A question mark is the client's own placeholder.
        self.client
            .query(&sql.replace('?', "??"))
            .execute()
            .await
            .map_err(|error| self.failed(error))
    }

    /// Rows of a small result, as text.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, StoreError> {
        let mut cursor = self
            .client
            .query(&sql.replace('?', "??"))
            .fetch_bytes("JSONCompactStringsEachRow")
            .map_err(|error| self.failed(error))?;
        let bytes = cursor.collect().await.map_err(|error| self.failed(error))?;
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line)
                    .map_err(|error| self.refused(format!("an unreadable answer: {error}")))
            })
            .collect()
    }

    /// The one row of a result that is `columns` wide.
    pub async fn row(&self, sql: &str, columns: usize) -> Result<Vec<String>, StoreError> {
        let mut rows = self.rows(sql).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) if row.len() == columns => Ok(row),
            _ => Err(StoreError::Busy {
                url: self.url.clone(),
                problem: format!("its answer is not one row of {columns}: {sql}"),
            }),
        }
    }

    /// Waits until no statement is at work that meets `condition`, by the columns of `system.processes`. `whose` is told when
    /// that takes long.
    pub async fn wait_for_statements(
        &self,
        condition: &str,
        whose: &str,
    ) -> Result<(), StoreError> {
        let at_work = format!("SELECT count() FROM system.processes WHERE {condition}");
        for look in 0_u32.. {
            let counted = self.row(&at_work, 1).await?;
            if counted == ["0"] {
                break;
            }
            if look == QUIET_LOOKS {
                tracing::info!(
                    statements = counted.first(),
                    "waiting for statements of {whose} to end"
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Rows of a result, in binary.
    pub async fn fetch<R>(&self, sql: &str) -> Result<Vec<R>, StoreError>
    where
        R: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.client
            .query(&sql.replace('?', "??"))
            .fetch_all()
            .await
            .map_err(|error| self.failed(error))
    }

    /// Inserts the block whole. Again under the same token, it changes nothing; `None`: the table keeps the newest row by key.
    pub async fn insert(&self, block: &TableBlock, token: Option<&str>) -> Result<(), StoreError> {
        self.send(block, &block.statement(), token).await
    }

    /// The same, but stores nothing, and says so to nobody, where `condition` does not hold when ClickHouse begins.
    pub async fn insert_if(
        &self,
        condition: &str,
        block: &TableBlock,
        token: &str,
    ) -> Result<(), StoreError> {
        let statement = block.statement_if(condition);
        self.send(block, &statement, Some(token)).await
    }

    async fn send(
        &self,
        block: &TableBlock,
        statement: &str,
        token: Option<&str>,
    ) -> Result<(), StoreError> {
        if block.rows == 0 {
            return Ok(());
        }
        let wait = Duration::from_secs(INSERT_SECONDS);
        let mut insert = self
            .client
            .insert_formatted_with(statement)
            .with_timeouts(Some(wait), Some(wait))
            .with_setting(
                "insert_deduplicate",
                if token.is_some() { "1" } else { "0" },
            )
            .with_setting("insert_deduplication_token", token.unwrap_or_default())
            // The acknowledgement means stored; and one token must stay one block.
            .with_setting("async_insert", "0")
            .with_setting("max_insert_threads", "1")
            .with_setting("max_insert_block_size", "100000000")
            .with_setting("min_insert_block_size_rows", "0")
            .with_setting("min_insert_block_size_bytes", "0");
        let mut rest = block.bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            insert
                .send(piece)
                .await
                .map_err(|error| self.failed(error))?;
        }
        insert.end().await.map_err(|error| self.failed(error))
    }

    fn refused(&self, problem: String) -> StoreError {
        StoreError::Refused {
            url: self.url.clone(),
            problem,
        }
    }

    fn failed(&self, error: clickhouse::error::Error) -> StoreError {
        use clickhouse::error::Error;
        let (url, problem) = (self.url.clone(), error.to_string());
        match error {
            Error::BadResponse(text) => match code(&text) {
                Some(code) if PERMANENT.contains(&code) => StoreError::Refused { url, problem },
                _ => StoreError::Busy { url, problem },
            },
            Error::Network(_)
            | Error::TimedOut
            | Error::Other(_)
            | Error::NotEnoughData
            | Error::Decompression(_) => StoreError::Unavailable { url, problem },
            _ => StoreError::Refused { url, problem },
        }
    }
}

fn code(text: &str) -> Option<u32> {
    text.trim_start()
        .strip_prefix("Code: ")?
        .split_once('.')?
        .0
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_can_be_tried_again() {
        let store = Store::new("http://127.0.0.1:1", "d", "", "");
        let of = |text: &str| store.failed(clickhouse::error::Error::BadResponse(text.into()));
        assert!(!of("Code: 60. DB::Exception: x. (UNKNOWN_TABLE)").retry_helps());
        assert!(of("Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)").retry_helps());
        assert!(of("502 Bad Gateway").retry_helps());
        assert!(
            store
                .failed(clickhouse::error::Error::TimedOut)
                .retry_helps()
        );
    }
}
