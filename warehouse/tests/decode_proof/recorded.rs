//! Recorded transactions of a folder: whole blocks, and replies that hold single ones.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use bench::{
    block_file::{self, Block, Content},
    plugin_bench::baseline,
    replica,
};
use event_schema::proto::{
    Message as _,
    geyser::{
        SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
    },
};
use serde_json::{Value, json};

use super::parsed;

/// A transaction and where it came from.
pub struct Recorded {
    pub place: String,
    /// Written again from a `jsonParsed` reply.
    pub rewritten: bool,
    pub update: SubscribeUpdateTransactionInfo,
}

/// All of a folder's files.
#[derive(Default)]
pub struct Folder {
    pub transactions: Vec<Recorded>,
    /// Whole blocks among the files.
    pub blocks: Vec<(String, Block)>,
    /// Files and replies that are not read, and why.
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
        let mut bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name.ends_with(".SubscribeUpdateTransaction.bin") {
            let update = SubscribeUpdateTransaction::decode(bytes.as_slice()).unwrap();
            self.push(name, update.transaction.unwrap(), false);
            return;
        }
        // An excerpt is no whole block, and its transactions are as good as any.
        let content = (!name.contains(".excerpt")).then(|| block_file::parse(&name, &bytes));
        if let Some(Ok(Content::Block(block))) = content {
            self.block(&name, &block);
            self.blocks.push((name, block));
            return;
        }
        if name.ends_with(".gz") {
            let mut unpacked = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut unpacked)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            bytes = unpacked;
        }
        let before = self.transactions.len() + self.skipped.len();
        if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
            self.replies(&name, &value);
        }
        if before == self.transactions.len() + self.skipped.len() {
            let reason = match content {
                Some(Ok(Content::Skipped(reason))) => reason,
                _ => "no executed transaction in it".into(),
            };
            self.skipped.push((name, reason));
        }
    }

    fn push(&mut self, place: String, update: SubscribeUpdateTransactionInfo, rewritten: bool) {
        self.transactions.push(Recorded {
            place,
            update,
            rewritten,
        });
    }

    fn block(&mut self, place: &str, block: &Block) {
        for (index, recorded) in block.transactions.iter().enumerate() {
            let Some(info) = replica::transaction(recorded, index) else {
                continue;
            };
            if let UpdateOneof::Transaction(update) =
                baseline::transaction_update(&info, block.slot)
            {
                self.push(
                    format!("{place}#{index}"),
                    update.transaction.unwrap(),
                    false,
                );
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
            Ok(Content::Skipped(reason)) => match parsed::transaction(reply) {
                Some(update) => self.push(name.into(), update, true),
                None => self.skipped.push((name.into(), reason)),
            },
            Err(error) => self.skipped.push((name.into(), error.to_string())),
        }
    }
}
