//! Carries approved transfers to their end, whatever happens to this process: signs what is reserved, hands over what is
//! signed, follows what is handed over. The finishing request takes the first steps itself; the loop does the rest, and
//! everything that a crash left behind.
//!
//! Every step can be repeated: signing is deterministic, handing over carries the approval id, and states move only forward.

use crate::approvals::{self, Approval, Problem, State};
use crate::edge::Edge;
use crate::intent::{Decoded, signed_wire};
use crate::json_rpc::RpcError;
use crate::sender::{self, SendState};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(500);
const BATCH: i64 = 64;

/// Runs until the service drains.
pub async fn run(edge: Arc<Edge>, drain: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::pin!(drain);
    let mut store_answers = true;
    loop {
        tokio::select! {
            () = &mut drain => return Ok(()),
            () = tokio::time::sleep(TICK) => {}
        }
        match approvals::lease_due(&edge.store, BATCH).await {
            Ok(due) => {
                store_answers = true;
                for approval in due {
                    if let Err(error) = advance(&edge, &approval).await {
                        tracing::warn!(approval = %approval.id, state = approval.state.as_str(), %error, "will be tried again");
                    }
                }
            }
            // Logged when it begins, not twice a second.
            Err(error) if store_answers => {
                store_answers = false;
                tracing::warn!(%error, "the database does not answer; sends wait");
            }
            Err(_) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Store(#[from] sqlx::Error),
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

async fn advance(edge: &Edge, approval: &Approval) -> Result<(), StepError> {
    match approval.state {
        State::Created => {
            let problem = Problem::new("not_approved", "No passkey approved it in time.");
            settle(edge, approval, State::Expired, &problem).await
        }
        State::Asserted => {
            let problem = Problem::new(
                "interrupted",
                "The service was interrupted before anything was signed; nothing was sent.",
            );
            settle(edge, approval, State::Failed, &problem).await
        }
        State::Reserved => sign_and_hand(edge, approval).await,
        State::Signed => hand(edge, approval).await,
        State::Handed | State::Landed => follow(edge, approval).await,
        State::Failed | State::Expired => Ok(()),
    }
}

/// reserved → signed → handed. Reads the message once more before the key touches it.
pub async fn sign_and_hand(edge: &Edge, approval: &Approval) -> Result<(), StepError> {
    let wallet = edge.custody.wallet(approval.user);
    let same = Decoded::read(&approval.message).is_ok_and(|decoded| {
        decoded.send.from == wallet
            && decoded.send.to.to_string() == approval.destination
            && decoded.send.amount.lamports() == approval.lamports
    });
    if !same {
        tracing::error!(approval = %approval.id, "the stored message is not the transfer that was approved; it was not signed");
        let problem = Problem::new(
            "message_mismatch",
            "The stored message is not the approved transfer; it was not signed.",
        );
        return settle(edge, approval, State::Failed, &problem).await;
    }
    let signature = edge.custody.sign(approval.user, &approval.message);
    let wire = signed_wire(&signature, &approval.message);
    let signature = bs58::encode(signature).into_string();
    if !approvals::sign(&edge.store, approval, &signature, &wire).await? {
        return Ok(());
    }
    let signed = Approval {
        state: State::Signed,
        signature: Some(signature),
        wire: Some(wire),
        ..approval.clone()
    };
    hand(edge, &signed).await
}

/// signed → handed, or failed when the sender refuses the transaction for good.
async fn hand(edge: &Edge, approval: &Approval) -> Result<(), StepError> {
    let (Some(signature), Some(wire)) = (&approval.signature, &approval.wire) else {
        tracing::error!(approval = %approval.id, "a signed approval without its transaction");
        return Ok(());
    };
    match edge.sender.send(wire, approval.id).await {
        Ok(answer) => {
            if answer != *signature {
                tracing::error!(approval = %approval.id, answer, "the sender answered another signature");
            }
            if approvals::hand(&edge.store, approval).await? {
                edge.metrics.sends.with_label_values(&["handed"]).inc();
            }
            Ok(())
        }
        // Refused at the first attempt, so no copy of it is anywhere else: it did not happen.
        Err(RpcError::Refused { code, message, .. })
            if sender::is_permanent(code) && approval.hand_attempts == 0 =>
        {
            let problem = Problem::new(
                "sender_refused",
                format!("The sender refused the transaction: {message}"),
            );
            settle(edge, approval, State::Failed, &problem).await
        }
        Err(error) => {
            approvals::count_hand_attempt(&edge.store, approval).await?;
            if edge
                .chain
                .can_never_land(signature, approval.last_valid_block_height)
                .await?
            {
                return settle(edge, approval, State::Expired, &expired()).await;
            }
            Err(error.into())
        }
    }
}

/// handed → landed → finalized, or failed, or expired: as the sender learns it from the canonical stream.
async fn follow(edge: &Edge, approval: &Approval) -> Result<(), StepError> {
    let Some(signature) = &approval.signature else {
        return Ok(());
    };
    let Some(status) = edge.sender.status(signature).await? else {
        // The sender lost it, or was never given it. What can still land is handed over again.
        if approval.state == State::Handed {
            if edge
                .chain
                .can_never_land(signature, approval.last_valid_block_height)
                .await?
            {
                return settle(edge, approval, State::Expired, &expired()).await;
            }
            if let Some(wire) = &approval.wire {
                edge.sender.send(wire, approval.id).await?;
            }
        }
        return Ok(());
    };
    match status.state {
        SendState::Accepted | SendState::Sending => {
            if approval.state == State::Landed {
                approvals::take_back(&edge.store, approval).await?;
            }
            Ok(())
        }
        // In a block that a fork can still replace by one in which it succeeds: what is reserved stays reserved.
        SendState::Failed | SendState::Expired if !status.settled => Ok(()),
        SendState::Landed => {
            if approvals::land(
                &edge.store,
                approval,
                status.slot,
                status.commitment.as_deref(),
            )
            .await?
                && approval.state != State::Landed
            {
                edge.metrics.sends.with_label_values(&["landed"]).inc();
            }
            Ok(())
        }
        SendState::Failed => {
            let why = match &status.error {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "no reason given".into(),
            };
            let problem = Problem::new(
                "failed_on_chain",
                format!("The network refused the transfer: {why}"),
            );
            settle(edge, approval, State::Failed, &problem).await
        }
        SendState::Expired => settle(edge, approval, State::Expired, &expired()).await,
    }
}

fn expired() -> Problem {
    Problem::new(
        "blockhash_expired",
        "The transaction did not land before its blockhash expired; no SOL was moved.",
    )
}

async fn settle(
    edge: &Edge,
    approval: &Approval,
    to: State,
    problem: &Problem,
) -> Result<(), StepError> {
    if approvals::settle_badly(&edge.store, approval, to, problem).await? {
        edge.metrics.sends.with_label_values(&[to.as_str()]).inc();
    }
    Ok(())
}
