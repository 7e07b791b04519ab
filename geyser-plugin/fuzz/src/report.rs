//! What a validator may report, drawn from a fuzzer's bytes. Nothing here is likely; all of it has the types' own shape.

use std::{collections::HashSet, net::SocketAddr};

use libfuzzer_sys::arbitrary::{self, Unstructured};
use solana_account_decoder_client_types::token::UiTokenAmount;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    LegacyMessage, MessageHeader, SanitizedMessage, VersionedMessage,
    compiled_instruction::CompiledInstruction,
    legacy,
    v0::{self, LoadedAddresses, MessageAddressTableLookup},
    v1::{self, TransactionConfig},
};
use solana_signature::Signature;
use solana_transaction::{sanitized::SanitizedTransaction, versioned::VersionedTransaction};
use solana_transaction_context::transaction::TransactionReturnData;
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    InnerInstruction, InnerInstructions, Reward, RewardType, RewardsAndNumPartitions,
    TransactionStatusMeta, TransactionTokenBalance,
};

type Drawn<T> = arbitrary::Result<T>;

fn list<T>(
    u: &mut Unstructured<'_>,
    most: usize,
    mut one: impl FnMut(&mut Unstructured<'_>) -> Drawn<T>,
) -> Drawn<Vec<T>> {
    let count = u.int_in_range(0..=most)?;
    (0..count).map(|_| one(u)).collect()
}

fn option<T>(
    u: &mut Unstructured<'_>,
    one: impl FnOnce(&mut Unstructured<'_>) -> Drawn<T>,
) -> Drawn<Option<T>> {
    if u.arbitrary()? {
        return one(u).map(Some);
    }
    Ok(None)
}

/// Mostly the fuzzer's; sometimes long, so that lengths of two and three bytes come.
pub fn bytes(u: &mut Unstructured<'_>) -> Drawn<Vec<u8>> {
    if u.ratio(1, 16)? {
        let length = u.int_in_range(0..=20_000)?;
        return Ok(vec![u.arbitrary()?; length]);
    }
    u.arbitrary()
}

fn text(u: &mut Unstructured<'_>) -> Drawn<String> {
    u.arbitrary()
}

fn address(u: &mut Unstructured<'_>) -> Drawn<Address> {
    u.arbitrary::<[u8; 32]>().map(Address::from)
}

pub fn signature(u: &mut Unstructured<'_>) -> Drawn<Signature> {
    u.arbitrary::<[u8; 64]>().map(Signature::from)
}

fn instruction(u: &mut Unstructured<'_>) -> Drawn<CompiledInstruction> {
    Ok(CompiledInstruction {
        program_id_index: u.arbitrary()?,
        accounts: u.arbitrary()?,
        data: bytes(u)?,
    })
}

fn message(u: &mut Unstructured<'_>) -> Drawn<VersionedMessage> {
    let header = MessageHeader {
        num_required_signatures: u.arbitrary()?,
        num_readonly_signed_accounts: u.arbitrary()?,
        num_readonly_unsigned_accounts: u.arbitrary()?,
    };
    let recent_blockhash = Hash::new_from_array(u.arbitrary()?);
    let account_keys = list(u, 12, address)?;
    let instructions = list(u, 5, instruction)?;
    Ok(match u.int_in_range(0..=2)? {
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
            address_table_lookups: list(u, 3, |u| {
                Ok(MessageAddressTableLookup {
                    account_key: address(u)?,
                    writable_indexes: u.arbitrary()?,
                    readonly_indexes: u.arbitrary()?,
                })
            })?,
        }),
        _ => VersionedMessage::V1(v1::Message {
            header,
            config: TransactionConfig {
                priority_fee: u.arbitrary()?,
                compute_unit_limit: u.arbitrary()?,
                loaded_accounts_data_size_limit: u.arbitrary()?,
                heap_size: u.arbitrary()?,
            },
            lifetime_specifier: recent_blockhash,
            account_keys,
            instructions,
        }),
    })
}

pub fn transaction(u: &mut Unstructured<'_>) -> Drawn<VersionedTransaction> {
    Ok(VersionedTransaction {
        signatures: list(u, 4, signature)?,
        message: message(u)?,
    })
}

pub fn loaded(u: &mut Unstructured<'_>) -> Drawn<LoadedAddresses> {
    Ok(LoadedAddresses {
        writable: list(u, 5, address)?,
        readonly: list(u, 5, address)?,
    })
}

fn error(u: &mut Unstructured<'_>) -> Drawn<TransactionError> {
    let bytes: [u8; 24] = u.arbitrary()?;
    // What bincode does not know as an error is this one.
    Ok(bincode::deserialize_from(bytes.as_slice()).unwrap_or(TransactionError::AccountNotFound))
}

fn reward(u: &mut Unstructured<'_>) -> Drawn<Reward> {
    Ok(Reward {
        pubkey: text(u)?,
        lamports: u.arbitrary()?,
        post_balance: u.arbitrary()?,
        reward_type: *u.choose(&[
            None,
            Some(RewardType::Fee),
            Some(RewardType::Rent),
            Some(RewardType::Staking),
            Some(RewardType::Voting),
            Some(RewardType::DeactivatedStake),
        ])?,
        commission: u.arbitrary()?,
        commission_bps: u.arbitrary()?,
    })
}

fn token_balance(u: &mut Unstructured<'_>) -> Drawn<TransactionTokenBalance> {
    let ui_amount: Option<f64> = u.arbitrary()?;
    Ok(TransactionTokenBalance {
        account_index: u.arbitrary()?,
        mint: text(u)?,
        ui_token_amount: UiTokenAmount {
            // Nothing is equal to it, itself included.
            ui_amount: ui_amount.filter(|amount| !amount.is_nan()),
            decimals: u.arbitrary()?,
            amount: text(u)?,
            ui_amount_string: text(u)?,
        },
        owner: text(u)?,
        program_id: text(u)?,
    })
}

pub fn meta(u: &mut Unstructured<'_>) -> Drawn<TransactionStatusMeta> {
    let inner = |u: &mut Unstructured<'_>| {
        Ok(InnerInstruction {
            instruction: instruction(u)?,
            stack_height: u.arbitrary()?,
        })
    };
    Ok(TransactionStatusMeta {
        status: option(u, error)?.map_or(Ok(()), Err),
        fee: u.arbitrary()?,
        pre_balances: u.arbitrary()?,
        post_balances: u.arbitrary()?,
        inner_instructions: option(u, |u| {
            list(u, 3, |u| {
                Ok(InnerInstructions {
                    index: u.arbitrary()?,
                    instructions: list(u, 4, inner)?,
                })
            })
        })?,
        log_messages: option(u, |u| list(u, 6, text))?,
        pre_token_balances: option(u, |u| list(u, 3, token_balance))?,
        post_token_balances: option(u, |u| list(u, 3, token_balance))?,
        rewards: option(u, |u| list(u, 3, reward))?,
        loaded_addresses: loaded(u)?,
        return_data: option(u, |u| {
            Ok(TransactionReturnData {
                program_id: address(u)?,
                data: bytes(u)?,
            })
        })?,
        compute_units_consumed: u.arbitrary()?,
        cost_units: u.arbitrary()?,
    })
}

pub fn rewards(u: &mut Unstructured<'_>) -> Drawn<RewardsAndNumPartitions> {
    Ok(RewardsAndNumPartitions {
        rewards: list(u, 200, reward)?,
        num_partitions: u.arbitrary()?,
    })
}

pub fn sockets(u: &mut Unstructured<'_>) -> Drawn<[Option<SocketAddr>; 12]> {
    let mut sockets = [None; 12];
    for socket in &mut sockets {
        *socket = u.arbitrary()?;
    }
    Ok(sockets)
}

/// The transaction that wrote an account.
pub fn writer(u: &mut Unstructured<'_>) -> Drawn<Option<SanitizedTransaction>> {
    let message = legacy::Message {
        header: MessageHeader {
            num_required_signatures: 1,
            ..MessageHeader::default()
        },
        account_keys: vec![address(u)?],
        ..legacy::Message::default()
    };
    let message = SanitizedMessage::Legacy(LegacyMessage::new(message, &HashSet::default()));
    let signatures = vec![signature(u)?];
    Ok(SanitizedTransaction::try_new_from_fields(message, Hash::default(), false, signatures).ok())
}
