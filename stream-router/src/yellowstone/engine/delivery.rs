//! What is told goes to those who are live; who cannot take it falls behind.

use std::{collections::HashMap, sync::Arc};

use event_schema::{Slot, proto::geyser::SlotStatus};

use super::{
    CaughtUp, Delivery, Engine, Had, Item, News, Stamp, Subscriber, What, WhenSlow,
    early::EarlySlot, emission,
};
use crate::{
    assembly::Block,
    commitment::{Change, Standing},
    dedup::EventId,
    observation::Content,
    publication::Told,
    router::{Effect, SlotUpdate},
    slot_tree::BlockId,
    state::Earlier,
    subscription::Level,
    yellowstone::{
        filter::{FilterIndex, SubscriberId},
        outbox::{Ending, Frame, Pushed},
    },
};

/// Who could not take something, and the item at which it stopped.
type Behind = HashMap<SubscriberId, u32>;

impl Engine {
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Restored(earlier) => self.restored(&earlier),
            News::Early(effects) => {
                let stamp = Stamp::now();
                for effect in &effects {
                    match effect {
                        Effect::Early { slot, content } => self.early(*slot, content, &stamp),
                        Effect::SlotUpdate(update) => self.slot_update(update, &stamp),
                        Effect::Closed {
                            slot, block: None, ..
                        } => drop(self.early.take(*slot)),
                        _ => {}
                    }
                }
            }
            News::Committed(tellings) => {
                let stamp = Stamp::now();
                for told in &tellings {
                    self.told(told, &stamp);
                }
                self.show_first_available();
            }
        }
    }

    /// A life of the router's loop begins. What the last one had committed without learning so was not told yet.
    fn restored(&mut self, earlier: &Earlier) {
        let before = self.chronicle.last();
        let archive = Arc::clone(&self.archive);
        self.chronicle
            .restore(earlier, |slot| archive.partition_of(slot));
        self.show_first_available();
        for restored in &earlier.blocks {
            if let Some(level) = Level::reached(restored.told) {
                for level in Level::ALL.into_iter().filter(|other| *other <= level) {
                    let (slot, hash) = (restored.block.slot, restored.block.blockhash);
                    self.tips.reached(level, slot, hash, None);
                }
            }
        }
        match self.chronicle.after(before) {
            Ok(untold) if untold.is_empty() => {}
            Ok(untold) => {
                for id in self.live() {
                    self.catch_up(id, untold.clone(), 0, self.early.had());
                }
            }
            // Others told more meanwhile than is remembered: nobody may take what comes next for what comes after.
            Err(too_old) => {
                for id in self.live() {
                    self.end(id, too_old.ending());
                }
            }
        }
    }

    fn early(&mut self, slot: Slot, content: &Content, stamp: &Stamp) {
        // What nobody heard was not told: it comes with its block.
        if self.subscribers.is_empty() || !self.early.tell(slot, content) {
            return;
        }
        let Self {
            index,
            subscribers,
            scratch,
            metrics,
            ..
        } = self;
        let mut behind = Behind::new();
        let level = Level::Processed;
        emission::event(index, level, slot, content, scratch, |id, head, body| {
            let Some(subscriber) = subscribers.get(&id) else {
                return;
            };
            if subscriber.in_order || !subscriber.is_live() || behind.contains_key(&id) {
                return;
            }
            let frame = Frame {
                head,
                body,
                tail: stamp.tail(),
            };
            metrics.updates.inc();
            if subscriber.outbox.push(frame) == Pushed::Full {
                behind.insert(id, 0);
            }
        });
        for id in behind.into_keys() {
            let mut had = self.early.had();
            if let Some(of_slot) = had.get_mut(&slot) {
                of_slot.remove(&content.id);
            }
            self.fall_behind(id, Vec::new(), 0, had);
        }
    }

    fn slot_update(&mut self, update: &SlotUpdate, stamp: &Stamp) {
        match update.status {
            // These are told when they are on the log.
            SlotStatus::SlotProcessed | SlotStatus::SlotConfirmed | SlotStatus::SlotFinalized => {
                return;
            }
            _ if update.again => drop(self.early.take(update.slot)),
            _ => {}
        }
        let number = self.chronicle.last();
        let Self {
            index,
            subscribers,
            scratch,
            metrics,
            ..
        } = self;
        let mut behind = Behind::new();
        emission::slot_status(
            index,
            (update.slot, update.parent),
            update.status,
            update.dead_error.as_deref(),
            u32::MAX,
            scratch,
            |delivery| {
                // It stands between two tellings.
                let tail = |subscriber: &Subscriber| match subscriber.in_order {
                    true => stamp.tail_with(subscriber.level, number, u32::MAX),
                    false => stamp.tail(),
                };
                metrics.updates.inc();
                push(subscribers, &mut behind, delivery, tail);
            },
        );
        for id in behind.into_keys() {
            self.fall_behind(id, Vec::new(), 0, self.early.had());
        }
    }

    fn told(&mut self, told: &Told, stamp: &Stamp) {
        let number = told.number;
        match &told.effect {
            Effect::Publish(block) => {
                self.chronicle
                    .publish((block.id, block.parent.slot), number, told.offset);
                self.recent.insert(Arc::clone(block));
                self.reached(Level::Processed, block.id);
                let early = self.early.take(block.id.slot);
                self.give(Level::Processed, number, block, &early, stamp);
            }
            Effect::Standing(Change { block, standing }) => {
                let level = self.chronicle.standing(*block, *standing, number);
                match level {
                    Some(level) => {
                        self.reached(level, *block);
                        match self.recent.get(*block).cloned() {
                            Some(published) => {
                                let early = EarlySlot::default();
                                self.give(level, number, &published, &early, stamp);
                            }
                            None => self.read_for_all(level, number),
                        }
                        if level == Level::Finalized {
                            self.recent.remove(*block);
                        }
                    }
                    None => {
                        debug_assert_eq!(*standing, Standing::Abandoned);
                        self.recent.remove(*block);
                        self.tips.abandoned(block.slot, block.blockhash);
                    }
                }
            }
            Effect::Gap(gap) | Effect::ParentGap { gap, .. } => {
                let update = self.chronicle.gap(number, gap);
                self.give_gap(number, &update, stamp);
            }
            _ => {}
        }
    }

    fn reached(&self, level: Level, block: BlockId) {
        let published = self.recent.get(block);
        let height = published
            .and_then(|block| block.meta.meta.block_height)
            .map(|height| height.block_height);
        self.tips
            .reached(level, block.slot, block.blockhash, height);
    }

    /// A telling to everyone who is live.
    fn give(&mut self, level: Level, number: u64, block: &Block, early: &EarlySlot, stamp: &Stamp) {
        let Self {
            index,
            subscribers,
            scratch,
            metrics,
            ..
        } = self;
        let mut behind = Behind::new();
        let in_order = subscribers
            .values()
            .any(|subscriber| subscriber.in_order && subscriber.level == level);
        let needed = |event: EventId| in_order || !early.has(event);
        let tail = |item: u32| {
            move |subscriber: &Subscriber| match subscriber.in_order {
                true => stamp.tail_with(subscriber.level, number, item.saturating_add(1)),
                false => stamp.tail(),
            }
        };
        emission::block(index, level, block, 0, scratch, needed, |delivery| {
            let known = subscribers.get(&delivery.subscriber);
            let again = delivery.event.is_some_and(|event| early.has(event));
            if again && known.is_some_and(|subscriber| !subscriber.in_order) {
                return;
            }
            metrics.updates.inc();
            let tail = tail(delivery.item);
            push(subscribers, &mut behind, delivery, tail);
        });
        let last = block.contents.len() as u32 + 2;
        let slot = (block.id.slot, Some(block.parent.slot));
        emission::status(index, level, slot, last, scratch, |delivery| {
            metrics.updates.inc();
            let own = subscribers
                .get(&delivery.subscriber)
                .is_some_and(|subscriber| subscriber.level == level);
            // To the others it is the telling's only item.
            let item = if own { last } else { 0 };
            let delivery = Delivery { item, ..delivery };
            let tail = tail(item);
            push(subscribers, &mut behind, delivery, tail);
        });
        if behind.is_empty() {
            return;
        }
        let mut had = self.early.had();
        had.insert(
            block.id.slot,
            early.contents().iter().map(|content| content.id).collect(),
        );
        for (id, item) in behind {
            let items = self.chronicle.after(number.saturating_sub(1));
            self.fall_behind(id, items.unwrap_or_default(), item, had.clone());
        }
    }

    /// What is missing, to everyone who is live.
    fn give_gap(&mut self, number: u64, update: &bytes::Bytes, stamp: &Stamp) {
        let mut behind = Behind::new();
        let (subscribers, metrics) = (&self.subscribers, &self.metrics);
        emission::gap(subscribers.keys().copied(), update, |delivery| {
            let next = delivery.item.saturating_add(1);
            let tail = |subscriber: &Subscriber| match subscriber.in_order {
                true => stamp.tail_with(subscriber.level, number, next),
                false => stamp.tail(),
            };
            metrics.updates.inc();
            push(subscribers, &mut behind, delivery, tail);
        });
        for (id, item) in behind {
            let items = self.chronicle.after(number.saturating_sub(1));
            self.fall_behind(id, items.unwrap_or_default(), item, self.early.had());
        }
    }

    /// The block is not in memory any more: those who are to have it read it from the log.
    fn read_for_all(&mut self, level: Level, number: u64) {
        let items = self.chronicle.after(number.saturating_sub(1));
        for id in self.live() {
            let concerned = self
                .subscribers
                .get(&id)
                .is_some_and(|subscriber| subscriber.level == level);
            match &items {
                Ok(items) if concerned => self.catch_up(id, items.clone(), 0, self.early.had()),
                Err(too_old) if concerned => self.end(id, too_old.ending()),
                _ => {}
            }
        }
    }

    fn live(&self) -> Vec<SubscriberId> {
        let live = self.subscribers.iter().filter(|(_, s)| s.is_live());
        live.map(|(id, _)| *id).collect()
    }

    fn fall_behind(&mut self, id: SubscriberId, items: Vec<Item>, from: u32, had: Had) {
        self.metrics.fell_behind.inc();
        match self.settings.when_slow {
            WhenSlow::Disconnect => self.end(id, Ending::Lagged),
            WhenSlow::CatchUp => self.catch_up(id, items, from, had),
        }
    }

    /// The last tellings from memory, and what was told early of blocks that are still open; then the subscriber is live.
    pub(super) fn go_live(
        &mut self,
        id: SubscriberId,
        number: u64,
        items: &[Item],
        had: Had,
    ) -> CaughtUp {
        let mut through = number;
        let (Some(subscriber), Some(filters)) = (self.subscribers.get(&id), self.index.filters(id))
        else {
            return CaughtUp::Done;
        };
        let (level, in_order, outbox) = (
            subscriber.level,
            subscriber.in_order,
            subscriber.outbox.clone(),
        );
        let mut index = FilterIndex::default();
        index.insert(id, filters.clone());
        let stamp = Stamp::now();
        for (at, item) in items.iter().enumerate() {
            let block = match &item.what {
                What::Reached(reached) => self.recent.get(reached.block).map(Arc::as_ref),
                What::Gap(_) => None,
            };
            let deliveries =
                emission::telling(&index, level, item, block, 0, &had, &mut self.scratch);
            for delivery in deliveries {
                let from = delivery.item;
                let frame = frame(delivery, in_order, level, item.number, &stamp);
                if outbox.push(frame) == Pushed::Full {
                    return self.more(id, through, (items[at..].to_vec(), from), had);
                }
            }
            through = item.number;
        }
        if level == Level::Processed && !in_order {
            let mut had = had;
            let mut full = false;
            for (slot, early) in self.early.open() {
                for content in early.contents() {
                    if full || had.get(&slot).is_some_and(|had| had.contains(&content.id)) {
                        continue;
                    }
                    let scratch = &mut self.scratch;
                    emission::event(&index, level, slot, content, scratch, |_, head, body| {
                        let tail = stamp.tail();
                        full |= outbox.push(Frame { head, body, tail }) == Pushed::Full;
                    });
                    if !full {
                        had.entry(slot).or_default().insert(content.id);
                    }
                }
            }
            if full {
                return self.more(id, through, (Vec::new(), 0), had);
            }
        }
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.task = None;
        }
        CaughtUp::Done
    }
}

impl Subscriber {
    fn is_live(&self) -> bool {
        self.task.is_none()
    }
}

/// The delivery as it is sent to one who goes on after it with the next item.
pub fn frame(
    delivery: Delivery,
    in_order: bool,
    level: Level,
    number: u64,
    stamp: &Stamp,
) -> Frame {
    let tail = if in_order {
        stamp.tail_with(level, number, delivery.item.saturating_add(1))
    } else {
        stamp.tail()
    };
    Frame {
        head: delivery.head,
        body: delivery.body,
        tail,
    }
}

fn push(
    subscribers: &HashMap<SubscriberId, Subscriber>,
    behind: &mut Behind,
    delivery: Delivery,
    tail: impl Fn(&Subscriber) -> bytes::Bytes,
) {
    let id = delivery.subscriber;
    let Some(subscriber) = subscribers.get(&id) else {
        return;
    };
    if !subscriber.is_live() || behind.contains_key(&id) {
        return;
    }
    let frame = Frame {
        head: delivery.head,
        body: delivery.body,
        tail: tail(subscriber),
    };
    if subscriber.outbox.push(frame) == Pushed::Full {
        behind.insert(id, delivery.item);
    }
}
