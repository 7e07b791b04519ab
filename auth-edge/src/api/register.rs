//! A new account: a name, a passkey, and a wallet of its own.

use super::body::Body;
use super::signed_in::Browser;
use crate::accounts::{self, Ceremony, CeremonyKind, CreateError, UserName};
use crate::audit::{self, Entry};
use crate::edge::Edge;
use crate::passkeys::PasskeyError;
use crate::refusal::Refusal;
use crate::sessions::{Cookie, Token};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;
use webauthn_rs_core::proto::RegisterPublicKeyCredential;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    user_name: String,
}

pub async fn begin(
    State(edge): State<Arc<Edge>>,
    Body(request): Body<Begin>,
) -> Result<impl IntoResponse, Refusal> {
    let name = UserName::read(&request.user_name).ok_or_else(|| {
        Refusal::bad_field(
            "user_name",
            "This is not a possible user name.",
            UserName::RULE,
        )
    })?;
    let user = Uuid::new_v4();
    let registration = edge
        .passkeys
        .begin_registration(user, name.as_str())
        .map_err(|error| Refusal::internal(&error))?;
    let browser = Token::draw().map_err(|error| Refusal::internal(&error))?;
    let seconds = edge.config.limits.ceremony_seconds;
    let ceremony = Ceremony {
        kind: CeremonyKind::Register,
        browser_hash: browser.hash(),
        user: Some(user),
        user_name: Some(name.as_str().to_owned()),
        state: registration.state,
    };
    let id = accounts::begin_ceremony(&edge.store, &ceremony, seconds).await?;
    let cookie = edge.cookies.set(Cookie::Browser, &browser, seconds);
    let answer = json!({"ceremony_id": id, "publicKey": registration.options.public_key});
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(answer)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    ceremony_id: Uuid,
    credential: RegisterPublicKeyCredential,
}

pub async fn finish(
    State(edge): State<Arc<Edge>>,
    Browser(browser): Browser,
    Body(request): Body<Finish>,
) -> Result<impl IntoResponse, Refusal> {
    let outcome = register(&edge, browser, &request).await;
    edge.metrics
        .registrations
        .with_label_values(&[if outcome.is_ok() { "ok" } else { "refused" }])
        .inc();
    Ok((StatusCode::CREATED, Json(outcome?)))
}

async fn register(edge: &Edge, browser: Option<Token>, request: &Finish) -> Result<Value, Refusal> {
    let browser = browser.ok_or_else(no_ceremony)?;
    let ceremony = accounts::take_ceremony(
        &edge.store,
        request.ceremony_id,
        CeremonyKind::Register,
        browser.hash(),
    )
    .await?
    .ok_or_else(no_ceremony)?;
    let (Some(user), Some(name)) = (ceremony.user, ceremony.user_name) else {
        return Err(no_ceremony());
    };
    let credential = match edge
        .passkeys
        .finish_registration(&request.credential, ceremony.state)
    {
        Ok(credential) => credential,
        Err(error) => {
            let detail = json!({"code": error.code(), "problem": error.to_string()});
            let entry = Entry {
                event: "registration.refused",
                actor: "anonymous",
                subject: &name,
                detail,
            };
            audit::record(&edge.store, entry).await?;
            return Err(refused(&error));
        }
    };
    let wallet = edge.custody.wallet(user).to_string();
    let mut transaction = edge.store.begin().await?;
    accounts::create_user(&mut transaction, user, &name, &wallet, &credential)
        .await
        .map_err(|error| match error {
            CreateError::NameTaken => Refusal {
                field: Some("user_name"),
                ..Refusal::new(
                    StatusCode::CONFLICT,
                    "name_taken",
                    format!("The user name {name} is taken."),
                    "Choose another one.",
                )
            },
            CreateError::CredentialTaken => Refusal::new(
                StatusCode::CONFLICT,
                "passkey_taken",
                "This passkey is registered already.",
                "Log in with it instead.",
            ),
            CreateError::Store(error) => error.into(),
        })?;
    let detail =
        json!({"name": name, "wallet": wallet, "credential": hex::encode(&credential.cred_id)});
    let actor = user.to_string();
    audit::append(
        &mut transaction,
        Entry {
            event: "user.registered",
            actor: &actor,
            subject: &actor,
            detail,
        },
    )
    .await?;
    transaction.commit().await?;
    Ok(json!({"user_name": name, "wallet_address": wallet}))
}

pub(super) fn no_ceremony() -> Refusal {
    Refusal::new(
        StatusCode::GONE,
        "no_ceremony",
        "There is no such request waiting: it was answered already, took too long, or was begun in another browser.",
        "Start again.",
    )
}

/// What the user is told when a passkey's answer does not hold. The details are in the audit.
pub(super) fn refused(error: &PasskeyError) -> Refusal {
    let fix = match error {
        PasskeyError::UserNotVerified => "Use a passkey that asks for a PIN, fingerprint or face.",
        PasskeyError::Cloned => "Ask the operator: this passkey is blocked until it is replaced.",
        PasskeyError::ClientData(_) => "Open the page by its own address, not inside another page.",
        _ => "Start again, with the passkey of this account.",
    };
    Refusal::new(
        StatusCode::FORBIDDEN,
        error.code(),
        format!("The passkey was not accepted: {error}."),
        fix,
    )
}
