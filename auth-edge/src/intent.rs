//! The one action the edge knows: send SOL. From what the user asked for to message bytes, and back from the bytes to what
//! they really do. The text the user reads is always made from the decoded bytes, never from the request.

use solana_address::Address;
use solana_hash::Hash;
use solana_message::{VersionedMessage, v0};
use solana_system_interface::instruction::transfer;
use std::fmt;
use std::str::FromStr;

/// Lamports in one SOL.
pub const LAMPORTS_PER_SOL: u64 = 1_000_000_000;

const SYSTEM_PROGRAM: Address = Address::new_from_array([0; 32]);
/// Little-endian tag of `SystemInstruction::Transfer`, then the lamports as a little-endian u64.
const TRANSFER_TAG: [u8; 4] = [2, 0, 0, 0];

/// Lamports to send: at least 1 and at most `i64::MAX`, because the policy engine counts in signed 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendAmount(u64);

impl SendAmount {
    pub const MAX: u64 = i64::MAX as u64;

    pub fn new(lamports: u64) -> Result<Self, AmountError> {
        match lamports {
            0 => Err(AmountError::Zero),
            1..=Self::MAX => Ok(Self(lamports)),
            _ => Err(AmountError::TooLarge),
        }
    }

    pub fn lamports(self) -> u64 {
        self.0
    }

    /// The same number for the policy engine; cannot overflow by construction.
    pub fn as_signed(self) -> i64 {
        self.0 as i64
    }
}

impl FromStr for SendAmount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || text.len() > 39 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotANumber);
        }
        // Only too many digits can fail here: an all-digit text that does not fit u64 is too large, not malformed.
        Self::new(text.parse().map_err(|_| AmountError::TooLarge)?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("the amount is not a whole number of lamports")]
    NotANumber,
    #[error("the amount is zero")]
    Zero,
    #[error("the amount is above {max} lamports", max = SendAmount::MAX)]
    TooLarge,
}

/// Shows lamports as SOL, exactly, without trailing zeros.
pub struct Sol(pub u64);

impl fmt::Display for Sol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / LAMPORTS_PER_SOL, self.0 % LAMPORTS_PER_SOL);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{rest:09}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// A transfer of SOL between two addresses, paid for by the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSol {
    pub from: Address,
    pub to: Address,
    pub amount: SendAmount,
}

/// What a message really does, as read from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub send: SendSol,
    pub blockhash: Hash,
    /// Every program the message calls.
    pub programs: Vec<Address>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message cannot be built: {0}")]
    Compile(String),
    #[error("the message bytes are not a well-formed message: {0}")]
    Malformed(String),
    #[error("the message is not encoded in the one canonical way")]
    NotCanonical,
    #[error("the message does something else than one transfer of SOL: {0}")]
    NotASend(&'static str),
}

impl SendSol {
    /// The v0 message that makes this transfer, as the bytes to sign.
    pub fn message(&self, blockhash: Hash) -> Result<Vec<u8>, MessageError> {
        let instruction = transfer(&self.from, &self.to, self.amount.lamports());
        let message = v0::Message::try_compile(&self.from, &[instruction], &[], blockhash)
            .map_err(|error| MessageError::Compile(error.to_string()))?;
        Ok(VersionedMessage::V0(message).serialize())
    }
}

impl Decoded {
    /// Reads the bytes back, and refuses whatever is not exactly one plain transfer.
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        let message: VersionedMessage = wincode::deserialize(bytes)
            .map_err(|error| MessageError::Malformed(error.to_string()))?;
        if message.serialize() != bytes {
            return Err(MessageError::NotCanonical);
        }
        message
            .sanitize()
            .map_err(|error| MessageError::Malformed(error.to_string()))?;
        if matches!(message, VersionedMessage::V1(_)) {
            return Err(MessageError::NotASend(
                "its version carries fee settings that the approval text does not show",
            ));
        }
        if message
            .address_table_lookups()
            .is_some_and(|lookups| !lookups.is_empty())
        {
            return Err(MessageError::NotASend(
                "it loads addresses from a lookup table",
            ));
        }
        if message.header().num_required_signatures != 1 {
            return Err(MessageError::NotASend("it needs more than one signature"));
        }
        let keys = message.static_account_keys();
        let [instruction] = message.instructions() else {
            return Err(MessageError::NotASend(
                "it does not have exactly one instruction",
            ));
        };
        if keys.len() > 3 {
            return Err(MessageError::NotASend(
                "it lists accounts that the transfer does not use",
            ));
        }
        let key = |index: u8| keys.get(usize::from(index)).copied();
        let program = key(instruction.program_id_index)
            .ok_or(MessageError::NotASend("it calls an unlisted program"))?;
        if program != SYSTEM_PROGRAM {
            return Err(MessageError::NotASend(
                "it calls another program than the system program",
            ));
        }
        let lamports = match instruction.data.split_first_chunk::<4>() {
            Some((&TRANSFER_TAG, rest)) => <[u8; 8]>::try_from(rest)
                .map(u64::from_le_bytes)
                .map_err(|_| MessageError::NotASend("the transfer carries no amount"))?,
            _ => {
                return Err(MessageError::NotASend(
                    "it is another system instruction than a transfer",
                ));
            }
        };
        let [from, to] = instruction.accounts[..] else {
            return Err(MessageError::NotASend(
                "the transfer does not name exactly two accounts",
            ));
        };
        let (Some(from), Some(to)) = (key(from), key(to)) else {
            return Err(MessageError::NotASend(
                "the transfer names an unlisted account",
            ));
        };
        if keys.first() != Some(&from) {
            return Err(MessageError::NotASend(
                "somebody else than the sender pays the fee",
            ));
        }
        let amount = SendAmount::new(lamports)
            .map_err(|_| MessageError::NotASend("its amount is out of range"))?;
        let blockhash = *message.recent_blockhash();
        Ok(Self {
            send: SendSol { from, to, amount },
            blockhash,
            programs: vec![program],
        })
    }

    /// The text the user reads and the passkey commits to. One line per fact, no free text from anybody.
    pub fn canonical_text(&self, genesis: &Hash, fee_lamports: u64) -> String {
        let SendSol { from, to, amount } = &self.send;
        format!(
            "Heliograph approval v1\naction: send SOL\ncluster: {genesis}\nfrom: {from}\nto: {to}\n\
             amount: {} SOL ({} lamports)\nnetwork fee: {} SOL ({fee_lamports} lamports)\nblockhash: {}\n",
            Sol(amount.lamports()),
            amount.lamports(),
            Sol(fee_lamports),
            self.blockhash,
        )
    }
}

/// The transaction as the network takes it: one signature, then the message.
pub fn signed_wire(signature: &[u8; 64], message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(1 + signature.len() + message.len());
    wire.push(1);
    wire.extend_from_slice(signature);
    wire.extend_from_slice(message);
    wire
}

#[cfg(test)]
mod tests;
