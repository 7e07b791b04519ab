//! Reads what is about to be reported, so that it lies in the processor's cache.
//!
//! A validator calls back from the thread that has just executed the transaction (accounts) or has just built its metadata
//! (transactions): what it reports is in that thread's cache. A bench that walks over recorded blocks finds it in memory,
//! and would count that distance as the plugin's.

use std::hint::black_box;

use solana_transaction::{sanitized::SanitizedTransaction, versioned::VersionedTransaction};
use solana_transaction_status::{TransactionStatusMeta, TransactionTokenBalance};

use super::mix::Account;

const LINE: usize = 64;

fn bytes(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .step_by(LINE)
        .map(|byte| u64::from(*byte))
        .sum()
}

fn numbers(numbers: &[u64]) -> u64 {
    numbers
        .iter()
        .step_by(LINE / 8)
        .fold(0, |sum, number| sum ^ number)
}

/// An account and the transaction that wrote it.
pub fn account(account: &Account<'_>, writer: &SanitizedTransaction) {
    black_box(
        bytes(account.pubkey)
            + bytes(account.owner)
            + bytes(account.data)
            + bytes(writer.signature().as_ref()),
    );
}

/// A transaction that is not executed yet.
pub fn deshred(transaction: &VersionedTransaction) {
    black_box(executable(transaction));
}

fn executable(transaction: &VersionedTransaction) -> u64 {
    let message = &transaction.message;
    transaction
        .signatures
        .iter()
        .map(|signature| bytes(signature.as_ref()))
        .chain(
            message
                .static_account_keys()
                .iter()
                .map(|key| bytes(key.as_ref())),
        )
        .chain(
            message
                .instructions()
                .iter()
                .map(|instruction| bytes(&instruction.accounts) + bytes(&instruction.data)),
        )
        .sum()
}

pub fn transaction(transaction: &VersionedTransaction, meta: &TransactionStatusMeta) {
    let mut sum = executable(transaction);
    sum ^= numbers(&meta.pre_balances) ^ numbers(&meta.post_balances);
    for inner in meta.inner_instructions.iter().flatten() {
        for inner in &inner.instructions {
            sum ^= bytes(&inner.instruction.accounts) ^ bytes(&inner.instruction.data);
        }
    }
    for line in meta.log_messages.iter().flatten() {
        sum ^= bytes(line.as_bytes());
    }
    let balances = |balances: &Option<Vec<TransactionTokenBalance>>| {
        balances.iter().flatten().fold(0, |sum, balance| {
            let amount = &balance.ui_token_amount;
            sum ^ bytes(balance.mint.as_bytes())
                ^ bytes(balance.owner.as_bytes())
                ^ bytes(balance.program_id.as_bytes())
                ^ bytes(amount.amount.as_bytes())
                ^ bytes(amount.ui_amount_string.as_bytes())
        })
    };
    sum ^= balances(&meta.pre_token_balances) ^ balances(&meta.post_token_balances);
    let loaded = &meta.loaded_addresses;
    for key in loaded.writable.iter().chain(&loaded.readonly) {
        sum ^= bytes(key.as_ref());
    }
    if let Some(returned) = &meta.return_data {
        sum ^= bytes(&returned.data);
    }
    black_box(sum);
}
