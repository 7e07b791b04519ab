//! A subscriber of everything, what it got, and what it must have got.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use event_schema::{
    Commitment, Gap, Slot,
    proto::{
        Message,
        geyser::{
            CommitmentLevel, SlotStatus, SubscribeRequest, SubscribeRequestFilterAccounts,
            SubscribeRequestFilterBlocks, SubscribeRequestFilterBlocksMeta,
            SubscribeRequestFilterEntry, SubscribeRequestFilterSlots,
            SubscribeRequestFilterTransactions, SubscribeUpdate, subscribe_update::UpdateOneof,
        },
    },
};
use stream_router::{
    subscription::Level,
    yellowstone::{
        cursor::Cursor,
        engine::{Command, Start},
        filter::Filters,
        outbox::{Inbox, OutboxLimits, outbox},
    },
};
use tokio::sync::oneshot;

use super::rig::Rig;
use crate::crash::Canonical;

/// Everything there is, at this level.
pub fn everything(level: Level) -> Filters {
    fn all<T: Default>() -> HashMap<String, T> {
        HashMap::from([("all".to_owned(), T::default())])
    }
    let commitment = match level {
        Level::Processed => CommitmentLevel::Processed,
        Level::Confirmed => CommitmentLevel::Confirmed,
        Level::Finalized => CommitmentLevel::Finalized,
    };
    let request = SubscribeRequest {
        accounts: all::<SubscribeRequestFilterAccounts>(),
        transactions: all::<SubscribeRequestFilterTransactions>(),
        entry: all::<SubscribeRequestFilterEntry>(),
        blocks: all::<SubscribeRequestFilterBlocks>(),
        blocks_meta: all::<SubscribeRequestFilterBlocksMeta>(),
        slots: HashMap::from([(
            "own".to_owned(),
            SubscribeRequestFilterSlots {
                filter_by_commitment: Some(true),
                ..SubscribeRequestFilterSlots::default()
            },
        )]),
        commitment: Some(commitment as i32),
        ..SubscribeRequest::default()
    };
    Filters::compile(&request, &Default::default()).expect("good filters")
}

/// What an update is about, so that it can be told from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Account(u64, Vec<u8>, u64),
    Transaction(u64, Vec<u8>),
    Entry(u64, u64, Vec<u8>),
    Block(u64, String),
    BlockMeta(u64, String),
    Status(u64),
}

pub fn seen(update: SubscribeUpdate, level: Level) -> Seen {
    assert_eq!(update.filters.len(), 1);
    assert!(update.created_at.is_some());
    match update.update_oneof.expect("an update") {
        UpdateOneof::Account(update) => {
            let info = update.account.expect("an account");
            Seen::Account(update.slot, info.pubkey, info.write_version)
        }
        UpdateOneof::Transaction(update) => {
            let info = update.transaction.expect("a transaction");
            Seen::Transaction(update.slot, info.signature)
        }
        UpdateOneof::Entry(entry) => Seen::Entry(entry.slot, entry.index, entry.hash),
        UpdateOneof::Block(block) => Seen::Block(block.slot, block.blockhash),
        UpdateOneof::BlockMeta(meta) => Seen::BlockMeta(meta.slot, meta.blockhash),
        UpdateOneof::Slot(slot) => {
            let expected = match level {
                Level::Processed => SlotStatus::SlotProcessed,
                Level::Confirmed => SlotStatus::SlotConfirmed,
                Level::Finalized => SlotStatus::SlotFinalized,
            };
            assert_eq!(slot.status(), expected);
            Seen::Status(slot.slot)
        }
        other => panic!("nobody asked for {other:?}"),
    }
}

/// What a subscriber of everything must have seen, from this slot on; sorted, with repetitions.
pub fn expected(canonical: &Canonical, level: Level, from: Slot) -> Vec<Seen> {
    let mut all = Vec::new();
    for ((slot, blockhash), block) in &canonical.blocks {
        let fates = canonical.fates.get(&(*slot, *blockhash));
        let reached = match level {
            Level::Processed => true,
            Level::Confirmed => fates.is_some_and(|fates| fates.contains(&Commitment::Confirmed)),
            Level::Finalized => fates.is_some_and(|fates| fates.contains(&Commitment::Finalized)),
        };
        if *slot < from || !reached {
            continue;
        }
        let mut accounts: BTreeMap<(Vec<u8>, u64), u64> = BTreeMap::new();
        for update in &block.accounts {
            let info = update.account.as_ref().expect("an account");
            let version = info.write_version;
            let key = if level == Level::Processed {
                version
            } else {
                0
            };
            let newest = accounts.entry((info.pubkey.clone(), key)).or_default();
            *newest = (*newest).max(version);
        }
        all.extend(
            accounts
                .into_iter()
                .map(|((key, _), version)| Seen::Account(slot.0, key, version)),
        );
        all.extend(
            block
                .transactions
                .iter()
                .map(|info| Seen::Transaction(slot.0, info.signature.clone())),
        );
        all.extend(
            block
                .entries
                .iter()
                .map(|entry| Seen::Entry(slot.0, entry.index, entry.hash.clone())),
        );
        all.push(Seen::Block(slot.0, block.meta.blockhash.clone()));
        all.push(Seen::BlockMeta(slot.0, block.meta.blockhash.clone()));
        all.push(Seen::Status(slot.0));
    }
    all.sort();
    all
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    #[prost(bytes = "vec", optional, tag = "1001")]
    pub cursor: Option<Vec<u8>>,
    #[prost(message, optional, tag = "1002")]
    pub gap: Option<Gap>,
}

pub struct Client {
    pub id: u64,
    pub level: Level,
    pub inbox: Option<Inbox>,
    pub cursor: Bytes,
    pub got: Vec<Seen>,
    pub gaps: Vec<Gap>,
}

impl Client {
    pub fn new(level: Level) -> Self {
        Self {
            id: 0,
            level,
            inbox: None,
            cursor: Bytes::new(),
            got: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Returns when the engine has taken it in.
    pub async fn connect(&mut self, rig: &Rig, start: Start, bytes_max: usize) {
        self.ask(rig, start, bytes_max).await;
        let (answer, answered) = oneshot::channel();
        rig.commands
            .send(Command::Who(answer))
            .await
            .expect("an engine");
        answered.await.expect("an answer");
    }

    /// What is told from here on is for this subscriber.
    pub async fn ask(&mut self, rig: &Rig, start: Start, bytes_max: usize) {
        self.id += 1;
        let limits = OutboxLimits {
            bytes_max,
            frames_max: 1_000,
        };
        let (outbox, inbox) = outbox(limits);
        self.inbox = Some(inbox);
        let connect = Command::Connect {
            id: self.id,
            outbox,
            filters: everything(self.level),
            start,
        };
        rig.commands.send(connect).await.expect("an engine");
    }

    pub async fn disconnect(&mut self, rig: &Rig) {
        self.inbox = None;
        let gone = Command::Disconnect { id: self.id };
        rig.commands.send(gone).await.expect("an engine");
    }

    /// Reads at most so many updates; false when none came for a while.
    pub async fn read(&mut self, most: usize, wait: Duration) -> bool {
        let inbox = self.inbox.as_mut().expect("connected");
        for _ in 0..most {
            let Ok(frame) = tokio::time::timeout(wait, inbox.next()).await else {
                return false;
            };
            let frame = frame.unwrap_or_else(|| panic!("ended: {:?}", inbox.ending()));
            let bytes = [frame.head, frame.body, frame.tail].concat();
            let Extension { cursor, gap } = Extension::decode(bytes.as_slice()).unwrap();
            if let Some(cursor) = cursor {
                let now = Cursor::decode(&cursor).expect("a cursor");
                if let Ok(before) = Cursor::decode(&self.cursor) {
                    assert!(before < now, "{before:?}, then {now:?}");
                }
                self.cursor = cursor.into();
            }
            if let Some(gap) = gap {
                self.gaps.push(gap);
                continue;
            }
            let update = SubscribeUpdate::decode(bytes.as_slice()).expect("an update");
            self.got.push(seen(update, self.level));
        }
        true
    }
}

/// What is missing, and what there is too much of: short, for people.
pub fn assert_same(mut got: Vec<Seen>, expected: &[Seen], level: Level, seed: u64) {
    got.sort();
    if got == expected {
        return;
    }
    let count = |of: &[Seen]| {
        let mut counts: BTreeMap<Seen, i64> = BTreeMap::new();
        for seen in of {
            *counts.entry(seen.clone()).or_default() += 1;
        }
        counts
    };
    let (have, want) = (count(&got), count(expected));
    let of = |counts: &BTreeMap<Seen, i64>, seen| counts.get(seen).copied().unwrap_or(0);
    let about = |seen: &Seen| match seen {
        Seen::Account(slot, _, version) => format!("account {version} of {slot}"),
        Seen::Transaction(slot, _) => format!("transaction of {slot}"),
        Seen::Entry(slot, index, _) => format!("entry {index} of {slot}"),
        Seen::Block(slot, _) => format!("block {slot}"),
        Seen::BlockMeta(slot, _) => format!("meta of {slot}"),
        Seen::Status(slot) => format!("status of {slot}"),
    };
    let missing: Vec<String> = want
        .iter()
        .filter(|(seen, count)| of(&have, seen) < **count)
        .map(|(seen, _)| about(seen))
        .take(12)
        .collect();
    let too_many: Vec<String> = have
        .iter()
        .filter(|(seen, count)| of(&want, seen) < **count)
        .map(|(seen, _)| about(seen))
        .take(12)
        .collect();
    panic!("seed {seed}, {level:?}: missing {missing:?}, too many {too_many:?}");
}
