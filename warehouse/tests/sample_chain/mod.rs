//! A chain to ask questions of: the recorded blocks, and a few made ones for what those lack (trades, a stake, a closed account, a
//! block without a time, one that is not final yet, one that was abandoned, a gap).

pub mod facts;
pub mod made;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chain_blocks::{ChainBlock, file};
use event_log::NewRecord;
use event_schema::{
    Blockhash, CanonicalHeader, CanonicalSeal, Kind, Slot, Topics, partition_of_slot,
    proto::{
        Message as _,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            SubscribeUpdateSlot, SubscribeUpdateTransaction, subscribe_update::UpdateOneof,
        },
    },
    seal::{Gap, GapReason},
};

use crate::support::PARTITIONS;

/// The blocks that the repository carries, and those of `HELIOGRAPH_DATA`; by slot, each once.
pub fn recorded() -> Vec<ChainBlock> {
    let carried = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let further = std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from);
    let folders = [Some(carried), further.map(|folder| folder.join("blocks"))];
    let mut blocks: Vec<ChainBlock> = folders
        .iter()
        .flatten()
        .flat_map(|folder| read(folder))
        .collect();
    blocks.sort_by_key(|block| block.slot);
    // One lies there in several encodings.
    blocks.dedup_by_key(|block| block.slot);
    blocks
}

fn read(folder: &Path) -> Vec<ChainBlock> {
    let files =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // A few transactions of a block, which it would pass for.
            if name.contains(".excerpt") {
                return None;
            }
            match file::parse(&name, &std::fs::read(&path).unwrap()) {
                Ok(file::Content::Block(block)) => Some(ChainBlock::try_from(block).unwrap()),
                _ => None,
            }
        })
        .collect()
}

fn update(update: UpdateOneof) -> Vec<u8> {
    SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    }
    .encode_to_vec()
}

fn record(
    topics: &Topics,
    kind: Kind,
    slot: Slot,
    blockhash: Blockhash,
    index: u32,
    value: Vec<u8>,
) -> NewRecord {
    let header = CanonicalHeader {
        kind,
        slot,
        blockhash,
        index,
    };
    NewRecord {
        topic: Arc::clone(&topics.canonical),
        partition: partition_of_slot(slot, PARTITIONS),
        key: Bytes::copy_from_slice(&slot.0.to_be_bytes()),
        header: Bytes::copy_from_slice(&header.encode()),
        value: value.into(),
    }
}

/// All records of a published block, and writes of accounts: one that holds the slot's number in lamports, and the made ones.
pub fn records(topics: &Topics, block: &ChainBlock) -> Vec<NewRecord> {
    let slot = block.slot.0;
    let write = SubscribeUpdateAccountInfo {
        pubkey: made::WATCHED.to_vec(),
        lamports: slot,
        owner: vec![0; 32],
        data: slot.to_le_bytes().to_vec(),
        write_version: slot,
        ..SubscribeUpdateAccountInfo::default()
    };
    let mut writes = vec![write];
    writes.extend(made::writes(slot));
    let accounts = writes.len() as u64;
    let writes = writes.into_iter().map(|account| {
        let value = UpdateOneof::Account(SubscribeUpdateAccount {
            slot,
            account: Some(account),
            ..SubscribeUpdateAccount::default()
        });
        (Kind::Account, update(value))
    });
    let transactions = block.transactions.iter().map(|transaction| {
        let transaction = Some(transaction.clone());
        let value = UpdateOneof::Transaction(SubscribeUpdateTransaction { slot, transaction });
        (Kind::Transaction, update(value))
    });
    let seal = CanonicalSeal {
        slot,
        blockhash: block.blockhash.0.to_vec(),
        parent_slot: block.parent_slot.0,
        parent_blockhash: block
            .parent_blockhash
            .map_or(vec![0; 32], |hash| hash.0.to_vec()),
        transactions: block.transactions.len() as u64,
        accounts,
        sources: vec!["validator/0".into()],
        ..CanonicalSeal::default()
    };
    let values = writes.chain(transactions).chain([
        (
            Kind::BlockMeta,
            update(UpdateOneof::BlockMeta(block.meta.clone())),
        ),
        (Kind::Seal, seal.encode_to_vec()),
    ]);
    values
        .zip(0..)
        .map(|((kind, value), index)| {
            record(topics, kind, block.slot, block.blockhash, index, value)
        })
        .collect()
}

pub fn status(topics: &Topics, block: &ChainBlock, status: SlotStatus) -> NewRecord {
    let value = SubscribeUpdateSlot {
        slot: block.slot.0,
        status: status.into(),
        ..SubscribeUpdateSlot::default()
    };
    record(
        topics,
        Kind::Status,
        block.slot,
        block.blockhash,
        0,
        update(UpdateOneof::Slot(value)),
    )
}

/// A hole over these slots, of which the source `validator/0` lost so many records.
pub fn gap(topics: &Topics, first_slot: u64, last_slot: u64, records: u64) -> NewRecord {
    let gap = Gap {
        first_slot,
        last_slot,
        records,
        reason: GapReason::LostAtSource as i32,
        source: "validator/0".into(),
        detail: "its queue was full".into(),
    };
    record(
        topics,
        Kind::Gap,
        Slot(first_slot),
        Blockhash([0; 32]),
        0,
        gap.encode_to_vec(),
    )
}
