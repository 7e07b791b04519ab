//! Whatever is reported: our bytes are prost's bytes, prost reads them as what was reported, the room that the encoder asks for
//! is enough, and too little room is told instead of written over.

#![no_main]

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaBlockInfoV4, ReplicaContactInfoV0_0_1,
    ReplicaDeshredTransactionInfoV2, ReplicaEntryInfoV2, ReplicaTransactionInfoV3, SlotStatus,
};
use geyser_plugin::{
    encode::{self, Out},
    filter::DataSlices,
};
use geyser_plugin_fuzz::{plain, report};
use libfuzzer_sys::{
    arbitrary::{self, Unstructured},
    fuzz_target,
};
use prost::Message;
use solana_hash::Hash;

fuzz_target!(|data: &[u8]| {
    // Bytes that end too early are no report.
    let _ = one(&mut Unstructured::new(data));
});

fn check<T: Message + Default + PartialEq>(
    u: &mut Unstructured<'_>,
    most: usize,
    encode: impl Fn(&mut Out<'_>),
    plain: &T,
) -> arbitrary::Result<()> {
    let mut room = vec![0xee; most];
    let mut out = Out::new(&mut room);
    encode(&mut out);
    let length = out.finish().expect("the room is enough");
    let ours = &room[..length];
    assert_eq!(ours, plain.encode_to_vec());
    assert!(T::decode(ours).expect("prost reads it") == *plain);
    let mut less = vec![0xee; u.int_in_range(0..=most)?];
    let mut out = Out::new(&mut less);
    encode(&mut out);
    if let Some(length) = out.finish() {
        assert_eq!(&less[..length], ours);
    }
    Ok(())
}

fn one(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let slot = u.arbitrary()?;
    match u.int_in_range(0..=6)? {
        0 => {
            let (pubkey, owner, data) = (report::bytes(u)?, report::bytes(u)?, report::bytes(u)?);
            let (txn, is_startup) = (report::writer(u)?, u.arbitrary()?);
            let with_writer: bool = u.arbitrary()?;
            let info = ReplicaAccountInfoV3 {
                pubkey: &pubkey,
                lamports: u.arbitrary()?,
                owner: &owner,
                executable: u.arbitrary()?,
                rent_epoch: u.arbitrary()?,
                data: &data,
                write_version: u.arbitrary()?,
                txn: txn.as_ref().filter(|_| with_writer),
            };
            check(
                u,
                encode::account_most(&info),
                |out| encode::account(out, slot, is_startup, &info, &DataSlices::default()),
                &plain::account(slot, is_startup, &info),
            )
        }
        1 => {
            let status = match u.int_in_range(0..=6)? {
                0 => SlotStatus::Processed,
                1 => SlotStatus::Confirmed,
                2 => SlotStatus::Rooted,
                3 => SlotStatus::FirstShredReceived,
                4 => SlotStatus::Completed,
                5 => SlotStatus::CreatedBank,
                _ => SlotStatus::Dead(u.arbitrary()?),
            };
            let parent = u.arbitrary()?;
            check(
                u,
                encode::slot_status_most(&status),
                |out| encode::slot_status(out, slot, parent, &status),
                &plain::slot_status(slot, parent, &status),
            )
        }
        2 => {
            let (signature, transaction) = (report::signature(u)?, report::transaction(u)?);
            let meta = report::meta(u)?;
            let info = ReplicaTransactionInfoV3 {
                signature: &signature,
                message_hash: &Hash::default(),
                is_vote: u.arbitrary()?,
                transaction: &transaction,
                transaction_status_meta: &meta,
                index: u.arbitrary()?,
            };
            check(
                u,
                encode::transaction_most(&info),
                |out| encode::transaction(out, slot, &info),
                &plain::transaction(slot, &info),
            )
        }
        3 => {
            let (signature, transaction) = (report::signature(u)?, report::transaction(u)?);
            let loaded = report::loaded(u)?;
            let resolved: bool = u.arbitrary()?;
            let info = ReplicaDeshredTransactionInfoV2 {
                signature: &signature,
                is_vote: u.arbitrary()?,
                transaction: &transaction,
                loaded_addresses: resolved.then_some(&loaded),
                completed_data_set_starting_shred_index: u.arbitrary()?,
                completed_data_set_ending_shred_index_exclusive: u.arbitrary()?,
            };
            check(
                u,
                encode::deshred_most(&info),
                |out| encode::deshred(out, slot, &info),
                &plain::deshred(slot, &info),
            )
        }
        4 => {
            let hash = report::bytes(u)?;
            let info = ReplicaEntryInfoV2 {
                slot,
                index: u.arbitrary()?,
                num_hashes: u.arbitrary()?,
                hash: &hash,
                executed_transaction_count: u.arbitrary()?,
                starting_transaction_index: u.arbitrary()?,
            };
            check(
                u,
                encode::ENTRY_MOST + hash.len(),
                |out| encode::entry(out, &info),
                &plain::entry(&info),
            )
        }
        5 => {
            let (blockhash, parent): (String, String) = (u.arbitrary()?, u.arbitrary()?);
            let rewards = report::rewards(u)?;
            let info = ReplicaBlockInfoV4 {
                parent_slot: u.arbitrary()?,
                parent_blockhash: &parent,
                slot,
                blockhash: &blockhash,
                rewards: &rewards,
                block_time: u.arbitrary()?,
                block_height: u.arbitrary()?,
                executed_transaction_count: u.arbitrary()?,
                entry_count: u.arbitrary()?,
            };
            check(
                u,
                encode::block_meta_most(&info),
                |out| encode::block_meta(out, &info),
                &plain::block_meta(&info),
            )
        }
        _ => {
            // The callback refuses keys of another length.
            let pubkey: [u8; 32] = u.arbitrary()?;
            let [
                gossip,
                tpu_quic,
                tpu_forwards_quic,
                tpu_vote_udp,
                tpu_vote_quic,
                tvu_udp,
                tvu_quic,
                serve_repair_udp,
                serve_repair_quic,
                rpc,
                rpc_pubsub,
                alpenglow,
            ] = report::sockets(u)?;
            let info = ReplicaContactInfoV0_0_1 {
                pubkey: &pubkey,
                wallclock: u.arbitrary()?,
                outset: u.arbitrary()?,
                shred_version: u.arbitrary()?,
                version_major: u.arbitrary()?,
                version_minor: u.arbitrary()?,
                version_patch: u.arbitrary()?,
                version_commit: u.arbitrary()?,
                version_feature_set: u.arbitrary()?,
                version_client_id: u.arbitrary()?,
                gossip,
                tpu_quic,
                tpu_forwards_quic,
                tpu_vote_udp,
                tpu_vote_quic,
                tvu_udp,
                tvu_quic,
                serve_repair_udp,
                serve_repair_quic,
                rpc,
                rpc_pubsub,
                alpenglow,
            };
            check(
                u,
                encode::CONTACT_INFO_MOST,
                |out| encode::contact_info(out, &info),
                &plain::contact_info(&info),
            )?;
            check(
                u,
                encode::CONTACT_INFO_MOST,
                |out| encode::contact_info_removed(out, &pubkey),
                &plain::contact_info_removed(&pubkey),
            )
        }
    }
}
