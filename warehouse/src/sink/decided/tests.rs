use std::sync::Arc;

use event_schema::{CanonicalSeal, SlotBlock, proto::geyser::SubscribeUpdateBlockMeta};
use proptest::prelude::*;

use super::*;
use crate::sink::{planner::StatusChange, rollups::WINDOW};

const PARTITIONS: u32 = 3;
/// Between slots of the property: a window has three of them, and each partition some.
const APART: u64 = 200;

fn hash(fork: u8) -> Blockhash {
    Blockhash([fork; 32])
}

fn block(slot: u64, fork: u8) -> Arc<SlotBlock> {
    Arc::new(SlotBlock {
        slot: Slot(slot),
        blockhash: hash(fork),
        first_offset: 0,
        next_offset: 0,
        accounts: Vec::new(),
        transactions: Vec::new(),
        entries: Vec::new(),
        meta: SubscribeUpdateBlockMeta::default(),
        seal: CanonicalSeal::default(),
    })
}

/// The news in one batch; blocks come with their confirmation.
fn batch(news: &[(u64, u8, Commitment)]) -> Batch {
    let confirmed = news
        .iter()
        .filter(|(_, _, commitment)| *commitment == Commitment::Confirmed);
    Batch {
        blocks: confirmed
            .map(|(slot, fork, _)| block(*slot, *fork))
            .collect(),
        statuses: news
            .iter()
            .zip(0..)
            .map(|((slot, fork, commitment), offset)| StatusChange {
                slot: Slot(*slot),
                blockhash: hash(*fork),
                commitment: *commitment,
                partition: (*slot % u64::from(PARTITIONS)) as u32,
                offset,
                timestamp_ms: 0,
            })
            .collect(),
        ..Batch::default()
    }
}

use Commitment::{Abandoned, Confirmed, Finalized};

#[test]
fn nothing_is_decided_before_every_partition_has_told_something_final() {
    let mut decided = Decided::new(PARTITIONS, Told::default(), []);
    let told = decided.after(&batch(&[
        (3, 1, Confirmed),
        (3, 1, Finalized),
        (4, 1, Confirmed),
        (4, 1, Finalized),
    ]));
    assert_eq!(told.below, 0);
    let told = decided.after(&batch(&[(5, 1, Confirmed), (5, 1, Finalized)]));
    assert_eq!(told.below, 4, "partition 0 may still bring slots above 3");
}

#[test]
fn an_open_block_holds_it_back_and_its_end_lets_it_go() {
    let below = |news: &[_], decided: &mut Decided| decided.after(&batch(news)).below;
    let start = Told {
        below: 10,
        final_to: BTreeMap::from([(0, 30), (1, 31), (2, 32)]),
        rolled_below: 0,
    };
    let mut decided = Decided::new(
        PARTITIONS,
        start,
        [(Slot(12), hash(1)), (Slot(14), hash(1))],
    );
    assert_eq!(below(&[], &mut decided), 12);
    assert_eq!(below(&[(12, 1, Abandoned)], &mut decided), 14);
    assert_eq!(
        below(&[(14, 2, Confirmed), (14, 1, Abandoned)], &mut decided),
        14
    );
    assert_eq!(below(&[(14, 2, Finalized)], &mut decided), 31);
}

#[test]
fn a_late_block_takes_it_back_before_its_rows_are_stored() {
    let start = Told {
        below: 31,
        final_to: BTreeMap::from([(0, 30), (1, 31), (2, 32)]),
        rolled_below: 0,
    };
    let mut decided = Decided::new(PARTITIONS, start, []);
    let late = batch(&[(20, 1, Confirmed)]);
    assert_eq!(decided.before(&late).below, 20);
    assert_eq!(decided.after(&late).below, 20);
    let end = batch(&[(20, 1, Finalized)]);
    assert_eq!(decided.before(&end).below, 20);
    assert_eq!(decided.after(&end).below, 31);
}

/// What one slot goes through; of an abandoned block, another one of its slot may be confirmed later.
fn news() -> impl Strategy<Value = Vec<Vec<(u64, u8, Commitment)>>> {
    let fate = prop_oneof![
        4 => Just(vec![(1, Confirmed), (1, Finalized)]),
        1 => Just(vec![(1, Confirmed), (1, Abandoned)]),
        1 => Just(vec![(1, Confirmed), (1, Abandoned), (2, Confirmed), (2, Finalized)]),
        1 => Just(vec![(1, Confirmed)]),
        1 => Just(vec![]),
    ];
    // Each piece of news is put at a place of its own: the later ones of a slot never before the earlier ones.
    let slots = prop::collection::vec(
        (fate, 0_usize..40, prop::collection::vec(0_usize..20, 3)),
        1..40,
    );
    (slots, 1_usize..8).prop_map(|(slots, width)| {
        let mut placed = Vec::new();
        for ((fate, late, waits), turn) in slots.into_iter().zip(1_usize..) {
            let slot = turn as u64 * APART;
            // Most are near their turn, some come much later.
            let mut at = turn * 3 + if late > 35 { late } else { 0 };
            for ((fork, commitment), wait) in fate.into_iter().zip(waits.into_iter().chain([0])) {
                placed.push((at, (slot, fork, commitment)));
                at += 1 + wait;
            }
        }
        placed.sort_by_key(|(at, _)| *at);
        let news: Vec<_> = placed.into_iter().map(|(_, news)| news).collect();
        news.chunks(width).map(<[_]>::to_vec).collect()
    })
}

/// Blocks of the window, and whether they are final: what a rollup stands on.
fn window(stored: &BTreeMap<(u64, u8), bool>, begin: u64) -> Vec<((u64, u8), bool)> {
    let blocks = stored.range((begin, 0)..(begin + WINDOW, 0));
    blocks
        .map(|(block, is_final)| (*block, *is_final))
        .collect()
}

proptest! {
    #[test]
    fn rollups_below_their_bound_are_what_is_stored(
        batches in news(), restarts in prop::collection::vec(any::<bool>(), 200), steps in prop::collection::vec(0_usize..3, 200),
    ) {
        let mut decided = Decided::new(PARTITIONS, Told::default(), []);
        let mut stored: BTreeMap<(u64, u8), bool> = BTreeMap::new();
        let mut rollups: BTreeMap<u64, Vec<((u64, u8), bool)>> = BTreeMap::new();
        let mut told = Told::default();
        for ((news, restart), steps) in batches.iter().zip(restarts).zip(steps) {
            let mut batch = batch(news);
            batch.deletes = news.iter().filter(|(_, _, fate)| *fate == Abandoned).map(|(slot, _, _)| Slot(*slot)).collect();
            let holds = |rolled_below: u64, rollups: &BTreeMap<u64, _>, stored: &_| {
                (0..rolled_below).step_by(WINDOW as usize).all(|begin| rollups.get(&begin) == Some(&window(stored, begin)))
            };
            let before = decided.before(&batch).rolled_below;
            for (slot, fork, commitment) in news {
                match commitment {
                    Confirmed => drop(stored.insert((*slot, *fork), false)),
                    Finalized => {}
                    Abandoned => drop(stored.remove(&(*slot, *fork))),
                }
            }
            prop_assert!(holds(before, &rollups, &stored), "while it is stored: {before}");
            // A sink that dies here goes on from what it told last.
            if restart {
                let open = stored.iter().filter(|((slot, _), is_final)| !**is_final && *slot >= told.below);
                let open: Vec<_> = open.map(|((slot, fork), _)| (Slot(*slot), hash(*fork))).collect();
                decided = Decided::new(PARTITIONS, told, open);
            }
            told = decided.after(&batch);
            for (slot, fork, commitment) in news {
                if *commitment == Finalized {
                    stored.insert((*slot, *fork), true);
                }
            }
            prop_assert!(told.rolled_below <= told.below && told.rolled_below % WINDOW == 0);
            prop_assert!(holds(told.rolled_below, &rollups, &stored), "then: {}", told.rolled_below);
            for _ in 0..steps {
                let begin = decided.told().rolled_below;
                if begin + WINDOW <= decided.told().below {
                    rollups.insert(begin, window(&stored, begin));
                    decided.rolled_up(begin + WINDOW);
                }
            }
        }
    }

    #[test]
    fn below_it_everything_stored_is_final(batches in news(), restarts in prop::collection::vec(any::<bool>(), 200)) {
        let mut decided = Decided::new(PARTITIONS, Told::default(), []);
        // The tables: blocks with rows, and whether they are final.
        let mut stored: BTreeMap<(u64, u8), bool> = BTreeMap::new();
        for (news, restart) in batches.iter().zip(restarts) {
            let batch = batch(news);
            let while_storing = decided.before(&batch).below;
            for (slot, fork, commitment) in news {
                match commitment {
                    Confirmed => drop(stored.insert((*slot, *fork), false)),
                    // Its status comes behind all rows of its batch.
                    Finalized => {}
                    Abandoned => drop(stored.remove(&(*slot, *fork))),
                }
            }
            let unsettled = |stored: &BTreeMap<(u64, u8), bool>| stored.iter().find(|(_, is_final)| !**is_final).map(|((slot, _), _)| *slot);
            prop_assert!(unsettled(&stored).is_none_or(|slot| slot >= while_storing));
            let told = decided.after(&batch);
            for (slot, fork, commitment) in news {
                if *commitment == Finalized {
                    stored.insert((*slot, *fork), true);
                }
            }
            prop_assert!(unsettled(&stored).is_none_or(|slot| slot >= told.below));
            if restart {
                let open = stored.iter().filter(|((slot, _), is_final)| !**is_final && *slot >= told.below);
                let open: Vec<_> = open.map(|((slot, fork), _)| (Slot(*slot), hash(*fork))).collect();
                decided = Decided::new(PARTITIONS, told, open);
            }
        }
        // And it is no further back than it must be.
        let last = decided.after(&Batch::default());
        let open = stored.iter().find(|(_, is_final)| !**is_final).map_or(u64::MAX, |((slot, _), _)| *slot);
        let highest = |partition: u32| {
            let of_it = batches.iter().flatten().filter(|(slot, _, commitment)| *commitment == Finalized && *slot % u64::from(PARTITIONS) == u64::from(partition));
            of_it.map(|(slot, _, _)| slot + 1).max().unwrap_or(0)
        };
        let least = (0..PARTITIONS).map(highest).min().unwrap_or(0);
        prop_assert_eq!(last.below, least.min(open));
    }
}
