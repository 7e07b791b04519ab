//! A transaction from its message to Agave's own type.
//!
//! The messages of the stream and those of Agave's storage are one schema compiled twice, so the way is through the wire
//! form. Agave's conversions and encoders take what they are given for executed and panic on anything else: lengths and
//! indexes are checked here before.

use event_schema::proto::{
    Message as _,
    confirmed_block::{Message, Transaction, TransactionStatusMeta},
    geyser::SubscribeUpdateTransactionInfo,
};
use solana_storage_proto::convert::generated;
use solana_transaction_status::VersionedTransactionWithStatusMeta;

/// Why a transaction cannot be shown: no validator writes such a one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the transaction has no {0}")]
    Missing(&'static str),
    #[error("{what} has {bytes} bytes instead of {expected}")]
    Length {
        what: &'static str,
        bytes: usize,
        expected: usize,
    },
    #[error("{0} is longer than a transaction can be")]
    TooLong(&'static str),
    #[error("the header does not fit {keys} keys and {signatures} signatures")]
    Header { keys: usize, signatures: usize },
    #[error("an instruction names key {index} of {keys}")]
    Index { index: usize, keys: usize },
    #[error("{0}")]
    Converted(String),
}

/// Lengths are written as 16 bit numbers in a transaction.
const LENGTH_MAX: usize = u16::MAX as usize;
/// Instructions name keys by a byte.
const KEYS_MAX: usize = 256;

pub fn native_transaction(
    info: &SubscribeUpdateTransactionInfo,
) -> Result<VersionedTransactionWithStatusMeta, Unreadable> {
    let transaction = info
        .transaction
        .as_ref()
        .ok_or(Unreadable::Missing("content"))?;
    let meta = info.meta.as_ref().ok_or(Unreadable::Missing("metadata"))?;
    check(transaction, meta)?;
    let unreadable = |error: &dyn std::fmt::Display| Unreadable::Converted(error.to_string());
    let transaction = generated::Transaction::decode(transaction.encode_to_vec().as_slice())
        .map_err(|error| unreadable(&error))?;
    let meta = generated::TransactionStatusMeta::decode(meta.encode_to_vec().as_slice())
        .map_err(|error| unreadable(&error))?;
    Ok(VersionedTransactionWithStatusMeta {
        transaction: transaction.into(),
        meta: meta.try_into().map_err(|error| unreadable(&error))?,
    })
}

fn check(transaction: &Transaction, meta: &TransactionStatusMeta) -> Result<(), Unreadable> {
    let message = transaction
        .message
        .as_ref()
        .ok_or(Unreadable::Missing("message"))?;
    for signature in &transaction.signatures {
        length("a signature", signature, 64)?;
    }
    length("the recent blockhash", &message.recent_blockhash, 32)?;
    let loaded = meta
        .loaded_writable_addresses
        .iter()
        .chain(&meta.loaded_readonly_addresses);
    for key in message.account_keys.iter().chain(loaded) {
        length("an address", key, 32)?;
    }
    for lookup in &message.address_table_lookups {
        length("a lookup table's address", &lookup.account_key, 32)?;
        short("a table lookup", &lookup.writable_indexes)?;
        short("a table lookup", &lookup.readonly_indexes)?;
    }
    short("the list of table lookups", &message.address_table_lookups)?;
    if let Some(returned) = meta.return_data.as_ref().filter(|_| !meta.return_data_none) {
        length("the returning program", &returned.program_id, 32)?;
    }
    header(message, transaction.signatures.len())?;
    let keys = message.account_keys.len()
        + meta.loaded_writable_addresses.len()
        + meta.loaded_readonly_addresses.len();
    if keys > KEYS_MAX {
        return Err(Unreadable::TooLong("the list of keys"));
    }
    // Version 1 counts instructions and their keys by a byte.
    let list_max = match message.config {
        Some(_) => u8::MAX.into(),
        None => LENGTH_MAX,
    };
    at_most("the list of instructions", &message.instructions, list_max)?;
    for instruction in &message.instructions {
        at_most("an instruction's key list", &instruction.accounts, list_max)?;
        short("an instruction's data", &instruction.data)?;
        indexes(instruction.program_id_index, &instruction.accounts, keys)?;
    }
    let inner = meta
        .inner_instructions
        .iter()
        .flat_map(|inner| &inner.instructions);
    for instruction in inner {
        indexes(instruction.program_id_index, &instruction.accounts, keys)?;
    }
    Ok(())
}

fn length(what: &'static str, bytes: &[u8], expected: usize) -> Result<(), Unreadable> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(Unreadable::Length {
        what,
        bytes: bytes.len(),
        expected,
    })
}

fn short<T>(what: &'static str, list: &[T]) -> Result<(), Unreadable> {
    at_most(what, list, LENGTH_MAX)
}

fn at_most<T>(what: &'static str, list: &[T], max: usize) -> Result<(), Unreadable> {
    if list.len() <= max {
        return Ok(());
    }
    Err(Unreadable::TooLong(what))
}

/// Signers come first, and in each part the writable keys. At least the payer signs.
fn header(message: &Message, signatures: usize) -> Result<(), Unreadable> {
    let header = message
        .header
        .as_ref()
        .ok_or(Unreadable::Missing("header"))?;
    let keys = message.account_keys.len();
    let signers = header.num_required_signatures as usize;
    let fits = (1..=keys.min(u8::MAX.into())).contains(&signers)
        && signatures == signers
        && header.num_readonly_signed_accounts as usize <= signers
        && header.num_readonly_unsigned_accounts as usize <= (keys - signers).min(u8::MAX.into());
    if fits {
        return Ok(());
    }
    Err(Unreadable::Header { keys, signatures })
}

fn indexes(program: u32, accounts: &[u8], keys: usize) -> Result<(), Unreadable> {
    let named = accounts
        .iter()
        .map(|index| usize::from(*index))
        .chain([program as usize]);
    match named.max() {
        Some(index) if index >= keys => Err(Unreadable::Index { index, keys }),
        _ => Ok(()),
    }
}
