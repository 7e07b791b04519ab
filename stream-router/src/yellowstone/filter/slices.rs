//! Parts of account data: `accounts_data_slice`, one list for all of a request.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::proto::{
    Message,
    geyser::{
        SubscribeRequestAccountsDataSlice, SubscribeUpdate, SubscribeUpdateAccount,
        SubscribeUpdateAccountInfo, subscribe_update::UpdateOneof,
    },
};

use super::{error::FilterError, limits::AccountLimits};

/// A part of an account's data, bytes. `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataSlice {
    pub start: usize,
    pub end: usize,
}

/// None when the whole data is wanted.
pub fn compile(
    sent: &[SubscribeRequestAccountsDataSlice],
    limits: &AccountLimits,
) -> Result<Option<Arc<[DataSlice]>>, FilterError> {
    if let Some(max) = limits.data_slice_max
        && sent.len() > max
    {
        return Err(FilterError::new(
            "accounts_data_slice",
            format!("{} are asked for", sent.len()),
            format!("at most {max} are allowed"),
        ));
    }
    let mut slices: Vec<DataSlice> = Vec::with_capacity(sent.len());
    for (index, slice) in sent.iter().enumerate() {
        let refuse = |problem: String, fix: &str| {
            FilterError::new(format!("accounts_data_slice[{index}]"), problem, fix)
        };
        let start = usize::try_from(slice.offset).ok();
        let end = slice.offset.checked_add(slice.length);
        let (Some(start), Some(end)) = (start, end.and_then(|end| usize::try_from(end).ok()))
        else {
            return Err(refuse(
                format!(
                    "offset {} + length {} overflows",
                    slice.offset, slice.length
                ),
                "ask for bytes that an account can have",
            ));
        };
        if let Some(before) = slices.last() {
            if start < before.start {
                return Err(refuse(
                    format!("it begins before the slice at {}", before.start),
                    "sort the slices by offset",
                ));
            }
            if start < before.end {
                return Err(refuse(
                    format!("it begins in the slice that ends at {}", before.end),
                    "ask for each byte once",
                ));
            }
        }
        slices.push(DataSlice { start, end });
    }
    Ok((!slices.is_empty()).then(|| slices.into()))
}

/// The parts of `data`, one after another. A slice past the end is left out whole, as in Yellowstone; without slices it
/// is all of the data.
pub fn cut(data: &[u8], slices: &[DataSlice]) -> Vec<u8> {
    if slices.is_empty() {
        return data.to_vec();
    }
    let parts = || {
        slices
            .iter()
            .filter_map(|slice| data.get(slice.start..slice.end))
    };
    let mut cut = Vec::with_capacity(parts().map(<[u8]>::len).sum());
    parts().for_each(|part| cut.extend_from_slice(part));
    cut
}

/// An account's update with parts of its data: a `SubscribeUpdate` without filters.
pub fn sliced_account(info: &SubscribeUpdateAccountInfo, slot: u64, slices: &[DataSlice]) -> Bytes {
    let account = SubscribeUpdateAccountInfo {
        pubkey: info.pubkey.clone(),
        lamports: info.lamports,
        owner: info.owner.clone(),
        executable: info.executable,
        rent_epoch: info.rent_epoch,
        data: cut(&info.data, slices),
        write_version: info.write_version,
        txn_signature: info.txn_signature.clone(),
    };
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(account),
            slot,
            is_startup: false,
        })),
        ..SubscribeUpdate::default()
    };
    update.encode_to_vec().into()
}
