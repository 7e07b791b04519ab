//! Logged-in browsers. A session is an opaque random token; the database knows only its SHA-256, so a stolen table opens
//! nothing. Ending a session is deleting its row, which every next request sees.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

const TOKEN_BYTES: usize = 32;
/// 32 bytes in unpadded base64url.
const TOKEN_CHARS: usize = 43;

/// A secret that a browser holds in a cookie.
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    pub fn draw() -> anyhow::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Exactly one spelling is accepted: anything shorter, longer or padded is no token.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARS {
            return None;
        }
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

/// Cookie names and attributes. Over https the `__Host-` prefix makes browsers insist on Secure, Path=/ and no Domain.
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    pub https: bool,
}

/// The session itself, and the browser's identity while it has none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    Session,
    Browser,
}

impl Cookies {
    fn name(self, cookie: Cookie) -> &'static str {
        match (cookie, self.https) {
            (Cookie::Session, true) => "__Host-heliograph_session",
            (Cookie::Session, false) => "heliograph_session",
            (Cookie::Browser, true) => "__Host-heliograph_browser",
            (Cookie::Browser, false) => "heliograph_browser",
        }
    }

    pub fn set(self, cookie: Cookie, token: &Token, seconds: u32) -> String {
        let secure = if self.https { "; Secure" } else { "" };
        format!(
            "{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}",
            self.name(cookie),
            token.text()
        )
    }

    pub fn clear(self, cookie: Cookie) -> String {
        let secure = if self.https { "; Secure" } else { "" };
        format!(
            "{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}",
            self.name(cookie)
        )
    }

    /// Finds the token in a `Cookie` header. Two cookies of the name mean that somebody planted one: neither counts.
    pub fn find(self, cookie: Cookie, header: &str) -> Option<Token> {
        let name = self.name(cookie);
        let mut values = header
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, _)| *key == name);
        let (_, value) = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Token::read(value)
    }
}

/// A live session and whose it is.
#[derive(Clone, Debug)]
pub struct Session {
    pub hash: [u8; 32],
    pub user: Uuid,
    pub user_name: String,
    pub wallet: String,
}

pub async fn open(
    connection: &mut PgConnection,
    token: &Token,
    user: Uuid,
    absolute_seconds: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO sessions (token_hash, user_id, absolute_expiry) VALUES ($1, $2, now() + make_interval(secs => $3))")
        .bind(token.hash().as_slice())
        .bind(user)
        .bind(f64::from(absolute_seconds))
        .execute(connection)
        .await?;
    Ok(())
}

/// Finds the session and counts this request as use of it.
pub async fn find(
    pool: &PgPool,
    token: &Token,
    idle_seconds: u32,
) -> Result<Option<Session>, sqlx::Error> {
    let hash = token.hash();
    let row = sqlx::query(
        "UPDATE sessions SET last_seen_at = now() FROM users
         WHERE token_hash = $1 AND users.id = sessions.user_id AND users.disabled_at IS NULL
           AND absolute_expiry > now() AND last_seen_at > now() - make_interval(secs => $2)
         RETURNING users.id, users.name, users.wallet",
    )
    .bind(hash.as_slice())
    .bind(f64::from(idle_seconds))
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Session {
            hash,
            user: row.try_get("id")?,
            user_name: row.try_get("name")?,
            wallet: row.try_get("wallet")?,
        })
    })
    .transpose()
}

pub async fn close(connection: &mut PgConnection, hash: [u8; 32]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
        .bind(hash.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes what has ended long ago; the queries above already ignore it.
pub async fn sweep(pool: &PgPool, idle_seconds: u32) -> Result<u64, sqlx::Error> {
    let sessions = sqlx::query("DELETE FROM sessions WHERE absolute_expiry < now() OR last_seen_at < now() - make_interval(secs => $1)")
        .bind(f64::from(idle_seconds))
        .execute(pool)
        .await?;
    let ceremonies = sqlx::query(
        "DELETE FROM ceremonies WHERE expires_unix < extract(epoch FROM now())::bigint - 3600",
    )
    .execute(pool)
    .await?;
    Ok(sessions.rows_affected() + ceremonies.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_spelling() {
        let token = Token([7; 32]);
        let text = token.text();
        assert_eq!(text.len(), TOKEN_CHARS);
        assert_eq!(Token::read(&text).unwrap().0, token.0);
        for wrong in [
            "",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}="),
            &text.replace('B', "+"),
            &format!(" {}", &text[1..]),
        ] {
            assert!(Token::read(wrong).is_none(), "{wrong:?}");
        }
        // The last character carries two unused bits: only the spelling with zero bits is accepted.
        let twin = format!("{}d", &text[..42]);
        assert!(Token::read(&twin).is_none() || twin == text);
    }

    #[test]
    fn cookies_are_found_by_exact_name_and_only_when_single() {
        let cookies = Cookies { https: false };
        let text = Token([1; 32]).text();
        let find = |header: &str| cookies.find(Cookie::Session, header).is_some();
        assert!(find(&format!("a=b; heliograph_session={text}")));
        assert!(!find(&format!(
            "heliograph_session={text}; heliograph_session={text}"
        )));
        assert!(!find(&format!("xheliograph_session={text}")));
        assert!(!find(&format!("heliograph_browser={text}")));
        assert!(
            !Cookies { https: true }
                .find(Cookie::Session, &format!("heliograph_session={text}"))
                .is_some()
        );
    }

    #[test]
    fn cookies_cannot_be_read_by_scripts_or_sent_by_other_sites() {
        let set = Cookies { https: true }.set(Cookie::Session, &Token([1; 32]), 60);
        assert!(
            set.starts_with("__Host-")
                && set.contains("HttpOnly; SameSite=Strict")
                && set.ends_with("; Secure"),
            "{set}"
        );
        assert!(
            !Cookies { https: false }
                .set(Cookie::Session, &Token([1; 32]), 60)
                .contains("Secure")
        );
    }
}
