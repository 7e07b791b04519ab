//! What a callback reports → the bytes of one Yellowstone message, written into room that is large enough: a
//! `SubscribeUpdate`, or for what no block holds a `SubscribeUpdateDeshred` or `SubscribeUpdateGossip`.
//!
//! Straight from the borrowed structs: nothing is allocated, and no protobuf structs are built. How much room is enough is
//! told by the `…_most` functions, quickly and a little too generously. `filters` and `created_at` stay empty. `encode/tests.rs` holds the proof that prost writes the same bytes.

mod bound;
mod contact;
mod out;
mod transaction;
mod wire;

pub use bound::{
    CONTACT_INFO_MOST, ENTRY_MOST, account_most, block_meta_most, deshred_most, slot_status_most,
    transaction_most,
};
pub use contact::{contact_info, contact_info_removed};
pub use out::Out;

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaBlockInfoV4, ReplicaDeshredTransactionInfoV2, ReplicaEntryInfoV2,
    ReplicaTransactionInfoV3, SlotStatus,
};

use crate::filter::DataSlices;

// Fields of `SubscribeUpdate`.
const ACCOUNT: u32 = 2;
const SLOT: u32 = 3;
const TRANSACTION: u32 = 4;
const BLOCK_META: u32 = 7;
const ENTRY: u32 = 8;
/// Field of `SubscribeUpdateDeshred`.
const DESHRED_TRANSACTION: u32 = 2;

/// `slices`: which pieces of the account's data are sent.
pub fn account(
    out: &mut Out<'_>,
    slot: u64,
    is_startup: bool,
    account: &ReplicaAccountInfoV3<'_>,
    slices: &DataSlices,
) {
    // Keys, a signature and numbers are about 170 bytes: guessing the width right spares moving the account's data.
    let width = wire::varint_width(account.data.len() as u64 + 180);
    wire::message(out, ACCOUNT, width, |out| {
        wire::message(out, 1, width, |out| {
            wire::bytes(out, 1, account.pubkey);
            wire::uint64(out, 2, account.lamports);
            wire::bytes(out, 3, account.owner);
            wire::boolean(out, 4, account.executable);
            wire::uint64(out, 5, account.rent_epoch);
            if slices.is_whole() {
                wire::bytes(out, 6, account.data);
            } else {
                wire::pieces(
                    out,
                    6,
                    slices.length(account.data),
                    slices.pieces(account.data),
                );
            }
            wire::uint64(out, 7, account.write_version);
            if let Some(transaction) = account.txn {
                wire::element(out, 8, transaction.signature().as_ref());
            }
        });
        wire::uint64(out, 2, slot);
        wire::boolean(out, 3, is_startup);
    });
}

pub fn slot_status(out: &mut Out<'_>, slot: u64, parent: Option<u64>, status: &SlotStatus) {
    let number = match status {
        SlotStatus::Processed => 0,
        SlotStatus::Confirmed => 1,
        SlotStatus::Rooted => 2,
        SlotStatus::FirstShredReceived => 3,
        SlotStatus::Completed => 4,
        SlotStatus::CreatedBank => 5,
        SlotStatus::Dead(_) => 6,
    };
    wire::message(out, SLOT, 1, |out| {
        wire::uint64(out, 1, slot);
        wire::optional_uint64(out, 2, parent);
        wire::uint64(out, 3, number);
        if let SlotStatus::Dead(error) = status {
            wire::element(out, 4, error.as_bytes());
        }
    });
}

pub fn transaction(out: &mut Out<'_>, slot: u64, info: &ReplicaTransactionInfoV3<'_>) {
    wire::message(out, TRANSACTION, 2, |out| {
        wire::message(out, 1, 2, |out| {
            wire::bytes(out, 1, info.signature.as_ref());
            wire::boolean(out, 2, info.is_vote);
            wire::message(out, 3, 2, |out| {
                transaction::transaction(out, info.transaction)
            });
            wire::message(out, 4, 2, |out| {
                transaction::status_meta(out, info.transaction_status_meta);
            });
            wire::uint64(out, 5, info.index as u64);
        });
        wire::uint64(out, 2, slot);
    });
}

/// One `SubscribeUpdateDeshred`.
pub fn deshred(out: &mut Out<'_>, slot: u64, info: &ReplicaDeshredTransactionInfoV2<'_>) {
    wire::message(out, DESHRED_TRANSACTION, 2, |out| {
        wire::message(out, 1, 2, |out| {
            wire::bytes(out, 1, info.signature.as_ref());
            wire::boolean(out, 2, info.is_vote);
            wire::message(out, 3, 2, |out| {
                transaction::transaction(out, info.transaction)
            });
            if let Some(loaded) = info.loaded_addresses {
                for key in &loaded.writable {
                    wire::element(out, 4, key.as_ref());
                }
                for key in &loaded.readonly {
                    wire::element(out, 5, key.as_ref());
                }
            }
            wire::uint64(out, 6, info.completed_data_set_starting_shred_index.into());
            let end = info.completed_data_set_ending_shred_index_exclusive;
            wire::uint64(out, 7, end.into());
        });
        wire::uint64(out, 2, slot);
    });
}

pub fn entry(out: &mut Out<'_>, entry: &ReplicaEntryInfoV2<'_>) {
    wire::message(out, ENTRY, 1, |out| {
        wire::uint64(out, 1, entry.slot);
        wire::uint64(out, 2, entry.index as u64);
        wire::uint64(out, 3, entry.num_hashes);
        wire::bytes(out, 4, entry.hash);
        wire::uint64(out, 5, entry.executed_transaction_count);
        wire::uint64(out, 6, entry.starting_transaction_index as u64);
    });
}

pub fn block_meta(out: &mut Out<'_>, block: &ReplicaBlockInfoV4<'_>) {
    wire::message(out, BLOCK_META, 2, |out| {
        wire::uint64(out, 1, block.slot);
        wire::bytes(out, 2, block.blockhash.as_bytes());
        wire::message(out, 3, 1, |out| {
            for reward in &block.rewards.rewards {
                wire::message(out, 1, 1, |out| transaction::reward(out, reward));
            }
            if let Some(partitions) = block.rewards.num_partitions {
                wire::message(out, 2, 1, |out| wire::uint64(out, 1, partitions));
            }
        });
        if let Some(time) = block.block_time {
            // Two's complement, as int64 travels.
            wire::message(out, 4, 1, |out| wire::uint64(out, 1, time as u64));
        }
        if let Some(height) = block.block_height {
            wire::message(out, 5, 1, |out| wire::uint64(out, 1, height));
        }
        wire::uint64(out, 6, block.parent_slot);
        wire::bytes(out, 7, block.parent_blockhash.as_bytes());
        wire::uint64(out, 8, block.executed_transaction_count);
        wire::uint64(out, 9, block.entry_count);
    });
}

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
