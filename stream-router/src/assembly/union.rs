//! A block that no source has whole, from what several have of it.
//!
//! Only what can be shown to be complete is joined. Transactions and entries carry their index, so the metadata's and the
//! seal's counts prove that none is missing, whoever had it. Account updates carry no such number, and write versions of
//! two validators do not compare: one source gives them, and a partition in which it has a hole is taken wholly from a
//! source whose seal proves that partition complete, counts as many records there, and agrees with every update that the
//! first one has. So each account's updates come from one source, in its order. Sources that contradict one another about
//! anything that both have are not joined at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event_schema::{
    ObservedTopic, Seal, SealedPartition, SourceId, proto::geyser::SubscribeUpdateAccountInfo,
};

use super::{Block, SourceSlot};
use crate::{
    dedup::EventId,
    observation::{Body, Content, Lane, MetaView},
    slot_tree::BlockId,
};

/// The block, if these sources' slots together prove it whole. Slots of other blocks, or that do not say which block they
/// are of, are left out.
pub fn unite<'a>(
    block: BlockId,
    slots: impl Iterator<Item = (SourceId, &'a SourceSlot)>,
) -> Option<Block> {
    let parts: Vec<Part<'_>> = slots
        .filter_map(|(source, slot)| Part::of(source, slot))
        .filter(|part| part.meta.block == block)
        .collect();
    parts.iter().find_map(|first| first.completed_by(&parts))
}

/// A sealed slot that knows its block and was never published.
struct Part<'a> {
    source: SourceId,
    slot: &'a SourceSlot,
    seal: &'a Seal,
    meta: &'a Arc<MetaView>,
}

impl<'a> Part<'a> {
    fn of(source: SourceId, slot: &'a SourceSlot) -> Option<Self> {
        let seal = slot.seal.as_deref()?;
        let meta = slot.meta()?;
        let part = Self {
            source,
            slot,
            seal,
            meta,
        };
        let one_block = part
            .contents(ObservedTopic::Slots)
            .all(|content| match &content.body {
                Body::BlockMeta(other) => other.block == meta.block,
                _ => true,
            });
        (one_block && slot.base.lanes.is_empty()).then_some(part)
    }

    fn rows(&self, topic: ObservedTopic) -> impl Iterator<Item = (Lane, &'a SealedPartition)> {
        let rows = self.seal.table.iter();
        rows.filter(move |row| row.topic == topic as u32)
            .map(move |row| {
                let lane = Lane {
                    topic,
                    partition: row.partition,
                };
                (lane, row)
            })
    }

    fn row(&self, lane: Lane) -> Option<&'a SealedPartition> {
        self.rows(lane.topic)
            .find_map(|(other, row)| (other == lane).then_some(row))
    }

    /// The partition's own seal is here: it says where the counted attempt at the slot begins.
    fn is_delimited(&self, lane: Lane) -> bool {
        self.slot.lane_seal(lane, self.seal.revision).is_some()
    }

    /// All records that the seal counts in the partition are here, every value whole.
    fn has_all(&self, lane: Lane, row: &SealedPartition) -> bool {
        let chunks = self.slot.lanes.get(&lane).map_or(0, |slot| {
            slot.chunks.records_from(self.slot.counted_from(lane))
        });
        row.lost == 0 && !self.seal.partial && chunks == 0 && self.slot.held(lane) == row.records
    }

    fn in_lane(&self, lane: Lane) -> impl Iterator<Item = &'a Content> {
        self.slot.counting(lane).map(|(_, content)| content)
    }

    /// What surely belongs to the counted attempt, of all partitions of the topic.
    fn contents(&self, topic: ObservedTopic) -> impl Iterator<Item = &'a Content> {
        let lanes: Vec<Lane> = self
            .slot
            .lanes
            .keys()
            .filter(|lane| lane.topic == topic && self.is_delimited(**lane))
            .copied()
            .collect();
        let slot = self.slot;
        lanes
            .into_iter()
            .flat_map(move |lane| slot.counting(lane).map(|(_, content)| content))
    }

    fn completed_by(&self, parts: &[Part<'_>]) -> Option<Block> {
        // Its own records are preferred, then the others' in their order.
        let others = parts
            .iter()
            .filter(|part| part.source != self.source && self.agrees_about_accounts(part));
        let all: Vec<&Part<'_>> = std::iter::once(self).chain(others).collect();
        let mut union = Union::default();
        self.unite_accounts(&all, &mut union)?;
        union.transactions(&all, self.meta.transactions)?;
        let entries = self.seal.entries;
        if entries > 0 {
            if self.meta.entries > 0 && self.meta.entries != entries {
                return None;
            }
            union.entries(&all, entries)?;
        }
        let meta = self
            .contents(ObservedTopic::Slots)
            .find(|content| content.id == EventId::BlockMeta)?;
        union.events.insert(meta.id, meta.clone());
        union.sources.remove(&self.source);
        if union.sources.is_empty() {
            // Alone it was not complete, so it waits for something that this does not see: an amended seal.
            return None;
        }
        Some(Block {
            id: self.meta.block,
            parent: self.meta.parent,
            accounts: union.accounts,
            transactions: self.meta.transactions,
            entries,
            contents: union.events.into_values().collect(),
            meta: Arc::clone(self.meta),
            source: self.source,
            repaired_from: union.sources.into_iter().collect(),
            fetched_from: None,
        })
    }

    fn unite_accounts(&self, all: &[&Part<'_>], union: &mut Union) -> Option<()> {
        let mut home: HashMap<Vec<u8>, Lane> = HashMap::new();
        for (lane, row) in self.rows(ObservedTopic::Accounts) {
            let giver = if self.has_all(lane, row) {
                self
            } else {
                *all.iter()
                    .find(|other| self.is_filled_by(other, lane, row))?
            };
            for content in giver.in_lane(lane) {
                let account = account(content)?;
                // An address has one partition. If sources disagree on it, its updates might come twice.
                if *home.entry(account.pubkey.clone()).or_insert(lane) != lane {
                    return None;
                }
                union.accounts += 1;
                union.take(giver.source, content);
            }
        }
        // Updates in a partition that the seal does not know came after it: an amended seal is due.
        let strays = self.slot.lanes.keys().any(|lane| {
            lane.topic == ObservedTopic::Accounts
                && self.row(*lane).is_none()
                && self.slot.held(*lane) > 0
        });
        (!strays).then_some(())
    }

    /// Both saw as many updates (none filters what the other keeps), and wherever one of both has all updates of a
    /// partition, those of the other are among them.
    fn agrees_about_accounts(&self, other: &Part<'_>) -> bool {
        let counts = self.seal.accounts == other.seal.accounts;
        counts
            && self.rows(ObservedTopic::Accounts).all(|(lane, row)| {
                let has_all = |part: &Part<'_>, row: Option<&SealedPartition>| {
                    row.is_some_and(|row| part.has_all(lane, row))
                };
                if has_all(self, Some(row)) {
                    agrees(other.in_lane(lane), self.in_lane(lane))
                } else if has_all(other, other.row(lane)) {
                    agrees(self.in_lane(lane), other.in_lane(lane))
                } else {
                    true
                }
            })
    }

    fn is_filled_by(&self, other: &Part<'_>, lane: Lane, row: &SealedPartition) -> bool {
        let Some(full) = other.row(lane) else {
            return false;
        };
        other.source != self.source
            && other.is_delimited(lane)
            && other.has_all(lane, full)
            && full.records == row.records.saturating_add(row.lost)
    }
}

/// Every account's updates in `some` are, in order, among those in `all`; write versions aside.
fn agrees<'a>(
    some: impl Iterator<Item = &'a Content>,
    all: impl Iterator<Item = &'a Content>,
) -> bool {
    let mut due: HashMap<&[u8], Vec<&SubscribeUpdateAccountInfo>> = HashMap::new();
    for account in by_write_version(all) {
        due.entry(&account.pubkey).or_default().push(account);
    }
    let mut at: HashMap<&[u8], usize> = HashMap::new();
    by_write_version(some).into_iter().all(|account| {
        let updates = due.get(account.pubkey.as_slice()).map_or(&[][..], |v| v);
        let from = at.entry(&account.pubkey).or_default();
        let found = updates[*from..]
            .iter()
            .position(|other| same(account, other));
        *from += found.map_or(0, |skipped| skipped + 1);
        found.is_some()
    })
}

fn by_write_version<'a>(
    contents: impl Iterator<Item = &'a Content>,
) -> Vec<&'a SubscribeUpdateAccountInfo> {
    let mut accounts: Vec<_> = contents.filter_map(account).collect();
    accounts.sort_by_key(|account| account.write_version);
    accounts
}

fn same(one: &SubscribeUpdateAccountInfo, other: &SubscribeUpdateAccountInfo) -> bool {
    (one.lamports, one.executable, one.rent_epoch)
        == (other.lamports, other.executable, other.rent_epoch)
        && one.owner == other.owner
        && one.txn_signature == other.txn_signature
        && one.data == other.data
}

fn account(content: &Content) -> Option<&SubscribeUpdateAccountInfo> {
    match &content.body {
        Body::Account(account) => Some(account),
        _ => None,
    }
}

#[derive(Default)]
struct Union {
    events: BTreeMap<EventId, Content>,
    accounts: u64,
    sources: BTreeSet<SourceId>,
}

impl Union {
    fn take(&mut self, source: SourceId, content: &Content) {
        self.events.insert(content.id, content.clone());
        self.sources.insert(source);
    }

    /// Exactly the indexes below `count`, and no two transactions for one index.
    fn transactions(&mut self, parts: &[&Part<'_>], count: u64) -> Option<()> {
        let mut known = BTreeMap::new();
        for part in parts {
            for content in part.contents(ObservedTopic::Transactions) {
                let EventId::Transaction(index, signature) = content.id else {
                    return None;
                };
                match known.insert(index, signature) {
                    None => self.take(part.source, content),
                    Some(other) if other == signature => {}
                    Some(_) => return None,
                }
            }
        }
        counts_up_to(&known, count)
    }

    /// Exactly the indexes below `count`, and no two entries for one index.
    fn entries(&mut self, parts: &[&Part<'_>], count: u64) -> Option<()> {
        let mut known = BTreeMap::new();
        for part in parts {
            for content in part.contents(ObservedTopic::Slots) {
                let EventId::Entry(index) = content.id else {
                    continue;
                };
                match known.insert(index, &content.bytes) {
                    None => self.take(part.source, content),
                    Some(other) if *other == content.bytes => {}
                    Some(_) => return None,
                }
            }
        }
        counts_up_to(&known, count)
    }
}

fn counts_up_to<T>(known: &BTreeMap<u64, T>, count: u64) -> Option<()> {
    let last = known.last_key_value().map(|(last, _)| *last);
    (known.len() as u64 == count && last == count.checked_sub(1)).then_some(())
}
