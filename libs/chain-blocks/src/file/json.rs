//! `getBlock` replies: `base64` and `base58` carry the message bytes, `json` carries its parts, from which the bytes are
//! rebuilt and then proven by their signatures. `jsonParsed` lost them.

use std::str::FromStr;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use solana_hash::Hash;
use solana_message::{
    MessageHeader, VersionedMessage,
    compiled_instruction::CompiledInstruction,
    legacy,
    v0::{self, MessageAddressTableLookup},
    v1,
};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{Reward, RewardsAndNumPartitions};

use crate::json_meta::{JsonMeta, status_meta};

use super::{Block, BlockFileError, Content, RecordedTransaction, proof, slot_or_error};

const NO_MESSAGE_BYTES: &str = "jsonParsed: it holds no message bytes, so no transaction can be rebuilt; record the block \
                                with encoding base64 or json";

pub(super) fn block(name: &str, bytes: &[u8]) -> Result<Content, BlockFileError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        BlockFileError::damaged(format!("byte {}: not UTF-8 text", e.valid_up_to()))
    })?;
    let text = match envelope_result(text)? {
        Some(result) => Part {
            file: text,
            part: result.get(),
        },
        None => Part {
            file: text,
            part: text,
        },
    };
    let block: JsonBlock = text.read("the block")?;
    let Some(raw_transactions) = block.transactions else {
        return Ok(Content::Skipped(
            "no transactions in it: recorded with transactionDetails other than \"full\"".into(),
        ));
    };
    let mut transactions = Vec::with_capacity(raw_transactions.len());
    for (index, raw) in raw_transactions.into_iter().enumerate() {
        let label = format!("transactions[{index}]");
        let part = text.within(raw);
        match transaction(&part, &label)? {
            Rebuilt::Transaction(recorded) => transactions.push(*recorded),
            Rebuilt::NoMessageBytes => return Ok(Content::Skipped(NO_MESSAGE_BYTES.into())),
        }
    }
    let hash = |field: &str, text: &str| {
        Hash::from_str(text).map_err(|e| {
            BlockFileError::damaged(format!("field {field} is {text:?}, not a base58 hash: {e}"))
        })
    };
    Ok(Content::Block(Block {
        slot: slot_or_error(name)?,
        parent_slot: block.parent_slot,
        blockhash: hash("blockhash", &block.blockhash)?,
        parent_blockhash: hash("previousBlockhash", &block.previous_blockhash)?,
        block_time: block.block_time,
        block_height: block.block_height,
        rewards: RewardsAndNumPartitions {
            rewards: block.rewards.unwrap_or_default(),
            num_partitions: block.num_reward_partitions,
        },
        transactions,
    }))
}

/// The block within a JSON-RPC reply, or nothing when the file is the bare block.
fn envelope_result(text: &str) -> Result<Option<&RawValue>, BlockFileError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        jsonrpc: Option<String>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let whole = Part {
        file: text,
        part: text,
    };
    let envelope: Envelope = whole.read("the file")?;
    match (envelope.result, envelope.error, envelope.jsonrpc) {
        (Some(result), _, _) => Ok(Some(result)),
        (None, Some(error), _) => Err(BlockFileError {
            problem: format!("a JSON-RPC error in place of a block: {error}"),
            fix: "fetch the block again from a node that has it".into(),
        }),
        (None, None, Some(_)) => Err(BlockFileError {
            problem: "field result is null: the node did not have the block".into(),
            fix: "fetch the block again from a node that has it".into(),
        }),
        (None, None, None) => Ok(None),
    }
}

/// A part of the file that still knows where it begins, so that errors count bytes from the start of the file.
#[derive(Clone, Copy)]
struct Part<'a> {
    file: &'a str,
    part: &'a str,
}

impl<'a> Part<'a> {
    fn within(&self, raw: &'a RawValue) -> Self {
        Self {
            file: self.file,
            part: raw.get(),
        }
    }

    fn read<T: Deserialize<'a>>(&self, label: &str) -> Result<T, BlockFileError> {
        serde_json::from_str(self.part).map_err(|e| {
            let line_start: usize = self
                .part
                .split_inclusive('\n')
                .take(e.line().saturating_sub(1))
                .map(str::len)
                .sum();
            let offset = self.offset() + line_start + e.column().saturating_sub(1);
            let end = if e.is_eof() {
                " (the file ends here)"
            } else {
                ""
            };
            BlockFileError::damaged(format!("byte {offset}: {label}: {e}{end}"))
        })
    }

    fn damaged(&self, label: &str, problem: impl std::fmt::Display) -> BlockFileError {
        BlockFileError::damaged(format!("byte {}: {label}: {problem}", self.offset()))
    }

    fn offset(&self) -> usize {
        (self.part.as_ptr() as usize).saturating_sub(self.file.as_ptr() as usize)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonBlock<'a> {
    previous_blockhash: String,
    blockhash: String,
    parent_slot: u64,
    block_time: Option<i64>,
    block_height: Option<u64>,
    rewards: Option<Vec<Reward>>,
    num_reward_partitions: Option<u64>,
    #[serde(borrow)]
    transactions: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct JsonTransaction<'a> {
    #[serde(borrow)]
    transaction: &'a RawValue,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    version: Option<Version>,
}

#[derive(Deserialize, Clone, PartialEq)]
#[serde(untagged)]
enum Version {
    Number(u8),
    Name(String),
}

enum Rebuilt {
    Transaction(Box<RecordedTransaction>),
    NoMessageBytes,
}

fn transaction(part: &Part<'_>, label: &str) -> Result<Rebuilt, BlockFileError> {
    let recorded: JsonTransaction = part.read(label)?;
    let body = part.within(recorded.transaction);
    let transaction = match body.part.as_bytes().first() {
        Some(b'"') => {
            let base58: String = body.read(label)?;
            binary(&base58, "base58").map_err(|e| body.damaged(label, e))?
        }
        Some(b'[') => {
            let (data, encoding): (String, String) = body.read(label)?;
            binary(&data, &encoding).map_err(|e| body.damaged(label, e))?
        }
        _ => match from_parts(&body, label, recorded.version.as_ref())? {
            Some(transaction) => transaction,
            None => return Ok(Rebuilt::NoMessageBytes),
        },
    };
    let Some(raw_meta) = recorded.meta else {
        return Err(part.damaged(label, "meta is absent, so its execution is unknown"));
    };
    let meta: JsonMeta = part.within(raw_meta).read(&format!("{label}.meta"))?;
    let meta = status_meta(meta).map_err(|e| part.damaged(label, e))?;
    proof::proven(transaction, meta)
        .map(|recorded| Rebuilt::Transaction(Box::new(recorded)))
        .map_err(|e| part.damaged(label, e))
}

fn binary(data: &str, encoding: &str) -> Result<VersionedTransaction, String> {
    let bytes = match encoding {
        "base64" => BASE64_STANDARD
            .decode(data)
            .map_err(|e| format!("base64: {e}"))?,
        "base58" => bs58::decode(data)
            .into_vec()
            .map_err(|e| format!("base58: {e}"))?,
        other => return Err(format!("unknown transaction encoding {other:?}")),
    };
    let transaction: VersionedTransaction =
        wincode::deserialize(&bytes).map_err(|e| format!("the transaction's bytes: {e}"))?;
    // A decoder that stops early or normalises would not be showing the plugin what was recorded.
    match wincode::serialize(&transaction) {
        Ok(again) if again == bytes => Ok(transaction),
        _ => Err(format!(
            "the transaction's {} bytes do not encode again to themselves",
            bytes.len()
        )),
    }
}

#[derive(Deserialize)]
struct JsonBody<'a> {
    signatures: Vec<String>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonMessage<'a> {
    header: Option<MessageHeader>,
    #[serde(borrow)]
    account_keys: &'a RawValue,
    recent_blockhash: String,
    #[serde(borrow)]
    instructions: &'a RawValue,
    address_table_lookups: Option<Vec<JsonLookup>>,
    transaction_config: Option<JsonConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonInstruction {
    program_id_index: u8,
    accounts: Vec<u8>,
    data: String,
    stack_height: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonLookup {
    account_key: String,
    writable_indexes: Vec<u8>,
    readonly_indexes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonConfig {
    priority_fee: Option<u64>,
    compute_unit_limit: Option<u32>,
    loaded_accounts_data_size_limit: Option<u32>,
    heap_size: Option<u32>,
}

/// The transaction of encoding `json`; none when the message is of `jsonParsed` or left out.
fn from_parts(
    body: &Part<'_>,
    label: &str,
    version: Option<&Version>,
) -> Result<Option<VersionedTransaction>, BlockFileError> {
    let parts: JsonBody = body.read(label)?;
    let Some(raw_message) = parts.message else {
        return Ok(None);
    };
    let message_label = format!("{label}.transaction.message");
    let message_part = body.within(raw_message);
    let message: JsonMessage = message_part.read(&message_label)?;
    let Some(header) = message.header else {
        return Ok(None);
    };
    let account_keys: Vec<String> = message_part
        .within(message.account_keys)
        .read(&format!("{message_label}.accountKeys"))?;
    let instructions: Vec<JsonInstruction> = message_part
        .within(message.instructions)
        .read(&format!("{message_label}.instructions"))?;

    let rebuild = || -> Result<VersionedTransaction, String> {
        let account_keys = keys(&account_keys)?;
        let recent_blockhash = Hash::from_str(&message.recent_blockhash)
            .map_err(|e| format!("recentBlockhash: {e}"))?;
        let instructions = instructions
            .into_iter()
            .map(|i| instruction(i).map(|(instruction, _)| instruction))
            .collect::<Result<Vec<_>, _>>()?;
        let lookups = message
            .address_table_lookups
            .map(|lookups| {
                lookups
                    .into_iter()
                    .map(|lookup| {
                        Ok(MessageAddressTableLookup {
                            account_key: key(&lookup.account_key)?,
                            writable_indexes: lookup.writable_indexes,
                            readonly_indexes: lookup.readonly_indexes,
                        })
                    })
                    .collect::<Result<Vec<_>, String>>()
            })
            .transpose()?;
        let message = match (version, lookups, message.transaction_config) {
            (Some(Version::Number(1)), _, config) => VersionedMessage::V1(v1::Message {
                header,
                config: config.map_or_else(v1::TransactionConfig::empty, |config| {
                    v1::TransactionConfig {
                        priority_fee: config.priority_fee,
                        compute_unit_limit: config.compute_unit_limit,
                        loaded_accounts_data_size_limit: config.loaded_accounts_data_size_limit,
                        heap_size: config.heap_size,
                    }
                }),
                lifetime_specifier: recent_blockhash,
                account_keys,
                instructions,
            }),
            (Some(Version::Number(0)), lookups, _) => VersionedMessage::V0(v0::Message {
                header,
                account_keys,
                recent_blockhash,
                instructions,
                address_table_lookups: lookups.unwrap_or_default(),
            }),
            (Some(Version::Number(other)), _, _) => {
                return Err(format!("version {other} is not known"));
            }
            // Replies to a caller that named no version carry none; lookups then tell version 0.
            (None, Some(lookups), _) => VersionedMessage::V0(v0::Message {
                header,
                account_keys,
                recent_blockhash,
                instructions,
                address_table_lookups: lookups,
            }),
            (Some(Version::Name(name)), _, _) if name != "legacy" => {
                return Err(format!("version {name:?} is not known"));
            }
            (None | Some(Version::Name(_)), _, _) => VersionedMessage::Legacy(legacy::Message {
                header,
                account_keys,
                recent_blockhash,
                instructions,
            }),
        };
        let signatures = parts
            .signatures
            .iter()
            .map(|text| Signature::from_str(text).map_err(|e| format!("signature {text:?}: {e}")))
            .collect::<Result<_, _>>()?;
        Ok(VersionedTransaction {
            signatures,
            message,
        })
    };
    rebuild()
        .map(Some)
        .map_err(|e| message_part.damaged(&message_label, e))
}

pub(crate) fn instruction(
    i: JsonInstruction,
) -> Result<(CompiledInstruction, Option<u32>), String> {
    let data = bs58::decode(&i.data)
        .into_vec()
        .map_err(|e| format!("instruction data: {e}"))?;
    Ok((
        CompiledInstruction {
            program_id_index: i.program_id_index,
            accounts: i.accounts,
            data,
        },
        i.stack_height,
    ))
}

pub(crate) fn key(text: &str) -> Result<Pubkey, String> {
    Pubkey::from_str(text).map_err(|e| format!("public key {text:?}: {e}"))
}

pub(crate) fn keys(list: &[String]) -> Result<Vec<Pubkey>, String> {
    list.iter().map(|text| key(text)).collect()
}
