//! The action "send SOL": begin shows exactly what will be signed, finish takes the passkey's word for it.

use super::body::Body;
use super::login::refuse_use;
use super::signed_in::SignedIn;
use crate::accounts;
use crate::approvals::{self, Approval, Problem, Reservation, State as Step};
use crate::audit::{self, Entry};
use crate::edge::Edge;
use crate::intent::{AmountError, Decoded, SendAmount, SendSol, Sol, signed_wire};
use crate::outbox;
use crate::passkeys::{PasskeyError, UserHandle};
use crate::policy::{Denial, Verdict};
use crate::refusal::Refusal;
use crate::sessions::Session;
use crate::store;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use solana_address::Address;
use std::sync::Arc;
use uuid::Uuid;
use webauthn_rs_core::proto::PublicKeyCredential;

const LIST_MAX: i64 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    to: String,
    /// A string: JSON numbers lose precision beyond 2^53 in browsers.
    lamports: String,
}

pub async fn begin(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
    Body(request): Body<Begin>,
) -> Result<Json<Value>, Refusal> {
    edge.rates.account(session.user)?;
    let send = SendSol {
        from: edge.custody.wallet(session.user),
        to: read_address(&request.to)?,
        amount: request.lamports.parse().map_err(amount_refusal)?,
    };
    let node = |error| Refusal::upstream("The Solana RPC node", &error);
    let (genesis, recent) =
        tokio::try_join!(edge.chain.genesis(), edge.chain.latest_blockhash()).map_err(node)?;
    let message = send
        .message(recent.hash)
        .map_err(|error| Refusal::internal(&error))?;
    // From here on only what the bytes say counts.
    let decoded = Decoded::read(&message).map_err(|error| Refusal::internal(&error))?;
    let fee = edge
        .chain
        .fee(&message)
        .await
        .map_err(node)?
        .ok_or_else(|| node_is_behind())?;
    if let Verdict::Denied(denial) = edge.policy.decide(session.user, &decoded, fee) {
        return Err(policy_refusal(&denial));
    }
    check_limit(&edge, &session, decoded.send.amount, fee).await?;
    check_funds(&edge, &session, &decoded, fee, &message).await?;

    let approval = Approval {
        id: Uuid::new_v4(),
        user: session.user,
        session_hash: session.hash.to_vec(),
        state: Step::Created,
        destination: decoded.send.to.to_string(),
        lamports: decoded.send.amount.lamports(),
        fee_lamports: fee,
        intent: decoded.canonical_text(&genesis, fee),
        message,
        genesis: genesis.to_bytes(),
        nonce: accounts::draw().map_err(|error| Refusal::internal(&error))?,
        policy_version: edge.policy.version(),
        expires_unix: store::now_unix(&edge.store).await?
            + i64::from(edge.config.limits.approval_seconds),
        last_valid_block_height: recent.last_valid_block_height,
        signature: None,
        wire: None,
        slot: None,
        commitment: None,
        problem: None,
        hand_attempts: 0,
        created_unix: 0,
    };
    let credentials = accounts::credentials_of(&edge.store, session.user).await?;
    approvals::create(&edge.store, &approval).await?;
    edge.metrics.sends.with_label_values(&["created"]).inc();
    Ok(Json(json!({
        "approval_id": approval.id,
        "message": STANDARD.encode(&approval.message),
        "summary": {
            "text": approval.intent,
            "from": decoded.send.from.to_string(),
            "to": approval.destination,
            "lamports": approval.lamports.to_string(),
            "fee_lamports": fee.to_string(),
            "total_lamports": (u128::from(approval.lamports) + u128::from(fee)).to_string(),
            "expires_unix": approval.expires_unix,
            "expires_in_seconds": edge.config.limits.approval_seconds,
            "policy_version": hex::encode(approval.policy_version),
        },
        "publicKey": edge.passkeys.request_options(approval.terms().challenge(), &credentials),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    approval_id: Uuid,
    credential: PublicKeyCredential,
}

pub async fn finish(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
    Body(request): Body<Finish>,
) -> Result<Json<Value>, Refusal> {
    let timer = edge.metrics.finish_seconds.start_timer();
    let approval = asserted(&edge, &session, &request).await?;
    decide(&edge, &approval).await?;
    match approvals::reserve(&edge.store, &approval, edge.config.limits.daily_lamports).await? {
        Reservation::Reserved => edge.metrics.sends.with_label_values(&["reserved"]).inc(),
        Reservation::OverLimit { free_lamports } => return Err(limit_refusal(free_lamports)),
        Reservation::Moved => return Err(already_used()),
    }
    let reserved = Approval {
        state: Step::Reserved,
        ..approval
    };
    // What cannot be done now, such as a sender that is away, the outbox does later: the user has approved.
    if let Err(error) = outbox::sign_and_hand(&edge, &reserved).await {
        tracing::warn!(approval = %reserved.id, %error, "the outbox will go on with it");
    }
    timer.observe_duration();
    let approval = approvals::find(&edge.store, reserved.id, session.user)
        .await?
        .ok_or_else(|| Refusal::not_found("send"))?;
    Ok(Json(view(&edge, &approval)))
}

/// The approval after its one valid assertion: every check that needs the passkey.
async fn asserted(edge: &Edge, session: &Session, request: &Finish) -> Result<Approval, Refusal> {
    let approval = approvals::find(&edge.store, request.approval_id, session.user)
        .await?
        // Another session of the same user did not see this summary.
        .filter(|approval| approval.session_hash == session.hash)
        .ok_or_else(|| Refusal::not_found("approval"))?;
    match approval.state {
        Step::Created => {}
        Step::Expired => return Err(expired()),
        _ => return Err(already_used()),
    }
    if store::now_unix(&edge.store).await? >= approval.expires_unix {
        return Err(expired());
    }
    if approval.policy_version != edge.policy.version() {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "policy_changed",
            "The rules changed since the summary was shown; nothing was sent.",
            "Start the transfer again.",
        ));
    }
    let answer = &request.credential;
    let actor = session.user.to_string();
    let owned = accounts::find_credential(&edge.store, answer.get_credential_id()).await?;
    let owned = match owned.filter(|owned| owned.user == session.user) {
        Some(owned) => owned,
        None => {
            return Err(refuse_use(
                edge,
                &actor,
                answer.get_credential_id(),
                &PasskeyError::OtherUser,
            )
            .await?);
        }
    };
    let challenge = approval.terms().challenge();
    let used = match edge.passkeys.verify(
        answer,
        challenge,
        &owned.credential,
        session.user,
        UserHandle::IfPresent,
    ) {
        Ok(used) => used,
        // The same answer, posted twice at once: the faster request has stored the counter already. That is no clone.
        Err(PasskeyError::Cloned) if !is_open(edge, &approval).await? => return Err(already_used()),
        Err(error) => {
            return Err(refuse_use(edge, &actor, answer.get_credential_id(), &error).await?);
        }
    };
    let mut transaction = edge.store.begin().await?;
    // The row decides between two requests with the same assertion, before the counter can call the slower one a clone.
    if !approvals::assert(&mut transaction, &approval, &evidence(answer, challenge)).await? {
        return Err(already_used());
    }
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
    transaction.commit().await?;
    Ok(Approval {
        state: Step::Asserted,
        ..approval
    })
}

async fn is_open(edge: &Edge, approval: &Approval) -> Result<bool, sqlx::Error> {
    let now = approvals::find(&edge.store, approval.id, approval.user).await?;
    Ok(now.is_some_and(|now| now.state == Step::Created))
}

/// What another program needs to check the approval years later.
fn evidence(answer: &PublicKeyCredential, challenge: [u8; 32]) -> Value {
    json!({
        "challenge": hex::encode(challenge),
        "credential": hex::encode(&answer.raw_id),
        "authenticator_data": STANDARD.encode(&answer.response.authenticator_data),
        "client_data_json": STANDARD.encode(&answer.response.client_data_json),
        "signature": STANDARD.encode(&answer.response.signature),
    })
}

/// The policy once more, on the stored bytes; a denial ends the approval.
async fn decide(edge: &Edge, approval: &Approval) -> Result<(), Refusal> {
    let verdict = match Decoded::read(&approval.message) {
        Ok(decoded) => edge
            .policy
            .decide(approval.user, &decoded, approval.fee_lamports),
        Err(error) => return Err(Refusal::internal(&error)),
    };
    let (event, by) = match &verdict {
        Verdict::Allowed { by } => ("policy.allowed", by),
        Verdict::Denied(denial) => ("policy.denied", &denial.by),
    };
    let detail = json!({"by": by, "version": hex::encode(edge.policy.version())});
    audit::record(
        &edge.store,
        Entry {
            event,
            actor: "edge",
            subject: &approval.id.to_string(),
            detail,
        },
    )
    .await?;
    let Verdict::Denied(denial) = verdict else {
        return Ok(());
    };
    approvals::settle_badly(
        &edge.store,
        approval,
        Step::Failed,
        &Problem::new("policy_denied", &denial.reason),
    )
    .await?;
    Err(policy_refusal(&denial))
}

pub async fn list(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
) -> Result<Json<Value>, Refusal> {
    let sends = approvals::list(&edge.store, session.user, LIST_MAX).await?;
    Ok(Json(
        json!({"sends": sends.iter().map(|approval| view(&edge, approval)).collect::<Vec<_>>()}),
    ))
}

pub async fn show(
    State(edge): State<Arc<Edge>>,
    SignedIn(session): SignedIn,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let id = id.parse().map_err(|_| Refusal::not_found("send"))?;
    let approval = approvals::find(&edge.store, id, session.user)
        .await?
        .ok_or_else(|| Refusal::not_found("send"))?;
    Ok(Json(view(&edge, &approval)))
}

fn view(edge: &Edge, approval: &Approval) -> Value {
    let ledger = |signature: &String| {
        format!(
            "{}/v1/transactions/{signature}",
            edge.config.ledger_url.trim_end_matches('/')
        )
    };
    json!({
        "id": approval.id,
        "state": approval.state.as_str(),
        "to": approval.destination,
        "lamports": approval.lamports.to_string(),
        "fee_lamports": approval.fee_lamports.to_string(),
        "signature": approval.signature,
        "slot": approval.slot,
        "commitment": approval.commitment,
        "problem": approval.problem.as_ref().map(|problem| json!({"code": problem.code, "message": problem.text})),
        "created_unix": approval.created_unix,
        "ledger_url": approval.signature.as_ref().map(ledger),
    })
}

fn read_address(text: &str) -> Result<Address, Refusal> {
    text.trim().parse().map_err(|_| {
        Refusal::bad_field(
            "to",
            "This is not a Solana address.",
            "Enter the 32 to 44 letters and digits of the destination's address.",
        )
    })
}

fn amount_refusal(error: AmountError) -> Refusal {
    let fix = match error {
        AmountError::NotANumber => {
            "Write whole lamports as a string of digits; one SOL is 1000000000 lamports."
        }
        AmountError::Zero => "Send at least one lamport.",
        AmountError::TooLarge => "Send a smaller amount.",
    };
    Refusal::bad_field(
        "lamports",
        format!("This amount is not possible: {error}."),
        fix,
    )
}

/// A first look, so that nobody is asked to approve in vain; the binding check is the reservation.
async fn check_limit(
    edge: &Edge,
    session: &Session,
    amount: SendAmount,
    fee: u64,
) -> Result<(), Refusal> {
    let spent = approvals::spent(&edge.store, session.user).await?;
    let free = u128::from(edge.config.limits.daily_lamports).saturating_sub(spent);
    if u128::from(amount.lamports()) + u128::from(fee) > free {
        return Err(limit_refusal(u64::try_from(free).unwrap_or(u64::MAX)));
    }
    Ok(())
}

/// Whether the network would take it: the balance for a clear sentence, the simulation for everything else.
async fn check_funds(
    edge: &Edge,
    session: &Session,
    decoded: &Decoded,
    fee: u64,
    message: &[u8],
) -> Result<(), Refusal> {
    let node = |error| Refusal::upstream("The Solana RPC node", &error);
    let balance = edge.chain.balance(&session.wallet).await.map_err(node)?;
    if u128::from(balance) < u128::from(decoded.send.amount.lamports()) + u128::from(fee) {
        return Err(Refusal {
            field: Some("lamports"),
            ..Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "insufficient_funds",
                format!(
                    "The wallet holds {} SOL; the transfer and its fee need more.",
                    Sol(balance)
                ),
                "Send less, or top up the wallet first.",
            )
        });
    }
    match edge
        .chain
        .simulate(&signed_wire(&[0; 64], message))
        .await
        .map_err(node)?
    {
        None => Ok(()),
        Some(error) => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "simulation_failed",
            format!("The network would refuse the transfer: {error}."),
            "A new account needs at least 0.00089088 SOL, and the wallet must keep as much or nothing; change the amount.",
        )),
    }
}

fn limit_refusal(free_lamports: u64) -> Refusal {
    Refusal {
        field: Some("lamports"),
        ..Refusal::new(
            StatusCode::FORBIDDEN,
            "daily_limit",
            format!(
                "The daily limit leaves {} SOL, fees included.",
                Sol(free_lamports)
            ),
            "Send less, or wait: what was sent 24 hours ago counts no more.",
        )
    }
}

fn policy_refusal(denial: &Denial) -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "policy_denied",
        &denial.reason,
        &denial.fix,
    )
}

fn expired() -> Refusal {
    Refusal::new(
        StatusCode::GONE,
        "approval_expired",
        "The approval took too long; nothing was sent.",
        "Start the transfer again and approve it within the time shown.",
    )
}

fn already_used() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "approval_used",
        "This transfer was approved or ended already.",
        "Look at its state in the list of sends; start a new one for another transfer.",
    )
}

fn node_is_behind() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "upstream_unavailable",
        "The Solana RPC node does not know its own newest blockhash.",
        "Try again in a moment.",
    )
}
