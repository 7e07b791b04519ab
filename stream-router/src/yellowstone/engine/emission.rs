//! Pure: one telling as the messages that subscribers get.
//!
//! The order is promised: what a block contains, then the block, then its metadata, then the slot's status. Items are
//! numbered, so that a cursor can name the place between two of them; which of them a subscriber gets depends on its filters
//! alone, never on when it asked.

use std::sync::Arc;

use bytes::Bytes;
use event_schema::{
    Slot,
    proto::{
        Message,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateSlot, SubscribeUpdateTransactionStatus,
            subscribe_update::UpdateOneof,
        },
    },
};
use foldhash::HashSet;

use super::{
    chronicle::{Item, What},
    composed::ComposedBlocks,
    early::Had,
};
use crate::{
    assembly::Block,
    dedup::EventId,
    observation::{Body, Content},
    subscription::Level,
    yellowstone::filter::{
        DataSlice, FilterIndex, Match, SubscriberId, TransactionFacts, sliced_account,
    },
};

/// One message for one subscriber.
#[derive(Debug)]
pub struct Delivery {
    pub subscriber: SubscriberId,
    pub head: Bytes,
    pub body: Bytes,
    /// Place in the telling.
    pub item: u32,
    /// The event, when it is one that may have been told early.
    pub event: Option<EventId>,
}

/// Where matches are collected; kept from event to event.
#[derive(Debug, Default)]
pub struct Scratch {
    matches: Vec<Match>,
}

/// Everything one subscriber gets of a telling, in order. The block is needed for a telling of the subscriber's own level
/// only; of the others it gets the slot's status.
pub fn telling(
    index: &FilterIndex,
    own: Level,
    item: &Item,
    published: Option<&Block>,
    from: u32,
    had: &Had,
    scratch: &mut Scratch,
) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    let reached = match &item.what {
        What::Reached(reached) => reached,
        What::Gap(update) => {
            if from == 0 {
                gap(index.subscribers(), update, |delivery| {
                    deliveries.push(delivery);
                });
            }
            return deliveries;
        }
    };
    let mut last = 0;
    if let Some(published) = published
        && reached.level == own
    {
        let had = had.get(&reached.block.slot);
        let needed = |event: EventId| !had.is_some_and(|had| had.contains(&event));
        block(index, own, published, from, scratch, needed, |delivery| {
            deliveries.push(delivery);
        });
        last = published.contents.len() as u32 + 2;
    }
    let slot = (reached.block.slot, Some(reached.parent));
    if from <= last {
        status(index, reached.level, slot, last, scratch, |delivery| {
            deliveries.push(delivery);
        });
    }
    deliveries
}

/// Gives out that something is missing: to everyone, because nobody knows whose filters it would have passed.
pub fn gap(
    subscribers: impl Iterator<Item = SubscriberId>,
    update: &Bytes,
    mut give: impl FnMut(Delivery),
) {
    for subscriber in subscribers {
        give(Delivery {
            subscriber,
            head: Bytes::new(),
            body: update.clone(),
            item: 0,
            event: None,
        });
    }
}

/// Gives out what the block contains, the block itself, and its metadata. Items before `from` are left out, and events that
/// nobody needs.
pub fn block(
    index: &FilterIndex,
    level: Level,
    block: &Block,
    from: u32,
    scratch: &mut Scratch,
    needed: impl Fn(EventId) -> bool,
    mut give: impl FnMut(Delivery),
) {
    let wants = index.wants(level);
    let contents = match wants.accounts || wants.transactions || wants.statuses || wants.entries {
        true => &block.contents[..],
        false => &[],
    };
    let outdated = if level == Level::Processed || !wants.accounts {
        HashSet::default()
    } else {
        outdated(block)
    };
    let slot = block.id.slot;
    for (item, content) in (0..).zip(contents) {
        if item < from || outdated.contains(&content.id) || !needed(content.id) {
            continue;
        }
        event(
            index,
            level,
            slot,
            content,
            scratch,
            |subscriber, head, body| {
                give(Delivery {
                    subscriber,
                    head,
                    body,
                    item,
                    event: Some(content.id),
                });
            },
        );
    }
    let last = block.contents.len() as u32;
    if wants.blocks && from <= last {
        let mut composed = ComposedBlocks::new(block);
        let mut matches = Vec::new();
        index.blocks(level, &mut matches);
        for found in matches {
            give(Delivery {
                subscriber: found.subscriber,
                head: found.head,
                body: composed.body(&found.filter),
                item: last,
                event: None,
            });
        }
    }
    if wants.block_meta && from <= last + 1 {
        index.block_meta(level, &mut scratch.matches);
        let meta = block.contents.iter().rev();
        let body = meta
            .filter(|content| matches!(content.body, Body::BlockMeta(_)))
            .map(|content| content.bytes.clone())
            .next();
        for found in scratch.matches.drain(..) {
            if let Some(body) = &body {
                give(Delivery {
                    subscriber: found.subscriber,
                    head: found.head,
                    body: body.clone(),
                    item: last + 1,
                    event: None,
                });
            }
        }
    }
}

/// Gives out that the block's slot has reached the level: the last item of its telling.
pub fn status(
    index: &FilterIndex,
    level: Level,
    (slot, parent): (Slot, Option<Slot>),
    item: u32,
    scratch: &mut Scratch,
    give: impl FnMut(Delivery),
) {
    let status = match level {
        Level::Processed => SlotStatus::SlotProcessed,
        Level::Confirmed => SlotStatus::SlotConfirmed,
        Level::Finalized => SlotStatus::SlotFinalized,
    };
    slot_status(index, (slot, parent), status, None, item, scratch, give);
}

/// Gives out a step in a slot's life.
pub fn slot_status(
    index: &FilterIndex,
    (slot, parent): (Slot, Option<Slot>),
    status: SlotStatus,
    dead_error: Option<&str>,
    item: u32,
    scratch: &mut Scratch,
    mut give: impl FnMut(Delivery),
) {
    index.slot(status, &mut scratch.matches);
    if scratch.matches.is_empty() {
        return;
    }
    let body = encoded(UpdateOneof::Slot(SubscribeUpdateSlot {
        slot: slot.0,
        parent: parent.map(|parent| parent.0),
        status: status as i32,
        dead_error: dead_error.map(str::to_owned),
    }));
    for found in scratch.matches.drain(..) {
        give(Delivery {
            subscriber: found.subscriber,
            head: found.head,
            body: body.clone(),
            item,
            event: None,
        });
    }
}

/// Gives out one event to everyone whose filters it passes.
pub fn event(
    index: &FilterIndex,
    level: Level,
    slot: Slot,
    content: &Content,
    scratch: &mut Scratch,
    mut give: impl FnMut(SubscriberId, Bytes, Bytes),
) {
    match &content.body {
        Body::Account(info) => {
            // Nobody's account is not decoded.
            if !index.wants(level).accounts {
                return;
            }
            index.account(level, info, &mut scratch.matches);
            // Usually all subscribers of one event want the same part of it.
            let mut sliced: Vec<(Arc<[DataSlice]>, Bytes)> = Vec::new();
            for found in scratch.matches.drain(..) {
                let body = match found.slices {
                    None => content.bytes.clone(),
                    Some(slices) => {
                        let known = sliced.iter().find(|(known, _)| *known == slices);
                        if let Some((_, body)) = known {
                            body.clone()
                        } else {
                            let body = sliced_account(info, slot.0, &slices);
                            sliced.push((slices, body.clone()));
                            body
                        }
                    }
                };
                give(found.subscriber, found.head, body);
            }
        }
        Body::Transaction(info) => {
            let wants = index.wants(level);
            if !wants.transactions && !wants.statuses {
                return;
            }
            let facts = TransactionFacts::new(info);
            if wants.transactions {
                index.transaction(level, &facts, &mut scratch.matches);
                for found in scratch.matches.drain(..) {
                    give(found.subscriber, found.head, content.bytes.clone());
                }
            }
            if wants.statuses {
                index.transaction_status(level, &facts, &mut scratch.matches);
                if scratch.matches.is_empty() {
                    return;
                }
                let body = encoded(UpdateOneof::TransactionStatus(
                    SubscribeUpdateTransactionStatus {
                        slot: slot.0,
                        signature: info.signature.clone(),
                        is_vote: info.is_vote,
                        index: info.index,
                        err: info.meta.as_ref().and_then(|meta| meta.err.clone()),
                    },
                ));
                for found in scratch.matches.drain(..) {
                    give(found.subscriber, found.head, body.clone());
                }
            }
        }
        Body::Entry => {
            index.entry(level, &mut scratch.matches);
            for found in scratch.matches.drain(..) {
                give(found.subscriber, found.head, content.bytes.clone());
            }
        }
        Body::BlockMeta(_) => {}
    }
}

/// Updates of accounts that a later one in the block supersedes: at confirmed and finalized, only the last is told.
pub fn outdated(block: &Block) -> HashSet<EventId> {
    let mut seen = HashSet::default();
    let mut outdated = HashSet::default();
    for content in block.contents.iter().rev() {
        if let EventId::Account(_, pubkey) = &content.id
            && !seen.insert(pubkey)
        {
            outdated.insert(content.id);
        }
    }
    outdated
}

fn encoded(update: UpdateOneof) -> Bytes {
    let update = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    update.encode_to_vec().into()
}
