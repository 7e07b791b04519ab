//! Pure: which slots are wanted, which is asked for next, and when one is given up. Time is handed in, milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::Slot;

use super::{Hole, RepairConfig};

/// Slots tried and put off at most: while nodes are away, the others' deadlines do not run yet.
const PUT_OFF_MAX: usize = 64;

/// Wanted slots, and blocks that wait for their neighbours.
#[derive(Debug)]
pub struct Book<B> {
    rules: Rules,
    wanted: BTreeMap<Slot, Want>,
    /// To be asked for; the highest first, because the block above names the one below.
    ready: BTreeSet<Slot>,
    /// To be asked for again, by time.
    put_off: BTreeSet<(u64, Slot)>,
    asking: BTreeSet<Slot>,
    /// Had, but nothing links them to the chain yet; asked for again if that lasts.
    unlinked: BTreeMap<Slot, B>,
}

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub concurrency: usize,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    pub deadline_ms: u64,
    /// Slots wanted at most.
    pub slots_max: u64,
}

impl Rules {
    pub fn new(config: &RepairConfig, slots_max: u64) -> Self {
        Self {
            concurrency: config.concurrency,
            backoff_ms: config.backoff_ms,
            backoff_max_ms: config.backoff_max_ms,
            deadline_ms: config.deadline_seconds.saturating_mul(1_000),
            slots_max,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Want {
    /// The block above names one in this slot.
    named: bool,
    tries: u32,
    first_asked_ms: Option<u64>,
    /// In `put_off` under this time.
    due_ms: Option<u64>,
}

impl<B> Book<B> {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            wanted: BTreeMap::new(),
            ready: BTreeSet::new(),
            put_off: BTreeSet::new(),
            asking: BTreeSet::new(),
            unlinked: BTreeMap::new(),
        }
    }

    /// Returns how many slots of the hole were not wanted yet, and how many find no room.
    pub fn want(&mut self, hole: Hole) -> (u64, u64) {
        let (mut new, mut refused) = (0, 0);
        for slot in (hole.first.0..=hole.last.0).rev().map(Slot) {
            let named = hole.named && slot == hole.last;
            if let Some(want) = self.wanted.get_mut(&slot) {
                want.named |= named;
                continue;
            }
            if self.wanted.len() as u64 >= self.rules.slots_max {
                refused = slot.0 - hole.first.0 + 1;
                break;
            }
            let want = Want {
                named,
                ..Want::default()
            };
            self.wanted.insert(slot, want);
            self.ready.insert(slot);
            new += 1;
        }
        (new, refused)
    }

    /// The next slot to ask for.
    pub fn next(&mut self, now_ms: u64) -> Option<Slot> {
        if self.is_busy() {
            return None;
        }
        let due = self.put_off.first().filter(|(due, _)| *due <= now_ms);
        let slot = match due.copied() {
            Some((due, slot)) => {
                self.put_off.remove(&(due, slot));
                self.unlinked.remove(&slot);
                slot
            }
            None if self.put_off.len() < PUT_OFF_MAX => self.ready.pop_last()?,
            None => return None,
        };
        let want = self.wanted.get_mut(&slot)?;
        want.due_ms = None;
        want.tries += 1;
        want.first_asked_ms.get_or_insert(now_ms);
        self.asking.insert(slot);
        Some(slot)
    }

    pub fn is_named(&self, slot: Slot) -> bool {
        self.wanted.get(&slot).is_some_and(|want| want.named)
    }

    /// When there may be something to do, if nothing else happens.
    pub fn due_ms(&self) -> Option<u64> {
        self.put_off.first().map(|(due, _)| *due)
    }

    /// The slot needs nothing more.
    pub fn done(&mut self, slot: Slot) {
        self.asking.remove(&slot);
        self.ready.remove(&slot);
        self.unlinked.remove(&slot);
        if let Some(want) = self.wanted.remove(&slot)
            && let Some(due) = want.due_ms
        {
            self.put_off.remove(&(due, slot));
        }
    }

    /// The slot's block is on the chain: there is one in its parent's slot, and none between. Returns how many slots that spared.
    pub fn linked(&mut self, slot: Slot, parent: Slot) -> u64 {
        self.done(slot);
        if let Some(want) = self.wanted.get_mut(&parent) {
            want.named = true;
        }
        if parent.0.saturating_add(1) >= slot.0 {
            return 0;
        }
        let between = self.wanted.range(Slot(parent.0 + 1)..slot);
        let between: Vec<Slot> = between
            .map(|(slot, _)| *slot)
            .filter(|slot| !self.asking.contains(slot))
            .collect();
        for slot in &between {
            self.done(*slot);
        }
        between.len() as u64
    }

    /// Blocks to be offered again, now that another one is published, highest first.
    pub fn offer_again(&mut self) -> Vec<(Slot, B)> {
        let blocks = std::mem::take(&mut self.unlinked);
        for slot in blocks.keys() {
            if let Some(due) = self
                .wanted
                .get_mut(slot)
                .and_then(|want| want.due_ms.take())
            {
                self.put_off.remove(&(due, *slot));
            }
            self.asking.insert(*slot);
        }
        blocks.into_iter().rev().collect()
    }

    /// The slot's block came before its neighbours.
    pub fn keep(&mut self, slot: Slot, block: B, now_ms: u64) -> bool {
        if !self.put_off(slot, now_ms) {
            return false;
        }
        self.unlinked.insert(slot, block);
        // The lowest are linked last.
        while self.unlinked.len() > self.rules.concurrency {
            self.unlinked.pop_first();
        }
        true
    }

    /// The slot could not be had this time. False when its time is over: it is wanted no longer.
    pub fn put_off(&mut self, slot: Slot, now_ms: u64) -> bool {
        self.asking.remove(&slot);
        let Some(want) = self.wanted.get_mut(&slot) else {
            return true;
        };
        let pause = self
            .rules
            .backoff_ms
            .saturating_mul(1 << want.tries.saturating_sub(1).min(20))
            .min(self.rules.backoff_max_ms);
        let due = now_ms.saturating_add(pause);
        let end = want
            .first_asked_ms
            .unwrap_or(now_ms)
            .saturating_add(self.rules.deadline_ms);
        if due > end {
            self.done(slot);
            return false;
        }
        want.due_ms = Some(due);
        self.put_off.insert((due, slot));
        true
    }

    /// As many slots are asked for as may be.
    pub fn is_busy(&self) -> bool {
        self.asking.len() >= self.rules.concurrency
    }

    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }
}

#[cfg(test)]
mod tests;
