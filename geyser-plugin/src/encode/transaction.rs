//! A transaction and what became of it.

use solana_message::{
    VersionedMessage, compiled_instruction::CompiledInstruction, v0::MessageAddressTableLookup,
    v1::TransactionConfig,
};
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    InnerInstructions, Reward, RewardType, TransactionStatusMeta, TransactionTokenBalance,
};

use super::{Out, wire};

pub(super) fn transaction(out: &mut Out<'_>, transaction: &VersionedTransaction) {
    for signature in &transaction.signatures {
        wire::element(out, 1, signature.as_ref());
    }
    wire::message(out, 2, 2, |out| message(out, &transaction.message));
}

fn message(out: &mut Out<'_>, message: &VersionedMessage) {
    let header = message.header();
    wire::message(out, 1, 1, |out| {
        wire::uint64(out, 1, header.num_required_signatures.into());
        wire::uint64(out, 2, header.num_readonly_signed_accounts.into());
        wire::uint64(out, 3, header.num_readonly_unsigned_accounts.into());
    });
    for key in message.static_account_keys() {
        wire::element(out, 2, key.as_ref());
    }
    wire::bytes(out, 3, message.recent_blockhash().as_ref());
    for instruction in message.instructions() {
        let width =
            wire::varint_width((instruction.accounts.len() + instruction.data.len() + 8) as u64);
        wire::message(out, 4, width, |out| compiled_instruction(out, instruction));
    }
    match message {
        VersionedMessage::Legacy(_) => {}
        VersionedMessage::V0(message) => {
            wire::boolean(out, 5, true);
            for lookup in &message.address_table_lookups {
                wire::message(out, 6, 1, |out| address_table_lookup(out, lookup));
            }
        }
        // Its presence, even empty, is what tells a v1 message from a v0 one.
        VersionedMessage::V1(message) => {
            wire::boolean(out, 5, true);
            wire::message(out, 7, 1, |out| transaction_config(out, &message.config));
        }
    }
}

fn compiled_instruction(out: &mut Out<'_>, instruction: &CompiledInstruction) {
    wire::uint64(out, 1, instruction.program_id_index.into());
    wire::bytes(out, 2, &instruction.accounts);
    wire::bytes(out, 3, &instruction.data);
}

fn address_table_lookup(out: &mut Out<'_>, lookup: &MessageAddressTableLookup) {
    wire::bytes(out, 1, lookup.account_key.as_ref());
    wire::bytes(out, 2, &lookup.writable_indexes);
    wire::bytes(out, 3, &lookup.readonly_indexes);
}

fn transaction_config(out: &mut Out<'_>, config: &TransactionConfig) {
    wire::optional_uint64(out, 1, config.priority_fee);
    wire::optional_uint64(out, 2, config.compute_unit_limit.map(u64::from));
    wire::optional_uint64(
        out,
        3,
        config.loaded_accounts_data_size_limit.map(u64::from),
    );
    wire::optional_uint64(out, 4, config.heap_size.map(u64::from));
}

pub(super) fn status_meta(out: &mut Out<'_>, meta: &TransactionStatusMeta) {
    if let Err(error) = &meta.status {
        wire::message(out, 1, 1, |out| transaction_error(out, error));
    }
    wire::uint64(out, 2, meta.fee);
    wire::packed_uint64(out, 3, &meta.pre_balances);
    wire::packed_uint64(out, 4, &meta.post_balances);
    for inner in meta.inner_instructions.iter().flatten() {
        wire::message(out, 5, 2, |out| inner_instructions(out, inner));
    }
    for line in meta.log_messages.iter().flatten() {
        wire::element(out, 6, line.as_bytes());
    }
    for balance in meta.pre_token_balances.iter().flatten() {
        wire::message(out, 7, 2, |out| token_balance(out, balance));
    }
    for balance in meta.post_token_balances.iter().flatten() {
        wire::message(out, 8, 2, |out| token_balance(out, balance));
    }
    for entry in meta.rewards.iter().flatten() {
        wire::message(out, 9, 1, |out| reward(out, entry));
    }
    wire::boolean(out, 10, meta.inner_instructions.is_none());
    wire::boolean(out, 11, meta.log_messages.is_none());
    for key in &meta.loaded_addresses.writable {
        wire::element(out, 12, key.as_ref());
    }
    for key in &meta.loaded_addresses.readonly {
        wire::element(out, 13, key.as_ref());
    }
    match &meta.return_data {
        Some(data) => wire::message(out, 14, 1, |out| {
            wire::bytes(out, 1, data.program_id.as_ref());
            wire::bytes(out, 2, &data.data);
        }),
        None => wire::boolean(out, 15, true),
    }
    wire::optional_uint64(out, 16, meta.compute_units_consumed);
    wire::optional_uint64(out, 17, meta.cost_units);
}

/// The error travels as Agave's own bincode, as in every Yellowstone stream.
fn transaction_error(out: &mut Out<'_>, error: &TransactionError) {
    wire::message(out, 1, 1, |out| {
        let before = out.len();
        // If bincode ever refused a variant, an empty error still says "failed".
        if bincode::serialize_into(&mut *out, error).is_err() {
            out.truncate(before);
        }
    });
}

fn inner_instructions(out: &mut Out<'_>, inner: &InnerInstructions) {
    wire::uint64(out, 1, inner.index.into());
    for inner in &inner.instructions {
        let width = wire::varint_width(
            (inner.instruction.accounts.len() + inner.instruction.data.len() + 10) as u64,
        );
        wire::message(out, 2, width, |out| {
            compiled_instruction(out, &inner.instruction);
            wire::optional_uint64(out, 4, inner.stack_height.map(u64::from));
        });
    }
}

fn token_balance(out: &mut Out<'_>, balance: &TransactionTokenBalance) {
    wire::uint64(out, 1, balance.account_index.into());
    wire::bytes(out, 2, balance.mint.as_bytes());
    wire::message(out, 3, 1, |out| {
        let amount = &balance.ui_token_amount;
        wire::double(out, 1, amount.ui_amount.unwrap_or_default());
        wire::uint64(out, 2, amount.decimals.into());
        wire::bytes(out, 3, amount.amount.as_bytes());
        wire::bytes(out, 4, amount.ui_amount_string.as_bytes());
    });
    wire::bytes(out, 4, balance.owner.as_bytes());
    wire::bytes(out, 5, balance.program_id.as_bytes());
}

pub(super) fn reward(out: &mut Out<'_>, reward: &Reward) {
    wire::bytes(out, 1, reward.pubkey.as_bytes());
    // Two's complement, as int64 travels.
    wire::uint64(out, 2, reward.lamports as u64);
    wire::uint64(out, 3, reward.post_balance);
    wire::uint64(
        out,
        4,
        match reward.reward_type {
            None => 0,
            Some(RewardType::Fee) => 1,
            Some(RewardType::Rent) => 2,
            Some(RewardType::Staking) => 3,
            Some(RewardType::Voting) => 4,
            Some(RewardType::DeactivatedStake) => 5,
        },
    );
    wire::decimal(out, 5, reward.commission.map(u16::from));
    wire::decimal(out, 6, reward.commission_bps);
}
