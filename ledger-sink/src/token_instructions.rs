//! What token instructions do to the sum of amounts of a mint. Pure.
//!
//! Transfers move amounts and leave the sum alone, except where a Token-2022 mint withholds a fee in an extension of the
//! receiving account, outside `amount`. Only `TransferCheckedWithFee` says how much; the other ways are told as
//! [`Effect::FeeUnsaid`]. Layouts are those of spl-token 3 (with p-token's `Batch`) and spl-token-2022 3.1.

use event_schema::Pubkey;

use crate::chain::{ChainTransaction, Instruction};

/// Programs and mints with a meaning of their own.
pub struct KnownKeys {
    pub token: Pubkey,
    pub token_2022: Pubkey,
    native_mint: Pubkey,
    native_mint_2022: Pubkey,
}

impl KnownKeys {
    pub fn new() -> Self {
        Self {
            token: constant("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"),
            token_2022: constant("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"),
            native_mint: constant("So11111111111111111111111111111111111111112"),
            native_mint_2022: constant("9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXej9"),
        }
    }

    pub fn is_token_program(&self, key: &Pubkey) -> bool {
        *key == self.token || *key == self.token_2022
    }

    /// Wrapped SOL: its amounts follow lamports, without mint or burn.
    pub fn is_native(&self, mint: &Pubkey) -> bool {
        *mint == self.native_mint || *mint == self.native_mint_2022
    }
}

impl Default for KnownKeys {
    fn default() -> Self {
        Self::new()
    }
}

fn constant(text: &str) -> Pubkey {
    let mut key = [0; 32];
    // The texts above are constants; a test parses each of them.
    let _ = bs58::decode(text).onto(&mut key[..]);
    Pubkey(key)
}

/// One instruction's effect on the sum of a mint's amounts. Amounts in raw units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Minted {
        mint: Pubkey,
        amount: u64,
    },
    Burned {
        mint: Pubkey,
        amount: u64,
    },
    /// Set aside on `account`, outside its amount.
    Withheld {
        mint: Pubkey,
        account: Pubkey,
        amount: u64,
    },
    /// May have withheld a fee, or paid out withheld ones, without saying how much.
    FeeUnsaid {
        mint: Pubkey,
    },
    /// Moves between visible and encrypted balances.
    Confidential {
        mint: Pubkey,
    },
    /// Amounts moved within the mint; nothing to add to its sum.
    Moved,
}

/// The effects of every token instruction of the transaction, in recorded order.
pub fn effects(transaction: &ChainTransaction<'_>, known: &KnownKeys) -> Vec<Effect> {
    let mut effects = Vec::new();
    for instruction in &transaction.instructions {
        if known.is_token_program(&instruction.program) {
            decode(transaction, known, instruction, &mut effects);
        }
    }
    effects
}

fn decode(
    transaction: &ChainTransaction<'_>,
    known: &KnownKeys,
    instruction: &Instruction<'_>,
    effects: &mut Vec<Effect>,
) {
    let account = |at: usize| {
        instruction
            .accounts
            .get(at)
            .and_then(|index| transaction.key(*index))
    };
    let Some((tag, rest)) = instruction.data.split_first() else {
        return;
    };
    let extended = instruction.program == known.token_2022;
    let effect = match tag {
        3 => Some(Effect::Moved),
        12 if !extended => Some(Effect::Moved),
        12 => account(1).map(|mint| Effect::FeeUnsaid { mint }),
        7 | 14 => account(0)
            .zip(amount(rest))
            .map(|(mint, amount)| Effect::Minted { mint, amount }),
        8 | 15 => account(1)
            .zip(amount(rest))
            .map(|(mint, amount)| Effect::Burned { mint, amount }),
        255 => {
            batch(transaction, known, instruction, rest, effects);
            None
        }
        26 if extended => transfer_fee(rest, &account),
        27 if extended => account(1).map(|mint| Effect::Confidential { mint }),
        37 if extended => account(0).map(|mint| Effect::Confidential { mint }),
        42 if extended => {
            effects.extend(account(0).map(|mint| Effect::Confidential { mint }));
            account(1).map(|mint| Effect::Confidential { mint })
        }
        46 if extended => match rest.split_first() {
            Some((1 | 2, rest)) => account(1)
                .zip(amount(rest))
                .map(|(mint, amount)| Effect::Burned { mint, amount }),
            Some((3, _)) => account(1).map(|mint| Effect::Confidential { mint }),
            _ => None,
        },
        _ => None,
    };
    effects.extend(effect);
}

fn transfer_fee(rest: &[u8], account: &impl Fn(usize) -> Option<Pubkey>) -> Option<Effect> {
    let (tag, rest) = rest.split_first()?;
    match tag {
        // amount u64, decimals u8, fee u64
        1 => {
            let (source, mint, account) = (account(0)?, account(1)?, account(2)?);
            let fee = amount(rest.get(9..)?)?;
            // A transfer to oneself ends before any fee.
            let amount = if source == account { 0 } else { fee };
            Some(Effect::Withheld {
                mint,
                account,
                amount,
            })
        }
        2 | 3 => Some(Effect::FeeUnsaid { mint: account(0)? }),
        _ => None,
    }
}

/// p-token's `Batch`: per instruction the count of its accounts, the length of its data, then the data.
fn batch(
    transaction: &ChainTransaction<'_>,
    known: &KnownKeys,
    outer: &Instruction<'_>,
    mut rest: &[u8],
    effects: &mut Vec<Effect>,
) {
    let mut accounts = outer.accounts;
    while let [count, length, tail @ ..] = rest {
        let (Some((own, further)), Some((data, tail))) = (
            accounts.split_at_checked(usize::from(*count)),
            tail.split_at_checked(usize::from(*length)),
        ) else {
            return;
        };
        // A batch within a batch is refused by the program.
        if data.first() != Some(&255) {
            decode(
                transaction,
                known,
                &Instruction {
                    program: outer.program,
                    accounts: own,
                    data,
                },
                effects,
            );
        }
        (accounts, rest) = (further, tail);
    }
}

fn amount(data: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_keys_are_keys() {
        let known = KnownKeys::new();
        for (key, text) in [
            (known.token, "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"),
            (
                known.token_2022,
                "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
            ),
            (
                known.native_mint,
                "So11111111111111111111111111111111111111112",
            ),
            (
                known.native_mint_2022,
                "9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXej9",
            ),
        ] {
            assert_eq!(key.to_string(), text);
        }
    }
}
