//! The warehouse's schema: numbered, forward-only, checksummed scripts, embedded in the binary.
//!
//! A script's run is recorded before its first statement (`started`) and after its last (`done`). One that broke off is run
//! again from its start: every statement may be repeated (`IF NOT EXISTS`, `OR REPLACE` for views), so what is there stays. A script that was done and has since
//! been edited is refused: write a new one instead.

use sha2::{Digest, Sha256};

use super::store::{Store, StoreError};

pub struct Migration {
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "core_tables",
        sql: include_str!("../../migrations/0001_core_tables.sql"),
    },
    Migration {
        version: 2,
        name: "views",
        sql: include_str!("../../migrations/0002_views.sql"),
    },
    Migration {
        version: 3,
        name: "decoded",
        sql: include_str!("../../migrations/0003_decoded.sql"),
    },
    Migration {
        version: 4,
        name: "decoded_views",
        sql: include_str!("../../migrations/0004_decoded_views.sql"),
    },
    Migration {
        version: 5,
        name: "raw_transactions",
        sql: include_str!("../../migrations/0005_raw_transactions.sql"),
    },
    Migration {
        version: 6,
        name: "financial_views",
        sql: include_str!("../../migrations/0006_financial_views.sql"),
    },
    Migration {
        version: 7,
        name: "account_indexes",
        sql: include_str!("../../migrations/0007_account_indexes.sql"),
    },
    Migration {
        version: 8,
        name: "lookups",
        sql: include_str!("../../migrations/0008_lookups.sql"),
    },
    Migration {
        version: 9,
        name: "faster_trades",
        sql: include_str!("../../migrations/0009_faster_trades.sql"),
    },
    Migration {
        version: 10,
        name: "decided",
        sql: include_str!("../../migrations/0010_decided.sql"),
    },
    Migration {
        version: 11,
        name: "metadata",
        sql: include_str!("../../migrations/0011_metadata.sql"),
    },
    Migration {
        version: 12,
        name: "retention",
        sql: include_str!("../../migrations/0012_retention.sql"),
    },
    Migration {
        version: 13,
        name: "rollups",
        sql: include_str!("../../migrations/0013_rollups.sql"),
    },
];

const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number of the script',
    name String COMMENT 'Its name',
    checksum String COMMENT 'SHA-256 of its text',
    phase LowCardinality(String) COMMENT 'started or done',
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When'
)
ENGINE = MergeTree
ORDER BY (version, recorded_at)
COMMENT 'Which scripts made this schema'";

#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "migration {version:04}_{name} was applied with another text (checksum {applied}, this binary has {ours}). Applied scripts are never edited: use the binary that applied it, or put the change into a new script"
    )]
    Edited {
        version: u32,
        name: String,
        applied: String,
        ours: String,
    },
    #[error(
        "migration {version:04}_{name} has not been applied, and migrations = \"check\" applies none. Start once with migrations = \"apply\""
    )]
    Pending { version: u32, name: &'static str },
    #[error(
        "this schema has migration {version:04}, which this binary does not know. Use a newer binary"
    )]
    FromTheFuture { version: u32 },
    #[error(
        "migration {version:04}_{name} failed at its statement {statement}: {problem}. It is recorded as started; once the cause is gone, starting again repeats it from its first statement"
    )]
    Broke {
        version: u32,
        name: &'static str,
        statement: usize,
        problem: StoreError,
    },
}

impl MigrationError {
    /// Whether the cause may go by itself. A script that broke off is repeated from its first statement.
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Store(problem) | Self::Broke { problem, .. } => problem.retry_helps(),
            Self::Edited { .. } | Self::Pending { .. } | Self::FromTheFuture { .. } => false,
        }
    }
}

impl Migration {
    pub fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql.as_bytes()))
    }

    /// The script's statements; each ends with a semicolon at the end of a line.
    pub fn statements(&self) -> Vec<&'static str> {
        self.sql
            .split(";\n")
            .map(|statement| statement.trim().trim_end_matches(';'))
            .filter(|statement| {
                statement
                    .lines()
                    .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
            })
            .collect()
    }
}

/// What was applied: version, checksum, finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub version: u32,
    pub checksum: String,
    pub done: bool,
}

/// Which scripts are still to run, in order. Pure.
pub fn pending<'m>(
    migrations: &'m [Migration],
    applied: &[Applied],
) -> Result<Vec<&'m Migration>, MigrationError> {
    if let Some(unknown) = applied.iter().find(|applied| {
        migrations
            .iter()
            .all(|known| known.version != applied.version)
    }) {
        return Err(MigrationError::FromTheFuture {
            version: unknown.version,
        });
    }
    let mut rest = Vec::new();
    for migration in migrations {
        let done: Vec<&Applied> = applied
            .iter()
            .filter(|applied| applied.version == migration.version && applied.done)
            .collect();
        match done
            .iter()
            .find(|applied| applied.checksum != migration.checksum())
        {
            Some(edited) => {
                return Err(MigrationError::Edited {
                    version: migration.version,
                    name: migration.name.into(),
                    applied: edited.checksum.clone(),
                    ours: migration.checksum(),
                });
            }
            None if done.is_empty() => rest.push(migration),
            None => {}
        }
    }
    Ok(rest)
}

/// The scripts still to run on this store. Changes nothing but the journal's existence.
pub async fn pending_on(store: &Store) -> Result<Vec<&'static Migration>, MigrationError> {
    store.execute(JOURNAL).await?;
    let rows = store
        .rows("SELECT version, checksum, phase FROM schema_migrations ORDER BY recorded_at")
        .await?;
    let applied: Vec<Applied> = rows
        .iter()
        .filter_map(|row| match row.as_slice() {
            [version, checksum, phase] => Some(Applied {
                version: version.parse().ok()?,
                checksum: checksum.clone(),
                done: phase == "done",
            }),
            _ => None,
        })
        .collect();
    pending(MIGRATIONS, &applied)
}

/// Brings the schema up to this binary. Returns how many scripts ran.
pub async fn apply(store: &Store) -> Result<usize, MigrationError> {
    let pending = pending_on(store).await?;
    for migration in &pending {
        journal(store, migration, "started").await?;
        for (index, statement) in migration.statements().iter().enumerate() {
            store
                .execute(statement)
                .await
                .map_err(|problem| MigrationError::Broke {
                    version: migration.version,
                    name: migration.name,
                    statement: index + 1,
                    problem,
                })?;
        }
        journal(store, migration, "done").await?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "migration applied"
        );
    }
    Ok(pending.len())
}

async fn journal(store: &Store, migration: &Migration, phase: &str) -> Result<(), StoreError> {
    let statement = format!(
        "INSERT INTO schema_migrations (version, name, checksum, phase) VALUES ({}, '{}', '{}', '{phase}')",
        migration.version,
        migration.name,
        migration.checksum(),
    );
    store.execute(&statement).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_numbered_and_split() {
        for (migration, number) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, number);
            assert!(!migration.statements().is_empty());
            for statement in migration.statements() {
                // What is filled from other tables is emptied first, by the statement before.
                let filled = statement
                    .find("INSERT INTO ")
                    .and_then(|at| statement[at + 12..].split_whitespace().next());
                let emptied = filled.is_some_and(|table| {
                    migration
                        .sql
                        .contains(&format!("TRUNCATE TABLE IF EXISTS {table};"))
                });
                let repeatable = [
                    "TRUNCATE TABLE IF EXISTS",
                    "DROP INDEX IF EXISTS",
                    "IF NOT EXISTS",
                    "CREATE OR REPLACE VIEW",
                    "COMMENT COLUMN IF EXISTS",
                ];
                assert!(
                    emptied || repeatable.iter().any(|words| statement.contains(words)),
                    "not repeatable: {statement}"
                );
            }
        }
        assert_eq!(MIGRATIONS[0].statements().len(), 11);
    }

    #[test]
    fn every_table_has_its_window() {
        for statement in MIGRATIONS.iter().flat_map(Migration::statements) {
            if statement.contains("MergeTree") && !statement.contains("sink_owners") {
                assert!(
                    statement.contains("non_replicated_deduplication_window"),
                    "{statement}"
                );
            }
        }
    }

    #[test]
    fn a_door_that_dies_meanwhile_is_waited_for() {
        let broke = |problem| MigrationError::Broke {
            version: 6,
            name: "x",
            statement: 5,
            problem,
        };
        let (url, problem) = (String::new(), String::new());
        let away = StoreError::Unavailable {
            url: url.clone(),
            problem: problem.clone(),
        };
        assert!(broke(away).retry_helps());
        assert!(!broke(StoreError::Refused { url, problem }).retry_helps());
        assert!(!MigrationError::FromTheFuture { version: 9 }.retry_helps());
    }

    #[test]
    fn knows_what_is_left() {
        let first = Applied {
            version: 1,
            checksum: MIGRATIONS[0].checksum(),
            done: true,
        };
        assert_eq!(pending(MIGRATIONS, &[]).unwrap().len(), MIGRATIONS.len());
        assert_eq!(
            pending(MIGRATIONS, std::slice::from_ref(&first)).unwrap()[0].version,
            2
        );
        let broken_off = Applied {
            done: false,
            ..first.clone()
        };
        assert_eq!(pending(MIGRATIONS, &[broken_off]).unwrap()[0].version, 1);
        let edited = Applied {
            checksum: "x".into(),
            ..first.clone()
        };
        assert!(matches!(
            pending(MIGRATIONS, &[edited]),
            Err(MigrationError::Edited { version: 1, .. })
        ));
        let future = Applied {
            version: 99,
            ..first
        };
        assert!(matches!(
            pending(MIGRATIONS, &[future]),
            Err(MigrationError::FromTheFuture { version: 99 })
        ));
    }
}
