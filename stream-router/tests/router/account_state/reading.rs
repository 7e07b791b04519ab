//! The state as readers of the accounts topic find it, and as the canonical topic has it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use event_log::{EventLog, ReaderSpec, Record, Start};
use event_schema::{
    AccountState, AccountStateReader, AsOf, CanonicalEvent, Commitment, Pubkey, Slot,
    SlotAssembler, SlotBlock,
    proto::{
        Message,
        geyser::{SubscribeUpdate, subscribe_update::UpdateOneof},
    },
};
use rand::{Rng, rngs::StdRng};

use super::{PARTITIONS, settings};

pub type Reader = AccountStateReader<fn(&Pubkey, &AccountState) -> bool>;

/// An account's lamports, data and slot; closed ones are left out.
pub type States = BTreeMap<Pubkey, (u64, usize, u64)>;

pub async fn records_of(log: &dyn EventLog, topic: &Arc<str>, partitions: u32) -> Vec<Record> {
    let spec = ReaderSpec {
        partitions: (0..partitions)
            .map(|partition| (topic.clone(), partition, Start::Earliest))
            .collect(),
        read_committed: true,
    };
    let mut reader = log.reader(spec).await.expect("a reader");
    let mut all = Vec::new();
    loop {
        let records = reader.poll(1_000, Duration::from_millis(10)).await;
        let records = records.expect("records");
        if records.is_empty() && reader.lag().await.expect("lag") == 0 {
            return all;
        }
        all.extend(records);
    }
}

/// The state as of the newest transaction; `None` before the first.
pub fn folded<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<(Reader, AsOf)> {
    let all: fn(&Pubkey, &AccountState) -> bool = |_, _| true;
    let mut reader = AccountStateReader::new(PARTITIONS, all);
    for record in records {
        let parts = (
            record.key.clone(),
            record.header.clone(),
            record.value.clone(),
        );
        let pushed = reader.push(record.position.partition, parts);
        pushed.expect("the topic's contract");
    }
    reader.stop_at_newest().then(|| {
        let as_of = reader.as_of().expect("whole transactions").clone();
        (reader, as_of)
    })
}

pub fn info(value: &Bytes) -> (Pubkey, u64, usize) {
    let update = SubscribeUpdate::decode(value.clone()).expect("an update");
    let Some(UpdateOneof::Account(account)) = update.update_oneof else {
        panic!("not an account");
    };
    let info = account.account.expect("an account");
    let key = Pubkey::try_from(info.pubkey.as_slice()).expect("a key");
    (key, info.lamports, info.data.len())
}

pub fn states_of(reader: &Reader) -> States {
    let mut states = States::new();
    for (account, state) in reader.accounts() {
        let (key, lamports, data) = info(&state.value);
        assert_eq!(key, *account);
        if lamports > 0 {
            states.insert(key, (lamports, data, state.slot.0));
        }
    }
    states
}

/// What the blocks of the chain leave, by their last writes.
pub fn truth<'a>(blocks: impl IntoIterator<Item = &'a Arc<SlotBlock>>) -> States {
    let mut states = States::new();
    for block in blocks {
        for account in &block.accounts {
            let info = account.account.as_ref().expect("an account");
            let key = Pubkey::try_from(info.pubkey.as_slice()).expect("a key");
            states.remove(&key);
            if info.lamports > 0 {
                states.insert(key, (info.lamports, info.data.len(), block.slot.0));
            }
        }
    }
    states
}

/// Goes on from where the state ends: blocks as they are confirmed.
pub async fn continued(log: &dyn EventLog, mut reader: Reader, as_of: &AsOf) -> States {
    let topic = settings().topics.canonical;
    let mut blocks: HashMap<(Slot, event_schema::Blockhash), Arc<SlotBlock>> = HashMap::new();
    let mut confirmed = Vec::new();
    for (partition, position) in (0..).zip(&as_of.positions) {
        let spec = ReaderSpec {
            partitions: vec![(topic.clone(), partition, Start::At(*position))],
            read_committed: true,
        };
        let mut canonical = log.reader(spec).await.expect("a reader");
        let mut assembler = SlotAssembler::new();
        loop {
            let records = canonical.poll(1_000, Duration::from_millis(10)).await;
            let records = records.expect("records");
            if records.is_empty() && canonical.lag().await.expect("lag") == 0 {
                break;
            }
            for record in records {
                let event = assembler.push(record.position.offset, &record.header, &record.value);
                match event.expect("the topic's contract") {
                    Some(CanonicalEvent::Block(block)) => {
                        blocks.insert((block.slot, block.blockhash), block);
                    }
                    Some(CanonicalEvent::Status {
                        slot,
                        blockhash,
                        commitment: Commitment::Confirmed,
                        ..
                    }) => confirmed.push((slot, blockhash)),
                    _ => {}
                }
            }
        }
    }
    // No gap: the first block that the state does not have continues it.
    let news: Vec<_> = confirmed
        .iter()
        .filter(|(slot, _)| !as_of.covers(*slot))
        .collect();
    if let Some(first) = news.iter().min() {
        let block = blocks.get(first).expect("its block was not before");
        assert_eq!(block.seal.parent_blockhash, as_of.blockhash);
    }
    for block in news {
        reader.fold_block(blocks.get(block).expect("its block was not before"));
    }
    states_of(&reader)
}

/// What a cleaner may leave of a partition.
pub fn compacted(rng: &mut StdRng, records: &[Record]) -> Vec<Record> {
    let mut kept = Vec::new();
    for partition in 0..PARTITIONS {
        let of: Vec<&Record> = records
            .iter()
            .filter(|record| record.position.partition == partition)
            .collect();
        let known = rng.random_range(0..=of.len());
        let clean = rng.random_range(0..=known);
        for (at, record) in of.iter().enumerate() {
            let again = of[..known].iter().skip(at + 1);
            let again = again.clone().any(|later| later.key == record.key);
            if at >= clean || !again {
                kept.push((*record).clone());
            }
        }
    }
    kept
}
