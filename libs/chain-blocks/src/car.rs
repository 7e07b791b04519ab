//! Old Faithful archives: a CAR file (CIDv1, SHA-256) whose sections are DAG-CBOR nodes, each before those that link to it.
//!
//! ```text
//! transaction ◀─ entry ◀─ block ◀─ subset ◀─ epoch        kinds 0 to 4
//!       └─▶ data frames      └─▶ rewards                  kinds 6 and 5
//! ```
//!
//! Read is from the front, one block at a time; what lies between two blocks is all that is held. Every section is checked
//! against its hash and every transaction against its signatures. The schema is Old Faithful's `ledger.ipldsch`.
//!
//! * A block's hash is that of its last entry; its parent's hash is known when the block before it was read.
//! * Time 0 is what archives write when the ledger has none. A transaction without metadata has an unknown outcome.

mod node;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read},
};

use event_schema::{Blockhash, Slot, proto::geyser::SubscribeUpdateTransactionInfo};
use sha2::{Digest, Sha256};
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    block::{ChainBlock, Head, assemble},
    convert, file, stored,
};
use node::{BlockNode, Cid, Entry, Frame, Node, Transaction};

/// Longest section, in bytes; Old Faithful keeps nodes below 1 MiB.
const SECTION_MAX: u64 = 32 << 20;
/// Most that may lie between two blocks, in bytes.
const PENDING_MAX: usize = 1 << 30;
/// Longest unpacked metadata or rewards, in bytes.
const UNPACKED_MAX: u64 = 256 << 20;

/// Why an archive cannot be read on, and where.
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    #[error("byte {at}: {problem}. Fetch the archive again: it is truncated or was changed")]
    Damaged { at: u64, problem: String },
    #[error("byte {at}: the archive cannot be read: {source}")]
    Read { at: u64, source: std::io::Error },
}

/// The blocks of an archive, in its order. After an error there is nothing further.
pub struct Archive<R> {
    read: R,
    at: u64,
    /// `false` before the header and after the end or an error.
    open: bool,
    begun: bool,
    pending: Pending,
    /// Of the block before: its slot and hash.
    before: Option<(Slot, Blockhash)>,
}

#[derive(Default)]
struct Pending {
    nodes: HashMap<Cid, Node>,
    bytes: usize,
}

impl<R: Read> Archive<R> {
    /// `read` is best buffered.
    pub fn new(read: R) -> Self {
        Self {
            read,
            at: 0,
            open: true,
            begun: false,
            pending: Pending::default(),
            before: None,
        }
    }

    fn damaged(&self, problem: impl Into<String>) -> CarError {
        CarError::Damaged {
            at: self.at,
            problem: problem.into(),
        }
    }

    fn next_block(&mut self) -> Result<Option<ChainBlock>, CarError> {
        if !self.begun {
            let header = self.section()?;
            let header = header.ok_or_else(|| self.damaged("the file is empty"))?;
            node::header(&header).map_err(|problem| self.damaged(problem))?;
            self.begun = true;
        }
        loop {
            let at = self.at;
            let Some(section) = self.section()? else {
                return Ok(None);
            };
            let damaged = |problem| CarError::Damaged { at, problem };
            let (cid, body) = node::cid(&section).map_err(damaged)?;
            if <[u8; 32]>::from(Sha256::digest(body)) != cid.0 {
                return Err(damaged("a section is not what its hash says".to_owned()));
            }
            match node::node(body).map_err(damaged)? {
                Node::Block(block) => {
                    let pending = std::mem::take(&mut self.pending);
                    let block = self.block(&pending, &block).map_err(damaged)?;
                    self.before = Some((block.slot, block.blockhash));
                    return Ok(Some(block));
                }
                Node::Index => {}
                node => {
                    self.pending.bytes += body.len();
                    self.pending.nodes.insert(cid, node);
                    if self.pending.bytes > PENDING_MAX {
                        return Err(damaged(format!(
                            "more than {PENDING_MAX} bytes without a block"
                        )));
                    }
                }
            }
        }
    }

    /// The next section, without its length. `None`: the end.
    fn section(&mut self) -> Result<Option<Vec<u8>>, CarError> {
        let mut length = 0_u64;
        for shift in (0..35).step_by(7) {
            let mut byte = [0];
            match self.read.read_exact(&mut byte) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && shift == 0 => {
                    return Ok(None);
                }
                Err(error) => return Err(self.unread(error)),
            }
            self.at += 1;
            length |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        if length > SECTION_MAX {
            return Err(self.damaged(format!("a section of {length} bytes")));
        }
        let mut section = Vec::new();
        let taken = self.read.by_ref().take(length).read_to_end(&mut section);
        match taken {
            Ok(taken) if taken as u64 == length => {}
            Ok(taken) => {
                return Err(self.damaged(format!(
                    "the file ends {} bytes before its section does",
                    length - taken as u64
                )));
            }
            Err(error) => return Err(self.unread(error)),
        }
        self.at += length;
        Ok(Some(section))
    }

    fn unread(&self, error: std::io::Error) -> CarError {
        if error.kind() == ErrorKind::UnexpectedEof {
            return self.damaged("the file ends within a section");
        }
        CarError::Read {
            at: self.at,
            source: error,
        }
    }

    fn block(&self, pending: &Pending, block: &BlockNode) -> Result<ChainBlock, String> {
        let of = |problem: String| format!("block {}: {problem}", block.slot);
        let mut transactions = Vec::new();
        let mut hash = None;
        for link in &block.entries {
            let entry = pending.entry(link).map_err(of)?;
            hash = Some(Blockhash(entry.hash));
            for link in &entry.transactions {
                let index = transactions.len();
                let read = pending
                    .transaction(link)
                    .and_then(|node| transaction(pending, block.slot, index, node));
                transactions
                    .push(read.map_err(|problem| of(format!("transaction {index}: {problem}")))?);
            }
        }
        let hash = hash.ok_or_else(|| of("it has no entry, so no hash".to_owned()))?;
        let (rewards, reward_partitions) = match &block.rewards {
            None => (Vec::new(), None),
            Some(link) => pending
                .rewards(link)
                .and_then(|frame| unpacked(&pending.whole(frame)?))
                .and_then(|bytes| stored::rewards(&bytes))
                .map_err(|problem| of(format!("rewards: {problem}")))?,
        };
        let parent_blockhash = match self.before {
            Some((slot, hash)) if slot.0 == block.parent_slot => hash.to_string(),
            _ => String::new(),
        };
        let head = Head {
            blockhash: hash.to_string(),
            parent_blockhash,
            parent_slot: block.parent_slot,
            block_time: block.time,
            block_height: block.height,
            rewards,
            reward_partitions,
        };
        assemble(Slot(block.slot), head, transactions)
            .map_err(|disbelief| of(disbelief.to_string()))
    }
}

impl<R: Read> Iterator for Archive<R> {
    type Item = Result<ChainBlock, CarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        let next = self.next_block();
        self.open = matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl Pending {
    fn entry(&self, link: &Cid) -> Result<&Entry, String> {
        match self.nodes.get(link) {
            Some(Node::Entry(entry)) => Ok(entry),
            _ => Err("an entry that it links to is not before it".to_owned()),
        }
    }

    fn transaction(&self, link: &Cid) -> Result<&Transaction, String> {
        match self.nodes.get(link) {
            Some(Node::Transaction(transaction)) => Ok(transaction),
            _ => Err("it is not before its block".to_owned()),
        }
    }

    fn rewards(&self, link: &Cid) -> Result<&Frame, String> {
        match self.nodes.get(link) {
            Some(Node::Rewards(frame)) => Ok(frame),
            _ => Err("they are not before their block".to_owned()),
        }
    }

    /// The frame's bytes and those of the frames after it.
    fn whole(&self, first: &Frame) -> Result<Vec<u8>, String> {
        let mut bytes = first.data.clone();
        // Depth first, in order. A frame is read once, so links in a circle end.
        let mut rest: Vec<&Cid> = first.next.iter().rev().collect();
        let mut read = 0;
        while let Some(link) = rest.pop() {
            read += 1;
            let Some(Node::Frame(frame)) =
                self.nodes.get(link).filter(|_| read <= self.nodes.len())
            else {
                return Err("a frame of its data is not before it".to_owned());
            };
            bytes.extend_from_slice(&frame.data);
            rest.extend(frame.next.iter().rev());
        }
        Ok(bytes)
    }
}

fn transaction(
    pending: &Pending,
    slot: u64,
    index: usize,
    node: &Transaction,
) -> Result<SubscribeUpdateTransactionInfo, String> {
    if node.slot != slot {
        return Err(format!("it is of slot {}", node.slot));
    }
    if let Some(stated) = node.index.filter(|stated| *stated != index as u64) {
        return Err(format!("it says that it is transaction {stated}"));
    }
    let bytes = pending.whole(&node.data)?;
    let native: VersionedTransaction =
        wincode::deserialize(&bytes).map_err(|error| format!("its bytes: {error}"))?;
    file::proof::signed_message(&native)?;
    let packed = pending.whole(&node.meta)?;
    let meta = match packed.is_empty() {
        true => None,
        false => {
            let bytes = unpacked(&packed).map_err(|problem| format!("metadata: {problem}"))?;
            Some(stored::status_meta(&bytes).map_err(|problem| format!("metadata: {problem}"))?)
        }
    };
    convert::info(index, convert::message(native)?, meta)
}

/// Metadata and rewards are packed by zstd.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|error| error.to_string())?;
    let read = decoder.take(UNPACKED_MAX + 1).read_to_end(&mut unpacked);
    read.map_err(|error| format!("the zstd stream: {error}"))?;
    if unpacked.len() as u64 > UNPACKED_MAX {
        return Err(format!("it unpacks to more than {UNPACKED_MAX} bytes"));
    }
    Ok(unpacked)
}
