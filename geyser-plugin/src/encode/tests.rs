//! The oracle is prost: each input is turned into protobuf structs the plain way and encoded by prost. Same bytes, same
//! meaning; and what prost decodes from our bytes is that struct again.

mod inputs;

use std::{
    collections::HashSet,
    net::{SocketAddr, SocketAddrV6},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaBlockInfoV4, ReplicaContactInfoV0_0_1,
    ReplicaDeshredTransactionInfoV2, ReplicaEntryInfoV2, ReplicaTransactionInfoV3, SlotStatus,
};
use event_schema::proto::geyser::{SubscribeUpdate, subscribe_update::UpdateOneof};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    LegacyMessage, MessageHeader, SanitizedMessage, VersionedMessage, legacy, v0::LoadedAddresses,
    v1,
};
use solana_signature::Signature;
use solana_transaction::{sanitized::SanitizedTransaction, versioned::VersionedTransaction};
use solana_transaction_error::TransactionError;
use solana_transaction_status::{
    Reward, RewardType, RewardsAndNumPartitions, TransactionStatusMeta,
};

use self::inputs::*;
use super::plain;
use crate::filter::{DataSlices, Filter, FilterConfig, config::DataSliceConfig};

/// What the encoder writes, into just the room that it says is enough.
fn encoded(most: usize, encode: impl FnOnce(&mut super::Out<'_>)) -> Vec<u8> {
    let mut room = vec![0xee; most];
    let mut out = super::Out::new(&mut room);
    encode(&mut out);
    let length = out.finish().expect("the bound is one");
    room.truncate(length);
    room
}

fn check<T: prost::Message + Default + PartialEq + std::fmt::Debug>(ours: &[u8], plain: &T) {
    assert_eq!(&T::decode(ours).expect("prost decodes our bytes"), plain);
    assert_eq!(ours, plain.encode_to_vec());
}

fn check_transaction(
    slot: u64,
    index: usize,
    is_vote: bool,
    transaction: &VersionedTransaction,
    meta: &TransactionStatusMeta,
) {
    let signature = transaction.signatures.first().copied().unwrap_or_default();
    let info = ReplicaTransactionInfoV3 {
        signature: &signature,
        message_hash: &Hash::default(),
        is_vote,
        transaction,
        transaction_status_meta: meta,
        index,
    };
    let ours = encoded(super::transaction_most(&info), |out| {
        super::transaction(out, slot, &info)
    });
    check(&ours, &plain::transaction(slot, &info));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn transactions(slot: u64, index in 0_usize..100_000, is_vote: bool, transaction in transaction(), meta in meta()) {
        check_transaction(slot, index, is_vote, &transaction, &meta);
    }

    #[test]
    fn accounts(
        slot: u64, pubkey: [u8; 32], owner: [u8; 32], data in bytes(), is_startup: bool, executable: bool,
        lamports: u64, rent_epoch: u64, write_version: u64, by: Option<[u8; 32]>,
    ) {
        let transaction = by.map(written_by);
        check_account(slot, is_startup, &ReplicaAccountInfoV3 {
            pubkey: &pubkey, lamports, owner: &owner, executable, rent_epoch, data: &data, write_version, txn: transaction.as_ref(),
        });
    }

    #[test]
    fn statuses(slot: u64, parent: Option<u64>, error in ".{0,200}") {
        let statuses = [
            SlotStatus::Processed, SlotStatus::Confirmed, SlotStatus::Rooted, SlotStatus::FirstShredReceived,
            SlotStatus::Completed, SlotStatus::CreatedBank, SlotStatus::Dead(error),
        ];
        for status in statuses {
            let ours = encoded(super::slot_status_most(&status), |out| super::slot_status(out, slot, parent, &status));
            check(&ours, &plain::slot_status(slot, parent, &status));
        }
    }

    #[test]
    fn entries(slot: u64, index in 0_usize..1000, num_hashes: u64, hash: [u8; 32], count: u64, start in 0_usize..100_000) {
        let entry = ReplicaEntryInfoV2 {
            slot, index, num_hashes, hash: &hash, executed_transaction_count: count, starting_transaction_index: start,
        };
        let ours = encoded(super::ENTRY_MOST, |out| super::entry(out, &entry));
        check(&ours, &plain::entry(&entry));
    }

    #[test]
    fn deshredded_transactions(
        slot: u64, is_vote: bool, transaction in transaction(), loaded in option::of((vec(address(), 0..9), vec(address(), 0..9))),
        shreds: (u32, u32),
    ) {
        let loaded = loaded.map(|(writable, readonly)| LoadedAddresses { writable, readonly });
        let info = ReplicaDeshredTransactionInfoV2 {
            signature: &transaction.signatures.first().copied().unwrap_or_default(),
            is_vote,
            transaction: &transaction,
            loaded_addresses: loaded.as_ref(),
            completed_data_set_starting_shred_index: shreds.0,
            completed_data_set_ending_shred_index_exclusive: shreds.1,
        };
        let ours = encoded(super::deshred_most(&info), |out| super::deshred(out, slot, &info));
        check(&ours, &plain::deshred(slot, &info));
    }

    #[test]
    fn contact_infos(pubkey: [u8; 32], times: (u64, u64), version: (u16, u16, u16, u16, u16), more: (u32, u32), sockets: [Option<SocketAddr>; 12]) {
        let [
            gossip, tpu_quic, tpu_forwards_quic, tpu_vote_udp, tpu_vote_quic, tvu_udp, tvu_quic, serve_repair_udp,
            serve_repair_quic, rpc, rpc_pubsub, alpenglow,
        ] = sockets;
        let info = ReplicaContactInfoV0_0_1 {
            pubkey: &pubkey, wallclock: times.0, outset: times.1, shred_version: version.0, version_major: version.1,
            version_minor: version.2, version_patch: version.3, version_commit: more.0, version_feature_set: more.1,
            version_client_id: version.4, gossip, tpu_quic, tpu_forwards_quic, tpu_vote_udp, tpu_vote_quic, tvu_udp,
            tvu_quic, serve_repair_udp, serve_repair_quic, rpc, rpc_pubsub, alpenglow,
        };
        let ours = encoded(super::CONTACT_INFO_MOST, |out| super::contact_info(out, &info));
        check(&ours, &plain::contact_info(&info));
        let ours = encoded(super::CONTACT_INFO_MOST, |out| super::contact_info_removed(out, &pubkey));
        check(&ours, &plain::contact_info_removed(&pubkey));
    }

    #[test]
    fn blocks(
        slots: (u64, u64), counts: (u64, u64), blockhash in "[1-9A-z]{0,44}", parent in "[1-9A-z]{0,44}",
        rewards in vec(reward(), 0..200), num_partitions: Option<u64>, block_time: Option<i64>, block_height: Option<u64>,
    ) {
        check_block(slots, counts, &blockhash, &parent, RewardsAndNumPartitions { rewards, num_partitions }, block_time, block_height);
    }
}

fn written_by(half: [u8; 32]) -> SanitizedTransaction {
    let message = legacy::Message {
        header: MessageHeader {
            num_required_signatures: 1,
            ..MessageHeader::default()
        },
        account_keys: vec![Address::from(half)],
        ..legacy::Message::default()
    };
    let mut signature = [7; 64];
    signature[..32].copy_from_slice(&half);
    let message = SanitizedMessage::Legacy(LegacyMessage::new(message, &HashSet::default()));
    SanitizedTransaction::try_new_from_fields(
        message,
        Hash::default(),
        false,
        vec![Signature::from(signature)],
    )
    .unwrap()
}

fn check_account(slot: u64, is_startup: bool, account: &ReplicaAccountInfoV3<'_>) {
    let ours = encoded(super::account_most(account), |out| {
        super::account(out, slot, is_startup, account, &DataSlices::default())
    });
    check(&ours, &plain::account(slot, is_startup, account));
}

fn check_block(
    (slot, parent_slot): (u64, u64),
    (transactions, entries): (u64, u64),
    blockhash: &str,
    parent_blockhash: &str,
    rewards: RewardsAndNumPartitions,
    block_time: Option<i64>,
    block_height: Option<u64>,
) {
    let block = ReplicaBlockInfoV4 {
        parent_slot,
        parent_blockhash,
        slot,
        blockhash,
        rewards: &rewards,
        block_time,
        block_height,
        executed_transaction_count: transactions,
        entry_count: entries,
    };
    let ours = encoded(super::block_meta_most(&block), |out| {
        super::block_meta(out, &block)
    });
    check(&ours, &plain::block_meta(&block));
}

/// The longest address there is, in every place.
#[test]
fn the_longest_contact_info_fits() {
    let longest: SocketAddr = SocketAddrV6::new(
        "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap(),
        65_535,
        0,
        u32::MAX,
    )
    .into();
    let socket = Some(longest);
    let info = ReplicaContactInfoV0_0_1 {
        pubkey: &[1; 32],
        wallclock: u64::MAX,
        outset: u64::MAX,
        shred_version: u16::MAX,
        version_major: u16::MAX,
        version_minor: u16::MAX,
        version_patch: u16::MAX,
        version_commit: u32::MAX,
        version_feature_set: u32::MAX,
        version_client_id: u16::MAX,
        gossip: socket,
        tpu_quic: socket,
        tpu_forwards_quic: socket,
        tpu_vote_udp: socket,
        tpu_vote_quic: socket,
        tvu_udp: socket,
        tvu_quic: socket,
        serve_repair_udp: socket,
        serve_repair_quic: socket,
        rpc: socket,
        rpc_pubsub: socket,
        alpenglow: socket,
    };
    let ours = encoded(super::CONTACT_INFO_MOST, |out| {
        super::contact_info(out, &info)
    });
    check(&ours, &plain::contact_info(&info));
}

#[test]
fn every_transaction_error_survives() {
    let errors = every_error();
    assert!(errors.len() > 80, "only {} errors found", errors.len());
    let mut seen = std::collections::BTreeSet::new();
    for error in errors {
        seen.insert(format!("{error:?}"));
        let meta = TransactionStatusMeta {
            status: Err(error.clone()),
            ..TransactionStatusMeta::default()
        };
        check_transaction(1, 0, false, &VersionedTransaction::default(), &meta);
        let plain = plain::status_meta(&meta).err.unwrap();
        assert_eq!(
            bincode::deserialize::<TransactionError>(&plain.err).unwrap(),
            error
        );
    }
    for name in [
        "AccountInUse",
        "Custom(65261)",
        "InvalidRentPayingAccount",
        "CommitCancelled",
        "ComputationalBudgetExceeded",
    ] {
        assert!(
            seen.iter().any(|error| error.contains(name)),
            "{name} is not among {seen:?}"
        );
    }
}

#[test]
fn the_largest_account_and_ten_thousand_rewards() {
    let data: Vec<u8> = (0..10 << 20).map(|i: u32| i as u8).collect();
    let owner = [2; 32];
    check_account(
        u64::MAX,
        false,
        &ReplicaAccountInfoV3 {
            pubkey: &[1; 32],
            lamports: u64::MAX,
            owner: &owner,
            executable: true,
            rent_epoch: u64::MAX,
            data: &data,
            write_version: u64::MAX,
            txn: None,
        },
    );
    let reward = Reward {
        pubkey: "Vote111111111111111111111111111111111111111".into(),
        lamports: -5,
        post_balance: 1,
        reward_type: Some(RewardType::Voting),
        commission: Some(100),
        commission_bps: None,
    };
    let rewards = RewardsAndNumPartitions {
        rewards: vec![reward; 10_000],
        num_partitions: Some(0),
    };
    check_block((5, 4), (0, 0), "hash", "parent", rewards, Some(-1), Some(0));
}

#[test]
fn an_empty_v1_config_still_tells_v1_from_v0() {
    let message = VersionedMessage::V1(v1::Message::default());
    let transaction = VersionedTransaction {
        signatures: Vec::new(),
        message,
    };
    check_transaction(1, 0, false, &transaction, &TransactionStatusMeta::default());
    assert!(
        plain::executable(&transaction)
            .message
            .unwrap()
            .config
            .is_some()
    );
}

#[test]
fn only_the_slices_of_the_data_are_sent() {
    let config = FilterConfig {
        accounts_data_slice: vec![
            DataSliceConfig {
                offset: 1,
                length: 2,
            },
            DataSliceConfig {
                offset: 4,
                length: 1,
            },
            DataSliceConfig {
                offset: 5,
                length: 9,
            },
        ],
        ..FilterConfig::default()
    };
    let filter = Filter::compile(&config).unwrap();
    for (data, sent) in [(&[9, 8, 7, 6, 5, 4][..], &[8, 7, 5][..]), (&[9], &[])] {
        let account = ReplicaAccountInfoV3 {
            pubkey: &[1; 32],
            lamports: 5,
            owner: &[2; 32],
            executable: false,
            rent_epoch: 0,
            data,
            write_version: 3,
            txn: None,
        };
        let ours = encoded(super::account_most(&account), |out| {
            super::account(out, 6, false, &account, filter.data_slices())
        });
        let update = SubscribeUpdate::decode(ours.as_slice()).unwrap();
        let Some(UpdateOneof::Account(update)) = update.update_oneof else {
            panic!("{update:?}")
        };
        assert_eq!(update.account.unwrap().data, sent);
    }
}
