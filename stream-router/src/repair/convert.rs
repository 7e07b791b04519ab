//! Pure: a `getBlock` reply → the block a router publishes. A node tells no account updates and no entries.

use std::sync::Arc;

use bytes::Bytes;
pub use chain_blocks::Disbelief;
use chain_blocks::rpc::reply::RpcBlock;
use event_schema::{
    Kind, Slot,
    proto::{
        Message as _,
        geyser::{SubscribeUpdate, SubscribeUpdateTransaction, subscribe_update::UpdateOneof},
    },
};

use crate::{
    assembly::Block,
    encoding,
    observation::{self, Body, Content},
    router::RPC_NODE,
};

/// `host`: of the node, to be told to canonical readers.
pub fn block(slot: Slot, host: &Arc<str>, reply: RpcBlock) -> Result<Block, Disbelief> {
    let believed = chain_blocks::block(slot, reply)?;
    let transactions = believed.transactions.len() as u64;
    let mut contents = Vec::with_capacity(believed.transactions.len() + 1);
    for (index, info) in believed.transactions.into_iter().enumerate() {
        let wrong = |problem| Disbelief::Transaction { index, problem };
        // Indexes within, so that no reader meets one that is out of bounds.
        encoding::native_transaction(&info).map_err(|error| wrong(error.to_string()))?;
        let update = UpdateOneof::Transaction(SubscribeUpdateTransaction {
            slot: slot.0,
            transaction: Some(info),
        });
        contents.push(content(Kind::Transaction, slot, update).map_err(wrong)?);
    }
    let in_meta = |problem| Disbelief::Field {
        field: "result",
        problem,
    };
    let update = UpdateOneof::BlockMeta(believed.meta);
    let last = content(Kind::BlockMeta, slot, update).map_err(in_meta)?;
    let Body::BlockMeta(view) = &last.body else {
        return Err(in_meta("no block metadata".to_owned()));
    };
    let view = Arc::clone(view);
    contents.push(last);
    Ok(Block {
        id: view.block,
        parent: view.parent,
        contents,
        accounts: 0,
        transactions,
        entries: 0,
        meta: view,
        source: RPC_NODE,
        repaired_from: Vec::new(),
        fetched_from: Some(Arc::clone(host)),
    })
}

fn content(kind: Kind, slot: Slot, update: UpdateOneof) -> Result<Content, String> {
    let value = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    observation::read_canonical(kind, slot, &Bytes::from(value.encode_to_vec()))
}
