//! Whether an action is allowed, decided by Cedar policies from a file.
//!
//! Cedar skips a `forbid` that fails to evaluate, so an overflow in it would let the request pass. Here any evaluation error
//! denies. Cedar counts in signed 64 bits; [`crate::intent::SendAmount`] keeps larger amounts from ever getting here.
//!
//! Deliberately not here: limits over time. A policy sees one request; what was spent before is counted under a row lock by
//! [`crate::approvals`].

use crate::intent::Decoded;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet,
    Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::str::FromStr;
use uuid::Uuid;

const SCHEMA: &str = include_str!("policy/schema.cedarschema");
const DEFAULT: &str = include_str!("policy/default.cedar");

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("policy_file {path}: {problem}")]
    Unreadable { path: String, problem: String },
    #[error("policy_file {path} is not valid Cedar: {problem}")]
    Malformed { path: String, problem: String },
    #[error("policy_file {path} does not fit the request schema: {problem}")]
    Mismatch { path: String, problem: String },
    #[error(
        "policy_file {path} permits nothing, so every send would be refused; add a permit policy"
    )]
    Empty { path: String },
}

/// A policy set in force, with the hash that approvals commit to.
pub struct Policy {
    set: PolicySet,
    schema: Schema,
    version: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed { by: Vec<String> },
    Denied(Denial),
}

/// Why a request was refused, for the user and for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Ids of the deciding policies; empty when nothing permitted the request.
    pub by: Vec<String>,
    pub reason: String,
    pub fix: String,
}

impl Policy {
    /// Reads and checks the policies in `path`, or the built-in default for an empty path. `limits` is the canonical text of
    /// the limits enforced elsewhere: they are part of what the user approves under.
    pub fn load(path: &str, limits: &str) -> Result<Self, PolicyError> {
        if path.is_empty() {
            return Self::parse("(built-in default)", DEFAULT, limits);
        }
        let text =
            std::fs::read_to_string(Path::new(path)).map_err(|error| PolicyError::Unreadable {
                path: path.into(),
                problem: error.to_string(),
            })?;
        Self::parse(path, &text, limits)
    }

    pub fn parse(path: &str, text: &str, limits: &str) -> Result<Self, PolicyError> {
        let path = path.to_owned();
        let set = PolicySet::from_str(text).map_err(|error| PolicyError::Malformed {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .expect("the built-in schema is valid: a test parses it");
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !checked.validation_passed() {
            let problem = checked
                .validation_errors()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            return Err(PolicyError::Mismatch { path, problem });
        }
        if !set
            .policies()
            .any(|policy| policy.effect() == cedar_policy::Effect::Permit)
        {
            return Err(PolicyError::Empty { path });
        }
        let mut version = Sha256::new();
        for part in [SCHEMA, text, limits] {
            version.update((part.len() as u64).to_be_bytes());
            version.update(part);
        }
        Ok(Self {
            set,
            schema,
            version: version.finalize().into(),
        })
    }

    /// SHA-256 over schema, policies and limits, each preceded by its length.
    pub fn version(&self) -> [u8; 32] {
        self.version
    }

    /// May `user` make this transfer? Facts come from the decoded message, never from the request that asked for it.
    pub fn decide(&self, user: Uuid, decoded: &Decoded, fee_lamports: u64) -> Verdict {
        let Some(request) = self.request(user, decoded, fee_lamports) else {
            return Verdict::Denied(Denial::unevaluable(Vec::new()));
        };
        let response = Authorizer::new().is_authorized(&request, &self.set, &Entities::empty());
        let errors: Vec<String> = response
            .diagnostics()
            .errors()
            .map(ToString::to_string)
            .collect();
        if !errors.is_empty() {
            tracing::error!(
                ?errors,
                "a policy failed to evaluate; the request is refused: correct the policy file"
            );
            return Verdict::Denied(Denial::unevaluable(errors));
        }
        let mut ids: Vec<_> = response.diagnostics().reason().collect();
        ids.sort();
        let by = ids
            .iter()
            .map(|id| {
                self.set
                    .annotation(id, "id")
                    .unwrap_or(id.as_ref())
                    .to_owned()
            })
            .collect();
        if response.decision() == Decision::Allow {
            return Verdict::Allowed { by };
        }
        let said = |key: &str| {
            ids.iter()
                .find_map(|id| self.set.annotation(id, key))
                .map(str::to_owned)
        };
        let reason =
            said("refusal").unwrap_or_else(|| "The policy does not allow this transfer.".into());
        let fix =
            said("fix").unwrap_or_else(|| "Ask the operator which transfers are allowed.".into());
        Verdict::Denied(Denial { by, reason, fix })
    }

    fn request(&self, user: Uuid, decoded: &Decoded, fee_lamports: u64) -> Option<Request> {
        let uid = |kind: &str, id: &str| {
            Some(EntityUid::from_type_name_and_id(
                kind.parse::<EntityTypeName>().ok()?,
                EntityId::new(id),
            ))
        };
        let text = |value: String| RestrictedExpression::new_string(value);
        let send = &decoded.send;
        let context = Context::from_pairs([
            ("sender".to_owned(), text(send.from.to_string())),
            ("destination".to_owned(), text(send.to.to_string())),
            (
                "lamports".to_owned(),
                RestrictedExpression::new_long(send.amount.as_signed()),
            ),
            (
                "fee_lamports".to_owned(),
                RestrictedExpression::new_long(i64::try_from(fee_lamports).ok()?),
            ),
            (
                "programs".to_owned(),
                RestrictedExpression::new_set(
                    decoded
                        .programs
                        .iter()
                        .map(|program| text(program.to_string())),
                ),
            ),
        ])
        .ok()?;
        Request::new(
            uid("User", &user.to_string())?,
            uid("Action", "send_sol")?,
            uid("Wallet", &send.to.to_string())?,
            context,
            Some(&self.schema),
        )
        .ok()
    }
}

impl Denial {
    fn unevaluable(by: Vec<String>) -> Self {
        Self {
            by,
            reason: "The policy could not be evaluated, so nothing was allowed.".into(),
            fix: "Tell the operator to correct the policy file.".into(),
        }
    }
}

#[cfg(test)]
mod tests;
