//! Pure: an account's state → the records of the accounts topic, and the tombstones that clear away what they replace.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use event_log::NewRecord;
use event_schema::{
    CHUNK_BYTES_MAX, CanonicalHeader, Kind, Pubkey, Slot,
    account_state::{AS_OF_KEY, AsOf, key_of},
    chunks_of, partition_of,
    proto::Message,
};

use crate::{assembly::Block, slot_tree::BlockId};

/// Closed accounts whose tombstone is due. A closing that is forgotten costs the room of one record, nothing else.
const CLOSINGS_MAX: usize = 1 << 20;

/// An account's last write in a block.
#[derive(Debug, Clone)]
struct LastWrite {
    account: Pubkey,
    /// Place among the block's account writes.
    write: u32,
    /// Nothing is left of the account.
    closes: bool,
    /// The `SubscribeUpdate`, as it was observed.
    value: Bytes,
}

/// What of an account update must be known here; the rest is skipped.
#[derive(Clone, PartialEq, Message)]
struct Update {
    #[prost(message, optional, tag = "2")]
    account: Option<AccountUpdate>,
}

#[derive(Clone, PartialEq, Message)]
struct AccountUpdate {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(bytes = "bytes", tag = "1")]
    pubkey: Bytes,
    #[prost(uint64, tag = "2")]
    lamports: u64,
}

/// The last write of each account, in the order of the writes.
fn last_writes(block: &Block) -> Vec<LastWrite> {
    let accounts = block
        .contents
        .iter()
        .filter(|content| content.kind() == Kind::Account);
    let mut newest: HashMap<Pubkey, usize> = HashMap::new();
    let mut writes = Vec::new();
    for (write, content) in (0..).zip(accounts) {
        // Read before it was published: an update that is none does not get here.
        let Some(info) = Update::decode(content.bytes.clone())
            .ok()
            .and_then(|update| update.account?.info)
        else {
            continue;
        };
        let Ok(account) = Pubkey::try_from(info.pubkey.as_ref()) else {
            continue;
        };
        newest.insert(account, writes.len());
        writes.push(LastWrite {
            account,
            write,
            closes: info.lamports == 0,
            value: content.bytes.clone(),
        });
    }
    let mut at = 0;
    writes.retain(|write| {
        at += 1;
        newest.get(&write.account) == Some(&(at - 1))
    });
    writes
}

/// Writes the topic's records, and remembers what later ones must clear away.
#[derive(Debug)]
pub struct Writes {
    topic: Arc<str>,
    partitions: u32,
    /// Accounts whose newest state is in chunks, and in how many. Few: one in chunks has more than 900 KiB.
    large: BTreeMap<Pubkey, u32>,
    /// Changes of `large` that a next life must know.
    large_changed: Vec<(Pubkey, Option<u32>)>,
    /// Accounts whose newest state is "closed", not yet finalized.
    closed: HashMap<Pubkey, BlockId>,
    closings: BTreeMap<Slot, Vec<Pubkey>>,
}

impl Writes {
    pub fn new(topic: Arc<str>, partitions: u32, large: BTreeMap<Pubkey, u32>) -> Self {
        Self {
            topic,
            partitions: partitions.max(1),
            large,
            large_changed: Vec::new(),
            closed: HashMap::new(),
            closings: BTreeMap::new(),
        }
    }

    /// Returns the accounts that the block wrote.
    pub fn block(&mut self, block: &Block, out: &mut Vec<NewRecord>) -> Vec<Pubkey> {
        let writes = last_writes(block);
        let accounts = writes.iter().map(|write| write.account).collect();
        for write in writes {
            self.state(write.account, (block.id, write.write), &write.value, out);
            if write.closes && self.closed.len() < CLOSINGS_MAX {
                self.closed.insert(write.account, block.id);
                let closings = self.closings.entry(block.id.slot).or_default();
                closings.push(write.account);
            }
        }
        accounts
    }

    /// The account's newest state.
    pub fn state(
        &mut self,
        account: Pubkey,
        (block, write): (BlockId, u32),
        value: &Bytes,
        out: &mut Vec<NewRecord>,
    ) {
        self.closed.remove(&account);
        let header = |kind| header(kind, block, write);
        let mut count = 0;
        if value.len() > CHUNK_BYTES_MAX
            && let Ok(chunks) = chunks_of(Kind::Account, value)
        {
            for chunk in chunks {
                let mut bytes = Vec::with_capacity(CHUNK_BYTES_MAX);
                chunk.write(&mut bytes);
                let key = key_of(&account, chunk.index());
                out.push(self.record(&account, key, header(Kind::Chunk), bytes.into()));
                count += 1;
            }
        } else {
            let key = key_of(&account, 0);
            out.push(self.record(&account, key, header(Kind::Account), value.clone()));
            count += 1;
        }
        self.clear_from(account, count, block, out);
    }

    /// Nothing is known of the account.
    pub fn forget(&mut self, account: Pubkey, block: BlockId, out: &mut Vec<NewRecord>) {
        self.closed.remove(&account);
        let header = header(Kind::Account, block, 0);
        out.push(self.record(&account, key_of(&account, 0), header, Bytes::new()));
        self.clear_from(account, 1, block, out);
    }

    /// Tombstones for the chunks that the state before had and this one does not.
    fn clear_from(
        &mut self,
        account: Pubkey,
        count: u32,
        block: BlockId,
        out: &mut Vec<NewRecord>,
    ) {
        let before = self.large.get(&account).copied().unwrap_or(1);
        for stale in count..before {
            let header = header(Kind::Account, block, 0);
            out.push(self.record(&account, key_of(&account, stale), header, Bytes::new()));
        }
        if count == before {
            return;
        }
        let large = (count > 1).then_some(count);
        match large {
            Some(count) => self.large.insert(account, count),
            None => self.large.remove(&account),
        };
        self.large_changed.push((account, large));
    }

    /// Everything through the slot is finalized: what is closed there and was not written since is forgotten.
    pub fn finalized(&mut self, through: Slot, out: &mut Vec<NewRecord>) {
        while let Some(entry) = self.closings.first_entry()
            && *entry.key() <= through
        {
            let (slot, accounts) = entry.remove_entry();
            for account in accounts {
                if let Some(block) = self.closed.get(&account).copied()
                    && block.slot == slot
                {
                    self.forget(account, block, out);
                }
            }
        }
    }

    /// The end of a transaction, in every partition.
    pub fn end(&self, block: BlockId, as_of: &AsOf, out: &mut Vec<NewRecord>) {
        let value = Bytes::from(as_of.encode_to_vec());
        for partition in 0..self.partitions {
            out.push(NewRecord {
                topic: self.topic.clone(),
                partition,
                key: Bytes::from_static(&AS_OF_KEY),
                header: header(Kind::Seal, block, 0),
                value: value.clone(),
            });
        }
    }

    /// What a next life must know of large accounts: given once.
    pub fn take_large_changed(&mut self) -> Vec<(Pubkey, Option<u32>)> {
        std::mem::take(&mut self.large_changed)
    }

    fn record(&self, account: &Pubkey, key: Bytes, header: Bytes, value: Bytes) -> NewRecord {
        NewRecord {
            topic: self.topic.clone(),
            partition: partition_of(account.as_bytes(), self.partitions),
            key,
            header,
            value,
        }
    }
}

fn header(kind: Kind, block: BlockId, index: u32) -> Bytes {
    let header = CanonicalHeader {
        kind,
        slot: block.slot,
        blockhash: block.blockhash,
        index,
    };
    Bytes::copy_from_slice(&header.encode())
}
