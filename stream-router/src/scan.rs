//! Pure: what the router must know of an event's value, read from its bytes without decoding it.
//!
//! Most values are only passed on: their identity is all that is looked at. Whoever wants more decodes them, see
//! [`crate::lazy`]. What is accepted here decodes; what is not accepted may decode all the same (see [`crate::wire`]).

use event_schema::{Pubkey, Signature, Slot, WriteVersion};

use crate::{
    dedup::EventId,
    wire::{Form, Once, Shape, Value, fields},
};

/// An event's identity and what kind of report it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// An account of the state loaded at start.
    Startup,
    Event(EventId),
}

/// The fields of `SubscribeUpdate`'s choice.
const ACCOUNT: u32 = 2;
const TRANSACTION: u32 = 4;
const ENTRY: u32 = 8;

/// An account's fields, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView<'a> {
    pub pubkey: Pubkey,
    pub owner: Pubkey,
    pub lamports: u64,
    pub data: &'a [u8],
    write_version: u64,
    slot: u64,
    is_startup: bool,
}

/// An account update of this slot.
pub fn account(slot: Slot, update: &[u8]) -> Option<Scanned> {
    let account = account_view(update)?;
    if account.slot != slot.0 {
        return None;
    }
    if account.is_startup {
        return Some(Scanned::Startup);
    }
    let version = WriteVersion(account.write_version);
    Some(Scanned::Event(EventId::Account(version, account.pubkey)))
}

/// An account update, looked into.
pub fn account_view(update: &[u8]) -> Option<AccountView<'_>> {
    let (mut info, mut slot, mut is_startup) = (None, 0, false);
    let mut once = Once::default();
    fields(only(update, ACCOUNT)?, |field, value| {
        once.take(field)?;
        match (field, value) {
            (1, Value::Bytes(bytes)) => info = Some(bytes),
            (2, Value::Number(number)) => slot = number,
            (3, Value::Number(number)) => is_startup = number != 0,
            _ => return None,
        }
        Some(())
    })?;
    let (mut pubkey, mut owner, mut data): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let (mut lamports, mut write_version) = (0, 0);
    let mut once = Once::default();
    fields(info?, |field, value| {
        once.take(field)?;
        match (field, value) {
            (1, Value::Bytes(bytes)) => pubkey = bytes,
            (2, Value::Number(number)) => lamports = number,
            (3, Value::Bytes(bytes)) => owner = bytes,
            (4 | 5, Value::Number(_)) | (8, Value::Bytes(_)) => {}
            (6, Value::Bytes(bytes)) => data = bytes,
            (7, Value::Number(number)) => write_version = number,
            _ => return None,
        }
        Some(())
    })?;
    Some(AccountView {
        pubkey: Pubkey::try_from(pubkey).ok()?,
        owner: Pubkey::try_from(owner).ok()?,
        lamports,
        data,
        write_version,
        slot,
        is_startup,
    })
}

/// A transaction of this slot.
pub fn transaction(slot: Slot, update: &[u8]) -> Option<Scanned> {
    let (mut signature, mut index): (&[u8], u64) = (&[], 0);
    let mut once = Once::default();
    let of = transaction_fields(update, |field, value| {
        once.take(field)?;
        match (field, value) {
            (1, Value::Bytes(bytes)) => signature = bytes,
            (2, Value::Number(_)) => {}
            (3, Value::Bytes(bytes)) => MESSAGE_AND_SIGNATURES.fits(bytes)?,
            (4, Value::Bytes(bytes)) => STATUS_META.fits(bytes)?,
            (5, Value::Number(number)) => index = number,
            _ => return None,
        }
        Some(())
    })?;
    let signature = Signature::try_from(signature).ok()?;
    (of == slot.0).then_some(Scanned::Event(EventId::Transaction(index, signature)))
}

/// Mint and decimals of every token balance in a transaction that was accepted by [`transaction`].
pub fn token_balances(update: &[u8], mut give: impl FnMut(&str, u32)) -> Option<()> {
    transaction_fields(update, |field, value| {
        let (4, Value::Bytes(meta)) = (field, value) else {
            return Some(());
        };
        fields(meta, |field, value| {
            if let (7 | 8, Value::Bytes(balance)) = (field, value) {
                token_balance(balance, &mut give)?;
            }
            Some(())
        })
    })
    .map(drop)
}

fn token_balance(balance: &[u8], give: &mut impl FnMut(&str, u32)) -> Option<()> {
    let (mut mint, mut amount) = ("", None);
    fields(balance, |field, value| {
        match (field, value) {
            (2, Value::Bytes(text)) => mint = std::str::from_utf8(text).ok()?,
            (3, Value::Bytes(bytes)) => amount = Some(bytes),
            _ => {}
        }
        Some(())
    })?;
    let Some(amount) = amount else {
        return Some(());
    };
    let mut decimals = 0;
    fields(amount, |field, value| {
        if let (2, Value::Number(number)) = (field, value) {
            // As protobuf reads a number that is too long for its field.
            decimals = number as u32;
        }
        Some(())
    })?;
    give(mint, decimals);
    Some(())
}

/// Visits the fields of the transaction in the update. Returns the update's slot.
fn transaction_fields<'a>(
    update: &'a [u8],
    visit: impl FnMut(u32, Value<'a>) -> Option<()>,
) -> Option<u64> {
    let (mut info, mut slot) = (None, 0);
    let mut once = Once::default();
    fields(only(update, TRANSACTION)?, |field, value| {
        once.take(field)?;
        match (field, value) {
            (1, Value::Bytes(bytes)) => info = Some(bytes),
            (2, Value::Number(number)) => slot = number,
            _ => return None,
        }
        Some(())
    })?;
    fields(info?, visit)?;
    Some(slot)
}

/// An entry of this slot.
pub fn entry(slot: Slot, update: &[u8]) -> Option<Scanned> {
    let (mut of, mut index) = (0, 0);
    let mut once = Once::default();
    fields(only(update, ENTRY)?, |field, value| {
        once.take(field)?;
        match (field, value) {
            (1, Value::Number(number)) => of = number,
            (2, Value::Number(number)) => index = number,
            (3 | 5 | 6, Value::Number(_)) | (4, Value::Bytes(_)) => {}
            _ => return None,
        }
        Some(())
    })?;
    (of == slot.0).then_some(Scanned::Event(EventId::Entry(index)))
}

/// The value of the message's one field, if it is this one.
fn only(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut found = None;
    fields(message, |field, value| match (field, value, found) {
        (field, Value::Bytes(bytes), None) if field == wanted => {
            found = Some(bytes);
            Some(())
        }
        _ => None,
    })?;
    found
}

// The messages inside a transaction, as `solana-storage.proto` has them. A field that a later release adds is not plain
// here: such values are decoded by prost until it is added.

use Form::{Bytes, Double, ManyBytes, Message, Messages, Number, Numbers, Text, Texts};

/// `Transaction`.
static MESSAGE_AND_SIGNATURES: Shape = Shape(&[ManyBytes, Message(&MESSAGE)]);
static MESSAGE: Shape = Shape(&[
    Message(&MESSAGE_HEADER),
    ManyBytes,
    Bytes,
    Messages(&COMPILED_INSTRUCTION),
    Number,
    Messages(&TABLE_LOOKUP),
    Message(&TRANSACTION_CONFIG),
]);
static MESSAGE_HEADER: Shape = Shape(&[Number, Number, Number]);
static COMPILED_INSTRUCTION: Shape = Shape(&[Number, Bytes, Bytes]);
static TABLE_LOOKUP: Shape = Shape(&[Bytes, Bytes, Bytes]);
static TRANSACTION_CONFIG: Shape = Shape(&[Number, Number, Number, Number]);

/// `TransactionStatusMeta`.
static STATUS_META: Shape = Shape(&[
    Message(&TRANSACTION_ERROR),
    Number,
    Numbers,
    Numbers,
    Messages(&INNER_INSTRUCTIONS),
    Texts,
    Messages(&TOKEN_BALANCE),
    Messages(&TOKEN_BALANCE),
    Messages(&REWARD),
    Number,
    Number,
    ManyBytes,
    ManyBytes,
    Message(&RETURN_DATA),
    Number,
    Number,
    Number,
]);
static TRANSACTION_ERROR: Shape = Shape(&[Bytes]);
static INNER_INSTRUCTIONS: Shape = Shape(&[Number, Messages(&INNER_INSTRUCTION)]);
static INNER_INSTRUCTION: Shape = Shape(&[Number, Bytes, Bytes, Number]);
static TOKEN_BALANCE: Shape = Shape(&[Number, Text, Message(&TOKEN_AMOUNT), Text, Text]);
static TOKEN_AMOUNT: Shape = Shape(&[Double, Number, Text, Text]);
static REWARD: Shape = Shape(&[Text, Number, Number, Number, Text, Text]);
static RETURN_DATA: Shape = Shape(&[Bytes, Bytes]);

#[cfg(test)]
mod tests;
