//! How much room a record takes at most: cheap upper bounds, because the room is reserved before anything is written.
//!
//! Every length-delimited field is counted with 8 bytes of tag and length, every number with 12, a guessed length that is
//! taken back included.

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaBlockInfoV4, ReplicaDeshredTransactionInfoV2,
    ReplicaTransactionInfoV3, SlotStatus,
};
use solana_message::{VersionedMessage, compiled_instruction::CompiledInstruction};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{Reward, TransactionStatusMeta, TransactionTokenBalance};

const FIELD: usize = 8;
const NUMBER: usize = 12;

/// Of an entry.
pub const ENTRY_MOST: usize = 3 * FIELD + 5 * NUMBER + 32;

pub fn account_most(account: &ReplicaAccountInfoV3<'_>) -> usize {
    account.pubkey.len()
        + account.owner.len()
        + account.data.len()
        + 64
        + 6 * FIELD
        + 6 * NUMBER
        + 16
}

pub fn slot_status_most(status: &SlotStatus) -> usize {
    let error = match status {
        SlotStatus::Dead(error) => error.len(),
        _ => 0,
    };
    error + 2 * FIELD + 3 * NUMBER
}

pub fn block_meta_most(block: &ReplicaBlockInfoV4<'_>) -> usize {
    let rewards: usize = block.rewards.rewards.iter().map(reward).sum();
    block.blockhash.len() + block.parent_blockhash.len() + rewards + 8 * FIELD + 8 * NUMBER
}

/// Of a node, or of its end: a key and twelve addresses of at most 58 characters.
pub const CONTACT_INFO_MOST: usize = 2 * FIELD + 32 + 9 * NUMBER + 12 * (FIELD + 58);

pub fn transaction_most(info: &ReplicaTransactionInfoV3<'_>) -> usize {
    executable(info.transaction) + meta(info.transaction_status_meta)
}

pub fn deshred_most(info: &ReplicaDeshredTransactionInfoV2<'_>) -> usize {
    let loaded = info
        .loaded_addresses
        .map_or(0, |loaded| loaded.writable.len() + loaded.readonly.len());
    executable(info.transaction) + loaded * (32 + FIELD) + 2 * NUMBER
}

/// The transaction, and what frames it.
fn executable(transaction: &VersionedTransaction) -> usize {
    let message = &transaction.message;
    let instructions: usize = message.instructions().iter().map(instruction).sum();
    let by_version = match message {
        VersionedMessage::Legacy(_) => 0,
        VersionedMessage::V0(message) => message
            .address_table_lookups
            .iter()
            .map(|lookup| {
                32 + lookup.writable_indexes.len() + lookup.readonly_indexes.len() + 4 * FIELD
            })
            .sum(),
        VersionedMessage::V1(_) => FIELD + 4 * NUMBER,
    };
    // The first signature, the frames around the parts, slot and index.
    64 + 6 * FIELD
        + 4 * NUMBER
        + transaction.signatures.len() * (64 + FIELD)
        + message.static_account_keys().len() * (32 + FIELD)
        // Header, blockhash, the mark of a version.
        + FIELD + 3 * NUMBER + 32 + FIELD + NUMBER
        + instructions
        + by_version
}

fn instruction(instruction: &CompiledInstruction) -> usize {
    instruction.accounts.len() + instruction.data.len() + 3 * FIELD + NUMBER
}

fn meta(meta: &TransactionStatusMeta) -> usize {
    let error = match &meta.status {
        // Rare, so it may cost more.
        Err(error) => 2 * FIELD + bincode::serialized_size(error).unwrap_or(0) as usize,
        Ok(()) => 0,
    };
    let inner: usize = meta
        .inner_instructions
        .iter()
        .flatten()
        .map(|inner| {
            FIELD
                + NUMBER
                + inner
                    .instructions
                    .iter()
                    .map(|inner| instruction(&inner.instruction) + NUMBER)
                    .sum::<usize>()
        })
        .sum();
    let logs: usize = meta
        .log_messages
        .iter()
        .flatten()
        .map(|line| line.len() + FIELD)
        .sum();
    let balances = |balances: &Option<Vec<TransactionTokenBalance>>| -> usize {
        balances.iter().flatten().map(token_balance).sum()
    };
    let rewards: usize = meta.rewards.iter().flatten().map(reward).sum();
    let loaded = meta.loaded_addresses.writable.len() + meta.loaded_addresses.readonly.len();
    let returned = meta
        .return_data
        .as_ref()
        .map_or(0, |returned| 32 + returned.data.len() + 3 * FIELD);
    error
        + inner
        + logs
        + balances(&meta.pre_token_balances)
        + balances(&meta.post_token_balances)
        + rewards
        + returned
        // A varint has at most ten bytes.
        + (meta.pre_balances.len() + meta.post_balances.len()) * 10
        + loaded * (32 + FIELD)
        + 2 * FIELD
        + 7 * NUMBER
}

fn token_balance(balance: &TransactionTokenBalance) -> usize {
    let amount = &balance.ui_token_amount;
    balance.mint.len()
        + balance.owner.len()
        + balance.program_id.len()
        + amount.amount.len()
        + amount.ui_amount_string.len()
        + 7 * FIELD
        + 3 * NUMBER
}

fn reward(reward: &Reward) -> usize {
    // Two commissions of at most five digits.
    reward.pubkey.len() + 4 * FIELD + 3 * NUMBER + 10
}
