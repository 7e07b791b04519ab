//! Typed numbers and keys, so that a slot is never taken for an offset.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A base58 text that is not the key it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}; expected {length} bytes in base58")]
pub struct ParseIdentityError {
    pub what: &'static str,
    pub problem: String,
    pub length: usize,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A slot's number.
    Slot
);
number!(
    /// An amount of SOL in lamports (10⁻⁹ SOL).
    Lamports
);
number!(
    /// An amount of a token in raw units (10⁻ᵈᵉᶜⁱᵐᵃˡˢ of a token).
    TokenAmount
);
number!(
    /// Order of account writes within one validator process; restarts at 0 with it.
    WriteVersion
);
number!(
    /// Order of records of one source in one partition, contiguous from 0.
    Sequence
);

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            pub const LENGTH: usize = $length;

            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self([0; $length])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bs58::encode(&self.0).into_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $length];
                let wrong = |problem| ParseIdentityError {
                    what: stringify!($name),
                    problem,
                    length: $length,
                };
                match bs58::decode(text).onto(&mut bytes) {
                    Ok($length) => Ok(Self(bytes)),
                    Ok(got) => Err(wrong(format!("{text:?} has {got} bytes"))),
                    Err(error) => Err(wrong(format!("{text:?}: {error}"))),
                }
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdentityError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| ParseIdentityError {
                    what: stringify!($name),
                    problem: format!("{} bytes", bytes.len()),
                    length: $length,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

key!(
    /// An account's address, a program, a mint, a validator identity.
    Pubkey,
    32
);
key!(
    /// The hash that names a block; with the slot it names a fork.
    Blockhash,
    32
);
key!(
    /// A transaction's first signature.
    Signature,
    64
);

/// Who observed: a validator, and which life of the plugin in it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SourceId {
    /// The validator's identity key.
    pub validator: Pubkey,
    /// Microseconds since the Unix epoch when the plugin was loaded; greater means later.
    pub instance: u64,
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.validator, self.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_survive_base58_and_json(bytes: [u8; 32]) {
            let key = Pubkey(bytes);
            prop_assert_eq!(key.to_string().parse::<Pubkey>().unwrap(), key);
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pubkey>(&json).unwrap(), key);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Signature>();
            let _ = text.parse::<Pubkey>();
        }
    }

    #[test]
    fn a_short_key_says_what_was_expected() {
        let error = "abc".parse::<Pubkey>().unwrap_err().to_string();
        assert!(
            error.contains("Pubkey") && error.contains("32 bytes"),
            "{error}"
        );
    }
}
