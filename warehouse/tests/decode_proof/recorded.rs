//! Recorded transactions of a folder: whole blocks, and replies that hold single ones.

use std::path::{Path, PathBuf};

use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaTransactionInfoV3;
use bench::{
    block_file::{self, Block, Content},
    plugin_bench::baseline,
};
use event_schema::proto::{
    Message as _,
    geyser::{
        SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
    },
};
use serde_json::{Value, json};

/// A transaction and where it came from.
pub struct Recorded {
    pub place: String,
    pub update: SubscribeUpdateTransactionInfo,
}

/// All of a folder's files.
#[derive(Default)]
pub struct Folder {
    pub transactions: Vec<Recorded>,
    /// Whole blocks among the files.
    pub blocks: Vec<(String, Block)>,
    /// Files without message bytes, and why.
    pub skipped: Vec<(String, String)>,
}

pub fn data_folder() -> Option<PathBuf> {
    std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from)
}

/// The blocks that the repository itself carries.
pub fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks")
}

pub fn read(folder: &Path) -> Folder {
    let mut found = Folder::default();
    for sub in [
        folder.to_owned(),
        folder.join("blocks"),
        folder.join("transactions"),
        folder.join("streams"),
    ] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&sub)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files.iter().for_each(|file| found.file(file));
    }
    found
}

impl Folder {
    fn file(&mut self, file: &Path) {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name.ends_with(".SubscribeUpdateTransaction.bin") {
            let update = SubscribeUpdateTransaction::decode(bytes.as_slice()).unwrap();
            self.transactions.push(Recorded {
                place: name,
                update: update.transaction.unwrap(),
            });
            return;
        }
        // An excerpt is no whole block, and its transactions are as good as any.
        if !name.contains(".excerpt") {
            match block_file::parse(&name, &bytes) {
                Ok(Content::Block(block)) => {
                    self.block(&name, &block);
                    self.blocks.push((name, block));
                    return;
                }
                Ok(Content::Skipped(reason)) if !name.ends_with(".json") => {
                    self.skipped.push((name, reason));
                    return;
                }
                _ => {}
            }
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => self.replies(&name, &value),
            Err(error) => self.skipped.push((name, error.to_string())),
        }
    }

    fn block(&mut self, place: &str, block: &Block) {
        for (index, recorded) in block.transactions.iter().enumerate() {
            let info = ReplicaTransactionInfoV3 {
                signature: &recorded.transaction.signatures[0],
                message_hash: &recorded.message_hash,
                is_vote: recorded.is_vote,
                transaction: &recorded.transaction,
                transaction_status_meta: &recorded.meta,
                index,
            };
            if let UpdateOneof::Transaction(update) =
                baseline::transaction_update(&info, block.slot)
            {
                self.transactions.push(Recorded {
                    place: format!("{place}#{index}"),
                    update: update.transaction.unwrap(),
                });
            }
        }
    }

    /// Every object with a transaction and its metadata, however it is wrapped.
    fn replies(&mut self, name: &str, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.replies(name, item)),
            Value::Object(members) => {
                if members.contains_key("transaction")
                    && members.get("meta").is_some_and(Value::is_object)
                {
                    self.reply(name, value);
                } else {
                    members
                        .values()
                        .for_each(|member| self.replies(name, member));
                }
            }
            _ => {}
        }
    }

    fn reply(&mut self, name: &str, reply: &Value) {
        // The reader of block files proves signatures; a block around the transaction is what it takes.
        let hash = "11111111111111111111111111111111";
        let block = json!({
            "blockhash": hash, "previousBlockhash": hash, "parentSlot": 0, "transactions": [reply],
        });
        match block_file::parse("1.json", block.to_string().as_bytes()) {
            Ok(Content::Block(block)) => self.block(name, &block),
            Ok(Content::Skipped(reason)) => self.skipped.push((name.into(), reason)),
            Err(error) => self.skipped.push((name.into(), error.to_string())),
        }
    }
}
