//! Any input that the validator could hand over.

use proptest::{collection::vec, option, prelude::*};
use solana_account_decoder_client_types::token::UiTokenAmount;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    MessageHeader, VersionedMessage,
    compiled_instruction::CompiledInstruction,
    legacy,
    v0::{self, LoadedAddresses, MessageAddressTableLookup},
    v1::{self, TransactionConfig},
};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_context::transaction::TransactionReturnData;
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    InnerInstruction, InnerInstructions, Reward, RewardType, TransactionStatusMeta,
    TransactionTokenBalance,
};

pub(super) fn address() -> impl Strategy<Value = Address> {
    any::<[u8; 32]>().prop_map(Address::from)
}

pub(super) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // The last two cross the widths of a length.
    prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 120..135),
        vec(any::<u8>(), 16_300..16_400)
    ]
}

pub(super) fn instruction() -> impl Strategy<Value = CompiledInstruction> {
    (any::<u8>(), vec(any::<u8>(), 0..10), bytes()).prop_map(
        |(program_id_index, accounts, data)| CompiledInstruction {
            program_id_index,
            accounts,
            data,
        },
    )
}

pub(super) fn message() -> impl Strategy<Value = VersionedMessage> {
    let header = any::<(u8, u8, u8)>().prop_map(|(signatures, signed, unsigned)| MessageHeader {
        num_required_signatures: signatures,
        num_readonly_signed_accounts: signed,
        num_readonly_unsigned_accounts: unsigned,
    });
    let lookup = (address(), vec(any::<u8>(), 0..5), vec(any::<u8>(), 0..200)).prop_map(
        |(account_key, writable_indexes, readonly_indexes)| MessageAddressTableLookup {
            account_key,
            writable_indexes,
            readonly_indexes,
        },
    );
    let config = any::<(Option<u64>, Option<u32>, Option<u32>, Option<u32>)>().prop_map(
        |(priority_fee, compute_unit_limit, loaded_accounts_data_size_limit, heap_size)| {
            TransactionConfig {
                priority_fee,
                compute_unit_limit,
                loaded_accounts_data_size_limit,
                heap_size,
            }
        },
    );
    (
        0..3_u8,
        header,
        vec(address(), 0..12),
        any::<[u8; 32]>(),
        vec(instruction(), 0..5),
        vec(lookup, 0..3),
        config,
    )
        .prop_map(
            |(
                version,
                header,
                account_keys,
                blockhash,
                instructions,
                address_table_lookups,
                config,
            )| {
                let recent_blockhash = Hash::new_from_array(blockhash);
                match version {
                    0 => VersionedMessage::Legacy(legacy::Message {
                        header,
                        account_keys,
                        recent_blockhash,
                        instructions,
                    }),
                    1 => VersionedMessage::V0(v0::Message {
                        header,
                        account_keys,
                        recent_blockhash,
                        instructions,
                        address_table_lookups,
                    }),
                    _ => VersionedMessage::V1(v1::Message {
                        header,
                        config,
                        lifetime_specifier: recent_blockhash,
                        account_keys,
                        instructions,
                    }),
                }
            },
        )
}

pub(super) fn transaction() -> impl Strategy<Value = VersionedTransaction> {
    (vec(any::<[u8; 32]>(), 0..4), message()).prop_map(|(signatures, message)| {
        VersionedTransaction {
            signatures: signatures
                .into_iter()
                .map(|half| {
                    let mut whole = [0; 64];
                    whole[..32].copy_from_slice(&half);
                    whole[32..].copy_from_slice(&half);
                    Signature::from(whole)
                })
                .collect(),
            message,
        }
    })
}

pub(super) fn reward() -> impl Strategy<Value = Reward> {
    let kind = prop_oneof![
        Just(None),
        Just(Some(RewardType::Fee)),
        Just(Some(RewardType::Rent)),
        Just(Some(RewardType::Staking)),
        Just(Some(RewardType::Voting)),
        Just(Some(RewardType::DeactivatedStake)),
    ];
    (
        "[1-9A-Z]{0,44}",
        any::<i64>(),
        any::<u64>(),
        kind,
        any::<Option<u8>>(),
        any::<Option<u16>>(),
    )
        .prop_map(
            |(pubkey, lamports, post_balance, reward_type, commission, commission_bps)| Reward {
                pubkey,
                lamports,
                post_balance,
                reward_type,
                commission,
                commission_bps,
            },
        )
}

pub(super) fn token_balance() -> impl Strategy<Value = TransactionTokenBalance> {
    let amount = (
        prop_oneof![
            Just(None),
            Just(Some(0.0)),
            Just(Some(-0.0)),
            any::<f64>()
                .prop_filter("comparable", |f| !f.is_nan())
                .prop_map(Some)
        ],
        any::<u8>(),
        "[0-9]{0,20}",
        "[0-9.]{0,130}",
    )
        .prop_map(
            |(ui_amount, decimals, amount, ui_amount_string)| UiTokenAmount {
                ui_amount,
                decimals,
                amount,
                ui_amount_string,
            },
        );
    (
        any::<u8>(),
        "[a-z1-9]{0,44}",
        amount,
        "[a-z1-9]{0,44}",
        "[a-z1-9]{0,44}",
    )
        .prop_map(
            |(account_index, mint, ui_token_amount, owner, program_id)| TransactionTokenBalance {
                account_index,
                mint,
                ui_token_amount,
                owner,
                program_id,
            },
        )
}

pub(super) fn inner() -> impl Strategy<Value = InnerInstructions> {
    let one = (instruction(), any::<Option<u32>>()).prop_map(|(instruction, stack_height)| {
        InnerInstruction {
            instruction,
            stack_height,
        }
    });
    (any::<u8>(), vec(one, 0..4)).prop_map(|(index, instructions)| InnerInstructions {
        index,
        instructions,
    })
}

pub(super) fn meta() -> impl Strategy<Value = TransactionStatusMeta> {
    let errors = every_error();
    let status = prop_oneof![
        Just(Ok(())),
        (0..errors.len()).prop_map(move |i| Err(errors[i].clone()))
    ];
    let money = (
        status,
        any::<u64>(),
        vec(any::<u64>(), 0..30),
        vec(any::<u64>(), 0..5),
    );
    let texts = (
        option::of(vec(inner(), 0..3)),
        option::of(vec(".{0,150}", 0..6)),
    );
    let tokens = (
        option::of(vec(token_balance(), 0..3)),
        option::of(vec(token_balance(), 0..3)),
        option::of(vec(reward(), 0..3)),
    );
    let rest = (
        vec(address(), 0..4),
        vec(address(), 0..4),
        option::of((address(), bytes())),
        any::<(Option<u64>, Option<u64>)>(),
    );
    (money, texts, tokens, rest).prop_map(
        |(
            (status, fee, pre_balances, post_balances),
            (inner_instructions, log_messages),
            (pre_token_balances, post_token_balances, rewards),
            (writable, readonly, return_data, (compute_units_consumed, cost_units)),
        )| TransactionStatusMeta {
            status,
            fee,
            pre_balances,
            post_balances,
            inner_instructions,
            log_messages,
            pre_token_balances,
            post_token_balances,
            rewards,
            loaded_addresses: LoadedAddresses { writable, readonly },
            return_data: return_data
                .map(|(program_id, data)| TransactionReturnData { program_id, data }),
            compute_units_consumed,
            cost_units,
        },
    )
}

/// Every variant there is, found by decoding variant numbers until bincode knows no more; instruction errors likewise.
pub(super) fn every_error() -> Vec<TransactionError> {
    let decode = |bytes: &[u8]| {
        let padded = [bytes, &[0; 64]].concat();
        bincode::deserialize_from::<_, TransactionError>(padded.as_slice()).ok()
    };
    let mut errors: Vec<TransactionError> = (0_u32..)
        .map_while(|variant| decode(&variant.to_le_bytes()))
        .collect();
    let instruction_error = errors
        .iter()
        .position(|error| matches!(error, TransactionError::InstructionError(..)))
        .expect("instructions can fail") as u32;
    errors.extend((0_u32..).map_while(|variant| {
        decode(
            &[
                &instruction_error.to_le_bytes()[..],
                &[3],
                &variant.to_le_bytes(),
                &0xfeed_u32.to_le_bytes(),
            ]
            .concat(),
        )
    }));
    errors
}
