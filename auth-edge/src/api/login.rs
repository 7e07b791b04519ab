//! Logging in with a discoverable passkey, and out.
//!
//! The options never list credentials and never depend on the name, so that nobody can ask which accounts exist. A name, if
//! given, must be the one that the passkey turns out to belong to.

use super::body::Body;
use super::register::{no_ceremony, refused};
use super::signed_in::{Browser, SignedIn};
use crate::accounts::{self, Ceremony, CeremonyKind, UserName};
use crate::audit::{self, Entry};
use crate::edge::Edge;
use crate::passkeys::{PasskeyError, UserHandle};
use crate::refusal::Refusal;
use crate::sessions::{self, Cookie, Token};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;
use webauthn_rs_core::proto::PublicKeyCredential;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    #[serde(default)]
    user_name: Option<String>,
}

pub async fn begin(
    State(edge): State<Arc<Edge>>,
    Body(request): Body<Begin>,
) -> Result<impl IntoResponse, Refusal> {
    let user_name = match request
        .user_name
        .as_deref()
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        None => None,
        Some(name) => Some(UserName::read(name).ok_or_else(|| {
            Refusal::bad_field(
                "user_name",
                "This is not a possible user name.",
                UserName::RULE,
            )
        })?),
    };
    let challenge: [u8; 32] = accounts::draw().map_err(|error| Refusal::internal(&error))?;
    let browser = Token::draw().map_err(|error| Refusal::internal(&error))?;
    let seconds = edge.config.limits.ceremony_seconds;
    let ceremony = Ceremony {
        kind: CeremonyKind::Login,
        browser_hash: browser.hash(),
        user: None,
        user_name: user_name.map(|name| name.as_str().to_owned()),
        state: json!({"challenge": hex::encode(challenge)}),
    };
    let id = accounts::begin_ceremony(&edge.store, &ceremony, seconds).await?;
    let cookie = edge.cookies.set(Cookie::Browser, &browser, seconds);
    let answer =
        json!({"ceremony_id": id, "publicKey": edge.passkeys.request_options(challenge, &[])});
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(answer)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    ceremony_id: Uuid,
    credential: PublicKeyCredential,
}

pub async fn finish(
    State(edge): State<Arc<Edge>>,
    Browser(browser): Browser,
    Body(request): Body<Finish>,
) -> Result<impl IntoResponse, Refusal> {
    let outcome = log_in(&edge, browser, &request).await;
    edge.metrics
        .logins
        .with_label_values(&[if outcome.is_ok() { "ok" } else { "refused" }])
        .inc();
    let (token, answer) = outcome?;
    let cookies = AppendHeaders([
        (
            header::SET_COOKIE,
            edge.cookies.set(
                Cookie::Session,
                &token,
                edge.config.session.absolute_seconds,
            ),
        ),
        (header::SET_COOKIE, edge.cookies.clear(Cookie::Browser)),
    ]);
    Ok((cookies, Json(answer)))
}

async fn log_in(
    edge: &Edge,
    browser: Option<Token>,
    request: &Finish,
) -> Result<(Token, Value), Refusal> {
    let browser = browser.ok_or_else(no_ceremony)?;
    let ceremony = accounts::take_ceremony(
        &edge.store,
        request.ceremony_id,
        CeremonyKind::Login,
        browser.hash(),
    )
    .await?
    .ok_or_else(no_ceremony)?;
    let mut challenge = [0; 32];
    hex::decode_to_slice(
        ceremony.state["challenge"].as_str().unwrap_or_default(),
        &mut challenge,
    )
    .map_err(|_| no_ceremony())?;

    let answer = &request.credential;
    let Some(owned) = accounts::find_credential(&edge.store, answer.get_credential_id()).await?
    else {
        note_refusal(
            edge,
            "anonymous",
            answer.get_credential_id(),
            "passkey_unknown",
        )
        .await?;
        return Err(unknown());
    };
    let actor = owned.user.to_string();
    if ceremony
        .user_name
        .as_ref()
        .is_some_and(|name| *name != owned.user_name)
    {
        note_refusal(
            edge,
            &actor,
            answer.get_credential_id(),
            "passkey_other_user",
        )
        .await?;
        return Err(unknown());
    }
    let used = match edge.passkeys.verify(
        answer,
        challenge,
        &owned.credential,
        owned.user,
        UserHandle::Required,
    ) {
        Ok(used) => used,
        Err(error) => {
            return Err(refuse_use(edge, &actor, answer.get_credential_id(), &error).await?);
        }
    };
    let token = Token::draw().map_err(|error| Refusal::internal(&error))?;
    let mut transaction = edge.store.begin().await?;
    if !accounts::store_use(&mut transaction, &used).await? {
        drop(transaction);
        return Err(refuse_use(
            edge,
            &actor,
            answer.get_credential_id(),
            &PasskeyError::Cloned,
        )
        .await?);
    }
    sessions::open(
        &mut transaction,
        &token,
        owned.user,
        edge.config.session.absolute_seconds,
    )
    .await?;
    let detail = json!({"credential": hex::encode(&used.cred_id)});
    audit::append(
        &mut transaction,
        Entry {
            event: "session.opened",
            actor: &actor,
            subject: &actor,
            detail,
        },
    )
    .await?;
    transaction.commit().await?;
    Ok((token, json!({"user_name": owned.user_name})))
}

pub async fn logout(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
) -> Result<impl IntoResponse, Refusal> {
    let mut transaction = edge.store.begin().await?;
    sessions::close(&mut transaction, session.hash).await?;
    let actor = session.user.to_string();
    audit::append(
        &mut transaction,
        Entry {
            event: "session.closed",
            actor: &actor,
            subject: &actor,
            detail: json!({}),
        },
    )
    .await?;
    transaction.commit().await?;
    Ok((
        AppendHeaders([(header::SET_COOKIE, edge.cookies.clear(Cookie::Session))]),
        StatusCode::NO_CONTENT,
    ))
}

/// Records a refused assertion; a passkey whose counter went back is blocked from then on.
pub(super) async fn refuse_use(
    edge: &Edge,
    actor: &str,
    credential: &[u8],
    error: &PasskeyError,
) -> Result<Refusal, Refusal> {
    if matches!(error, PasskeyError::Cloned) {
        let mut transaction = edge.store.begin().await?;
        accounts::freeze(&mut transaction, credential).await?;
        let subject = hex::encode(credential);
        audit::append(
            &mut transaction,
            Entry {
                event: "passkey.frozen",
                actor,
                subject: &subject,
                detail: json!({}),
            },
        )
        .await?;
        transaction.commit().await?;
    } else {
        note_refusal(edge, actor, credential, error.code()).await?;
    }
    Ok(refused(error))
}

async fn note_refusal(
    edge: &Edge,
    actor: &str,
    credential: &[u8],
    code: &str,
) -> Result<(), sqlx::Error> {
    // An id of any length can be claimed; the audit keeps what identifies it.
    let subject = hex::encode(&credential[..credential.len().min(64)]);
    audit::record(
        &edge.store,
        Entry {
            event: "passkey.refused",
            actor,
            subject: &subject,
            detail: json!({"code": code}),
        },
    )
    .await
}

fn unknown() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "passkey_unknown",
        "This passkey does not open this account.",
        "Choose the passkey that you registered here, or register first.",
    )
}
