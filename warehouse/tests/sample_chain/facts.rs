//! What blocks say, read from their messages by the plainest means: nothing of the warehouse's own decoders is used.

use std::collections::BTreeMap;

use base64::Engine as _;
use chain_blocks::ChainBlock;
use event_schema::proto::{
    Message as _,
    confirmed_block::{Message, Reward, RewardType, TransactionStatusMeta},
    geyser::SubscribeUpdateTransactionInfo,
};

const TOKEN_PROGRAMS: [&str; 2] = [
    "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
];

/// A transaction and the slot it is in.
pub struct Fact<'a> {
    pub slot: u64,
    pub update: &'a SubscribeUpdateTransactionInfo,
}

/// An instruction, outer or inner.
struct Call<'a> {
    program: String,
    accounts: Vec<Vec<u8>>,
    data: &'a [u8],
    inner: bool,
}

/// In the order of the chain.
pub fn transactions<'a>(blocks: &'a [&'a ChainBlock]) -> impl Iterator<Item = Fact<'a>> {
    blocks.iter().flat_map(|block| {
        let slot = block.slot.0;
        block
            .transactions
            .iter()
            .map(move |update| Fact { slot, update })
    })
}

/// What the leader was credited.
pub fn fee_rewards(block: &ChainBlock) -> Vec<Reward> {
    let all = block
        .meta
        .rewards
        .iter()
        .flat_map(|rewards| &rewards.rewards);
    all.filter(|reward| reward.reward_type() == RewardType::Fee)
        .cloned()
        .collect()
}

/// The UTC day, as `2026-11-22`.
pub fn day(block: &ChainBlock) -> Option<String> {
    let days = block.meta.block_time.as_ref()?.timestamp.div_euclid(86_400);
    // Years from March on, so that the day of leap years is their last: Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

pub fn base64(bytes: Vec<u8>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Owners of a mint and what their accounts last were said to hold; those with nothing are left out.
pub fn holders(blocks: &[&ChainBlock], mint: &str) -> BTreeMap<String, u128> {
    let mut accounts: BTreeMap<Vec<u8>, (String, u64)> = BTreeMap::new();
    for one in transactions(blocks) {
        let (meta, keys) = (one.meta(), one.keys());
        let of_mint = |list: &'_ [event_schema::proto::confirmed_block::TokenBalance]| {
            let balances = list.iter().filter(|balance| balance.mint == mint);
            balances
                .map(|balance| {
                    let amount = balance
                        .ui_token_amount
                        .as_ref()
                        .unwrap()
                        .amount
                        .parse::<u64>()
                        .unwrap();
                    (
                        keys[balance.account_index as usize].clone(),
                        (balance.owner.clone(), amount),
                    )
                })
                .collect::<BTreeMap<_, _>>()
        };
        let (before, after) = (
            of_mint(&meta.pre_token_balances),
            of_mint(&meta.post_token_balances),
        );
        for (account, held) in &before {
            // Told again unchanged is no change.
            if after.get(account).map(|(_, amount)| amount) != Some(&held.1) {
                accounts.remove(account);
            }
        }
        for (account, held) in after {
            if before.get(&account).map(|(_, amount)| *amount) != Some(held.1) {
                accounts.insert(account, held);
            }
        }
    }
    let mut owners = BTreeMap::new();
    for (owner, amount) in accounts.into_values().filter(|(_, amount)| *amount > 0) {
        *owners.entry(owner).or_default() += u128::from(amount);
    }
    owners
}

impl Fact<'_> {
    pub fn signature(&self) -> String {
        bs58::encode(&self.update.signature).into_string()
    }

    pub fn message(&self) -> &Message {
        self.update
            .transaction
            .as_ref()
            .unwrap()
            .message
            .as_ref()
            .unwrap()
    }

    pub fn meta(&self) -> &TransactionStatusMeta {
        self.update.meta.as_ref().unwrap()
    }

    pub fn message_bytes(&self) -> Vec<u8> {
        self.update.transaction.as_ref().unwrap().encode_to_vec()
    }

    pub fn meta_bytes(&self) -> Vec<u8> {
        self.meta().encode_to_vec()
    }

    /// The message's own, then those looked up: written ones first.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let meta = self.meta();
        let own = self.message().account_keys.iter();
        own.chain(&meta.loaded_writable_addresses)
            .chain(&meta.loaded_readonly_addresses)
            .cloned()
            .collect()
    }

    /// 5,000 lamports per signature; none of these blocks calls a program that verifies further ones.
    pub fn base_fee(&self) -> u64 {
        5_000 * self.update.transaction.as_ref().unwrap().signatures.len() as u64
    }

    fn calls(&self) -> Vec<Call<'_>> {
        let keys = self.keys();
        let call = |program: u32, accounts: &[u8], data, inner| {
            let accounts = accounts
                .iter()
                .map(|place| keys[usize::from(*place)].clone());
            Call {
                program: bs58::encode(&keys[program as usize]).into_string(),
                accounts: accounts.collect(),
                data,
                inner,
            }
        };
        let outer = self.message().instructions.iter();
        let inner = self
            .meta()
            .inner_instructions
            .iter()
            .flat_map(|list| &list.instructions);
        outer
            .map(|one| {
                call(
                    one.program_id_index,
                    &one.accounts,
                    one.data.as_slice(),
                    false,
                )
            })
            .chain(inner.map(|one| {
                call(
                    one.program_id_index,
                    &one.accounts,
                    one.data.as_slice(),
                    true,
                )
            }))
            .collect()
    }

    /// The program of every call, and whether it is an inner one.
    pub fn programs(&self) -> Vec<(String, bool)> {
        self.calls()
            .into_iter()
            .map(|call| (call.program, call.inner))
            .collect()
    }

    /// Mint, raw units, and whether they were minted, not burnt; of transactions that succeeded.
    pub fn minted_and_burned(&self) -> Vec<(String, u64, bool)> {
        if self.meta().err.is_some() {
            return Vec::new();
        }
        let of_call = |call: Call<'_>| {
            if !TOKEN_PROGRAMS.contains(&call.program.as_str()) {
                return None;
            }
            let (place, is_mint) = match call.data.first()? {
                // MintTo, MintToChecked: the mint is the first account.
                7 | 14 => (0, true),
                // Burn, BurnChecked: the second.
                8 | 15 => (1, false),
                _ => return None,
            };
            let amount = u64::from_le_bytes(call.data.get(1..9)?.try_into().ok()?);
            Some((
                bs58::encode(&call.accounts[place]).into_string(),
                amount,
                is_mint,
            ))
        };
        self.calls().into_iter().filter_map(of_call).collect()
    }

    /// Raw units of every transfer between token accounts, of transactions that succeeded.
    pub fn transferred(&self) -> Vec<u64> {
        if self.meta().err.is_some() {
            return Vec::new();
        }
        let of_call = |call: Call<'_>| {
            if !TOKEN_PROGRAMS.contains(&call.program.as_str()) {
                return None;
            }
            let place = match call.data {
                // Transfer, TransferChecked.
                [3 | 12, ..] => 1,
                // TransferFeeExtension's TransferCheckedWithFee.
                [26, 1, ..] => 2,
                _ => return None,
            };
            let amount = call.data.get(place..place + 8)?;
            Some(u64::from_le_bytes(amount.try_into().ok()?))
        };
        self.calls().into_iter().filter_map(of_call).collect()
    }

    /// An account's lamports before and after.
    pub fn lamports_of(&self, account: &str) -> Option<(u64, u64)> {
        let key = bs58::decode(account).into_vec().unwrap();
        let place = self.keys().iter().position(|known| *known == key)?;
        let meta = self.meta();
        Some((meta.pre_balances[place], meta.post_balances[place]))
    }
}
