//! Users, their passkeys, and the ceremonies in progress.

use rand::TryRngCore;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;
use webauthn_rs_core::proto::Credential;

/// A name as people type it, in its one canonical form: 3 to 32 of `a-z 0-9 . _ -`, beginning with a letter or digit.
/// Plain ASCII, so that no two names look alike and no markup or invisible character gets to an authenticator's dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    pub const RULE: &str = "Use 3 to 32 letters a-z, digits, dots, dashes or underscores, beginning with a letter or digit.";

    pub fn read(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_lowercase();
        let fits = (3..=32).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            });
        fits.then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeremonyKind {
    Register,
    Login,
}

impl CeremonyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Login => "login",
        }
    }
}

/// A registration or login that waits for its passkey.
pub struct Ceremony {
    pub kind: CeremonyKind,
    /// Which browser began it; no other may finish it.
    pub browser_hash: [u8; 32],
    pub user: Option<Uuid>,
    pub user_name: Option<String>,
    pub state: Value,
}

pub async fn begin_ceremony(
    pool: &PgPool,
    ceremony: &Ceremony,
    seconds: u32,
) -> Result<Uuid, sqlx::Error> {
    let id = Uuid::new_v4();
    sqlx::query(
        "INSERT INTO ceremonies (id, kind, browser_hash, user_id, user_name, state, expires_unix)
         VALUES ($1, $2, $3, $4, $5, $6, floor(extract(epoch FROM clock_timestamp()))::bigint + $7)",
    )
    .bind(id)
    .bind(ceremony.kind.as_str())
    .bind(ceremony.browser_hash.as_slice())
    .bind(ceremony.user)
    .bind(&ceremony.user_name)
    .bind(Json(&ceremony.state))
    .bind(i64::from(seconds))
    .execute(pool)
    .await?;
    Ok(id)
}

/// Takes the ceremony out: whatever comes of it, its challenge cannot be answered again. `None` when it never was, was
/// taken before, has expired, is of the other kind or was begun by another browser.
pub async fn take_ceremony(
    pool: &PgPool,
    id: Uuid,
    kind: CeremonyKind,
    browser_hash: [u8; 32],
) -> Result<Option<Ceremony>, sqlx::Error> {
    let row = sqlx::query(
        "DELETE FROM ceremonies WHERE id = $1 AND kind = $2 AND browser_hash = $3
         RETURNING user_id, user_name, state, expires_unix > extract(epoch FROM clock_timestamp()) AS alive",
    )
    .bind(id)
    .bind(kind.as_str())
    .bind(browser_hash.as_slice())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if !row.try_get::<bool, _>("alive")? {
        return Ok(None);
    }
    let Json(state) = row.try_get("state")?;
    Ok(Some(Ceremony {
        kind,
        browser_hash,
        user: row.try_get("user_id")?,
        user_name: row.try_get("user_name")?,
        state,
    }))
}

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("the user name is taken")]
    NameTaken,
    #[error("the passkey is registered already")]
    CredentialTaken,
    #[error(transparent)]
    Store(#[from] sqlx::Error),
}

pub async fn create_user(
    connection: &mut PgConnection,
    user: Uuid,
    name: &str,
    wallet: &str,
    credential: &Credential,
) -> Result<(), CreateError> {
    sqlx::query("INSERT INTO users (id, name, wallet) VALUES ($1, $2, $3)")
        .bind(user)
        .bind(name)
        .bind(wallet)
        .execute(&mut *connection)
        .await
        .map_err(|error| {
            if is_unique_violation(&error) {
                CreateError::NameTaken
            } else {
                error.into()
            }
        })?;
    sqlx::query(
        "INSERT INTO credentials (id, user_id, credential, counter) VALUES ($1, $2, $3, $4)",
    )
    .bind(&credential.cred_id)
    .bind(user)
    .bind(Json(credential))
    .bind(i64::from(credential.counter))
    .execute(connection)
    .await
    .map_err(|error| {
        if is_unique_violation(&error) {
            CreateError::CredentialTaken
        } else {
            error.into()
        }
    })?;
    Ok(())
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

/// A passkey and whose it is. Frozen passkeys and disabled users are never returned.
#[derive(Clone, Debug)]
pub struct OwnedCredential {
    pub user: Uuid,
    pub user_name: String,
    pub credential: Credential,
}

const LIVE_CREDENTIALS: &str = "SELECT users.id, users.name, credentials.credential FROM credentials JOIN users ON users.id = credentials.user_id
     WHERE credentials.frozen_at IS NULL AND users.disabled_at IS NULL";

fn owned(row: sqlx::postgres::PgRow) -> Result<OwnedCredential, sqlx::Error> {
    let Json(credential) = row.try_get("credential")?;
    Ok(OwnedCredential {
        user: row.try_get("id")?,
        user_name: row.try_get("name")?,
        credential,
    })
}

pub async fn find_credential(
    pool: &PgPool,
    id: &[u8],
) -> Result<Option<OwnedCredential>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{LIVE_CREDENTIALS} AND credentials.id = $1"));
    sqlx::query(sql)
        .bind(id)
        .fetch_optional(pool)
        .await?
        .map(owned)
        .transpose()
}

pub async fn credentials_of(pool: &PgPool, user: Uuid) -> Result<Vec<Credential>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "{LIVE_CREDENTIALS} AND users.id = $1 ORDER BY credentials.created_at"
    ));
    sqlx::query(sql)
        .bind(user)
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(|row| Ok(owned(row)?.credential))
        .collect()
}

/// Stores a use of the passkey. False when its counter did not grow against the *stored* one: another use with the same
/// counter was faster, so one of the two came from a copy.
pub async fn store_use(
    connection: &mut PgConnection,
    used: &Credential,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE credentials SET credential = $2, counter = $3, last_used_at = now()
         WHERE id = $1 AND frozen_at IS NULL AND (counter < $3 OR (counter = 0 AND $3 = 0))",
    )
    .bind(&used.cred_id)
    .bind(Json(used))
    .bind(i64::from(used.counter))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// No further use: there may be a second copy of the passkey.
pub async fn freeze(
    connection: &mut PgConnection,
    credential_id: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE credentials SET frozen_at = now() WHERE id = $1 AND frozen_at IS NULL")
        .bind(credential_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Random bytes from the operating system.
pub fn draw<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(UserName::read(" Ann.B-1_ ").unwrap().as_str(), "ann.b-1_");
        for name in [
            "",
            "ab",
            ".ann",
            "ann b",
            "аnn",
            "ann\u{200b}",
            "<b>ann",
            "ann\u{202e}",
            &"a".repeat(33),
        ] {
            assert_eq!(UserName::read(name), None, "{name:?}");
        }
    }
}
