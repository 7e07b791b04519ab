//! `solana.storage.ConfirmedBlock`, read field by field so that damage is named by its byte offset.
//!
//! Where the format cannot tell "absent" from "empty" (token balances, rewards of a transaction), it is read as Agave reads
//! it: empty.

use std::str::FromStr;

use solana_account_decoder_client_types::token::{UiTokenAmount, real_number_string_trimmed};
use solana_hash::Hash;
use solana_message::{
    MessageHeader, VersionedMessage,
    compiled_instruction::CompiledInstruction,
    legacy,
    v0::{self, LoadedAddresses, MessageAddressTableLookup},
    v1,
};
use solana_pubkey::Pubkey;
use solana_reward_info::RewardType;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_context::transaction::TransactionReturnData;
use solana_transaction_status::{
    InnerInstruction, InnerInstructions, Reward, RewardsAndNumPartitions, TransactionStatusMeta,
    TransactionTokenBalance,
};
use yellowstone_grpc_proto::solana::storage::confirmed_block as proto;

use super::{Block, BlockFileError, RecordedTransaction, proof, slot_or_error};

const VARINT: u8 = 0;
const BYTES: u8 = 2;

pub(super) fn block(name: &str, bytes: &[u8]) -> Result<Block, BlockFileError> {
    let slot = slot_or_error(name)?;
    let mut previous_blockhash = String::new();
    let mut blockhash = String::new();
    let mut parent_slot = 0;
    let mut transactions: Vec<RecordedTransaction> = Vec::new();
    let mut rewards = Vec::new();
    let (mut block_time, mut block_height, mut num_partitions) = (None, None, None);

    let mut fields = Fields { bytes, at: 0 };
    while let Some(field) = fields.next_field()? {
        match (field.number, field.wire) {
            (1, BYTES) => previous_blockhash = field.text("previous_blockhash")?,
            (2, BYTES) => blockhash = field.text("blockhash")?,
            (3, VARINT) => parent_slot = field.varint,
            (4, BYTES) => {
                let label = format!("transactions[{}]", transactions.len());
                let recorded = field.message::<proto::ConfirmedTransaction>(&label)?;
                transactions
                    .push(transaction(recorded).map_err(|problem| field.damaged(&label, problem))?);
            }
            (5, BYTES) => {
                let label = format!("rewards[{}]", rewards.len());
                rewards.push(reward(field.message(&label)?));
            }
            (6, BYTES) => {
                block_time = Some(
                    field
                        .message::<proto::UnixTimestamp>("block_time")?
                        .timestamp,
                );
            }
            (7, BYTES) => {
                block_height = Some(
                    field
                        .message::<proto::BlockHeight>("block_height")?
                        .block_height,
                );
            }
            (8, BYTES) => {
                num_partitions = Some(
                    field
                        .message::<proto::NumPartitions>("num_partitions")?
                        .num_partitions,
                );
            }
            // A later version of the format may add fields; known ones with another wire type are damage.
            (1..=8, wire) => {
                return Err(BlockFileError::damaged(format!(
                    "byte {}: field {} of ConfirmedBlock has wire type {wire}",
                    field.at, field.number
                )));
            }
            _ => {}
        }
    }

    let hash = |field: &str, text: &str| {
        Hash::from_str(text).map_err(|e| {
            BlockFileError::damaged(format!(
                "field {field} is {text:?}, not a base58 hash ({e}): this is no whole ConfirmedBlock"
            ))
        })
    };
    Ok(Block {
        slot,
        parent_slot,
        blockhash: hash("blockhash", &blockhash)?,
        parent_blockhash: hash("previous_blockhash", &previous_blockhash)?,
        block_time,
        block_height,
        rewards: RewardsAndNumPartitions {
            rewards,
            num_partitions,
        },
        transactions,
    })
}

/// The top level of a protobuf message, one field after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Field<'a> {
    /// Offset of the field's key in the (unpacked) file.
    at: usize,
    number: u64,
    wire: u8,
    varint: u64,
    value: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Result<Option<Field<'a>>, BlockFileError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let at = self.at;
        let key = self.varint()?;
        let (number, wire) = (key >> 3, (key & 7) as u8);
        let mut field = Field {
            at,
            number,
            wire,
            varint: 0,
            value: &[],
        };
        match wire {
            VARINT => field.varint = self.varint()?,
            1 => field.value = self.take(at, number, 8)?,
            BYTES => {
                let length = self.varint()?;
                field.value = self.take(at, number, length)?;
            }
            5 => field.value = self.take(at, number, 4)?,
            _ => {
                return Err(BlockFileError::damaged(format!(
                    "byte {at}: wire type {wire} of field {number} is not protobuf"
                )));
            }
        }
        Ok(Some(field))
    }

    fn take(&mut self, at: usize, number: u64, length: u64) -> Result<&'a [u8], BlockFileError> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(length)
            .ok()
            .filter(|length| *length <= left)
        {
            Some(length) => {
                let value = &self.bytes[self.at..self.at + length];
                self.at += length;
                Ok(value)
            }
            None => Err(BlockFileError::damaged(format!(
                "byte {at}: field {number} of ConfirmedBlock says {length} bytes, {left} are left"
            ))),
        }
    }

    fn varint(&mut self) -> Result<u64, BlockFileError> {
        let begin = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at) else {
                return Err(BlockFileError::damaged(format!(
                    "byte {begin}: the file ends within a number"
                )));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BlockFileError::damaged(format!(
            "byte {begin}: a number longer than ten bytes"
        )))
    }
}

impl Field<'_> {
    fn damaged(&self, label: &str, problem: impl std::fmt::Display) -> BlockFileError {
        BlockFileError::damaged(format!("byte {}: {label}: {problem}", self.at))
    }

    fn message<T: prost::Message + Default>(&self, label: &str) -> Result<T, BlockFileError> {
        T::decode(self.value).map_err(|e| self.damaged(label, e))
    }

    fn text(&self, label: &str) -> Result<String, BlockFileError> {
        String::from_utf8(self.value.to_vec()).map_err(|e| self.damaged(label, e))
    }
}

fn transaction(recorded: proto::ConfirmedTransaction) -> Result<RecordedTransaction, String> {
    let transaction = recorded.transaction.ok_or("transaction is absent")?;
    let meta = recorded
        .meta
        .ok_or("meta is absent, so its execution is unknown")?;
    let signatures = transaction
        .signatures
        .into_iter()
        .enumerate()
        .map(|(index, bytes)| {
            Signature::try_from(bytes.as_slice())
                .map_err(|_| format!("signatures[{index}] has {} bytes, not 64", bytes.len()))
        })
        .collect::<Result<_, _>>()?;
    let message = message(transaction.message.ok_or("message is absent")?)?;
    proof::proven(
        VersionedTransaction {
            signatures,
            message,
        },
        status_meta(meta)?,
    )
}

fn message(recorded: proto::Message) -> Result<VersionedMessage, String> {
    let header = recorded.header.ok_or("message.header is absent")?;
    let header = MessageHeader {
        num_required_signatures: byte("numRequiredSignatures", header.num_required_signatures)?,
        num_readonly_signed_accounts: byte(
            "numReadonlySignedAccounts",
            header.num_readonly_signed_accounts,
        )?,
        num_readonly_unsigned_accounts: byte(
            "numReadonlyUnsignedAccounts",
            header.num_readonly_unsigned_accounts,
        )?,
    };
    let account_keys = keys("message.account_keys", recorded.account_keys)?;
    let recent_blockhash = <[u8; 32]>::try_from(recorded.recent_blockhash.as_slice())
        .map(Hash::new_from_array)
        .map_err(|_| "message.recent_blockhash has not 32 bytes")?;
    let instructions = recorded
        .instructions
        .into_iter()
        .map(|i| instruction(i.program_id_index, i.accounts, i.data))
        .collect::<Result<Vec<_>, _>>()?;
    // `config` is written for version 1 alone; `versioned` is true for 0 and 1.
    if let Some(config) = recorded.config {
        return Ok(VersionedMessage::V1(v1::Message {
            header,
            config: v1::TransactionConfig {
                priority_fee: config.priority_fee,
                compute_unit_limit: config.compute_unit_limit,
                loaded_accounts_data_size_limit: config.loaded_accounts_data_size_limit,
                heap_size: config.heap_size,
            },
            lifetime_specifier: recent_blockhash,
            account_keys,
            instructions,
        }));
    }
    if !recorded.versioned {
        return Ok(VersionedMessage::Legacy(legacy::Message {
            header,
            account_keys,
            recent_blockhash,
            instructions,
        }));
    }
    let address_table_lookups = recorded
        .address_table_lookups
        .into_iter()
        .map(|lookup| {
            Ok(MessageAddressTableLookup {
                account_key: key("message.address_table_lookups", lookup.account_key)?,
                writable_indexes: lookup.writable_indexes,
                readonly_indexes: lookup.readonly_indexes,
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(VersionedMessage::V0(v0::Message {
        header,
        account_keys,
        recent_blockhash,
        instructions,
        address_table_lookups,
    }))
}

fn status_meta(meta: proto::TransactionStatusMeta) -> Result<TransactionStatusMeta, String> {
    let status = match meta.err {
        None => Ok(()),
        Some(stored) => Err(bincode::deserialize(&stored.err)
            .map_err(|e| format!("meta.err of {} bytes: {e}", stored.err.len()))?),
    };
    let inner_instructions = if meta.inner_instructions_none {
        None
    } else {
        Some(
            meta.inner_instructions
                .into_iter()
                .map(inner_instructions)
                .collect::<Result<_, _>>()?,
        )
    };
    let return_data = match meta.return_data.filter(|_| !meta.return_data_none) {
        None => None,
        Some(returned) => Some(TransactionReturnData {
            program_id: key("meta.return_data.program_id", returned.program_id)?,
            data: returned.data,
        }),
    };
    Ok(TransactionStatusMeta {
        status,
        fee: meta.fee,
        pre_balances: meta.pre_balances,
        post_balances: meta.post_balances,
        inner_instructions,
        log_messages: (!meta.log_messages_none).then_some(meta.log_messages),
        pre_token_balances: Some(token_balances(meta.pre_token_balances)?),
        post_token_balances: Some(token_balances(meta.post_token_balances)?),
        rewards: Some(meta.rewards.into_iter().map(reward).collect()),
        loaded_addresses: LoadedAddresses {
            writable: keys(
                "meta.loaded_writable_addresses",
                meta.loaded_writable_addresses,
            )?,
            readonly: keys(
                "meta.loaded_readonly_addresses",
                meta.loaded_readonly_addresses,
            )?,
        },
        return_data,
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
    })
}

fn inner_instructions(inner: proto::InnerInstructions) -> Result<InnerInstructions, String> {
    Ok(InnerInstructions {
        index: byte("meta.inner_instructions.index", inner.index)?,
        instructions: inner
            .instructions
            .into_iter()
            .map(|i| {
                Ok(InnerInstruction {
                    instruction: instruction(i.program_id_index, i.accounts, i.data)?,
                    stack_height: i.stack_height,
                })
            })
            .collect::<Result<_, String>>()?,
    })
}

fn instruction(
    program_id_index: u32,
    accounts: Vec<u8>,
    data: Vec<u8>,
) -> Result<CompiledInstruction, String> {
    Ok(CompiledInstruction {
        program_id_index: byte("program_id_index", program_id_index)?,
        accounts,
        data,
    })
}

fn token_balances(
    balances: Vec<proto::TokenBalance>,
) -> Result<Vec<TransactionTokenBalance>, String> {
    balances
        .into_iter()
        .map(|balance| {
            let amount = balance.ui_token_amount.unwrap_or_default();
            let decimals = byte("token balance decimals", amount.decimals)?;
            let ui_amount_string = if amount.ui_amount_string.is_empty() {
                real_number_string_trimmed(amount.amount.parse().unwrap_or_default(), decimals)
            } else {
                amount.ui_amount_string
            };
            Ok(TransactionTokenBalance {
                account_index: byte("token balance account_index", balance.account_index)?,
                mint: balance.mint,
                ui_token_amount: UiTokenAmount {
                    // Protobuf has no absent double: Agave writes 0 for "none" and reads it back so.
                    ui_amount: Some(amount.ui_amount).filter(|a| a.abs() > f64::EPSILON),
                    decimals,
                    amount: amount.amount,
                    ui_amount_string,
                },
                owner: balance.owner,
                program_id: balance.program_id,
            })
        })
        .collect()
}

fn reward(reward: proto::Reward) -> Reward {
    Reward {
        pubkey: reward.pubkey,
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        reward_type: match reward.reward_type {
            1 => Some(RewardType::Fee),
            2 => Some(RewardType::Rent),
            3 => Some(RewardType::Staking),
            4 => Some(RewardType::Voting),
            5 => Some(RewardType::DeactivatedStake),
            _ => None,
        },
        commission: reward.commission.parse().ok(),
        commission_bps: reward.commission_bps.parse().ok(),
    }
}

fn byte(field: &str, value: u32) -> Result<u8, String> {
    u8::try_from(value).map_err(|_| format!("{field} is {value}, more than 255"))
}

fn key(field: &str, bytes: Vec<u8>) -> Result<Pubkey, String> {
    let length = bytes.len();
    Pubkey::try_from(bytes).map_err(|_| format!("{field} has {length} bytes, not 32"))
}

fn keys(field: &str, list: Vec<Vec<u8>>) -> Result<Vec<Pubkey>, String> {
    list.into_iter().map(|bytes| key(field, bytes)).collect()
}
