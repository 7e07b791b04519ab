//! Pure: takes records away from what validators wrote, and says what must become of each slot that suffers.
//!
//! | what is left of a slot | what must be told |
//! |---|---|
//! | one validator has all of it | its block, and no gap |
//! | none has all, but together they have every event | its block, marked as repaired |
//! | an event is nowhere | no block, and each validator's hole with its number of records |
//! | they have every event, but it cannot be shown (below) | either of the last two |
//!
//! It cannot be shown when two lack updates in the same partition of accounts, which carry no number of their own; when one
//! lacks the metadata, without which nobody knows which block its other records are of; and when one lacks a seal as well, for
//! the seal says where the slot begins in its partition. A seal alone may be a hole, of no records, or not be missed.

use std::collections::{BTreeMap, BTreeSet};

use event_schema::{Kind, ObservedTopic, Slot, SourceId};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::observed::{
    chain::{BlockName, Chain, Moment, Temper},
    contents::Contents,
    prints::Print,
    source::{Lane, Source, Written},
    truth::Truth,
};

/// The last slots stay whole, so that everything is rooted in the end.
const WHOLE_AT_THE_END: usize = 14;
const WHOLE_AT_THE_BEGINNING: usize = 4;
/// A loss is one record, or sometimes up to so many in a row.
const RUN_MAX: usize = 40;

/// What each validator wrote, less what was taken.
pub struct Damaged {
    pub written: Vec<Vec<Written>>,
    pub truth: Truth,
    pub summary: Summary,
}

/// Slots and records, by what must become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub records_taken: u64,
    pub contents_taken: u64,
    pub lost_at_the_source: u64,
    pub slots_with_holes: u64,
    pub whole_at_another: u64,
    pub repairable: u64,
    pub gone: u64,
    pub not_to_be_shown: u64,
}

/// What one validator lacks of a slot.
#[derive(Debug, Default)]
struct Hole {
    records: u64,
    prints: BTreeSet<Print>,
    account_partitions: BTreeSet<u32>,
    lacks_meta: bool,
    /// Some partition lacks its seal.
    unsealed: bool,
}

/// `losses` times something is taken from one of so many validators of a chain of `slots` slots.
pub fn damage(
    random: &mut StdRng,
    contents: &Contents,
    topics: &event_schema::Topics,
    sources: u8,
    slots: usize,
    losses: usize,
) -> Damaged {
    let mut chain = Chain::new(random.random(), 1_000, Temper::RESTLESS);
    let mut lived: Vec<Vec<Moment>> = (0..slots).map(|_| chain.slot()).collect();
    lived.push(chain.finish());
    let fragile = WHOLE_AT_THE_BEGINNING..slots.saturating_sub(WHOLE_AT_THE_END);
    let mut truth = Truth::default();
    let mut validators: Vec<Source> = (0..sources).map(|n| Source::new(n, topics)).collect();
    let mut written: Vec<Vec<Written>> = Vec::new();
    for source in &mut validators {
        let mut all = Vec::new();
        for (nth, moments) in lived.iter().enumerate() {
            // A tenth of what is lost is lost before the log.
            if fragile.contains(&nth) && random.random_bool(losses as f64 / 10.0 / slots as f64) {
                source.lose(0.05, rand::SeedableRng::seed_from_u64(random.random()));
            }
            for moment in moments {
                let values = source.live(moment, contents, &mut all);
                if let (Moment::Block(block), Some(values)) = (moment, values) {
                    truth.add(block, &values, true);
                }
            }
            source.keep();
        }
        written.push(all);
    }
    let blocks = blocks_of(&lived);
    let slots: BTreeSet<Slot> = lived[fragile]
        .iter()
        .flatten()
        .filter_map(block_of)
        .map(|name| name.slot)
        .collect();
    let mut taken: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); written.len()];
    for _ in 0..losses {
        let victim = random.random_range(0..written.len());
        take(random, &written[victim], &slots, &mut taken[victim]);
    }
    let mut holes: BTreeMap<Slot, BTreeMap<SourceId, Hole>> = BTreeMap::new();
    let mut summary = Summary::default();
    for ((source, written), taken) in validators.iter().zip(&mut written).zip(&taken) {
        note_holes(source, written, taken, &mut holes, &mut summary);
        let mut nth = 0;
        written.retain(|_| {
            nth += 1;
            !taken.contains(&(nth - 1))
        });
    }
    for (slot, holes) in &holes {
        if let Some(block) = blocks.get(slot) {
            judge(*block, holes, validators.len(), &mut truth, &mut summary);
        }
    }
    Damaged {
        written,
        truth,
        summary,
    }
}

fn block_of(moment: &Moment) -> Option<BlockName> {
    match moment {
        Moment::Block(block) => Some(block.name),
        _ => None,
    }
}

/// Of a chain on which all validators execute the same.
fn blocks_of(lived: &[Vec<Moment>]) -> BTreeMap<Slot, BlockName> {
    let blocks = lived.iter().flatten().filter_map(block_of);
    blocks.map(|name| (name.slot, name)).collect()
}

/// Takes a record, or several in a row, from a partition that is drawn first: small ones suffer as often as large ones.
fn take(
    random: &mut StdRng,
    written: &[Written],
    slots: &BTreeSet<Slot>,
    taken: &mut BTreeSet<usize>,
) {
    let lanes: BTreeSet<Lane> = written.iter().map(|record| record.lane).collect();
    let lanes: Vec<Lane> = lanes.into_iter().collect();
    let Some(lane) = lanes.choose(random) else {
        return;
    };
    let places: Vec<usize> = (0..written.len())
        .filter(|place| written[*place].lane == *lane && slots.contains(&written[*place].slot))
        .collect();
    if places.is_empty() {
        return;
    }
    let first = random.random_range(0..places.len());
    let run = if random.random_bool(0.75) {
        1
    } else {
        random.random_range(2..RUN_MAX)
    };
    for place in places.iter().skip(first).take(run) {
        let record = &written[*place];
        // A slot of which no seal is left has no extent that anybody could know.
        let is_last_seal = record.kind == Kind::Seal
            && !written.iter().enumerate().any(|(other, seal)| {
                other != *place
                    && seal.kind == Kind::Seal
                    && seal.slot == record.slot
                    && !taken.contains(&other)
            });
        if !is_last_seal {
            taken.insert(*place);
        }
    }
}

fn note_holes(
    source: &Source,
    written: &[Written],
    taken: &BTreeSet<usize>,
    holes: &mut BTreeMap<Slot, BTreeMap<SourceId, Hole>>,
    summary: &mut Summary,
) {
    let mut unsealed: BTreeSet<(Slot, Lane)> = BTreeSet::new();
    let mut lack = |slot: Slot, lane: Lane, kind: Kind, print: Print| {
        let hole = holes
            .entry(slot)
            .or_default()
            .entry(source.id())
            .or_default();
        hole.records += 1;
        hole.prints.insert(print);
        hole.lacks_meta |= kind == Kind::BlockMeta;
        if lane.topic == ObservedTopic::Accounts {
            hole.account_partitions.insert(lane.partition);
        }
    };
    for lost in &source.lost {
        summary.lost_at_the_source += 1;
        lack(lost.slot, lost.lane, lost.kind, lost.print);
    }
    for place in taken {
        let record = &written[*place];
        summary.records_taken += 1;
        if record.kind == Kind::Seal {
            unsealed.insert((record.slot, record.lane));
        }
        if let Some(print) = record.print {
            summary.contents_taken += 1;
            lack(record.slot, record.lane, record.kind, print);
        }
    }
    for (slot, _) in unsealed {
        let hole = holes.entry(slot).or_default();
        hole.entry(source.id()).or_default().unsealed = true;
    }
}

fn judge(
    block: BlockName,
    holes: &BTreeMap<SourceId, Hole>,
    validators: usize,
    truth: &mut Truth,
    summary: &mut Summary,
) {
    if holes.is_empty() {
        return;
    }
    summary.slots_with_holes += 1;
    if holes.len() < validators {
        summary.whole_at_another += 1;
        return;
    }
    let mut parts = holes.values();
    let mut nowhere = parts
        .next()
        .map(|hole| hole.prints.clone())
        .unwrap_or_default();
    for hole in parts {
        nowhere.retain(|print| hole.prints.contains(print));
    }
    let all = || holes.values();
    let partitions: usize = all().map(|hole| hole.account_partitions.len()).sum();
    let distinct: BTreeSet<u32> = all()
        .flat_map(|hole| hole.account_partitions.iter().copied())
        .collect();
    let provable = partitions == distinct.len()
        && !all().any(|hole| hole.lacks_meta)
        && !all().any(|hole| hole.unsealed);
    let unless = if !nowhere.is_empty() {
        summary.gone += 1;
        truth.blocks.remove(&block);
        None
    } else if provable {
        summary.repairable += 1;
        return;
    } else {
        summary.not_to_be_shown += 1;
        if let Some(block) = truth.blocks.get_mut(&block) {
            block.required = false;
        }
        Some(block)
    };
    for (source, hole) in holes {
        truth.expect_gap(block.slot, *source, hole.records, unless);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use event_schema::Topics;
    use rand::SeedableRng;

    use super::*;
    use crate::router_bench::SMALL;

    fn damaged(seed: u64, sources: u8) -> Damaged {
        let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
        let contents = Contents::load(&blocks, SMALL).unwrap();
        let random = &mut StdRng::seed_from_u64(seed);
        damage(random, &contents, &Topics::new("x"), sources, 120, 60)
    }

    #[test]
    fn what_one_validator_lacks_nobody_can_repair() {
        let damaged = damaged(1, 1);
        let summary = damaged.summary;
        assert!(summary.contents_taken > 60, "{summary:?}");
        assert!(summary.lost_at_the_source > 0, "{summary:?}");
        let judged = summary.gone + summary.not_to_be_shown;
        assert_eq!(judged, summary.slots_with_holes);
        assert_eq!(damaged.truth.gaps.len() as u64, judged);
        assert!(summary.gone > 20, "{summary:?}");
        let records: u64 = damaged.truth.gaps.values().map(|gap| gap.records).sum();
        assert_eq!(records, summary.contents_taken + summary.lost_at_the_source);
    }

    #[test]
    fn two_validators_make_up_for_one_another() {
        let summaries: Vec<Summary> = (0..6).map(|seed| damaged(seed, 2).summary).collect();
        let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
        assert!(sum(|s| s.whole_at_another) > 50);
        assert!(sum(|s| s.repairable) > 0);
        assert!(sum(|s| s.gone) + sum(|s| s.not_to_be_shown) > 0);
        for summary in &summaries {
            let judged = summary.whole_at_another
                + summary.repairable
                + summary.gone
                + summary.not_to_be_shown;
            assert_eq!(judged, summary.slots_with_holes, "{summary:?}");
        }
    }
}
