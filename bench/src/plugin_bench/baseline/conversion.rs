//! The validator's structs as protobuf structs, field by field.

use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{
    Reward, RewardType, TransactionStatusMeta, TransactionTokenBalance,
};
use yellowstone_grpc_proto::solana::storage::confirmed_block as storage;

pub(super) fn transaction(transaction: &VersionedTransaction) -> storage::Transaction {
    let message = &transaction.message;
    let header = message.header();
    storage::Transaction {
        signatures: transaction
            .signatures
            .iter()
            .map(|signature| signature.as_ref().to_vec())
            .collect(),
        message: Some(storage::Message {
            header: Some(storage::MessageHeader {
                num_required_signatures: header.num_required_signatures.into(),
                num_readonly_signed_accounts: header.num_readonly_signed_accounts.into(),
                num_readonly_unsigned_accounts: header.num_readonly_unsigned_accounts.into(),
            }),
            account_keys: message
                .static_account_keys()
                .iter()
                .map(|key| key.as_ref().to_vec())
                .collect(),
            recent_blockhash: message.recent_blockhash().as_ref().to_vec(),
            instructions: message
                .instructions()
                .iter()
                .map(|instruction| storage::CompiledInstruction {
                    program_id_index: instruction.program_id_index.into(),
                    accounts: instruction.accounts.clone(),
                    data: instruction.data.clone(),
                })
                .collect(),
            versioned: !matches!(message, VersionedMessage::Legacy(_)),
            address_table_lookups: message
                .address_table_lookups()
                .unwrap_or_default()
                .iter()
                .map(|lookup| storage::MessageAddressTableLookup {
                    account_key: lookup.account_key.as_ref().to_vec(),
                    writable_indexes: lookup.writable_indexes.clone(),
                    readonly_indexes: lookup.readonly_indexes.clone(),
                })
                .collect(),
            config: match message {
                VersionedMessage::V1(message) => Some(storage::TransactionConfig {
                    priority_fee: message.config.priority_fee,
                    compute_unit_limit: message.config.compute_unit_limit,
                    loaded_accounts_data_size_limit: message.config.loaded_accounts_data_size_limit,
                    heap_size: message.config.heap_size,
                }),
                _ => None,
            },
        }),
    }
}

pub(super) fn reward(reward: &Reward) -> storage::Reward {
    storage::Reward {
        pubkey: reward.pubkey.clone(),
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        reward_type: match reward.reward_type {
            None => storage::RewardType::Unspecified,
            Some(RewardType::Fee) => storage::RewardType::Fee,
            Some(RewardType::Rent) => storage::RewardType::Rent,
            Some(RewardType::Staking) => storage::RewardType::Staking,
            Some(RewardType::Voting) => storage::RewardType::Voting,
            Some(RewardType::DeactivatedStake) => storage::RewardType::DeactivatedStake,
        }
        .into(),
        commission: reward
            .commission
            .map(|percent| percent.to_string())
            .unwrap_or_default(),
        commission_bps: reward
            .commission_bps
            .map(|points| points.to_string())
            .unwrap_or_default(),
    }
}

fn balances(balances: &Option<Vec<TransactionTokenBalance>>) -> Vec<storage::TokenBalance> {
    balances
        .iter()
        .flatten()
        .map(|balance| storage::TokenBalance {
            account_index: balance.account_index.into(),
            mint: balance.mint.clone(),
            ui_token_amount: Some(storage::UiTokenAmount {
                ui_amount: balance.ui_token_amount.ui_amount.unwrap_or_default(),
                decimals: balance.ui_token_amount.decimals.into(),
                amount: balance.ui_token_amount.amount.clone(),
                ui_amount_string: balance.ui_token_amount.ui_amount_string.clone(),
            }),
            owner: balance.owner.clone(),
            program_id: balance.program_id.clone(),
        })
        .collect()
}

pub(super) fn meta(meta: &TransactionStatusMeta) -> storage::TransactionStatusMeta {
    storage::TransactionStatusMeta {
        err: meta
            .status
            .as_ref()
            .err()
            .map(|error| storage::TransactionError {
                // Writing to memory cannot fail.
                err: bincode::serialize(error).unwrap_or_default(),
            }),
        fee: meta.fee,
        pre_balances: meta.pre_balances.clone(),
        post_balances: meta.post_balances.clone(),
        inner_instructions: meta
            .inner_instructions
            .iter()
            .flatten()
            .map(|inner| storage::InnerInstructions {
                index: inner.index.into(),
                instructions: inner
                    .instructions
                    .iter()
                    .map(|inner| storage::InnerInstruction {
                        program_id_index: inner.instruction.program_id_index.into(),
                        accounts: inner.instruction.accounts.clone(),
                        data: inner.instruction.data.clone(),
                        stack_height: inner.stack_height,
                    })
                    .collect(),
            })
            .collect(),
        inner_instructions_none: meta.inner_instructions.is_none(),
        log_messages: meta.log_messages.clone().unwrap_or_default(),
        log_messages_none: meta.log_messages.is_none(),
        pre_token_balances: balances(&meta.pre_token_balances),
        post_token_balances: balances(&meta.post_token_balances),
        rewards: meta.rewards.iter().flatten().map(reward).collect(),
        loaded_writable_addresses: meta
            .loaded_addresses
            .writable
            .iter()
            .map(|key| key.as_ref().to_vec())
            .collect(),
        loaded_readonly_addresses: meta
            .loaded_addresses
            .readonly
            .iter()
            .map(|key| key.as_ref().to_vec())
            .collect(),
        return_data: meta.return_data.as_ref().map(|data| storage::ReturnData {
            program_id: data.program_id.as_ref().to_vec(),
            data: data.data.clone(),
        }),
        return_data_none: meta.return_data.is_none(),
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
    }
}
