//! Asks the validator what the stream cannot tell, and draws only the conclusions its answers bear.
//!
//! Few transactions come here: an unknown blockhash, a hole in the stream, a durable nonce. A question without an answer
//! is asked again later; no answer is ever taken for "no".

use event_schema::{Blockhash, Signature};

use crate::{
    book::{DeliveryId, Question},
    delivery::{Commitment, Landing, Lifetime},
    validator::{AskError, Validator},
};

/// Questions asked in one round; the rest wait for the next.
const QUESTIONS_PER_ROUND: usize = 64;

/// What follows from the validator's answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Lifetime(DeliveryId, Lifetime),
    Landed(DeliveryId, Landing),
    Absent(DeliveryId),
}

/// Asks one after the other, and stops at the first that fails: the next would too.
pub async fn ask(validator: &Validator, questions: Vec<Question>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for question in questions.into_iter().take(QUESTIONS_PER_ROUND) {
        match ask_one(validator, question).await {
            Ok(answer) => answers.extend(answer),
            Err(error) => {
                tracing::warn!(%error, "the validator could not be asked; later again");
                break;
            }
        }
    }
    answers
}

async fn ask_one(validator: &Validator, question: Question) -> Result<Option<Answer>, AskError> {
    match question {
        Question::Lifetime { id, blockhash } => lifetime(validator, id, &blockhash).await,
        Question::Absence {
            id,
            signature,
            blockhash,
        } => {
            // A validator that still takes the blockhash is behind, or the range was guessed too early.
            if validator.is_blockhash_valid(&blockhash).await? {
                return Ok(None);
            }
            history(validator, id, &signature).await
        }
        Question::Nonce {
            id,
            signature,
            account,
            value,
        } => match validator.nonce_value(&account).await? {
            // Finalized with another value: whatever used it before is finalized too, and in the history.
            Some(now) if now != value => history(validator, id, &signature).await,
            // Unchanged, or not finalized yet.
            _ => Ok(None),
        },
    }
}

async fn lifetime(
    validator: &Validator,
    id: DeliveryId,
    blockhash: &Blockhash,
) -> Result<Option<Answer>, AskError> {
    // Validity first: the height read after it cannot be too low for it.
    let valid = validator.is_blockhash_valid(blockhash).await?;
    let height = validator.block_height().await?;
    tracing::debug!(%blockhash, valid, height, "a blockhash that the stream has not told");
    Ok(Some(Answer::Lifetime(id, Lifetime::seen_at(height, valid))))
}

async fn history(
    validator: &Validator,
    id: DeliveryId,
    signature: &Signature,
) -> Result<Option<Answer>, AskError> {
    Ok(match validator.signature_status(signature).await? {
        None => Some(Answer::Absent(id)),
        Some(status) if status.finalized => Some(Answer::Landed(
            id,
            Landing {
                slot: status.slot,
                // The history does not tell which; zero means not known.
                blockhash: Blockhash::default(),
                commitment: Commitment::Finalized,
                error: status.error,
            },
        )),
        Some(_) => None,
    })
}
