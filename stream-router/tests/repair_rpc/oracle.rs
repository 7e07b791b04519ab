//! An RPC node that knows the whole chain.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_schema::Slot;
use serde_json::{Value, json};
use stream_router::{
    assembly::Block,
    repair::{
        convert,
        reply::{self, Reply},
    },
};

use crate::chain::{History, TrueBlock};
use crate::source::signature;

/// The chain's blocks by slot: what is finalized in the end.
pub struct Chain(BTreeMap<Slot, TrueBlock>);

impl Chain {
    pub fn of(history: &History) -> Self {
        let blocks = history.blocks.iter().filter(|block| block.on_chain);
        Self(blocks.map(|block| (block.id.slot, block.clone())).collect())
    }

    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &TrueBlock> {
        self.0.values()
    }

    pub fn at(&self, slot: Slot) -> Option<&TrueBlock> {
        self.0.get(&slot)
    }

    /// What the node's reply becomes, on the way that a real one takes.
    pub fn block(&self, slot: Slot) -> Option<Block> {
        let body = self.reply(slot.0, 1).to_string();
        match reply::read(body.as_bytes()) {
            Reply::Block(block) => {
                let host = Arc::from("node.example");
                Some(convert::block(slot, &host, *block).expect("a good block"))
            }
            Reply::NoBlock(_) => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn reply(&self, slot: u64, id: u64) -> Value {
        match self.0.get(&Slot(slot)) {
            Some(block) => json!({"jsonrpc": "2.0", "id": id, "result": result(block)}),
            None => error(-32007, &format!("Slot {slot} was skipped")),
        }
    }
}

pub fn error(code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})
}

pub fn result(block: &TrueBlock) -> Value {
    let transactions: Vec<Value> = (0..block.transactions)
        .map(|index| {
            json!({
                "transaction": [BASE64_STANDARD.encode(transaction(&signature(block, index))), "base64"],
                "meta": {
                    "err": null, "status": {"Ok": null}, "fee": 5000,
                    "preBalances": [10_000, 1], "postBalances": [5_000, 1],
                    "innerInstructions": [], "logMessages": [format!("log {index}")],
                    "preTokenBalances": [], "postTokenBalances": [], "rewards": [],
                    "loadedAddresses": {"readonly": [], "writable": []}, "computeUnitsConsumed": 150,
                },
                "version": "legacy",
            })
        })
        .collect();
    json!({
        "blockhash": block.id.blockhash.to_string(),
        "previousBlockhash": block.parent.blockhash.to_string(),
        "parentSlot": block.parent.slot.0,
        "blockHeight": block.id.slot.0,
        "blockTime": 1,
        "rewards": [],
        "transactions": transactions,
    })
}

/// One signer calls one program, without data.
fn transaction(signature: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(&[1, 0, 1, 2]);
    bytes.extend_from_slice(&[4; 32]);
    bytes.extend_from_slice(&[5; 32]);
    bytes.extend_from_slice(&[6; 32]);
    bytes.extend_from_slice(&[1, 1, 0, 0]);
    bytes
}
