//! What a passkey signs when it approves a transaction.
//!
//! WebAuthn lets the server choose the challenge. Ours is a hash over everything the approval means, so that the signature
//! cannot be moved to another transaction, user, cluster, policy or time. It stays unpredictable through the nonce.
//!
//! Every part has a fixed length or is hashed to one, so that no two different sets of terms share an encoding.

use sha2::{Digest, Sha256};
use uuid::Uuid;

const TAG: &[u8; 32] = b"heliograph/approval/send-sol/v1\0";

/// Everything one approval commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalTerms<'a> {
    /// Genesis hash of the cluster: an approval for a test cluster is worth nothing on another.
    pub genesis: [u8; 32],
    pub approval: Uuid,
    /// Drawn for this approval alone.
    pub nonce: [u8; 16],
    pub user: Uuid,
    /// Hash of the policy and limits in force when the user was asked.
    pub policy_version: [u8; 32],
    /// Unix seconds of the database clock.
    pub expires_unix: i64,
    /// The exact bytes that will be signed for the network.
    pub message: &'a [u8],
    /// The exact text shown to the user.
    pub intent: &'a str,
}

impl ApprovalTerms<'_> {
    pub fn challenge(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(TAG);
        hash.update(self.genesis);
        hash.update(self.approval.as_bytes());
        hash.update(self.nonce);
        hash.update(self.user.as_bytes());
        hash.update(self.policy_version);
        hash.update(self.expires_unix.to_be_bytes());
        hash.update(Sha256::digest(self.message));
        hash.update(Sha256::digest(self.intent.as_bytes()));
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms<'a>(message: &'a [u8], intent: &'a str) -> ApprovalTerms<'a> {
        ApprovalTerms {
            genesis: [1; 32],
            approval: Uuid::from_u128(2),
            nonce: [3; 16],
            user: Uuid::from_u128(4),
            policy_version: [5; 32],
            expires_unix: 6,
            message,
            intent,
        }
    }

    #[test]
    fn every_term_changes_the_challenge() {
        let base = terms(b"message", "intent");
        let variants = [
            ApprovalTerms {
                genesis: [9; 32],
                ..base.clone()
            },
            ApprovalTerms {
                approval: Uuid::from_u128(9),
                ..base.clone()
            },
            ApprovalTerms {
                nonce: [9; 16],
                ..base.clone()
            },
            ApprovalTerms {
                user: Uuid::from_u128(9),
                ..base.clone()
            },
            ApprovalTerms {
                policy_version: [9; 32],
                ..base.clone()
            },
            ApprovalTerms {
                expires_unix: 9,
                ..base.clone()
            },
            ApprovalTerms {
                message: b"Message",
                ..base.clone()
            },
            ApprovalTerms {
                intent: "Intent",
                ..base.clone()
            },
        ];
        let mut seen = std::collections::HashSet::from([base.challenge()]);
        for variant in variants {
            assert!(
                seen.insert(variant.challenge()),
                "{variant:?} shares a challenge with another set of terms"
            );
        }
    }

    /// The layout is a promise to whoever checks evidence later with another program.
    #[test]
    fn the_layout_is_the_documented_one() {
        let mut plain = TAG.to_vec();
        plain.extend([1; 32]);
        plain.extend(2u128.to_be_bytes());
        plain.extend([3; 16]);
        plain.extend(4u128.to_be_bytes());
        plain.extend([5; 32]);
        plain.extend(6i64.to_be_bytes());
        plain.extend(Sha256::digest(b"message"));
        plain.extend(Sha256::digest(b"intent"));
        let expected: [u8; 32] = Sha256::digest(plain).into();
        assert_eq!(terms(b"message", "intent").challenge(), expected);
    }

    proptest! {
        #[test]
        fn flipping_any_bit_of_the_message_changes_the_challenge(
            message in proptest::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0u8..8
        ) {
            let mut other = message.clone();
            other[at.index(message.len())] ^= 1 << bit;
            prop_assert_ne!(terms(&message, "i").challenge(), terms(&other, "i").challenge());
        }
    }
}
