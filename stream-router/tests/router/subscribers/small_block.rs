//! A block of a few accounts and transactions, and what one can subscribe to. The fuzz targets are made of it, too.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{
    Pubkey, Signature, SourceId, WriteVersion,
    proto::{
        Message as _,
        confirmed_block::{
            BlockHeight, Message, MessageHeader, Transaction, TransactionError,
            TransactionStatusMeta, UnixTimestamp,
        },
        geyser::{
            SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            SubscribeUpdateBlockMeta, SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo,
            subscribe_update::UpdateOneof,
        },
    },
};
use stream_router::{
    assembly::Block,
    dedup::EventId,
    observation::{Body, Content, MetaView},
    slot_tree::BlockId,
};

/// What comes before `Subscribe` and `Unsubscribe`.
pub const METHODS: [&str; 11] = [
    "account",
    "program",
    "logs",
    "signature",
    "transaction",
    "block",
    "vote",
    "slot",
    "slotsUpdates",
    "root",
    "gap",
];

/// A key of the small world.
pub fn key(byte: u8) -> String {
    Pubkey([byte; 32]).to_string()
}

pub fn account(key: u8, owner: u8, lamports: u64, data: &[u8], write_version: u64) -> Content {
    let info = SubscribeUpdateAccountInfo {
        pubkey: vec![key; 32],
        lamports,
        owner: vec![owner; 32],
        rent_epoch: u64::MAX,
        data: data.to_vec(),
        write_version,
        ..Default::default()
    };
    Content {
        records: 1,
        id: EventId::Account(WriteVersion(write_version), Pubkey([key; 32])),
        bytes: Bytes::new(),
        body: Body::Account(info.into()),
    }
}

pub fn transaction(index: u64, is_vote: bool, keys: &[u8], err: Option<Vec<u8>>) -> Content {
    let info = SubscribeUpdateTransactionInfo {
        signature: vec![index as u8 + 1; 64],
        is_vote,
        index,
        transaction: Some(Transaction {
            signatures: vec![vec![index as u8 + 1; 64]],
            message: Some(Message {
                header: Some(MessageHeader {
                    num_required_signatures: 1,
                    ..Default::default()
                }),
                account_keys: keys.iter().map(|key| vec![*key; 32]).collect(),
                recent_blockhash: vec![0; 32],
                ..Default::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            err: err.map(|err| TransactionError { err }),
            log_messages: vec![format!("log {index}")],
            loaded_readonly_addresses: vec![vec![200; 32]],
            ..Default::default()
        }),
    };
    Content {
        records: 1,
        id: EventId::Transaction(index, Signature([index as u8 + 1; 64])),
        bytes: Bytes::new(),
        body: Body::Transaction(info.into()),
    }
}

pub fn block(id: BlockId, parent: BlockId, contents: Vec<Content>) -> Block {
    let meta = MetaView {
        block: id,
        parent,
        transactions: 0,
        entries: 0,
        meta: SubscribeUpdateBlockMeta {
            slot: id.slot.0,
            blockhash: id.blockhash.to_string(),
            parent_slot: parent.slot.0,
            parent_blockhash: parent.blockhash.to_string(),
            block_time: Some(UnixTimestamp { timestamp: 77 }),
            block_height: Some(BlockHeight { block_height: 5 }),
            ..Default::default()
        },
    };
    Block {
        id,
        parent,
        contents,
        accounts: 0,
        transactions: 0,
        entries: 0,
        meta: Arc::new(meta),
        source: SourceId::default(),
        repaired_from: Vec::new(),
        fetched_from: None,
    }
}

/// Accounts 5 to 8, transactions 0 to 2, of keys 4 to 7 and 200.
pub fn contents(slot: u64) -> Vec<Content> {
    let error = vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
    let contents = [
        account(5, 9, 1, b"ab", 1),
        transaction(0, true, &[4], None),
        account(5, 9, 2, b"abc", 2),
        account(6, 9, 1, b"ab", 3),
        // Gone: nobody owns it any more.
        account(7, 9, 0, b"ab", 4),
        transaction(1, false, &[4, 7], Some(error)),
        transaction(2, false, &[6], None),
        account(8, 0, 3, b"", 5),
    ];
    contents.map(|content| with_bytes(slot, content)).into()
}

/// As an observed record has it: what the engine forwards.
pub fn with_bytes(slot: u64, content: Content) -> Content {
    let update = match &content.body {
        Body::Account(info) => UpdateOneof::Account(SubscribeUpdateAccount {
            slot,
            account: Some((**info).clone()),
            is_startup: false,
        }),
        Body::Transaction(info) => UpdateOneof::Transaction(SubscribeUpdateTransaction {
            slot,
            transaction: Some((**info).clone()),
        }),
        _ => panic!("neither account nor transaction"),
    };
    let update = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    Content {
        bytes: update.encode_to_vec().into(),
        ..content
    }
}
