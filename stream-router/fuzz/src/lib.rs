//! What the fuzz targets are made of: a block to be told, and the drawing of small worlds from a fuzzer's bytes.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{
    Blockhash, Pubkey, Signature, Slot, SourceId, WriteVersion,
    proto::{
        Message as _,
        confirmed_block::{
            Message, MessageHeader, Transaction, TransactionError, TransactionStatusMeta,
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

const SLOT: u64 = 10;

/// A key of the small world.
pub fn key(byte: u8) -> String {
    bs58::encode([byte; 32]).into_string()
}

pub fn signature(index: u8) -> String {
    bs58::encode([index + 1; 64]).into_string()
}

/// Accounts 5 to 8, transactions 0 to 2, of keys 4 to 7 and 200.
pub fn block() -> Block {
    let error = vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
    let contents = vec![
        account(5, 9, 1, b"ab", 1),
        transaction(0, true, &[4], None),
        account(5, 9, 2, b"abc", 2),
        account(7, 9, 0, b"", 3),
        transaction(1, false, &[4, 7], Some(error)),
        transaction(2, false, &[6], None),
        account(8, 0, 3, &[1; 165], 4),
    ];
    let id = |slot: u64| BlockId::new(Slot(slot), Blockhash([slot as u8; 32]));
    let (own, parent) = (id(SLOT), id(SLOT - 1));
    let meta = MetaView {
        block: own,
        parent,
        transactions: 3,
        entries: 0,
        meta: SubscribeUpdateBlockMeta {
            slot: SLOT,
            blockhash: own.blockhash.to_string(),
            parent_slot: SLOT - 1,
            parent_blockhash: parent.blockhash.to_string(),
            ..Default::default()
        },
    };
    Block {
        id: own,
        parent,
        contents,
        accounts: 4,
        transactions: 3,
        entries: 0,
        meta: Arc::new(meta),
        source: SourceId::default(),
        repaired_from: Vec::new(),
        fetched_from: None,
    }
}

fn content(id: EventId, body: Body, update: UpdateOneof) -> Content {
    let update = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    Content {
        records: 1,
        id,
        bytes: Bytes::from(update.encode_to_vec()),
        body,
    }
}

fn account(key: u8, owner: u8, lamports: u64, data: &[u8], write_version: u64) -> Content {
    let info = SubscribeUpdateAccountInfo {
        pubkey: vec![key; 32],
        lamports,
        owner: vec![owner; 32],
        data: data.to_vec(),
        write_version,
        ..Default::default()
    };
    let update = SubscribeUpdateAccount {
        slot: SLOT,
        account: Some(info.clone()),
        is_startup: false,
    };
    let id = EventId::Account(WriteVersion(write_version), Pubkey([key; 32]));
    content(
        id,
        Body::Account(Arc::new(info)),
        UpdateOneof::Account(update),
    )
}

fn transaction(index: u8, is_vote: bool, keys: &[u8], err: Option<Vec<u8>>) -> Content {
    let signature = [index + 1; 64];
    let info = SubscribeUpdateTransactionInfo {
        signature: signature.to_vec(),
        is_vote,
        index: index.into(),
        transaction: Some(Transaction {
            signatures: vec![signature.to_vec()],
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
    let update = SubscribeUpdateTransaction {
        slot: SLOT,
        transaction: Some(info.clone()),
    };
    let id = EventId::Transaction(index.into(), Signature(signature));
    content(
        id,
        Body::Transaction(Arc::new(info)),
        UpdateOneof::Transaction(update),
    )
}
