//! A transaction of the stream as the ledger reads it: whole, indexed, checked for shape.
//!
//! The key list is static keys, then loaded writable, then loaded readonly ones; balances and instructions index it.

use event_schema::proto::confirmed_block::{
    InnerInstructions, TokenBalance, TransactionStatusMeta,
};
use event_schema::proto::geyser::SubscribeUpdateTransactionInfo;
use event_schema::{Pubkey, Signature};
use thiserror::Error;

/// A transaction whose outcome is recorded.
pub struct ChainTransaction<'a> {
    pub keys: Vec<Pubkey>,
    pub success: bool,
    /// Lamports.
    pub fee: u64,
    /// Signatures that are paid for: those of the transaction and those it asks precompiled programs to verify.
    pub paid_signatures: u64,
    pub pre_balances: &'a [u64],
    pub post_balances: &'a [u64],
    pub pre_tokens: Vec<TokenRow>,
    pub post_tokens: Vec<TokenRow>,
    /// Lamports credited (or, as rent, debited) within the transaction by the runtime, by key.
    pub rewards: Vec<(Pubkey, i64)>,
    /// Every instruction that ran, outer ones first.
    pub instructions: Vec<Instruction<'a>>,
    /// False when the validator did not record what programs called.
    pub inner_instructions_recorded: bool,
}

/// One row of the recorded token balances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Index into the key list.
    pub account: usize,
    pub mint: Pubkey,
    /// Raw units.
    pub amount: u64,
    /// `None` before validators recorded it.
    pub program: Option<Pubkey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction<'a> {
    pub program: Pubkey,
    /// Indexes into the key list.
    pub accounts: &'a [u8],
    pub data: &'a [u8],
}

/// Why a transaction cannot be posted from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    #[error("the update carries no transaction message")]
    NoMessage,
    #[error("its signature is {0} bytes long")]
    Signature(usize),
    #[error("key {at} is {length} bytes long")]
    Key { at: usize, length: usize },
    #[error("{keys} keys, but {pre} balances before and {post} after")]
    Balances {
        keys: usize,
        pre: usize,
        post: usize,
    },
    #[error("{what} has index {index}, but there are {keys} keys")]
    Index {
        what: &'static str,
        index: usize,
        keys: usize,
    },
    #[error("token balance: `{value}` is not {what}")]
    Token { what: &'static str, value: String },
    #[error("reward: `{0}` is not a key")]
    Reward(String),
}

pub fn signature(update: &SubscribeUpdateTransactionInfo) -> Result<Signature, Unreadable> {
    Signature::try_from(&update.signature[..])
        .map_err(|_| Unreadable::Signature(update.signature.len()))
}

impl<'a> ChainTransaction<'a> {
    /// `None` when the outcome was not recorded: nothing can be posted and nothing is wrong.
    pub fn read(update: &'a SubscribeUpdateTransactionInfo) -> Result<Option<Self>, Unreadable> {
        let message = update
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref());
        let message = message.ok_or(Unreadable::NoMessage)?;
        let Some(meta) = &update.meta else {
            return Ok(None);
        };
        let keys = key_list(&message.account_keys, meta)?;
        if meta.pre_balances.len() != keys.len() || meta.post_balances.len() != keys.len() {
            let (pre, post) = (meta.pre_balances.len(), meta.post_balances.len());
            return Err(Unreadable::Balances {
                keys: keys.len(),
                pre,
                post,
            });
        }
        let mut instructions = Vec::new();
        for outer in &message.instructions {
            instructions.push(instruction(
                &keys,
                outer.program_id_index,
                &outer.accounts,
                &outer.data,
            )?);
        }
        for inner in meta
            .inner_instructions
            .iter()
            .flat_map(|InnerInstructions { instructions, .. }| instructions)
        {
            instructions.push(instruction(
                &keys,
                inner.program_id_index,
                &inner.accounts,
                &inner.data,
            )?);
        }
        let signed = message
            .header
            .as_ref()
            .map_or(0, |header| u64::from(header.num_required_signatures));
        let mut rewards = Vec::new();
        for reward in &meta.rewards {
            let key = reward
                .pubkey
                .parse()
                .map_err(|_| Unreadable::Reward(reward.pubkey.clone()))?;
            rewards.push((key, reward.lamports));
        }
        Ok(Some(Self {
            success: meta.err.is_none(),
            fee: meta.fee,
            paid_signatures: signed
                + precompile_signatures(&instructions[..message.instructions.len()]),
            pre_balances: &meta.pre_balances,
            post_balances: &meta.post_balances,
            pre_tokens: token_rows(&meta.pre_token_balances, keys.len())?,
            post_tokens: token_rows(&meta.post_token_balances, keys.len())?,
            rewards,
            instructions,
            inner_instructions_recorded: !meta.inner_instructions_none,
            keys,
        }))
    }

    pub fn key(&self, index: u8) -> Option<Pubkey> {
        self.keys.get(usize::from(index)).copied()
    }
}

fn key_list(
    static_keys: &[Vec<u8>],
    meta: &TransactionStatusMeta,
) -> Result<Vec<Pubkey>, Unreadable> {
    let loaded = meta
        .loaded_writable_addresses
        .iter()
        .chain(&meta.loaded_readonly_addresses);
    let all = static_keys.iter().chain(loaded).enumerate();
    all.map(|(at, key)| {
        Pubkey::try_from(&key[..]).map_err(|_| Unreadable::Key {
            at,
            length: key.len(),
        })
    })
    .collect()
}

fn instruction<'a>(
    keys: &[Pubkey],
    program: u32,
    accounts: &'a [u8],
    data: &'a [u8],
) -> Result<Instruction<'a>, Unreadable> {
    let index = program as usize;
    let program = *keys.get(index).ok_or(Unreadable::Index {
        what: "a program",
        index,
        keys: keys.len(),
    })?;
    Ok(Instruction {
        program,
        accounts,
        data,
    })
}

fn token_rows(rows: &[TokenBalance], keys: usize) -> Result<Vec<TokenRow>, Unreadable> {
    rows.iter()
        .map(|row| {
            let account = row.account_index as usize;
            if account >= keys {
                return Err(Unreadable::Index {
                    what: "a token balance",
                    index: account,
                    keys,
                });
            }
            let mint = row.mint.parse().map_err(|_| Unreadable::Token {
                what: "a mint",
                value: row.mint.clone(),
            })?;
            let text = row
                .ui_token_amount
                .as_ref()
                .map_or("", |amount| &amount.amount);
            let amount = text.parse().map_err(|_| Unreadable::Token {
                what: "a raw amount",
                value: text.to_owned(),
            })?;
            Ok(TokenRow {
                account,
                mint,
                amount,
                program: row.program_id.parse().ok(),
            })
        })
        .collect()
}

const PRECOMPILES: [&str; 3] = [
    "Ed25519SigVerify111111111111111111111111111",
    "KeccakSecp256k11111111111111111111111111111",
    "Secp256r1SigVerify1111111111111111111111111",
];

/// Their first data byte counts the signatures, which cost like the transaction's own.
fn precompile_signatures(outer: &[Instruction<'_>]) -> u64 {
    let precompiles: Vec<Pubkey> = PRECOMPILES
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    outer
        .iter()
        .filter(|instruction| precompiles.contains(&instruction.program))
        .filter_map(|instruction| instruction.data.first())
        .map(|count| u64::from(*count))
        .sum()
}
