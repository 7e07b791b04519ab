//! What a validator does to a plugin, with invented blocks: the same callbacks, from as many threads, in the same order.

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, ReplicaAccountInfoV3, ReplicaAccountInfoVersions, ReplicaBlockInfoV4,
    ReplicaBlockInfoVersions, ReplicaContactInfoV0_0_1, ReplicaContactInfoVersions,
    ReplicaDeshredTransactionInfoV2, ReplicaDeshredTransactionInfoVersions, ReplicaEntryInfoV2,
    ReplicaEntryInfoVersions, ReplicaTransactionInfoV3, ReplicaTransactionInfoVersions, SlotStatus,
};
use solana_hash::Hash;
use solana_message::{VersionedMessage, v0::LoadedAddresses, v1};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{RewardsAndNumPartitions, TransactionStatusMeta};

pub const ENTRIES: u64 = 5;

/// The size of an invented block.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub transactions: u64,
    pub accounts: u64,
}

pub fn signature(slot: u64, index: u64) -> Signature {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&slot.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    Signature::from(bytes)
}

fn entry_hash(slot: u64, index: u64) -> Hash {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&slot.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    Hash::new_from_array(bytes)
}

/// Runs one slot through the plugin, and what no block holds if the plugin asks for it: shreds come first, contact info from
/// gossip's own thread; accounts on two threads, metadata on the replay thread, transactions and entries
/// trailing on their own. `led`: as the leader's own block, whose metadata counts no entries.
pub fn run_slot(plugin: &dyn GeyserPlugin, slot: u64, size: Size, led: bool) {
    let status = |status: SlotStatus| {
        plugin
            .update_slot_status(slot, Some(slot - 1), &status)
            .unwrap()
    };
    if plugin.deshred_transaction_notifications_enabled() {
        for index in 0..size.transactions {
            deshred(plugin, slot, index);
        }
    }
    status(SlotStatus::CreatedBank);
    std::thread::scope(|scope| {
        if plugin.contact_info_notifications_enabled() {
            scope.spawn(move || contact_info(plugin, slot));
        }
        for half in 0..2 {
            scope.spawn(move || {
                for index in (half..size.accounts).step_by(2) {
                    account(plugin, slot, index);
                }
            });
        }
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..size.transactions {
                transaction(plugin, slot, index);
            }
        });
        scope.spawn(|| {
            for index in 0..ENTRIES {
                entry(plugin, slot, index);
            }
        });
        metadata(plugin, slot, size, led);
    });
    status(SlotStatus::Processed);
    status(SlotStatus::Confirmed);
    status(SlotStatus::Rooted);
}

pub fn account(plugin: &dyn GeyserPlugin, slot: u64, index: u64) {
    let mut pubkey = [1; 32];
    pubkey[..8].copy_from_slice(&index.to_le_bytes());
    let data = vec![slot as u8; (index as usize % 7) * 300];
    let account = ReplicaAccountInfoV3 {
        pubkey: &pubkey,
        lamports: slot,
        owner: &[9; 32],
        executable: false,
        rent_epoch: u64::MAX,
        data: &data,
        write_version: slot * 1_000_000 + index,
        txn: None,
    };
    plugin
        .update_account(ReplicaAccountInfoVersions::V0_0_3(&account), slot, false)
        .unwrap();
}

pub fn transaction(plugin: &dyn GeyserPlugin, slot: u64, index: u64) {
    let signature = signature(slot, index);
    let transaction = VersionedTransaction {
        signatures: vec![signature],
        message: VersionedMessage::V1(v1::Message::default()),
    };
    let meta = TransactionStatusMeta {
        fee: 5000,
        ..TransactionStatusMeta::default()
    };
    let info = ReplicaTransactionInfoV3 {
        signature: &signature,
        message_hash: &Hash::default(),
        is_vote: false,
        transaction: &transaction,
        transaction_status_meta: &meta,
        index: index as usize,
    };
    plugin
        .notify_transaction(ReplicaTransactionInfoVersions::V0_0_3(&info), slot)
        .unwrap();
}

/// As it is executed afterwards, with what its lookup tables load if the plugin asks for that.
pub fn deshred(plugin: &dyn GeyserPlugin, slot: u64, index: u64) {
    let signature = signature(slot, index);
    let transaction = VersionedTransaction {
        signatures: vec![signature],
        message: VersionedMessage::V1(v1::Message::default()),
    };
    let loaded = LoadedAddresses {
        writable: vec![[7; 32].into()],
        readonly: Vec::new(),
    };
    let resolved = plugin.deshred_transaction_alt_resolution_enabled();
    let info = ReplicaDeshredTransactionInfoV2 {
        signature: &signature,
        is_vote: false,
        transaction: &transaction,
        loaded_addresses: resolved.then_some(&loaded),
        completed_data_set_starting_shred_index: index as u32,
        completed_data_set_ending_shred_index_exclusive: index as u32 + 1,
    };
    plugin
        .notify_deshred_transaction(ReplicaDeshredTransactionInfoVersions::V0_0_2(&info), slot)
        .unwrap();
}

/// One node comes in every slot, and goes.
pub fn contact_info(plugin: &dyn GeyserPlugin, slot: u64) {
    let mut pubkey = [5; 32];
    pubkey[..8].copy_from_slice(&slot.to_le_bytes());
    let info = ReplicaContactInfoV0_0_1 {
        pubkey: &pubkey,
        wallclock: slot,
        outset: 1,
        shred_version: 2,
        version_major: 4,
        version_minor: 2,
        version_patch: 2,
        version_commit: 0,
        version_feature_set: 3,
        version_client_id: 3,
        gossip: "10.0.0.1:8001".parse().ok(),
        tpu_quic: "[::1]:8009".parse().ok(),
        tpu_forwards_quic: None,
        tpu_vote_udp: None,
        tpu_vote_quic: None,
        tvu_udp: None,
        tvu_quic: None,
        serve_repair_udp: None,
        serve_repair_quic: None,
        rpc: None,
        rpc_pubsub: None,
        alpenglow: None,
    };
    plugin
        .notify_contact_info(ReplicaContactInfoVersions::V0_0_1(&info), slot % 2 == 0)
        .unwrap();
    plugin.notify_contact_info_removed(&pubkey).unwrap();
}

pub fn entry(plugin: &dyn GeyserPlugin, slot: u64, index: u64) {
    let hash = entry_hash(slot, index);
    let entry = ReplicaEntryInfoV2 {
        slot,
        index: index as usize,
        num_hashes: 1,
        hash: hash.as_ref(),
        executed_transaction_count: 0,
        starting_transaction_index: 0,
    };
    plugin
        .notify_entry(ReplicaEntryInfoVersions::V0_0_2(&entry))
        .unwrap();
}

pub fn metadata(plugin: &dyn GeyserPlugin, slot: u64, size: Size, led: bool) {
    let blockhash = entry_hash(slot, ENTRIES - 1).to_string();
    let block = ReplicaBlockInfoV4 {
        parent_slot: slot - 1,
        parent_blockhash: &entry_hash(slot - 1, ENTRIES - 1).to_string(),
        slot,
        blockhash: &blockhash,
        rewards: &RewardsAndNumPartitions {
            rewards: Vec::new(),
            num_partitions: None,
        },
        block_time: Some(1),
        block_height: Some(slot),
        executed_transaction_count: size.transactions,
        entry_count: if led { 0 } else { ENTRIES },
    };
    plugin
        .notify_block_metadata(ReplicaBlockInfoVersions::V0_0_4(&block))
        .unwrap();
}
