//! One recorded block file in, one proven [`Block`] out, in Agave's own types; [`crate::ChainBlock`] is made of it. Pure: bytes and a name, no file system.
//!
//! Read are: protobuf `solana.storage.ConfirmedBlock` (commonly named `*.bincode`), and `getBlock` replies in the encodings
//! `base64`, `base58` and `json`, with or without their JSON-RPC envelope, plain or compressed by gzip or zstd (told by
//! content). The slot is in no format: it is the first all-digit part of the file name (`mainnet-285000037.json.zst`).
//!
//! Everything that is not a whole block with its message bytes is skipped with the reason; everything that claims to be one
//! and is damaged is an error that says where and what to do. Nothing here panics, whatever the bytes.

pub(crate) mod json;
pub(crate) mod proof;
mod protobuf;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, io::Read};

use solana_hash::Hash;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{RewardsAndNumPartitions, TransactionStatusMeta};

/// Unpacked size, in bytes, above which a file is refused: ten times the largest mainnet block seen.
const UNPACKED_MAX: u64 = 1 << 30;

/// A whole block as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub slot: u64,
    pub parent_slot: u64,
    pub blockhash: Hash,
    pub parent_blockhash: Hash,
    /// Unix seconds; absent in the oldest blocks.
    pub block_time: Option<i64>,
    pub block_height: Option<u64>,
    pub rewards: RewardsAndNumPartitions,
    /// In the order of the block.
    pub transactions: Vec<RecordedTransaction>,
}

impl Block {
    /// How many of the transactions are simple votes, by the validator's own rule.
    pub fn votes(&self) -> usize {
        self.transactions.iter().filter(|t| t.is_vote).count()
    }
}

/// A transaction whose signatures were checked over its message, with the metadata of its execution.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedTransaction {
    pub transaction: VersionedTransaction,
    pub meta: TransactionStatusMeta,
    pub message_hash: Hash,
    pub is_vote: bool,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Block(Block),
    /// Not a block that can be replayed, and why.
    Skipped(String),
}

/// A file that claims to be a block and cannot be read as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}. Fix: {fix}")]
pub struct BlockFileError {
    /// What is wrong, with the byte offset or the field.
    pub problem: String,
    pub fix: String,
}

impl BlockFileError {
    fn damaged(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            fix: "fetch or record the block again; the file is truncated or was changed".into(),
        }
    }
}

/// Reads `bytes` of the file called `name` (its last path component).
pub fn parse(name: &str, bytes: &[u8]) -> Result<Content, BlockFileError> {
    if let Some(reason) = skipped_by_name(name) {
        return Ok(Content::Skipped(reason.into()));
    }
    let unpacked = unpack(bytes)?;
    let first = unpacked.iter().find(|b| !b.is_ascii_whitespace());
    match first {
        None => Err(BlockFileError::damaged("the file is empty")),
        Some(b'{') => json::block(name, &unpacked),
        Some(b'[') => Ok(Content::Skipped(
            "a list, not a getBlock reply: raw shreds and lists of transactions hold no executed block".into(),
        )),
        Some(_) if is_protobuf_name(name) => protobuf::block(name, &unpacked).map(Content::Block),
        Some(_) if stem(name).ends_with(".json") => Err(BlockFileError::damaged(
            "byte 0: a .json file that does not begin with '{'",
        )),
        Some(_) => Ok(Content::Skipped(
            "not a block file: expected .bincode (protobuf ConfirmedBlock) or getBlock .json, plain, .gz or .zst".into(),
        )),
    }
}

/// The slot that a file name states: its first part that is all digits, parts being divided by `-`, `_` and `.`.
pub fn slot_of_name(name: &str) -> Option<u64> {
    name.split(['-', '_', '.'])
        .find(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
}

fn slot_or_error(name: &str) -> Result<u64, BlockFileError> {
    slot_of_name(name).ok_or_else(|| BlockFileError {
        problem: "no slot in the file name, and the format carries none".into(),
        fix: "rename the file so that a part of its name is the slot, as in mainnet-285000037.json.zst".into(),
    })
}

fn skipped_by_name(name: &str) -> Option<&'static str> {
    if name.contains(".excerpt") {
        Some("an excerpt: it holds only some of the transactions of its block")
    } else if stem(name).ends_with(".car") {
        Some("an Old Faithful CAR archive, not a single block")
    } else if name.contains(".shreds.") {
        Some("raw shreds: they hold no execution results")
    } else {
        None
    }
}

fn is_protobuf_name(name: &str) -> bool {
    [".bincode", ".pb", ".protobuf"]
        .iter()
        .any(|suffix| stem(name).ends_with(suffix))
}

/// The name without the suffix of its compression.
fn stem(name: &str) -> &str {
    name.strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name)
}

fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BlockFileError> {
    let (form, reader): (_, Box<dyn Read + '_>) = if bytes.starts_with(&[0x1f, 0x8b]) {
        ("gzip", Box::new(flate2::read::MultiGzDecoder::new(bytes)))
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::stream::read::Decoder::new(bytes)
            .map_err(|e| BlockFileError::damaged(format!("byte 0: the zstd stream: {e}")))?;
        ("zstd", Box::new(decoder))
    } else {
        return Ok(Cow::Borrowed(bytes));
    };
    let mut unpacked = Vec::new();
    let outcome = reader.take(UNPACKED_MAX + 1).read_to_end(&mut unpacked);
    if let Err(e) = outcome {
        return Err(BlockFileError::damaged(format!(
            "the {form} stream of {} bytes breaks after {} unpacked bytes: {e}",
            bytes.len(),
            unpacked.len()
        )));
    }
    if unpacked.len() as u64 > UNPACKED_MAX {
        return Err(BlockFileError {
            problem: format!("the {form} stream unpacks to more than {UNPACKED_MAX} bytes"),
            fix: "give a file with a single block".into(),
        });
    }
    Ok(Cow::Owned(unpacked))
}
