//! Encoded text → a transaction worth sending, or the reason why not and what to do about it.
//!
//! Everything a leader would reject without executing is rejected here, before it is stored: size, form, every signature.
//! Pure. The bytes that are sent later are the bytes that came in, proven to be the canonical form.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use event_schema::{Blockhash, Pubkey, Signature};
use solana_message::{VersionedMessage, v1};
use solana_transaction::versioned::VersionedTransaction;

/// Largest legacy or v0 transaction, bytes: `PACKET_DATA_SIZE` of solana-packet 4.2.0 (1280 − 40 − 8).
pub const LEGACY_SIZE_MAX: usize = 1232;
/// Largest v1 transaction, bytes: `MAX_TRANSACTION_SIZE` of solana-message 4.4 (SIMD-0385).
pub const V1_SIZE_MAX: usize = v1::MAX_TRANSACTION_SIZE;
/// Longest base58 text, characters: `MAX_BASE58_SIZE` of solana-rpc 4.2.2. Base58 stays at the legacy size.
pub const BASE58_LENGTH_MAX: usize = 1683;
/// Longest base64 text of a v1 transaction, characters: ⌈4096 / 3⌉ · 4.
pub const BASE64_LENGTH_MAX: usize = V1_SIZE_MAX.div_ceil(3) * 4;

/// How the text encodes the transaction's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Base58,
    Base64,
}

impl Encoding {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base58 => "base58",
            Self::Base64 => "base64",
        }
    }
}

/// A transaction that leaders would at least try: well formed, within its version's size, every signature true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    pub signature: Signature,
    /// The bytes on the wire.
    pub wire: Bytes,
    /// `None` for legacy.
    pub version: Option<u8>,
    /// A recent blockhash; the nonce's value when `nonce_account` is there.
    pub blockhash: Blockhash,
    pub fee_payer: Pubkey,
    /// Set when the first instruction advances a durable nonce.
    pub nonce_account: Option<Pubkey>,
}

/// Why a transaction is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the {} text is {length} characters long, the limit is {limit}", .encoding.name())]
    TextTooLong {
        encoding: Encoding,
        length: usize,
        limit: usize,
    },
    #[error("invalid {} encoding: {problem}", .encoding.name())]
    Encoding { encoding: Encoding, problem: String },
    #[error("the transaction is {size} bytes, the limit for {version} is {limit} bytes")]
    TooLarge {
        version: &'static str,
        size: usize,
        limit: usize,
    },
    #[error("failed to deserialize the transaction: {0}")]
    Malformed(String),
    #[error("the transaction does not hold together: {0}")]
    Unsanitary(String),
    #[error("account {0} is listed twice")]
    DuplicateAccount(Pubkey),
    #[error(
        "Transaction signature verification failure: signature {index} does not sign this message with the key {signer}"
    )]
    Signature { index: usize, signer: Pubkey },
}

impl Refusal {
    /// What the sender of the request should do.
    pub fn fix(&self) -> String {
        match self {
            Self::TextTooLong { encoding: Encoding::Base58, .. } => {
                "send it as base64 (set \"encoding\": \"base64\"); base58 is for legacy and v0 transactions only".into()
            }
            Self::TextTooLong { .. } | Self::TooLarge { .. } => {
                "use fewer accounts or instructions, an address lookup table, or split the transaction".into()
            }
            Self::Encoding { .. } => {
                "encode the serialized transaction, and name the encoding in the second parameter: {\"encoding\": \"base64\"}; the default is base58".into()
            }
            Self::Malformed(_) => {
                "send the whole signed transaction (signatures and message), not only its message, with nothing after it".into()
            }
            Self::Unsanitary(_) | Self::DuplicateAccount(_) => {
                "build the message with a Solana library and sign it again".into()
            }
            Self::Signature { .. } => {
                "sign the message again after its last change (a new blockhash is a change), with the key of every required signer".into()
            }
        }
    }

    /// True when it is the signatures that are wrong, not the form.
    pub fn is_signature_failure(&self) -> bool {
        matches!(self, Self::Signature { .. })
    }
}

/// Decodes, checks and verifies `text`.
pub fn decode(text: &str, encoding: Encoding) -> Result<SignedTransaction, Refusal> {
    let wire = decode_text(text, encoding)?;
    check_size(&wire, encoding)?;
    let transaction: VersionedTransaction = wincode::deserialize_exact(&wire[..])
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let canonical =
        wincode::serialize(&transaction).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if canonical != wire {
        return Err(Refusal::Malformed(
            "the bytes are not the canonical form of the transaction they decode to".into(),
        ));
    }
    check(transaction, wire.into())
}

fn decode_text(text: &str, encoding: Encoding) -> Result<Vec<u8>, Refusal> {
    let limit = match encoding {
        Encoding::Base58 => BASE58_LENGTH_MAX,
        Encoding::Base64 => BASE64_LENGTH_MAX,
    };
    // Before decoding: base58 takes time that grows with the square of the length.
    if text.len() > limit {
        return Err(Refusal::TextTooLong {
            encoding,
            length: text.len(),
            limit,
        });
    }
    let wrong = |problem: String| Refusal::Encoding { encoding, problem };
    match encoding {
        Encoding::Base58 => bs58::decode(text)
            .into_vec()
            .map_err(|error| wrong(error.to_string())),
        Encoding::Base64 => BASE64_STANDARD
            .decode(text)
            .map_err(|error| wrong(error.to_string())),
    }
}

fn check_size(wire: &[u8], encoding: Encoding) -> Result<(), Refusal> {
    let is_v1 = wire.first() == Some(&v1::V1_PREFIX);
    let (version, limit) = match (is_v1, encoding) {
        (true, Encoding::Base64) => ("version 1", V1_SIZE_MAX),
        (true, Encoding::Base58) => ("base58", LEGACY_SIZE_MAX),
        (false, _) => ("legacy and version 0", LEGACY_SIZE_MAX),
    };
    if wire.len() > limit {
        return Err(Refusal::TooLarge {
            version,
            size: wire.len(),
            limit,
        });
    }
    Ok(())
}

fn check(transaction: VersionedTransaction, wire: Bytes) -> Result<SignedTransaction, Refusal> {
    transaction
        .sanitize()
        .map_err(|error| Refusal::Unsanitary(error.to_string()))?;
    let message = &transaction.message;
    let keys = message.static_account_keys();
    let mut seen = std::collections::HashSet::with_capacity(keys.len());
    if let Some(twice) = keys.iter().find(|key| !seen.insert(**key)) {
        return Err(Refusal::DuplicateAccount(Pubkey(twice.to_bytes())));
    }
    let verified = transaction.verify_with_results();
    if let Some(index) = verified.iter().position(|ok| !ok) {
        // Sanitizing has shown that there is a static key for every signature.
        return Err(Refusal::Signature {
            index,
            signer: Pubkey(keys[index].to_bytes()),
        });
    }
    let (Some(signature), Some(fee_payer)) = (transaction.signatures.first(), keys.first()) else {
        return Err(Refusal::Unsanitary("it has no signature".into()));
    };
    Ok(SignedTransaction {
        signature: Signature((*signature).into()),
        wire,
        version: match message {
            VersionedMessage::Legacy(_) => None,
            VersionedMessage::V0(_) => Some(0),
            VersionedMessage::V1(_) => Some(1),
        },
        blockhash: Blockhash(message.recent_blockhash().to_bytes()),
        fee_payer: Pubkey(fee_payer.to_bytes()),
        nonce_account: nonce_account(&transaction),
    })
}

fn nonce_account(transaction: &VersionedTransaction) -> Option<Pubkey> {
    if !transaction.uses_durable_nonce() {
        return None;
    }
    let message = &transaction.message;
    let index = *message.instructions().first()?.accounts.first()?;
    let key = message.static_account_keys().get(usize::from(index))?;
    Some(Pubkey(key.to_bytes()))
}

#[cfg(test)]
mod tests;
