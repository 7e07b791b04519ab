//! The ledger against a reader that knows only what stands in the partitions.

mod blocks;
mod partitions;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::{
    blocks::{Plan, beside, block_facts, plan, shuffle},
    partitions::{Log, is_beside},
};
use super::*;

const LANES: Lanes = Lanes {
    accounts: 2,
    transactions: 3,
    slots: 2,
    first: 0,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_interleaving_is_sealed_whole_and_no_loss_is_unstated(
        plans in proptest::collection::vec(plan(), 1..6),
        mut seed: u64,
        lossy in prop_oneof![Just(0_u64), 2_u64..10],
        batch in 1_usize..12,
    ) {
        let first_slot = 1000;
        let mut events = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            let slot = first_slot + i as u64;
            events.extend(block_facts(slot, plan).into_iter().map(|(lane, fact)| (slot, lane, fact)));
            if plan.dead {
                events.push((slot, LANES.of_slot(slot), Fact::Status(Life::Dead)));
            }
            events.extend(beside(slot, plan));
        }
        shuffle(&mut events, &mut seed);
        for (i, plan) in plans.iter().enumerate() {
            let slot = first_slot + i as u64;
            events.insert(0, (slot, LANES.of_slot(slot), Fact::Status(Life::Created)));
            events.push((slot, LANES.of_slot(slot), Fact::Status(Life::Settled)));
            for i in 0..plan.late_accounts {
                events.push((slot, LANES.of_account(&[i, 200]), Fact::Account));
            }
            events.splice(0..0, beside(slot, plan));
            events.extend(beside(slot, plan));
        }
        let mut log = Log::new();
        for (i, (slot, lane, fact)) in events.into_iter().enumerate() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if lossy > 0 && (seed >> 33) % lossy == 0 && !is_beside(&fact) {
                log.lose(slot, lane, fact);
            } else {
                log.record(slot, lane, fact);
            }
            if i % batch == 0 {
                log.end_batch();
            }
        }
        log.end_batch();
        if lossy == 0 {
            for (i, plan) in plans.iter().enumerate() {
                // Nothing but the block itself was needed.
                prop_assert!(log.last_revision(first_slot + i as u64).is_some(), "slot {} {plan:?}", first_slot + i as u64);
            }
        }
        // The root passes whatever could not become complete.
        log.record(5000, LANES.of_slot(5000), Fact::Status(Life::Rooted));
        log.end_batch();
        log.verify();
        for i in 0..plans.len() as u64 {
            log.verify_whole(first_slot + i);
        }
    }

    #[test]
    fn no_living_block_is_sealed_before_all_of_it_was_seen(plan in plan(), mut seed: u64) {
        prop_assume!(!plan.dead);
        let slot = 77;
        let mut facts = block_facts(slot, &plan);
        shuffle(&mut facts, &mut seed);
        let content: usize = facts.iter().filter(|(_, fact)| *fact != Fact::Account).count();
        let mut log = Log::new();
        let note_beside = |log: &mut Log| {
            for (slot, lane, fact) in beside(slot, &plan) {
                log.record(slot, lane, fact);
            }
            log.end_batch()
        };
        note_beside(&mut log);
        prop_assert_eq!(log.ledger.slots_held(), 0, "no slot is opened by what is in none");
        status(&mut log, slot, Life::Created);
        let mut seen = 0;
        for (lane, fact) in facts {
            prop_assert_eq!(note_beside(&mut log), 0);
            seen += usize::from(fact != Fact::Account);
            log.record(slot, lane, fact);
            let seals = log.end_batch();
            prop_assert_eq!(log.last_revision(slot).is_some(), seen == content, "after {} of {}", seen, content);
            prop_assert!(seals == 0 || seen == content);
        }
        log.verify();
        log.verify_whole(slot);
    }
}

fn status(log: &mut Log, slot: u64, life: Life) {
    log.record(slot, LANES.of_slot(slot), Fact::Status(life));
}

fn whole_block(log: &mut Log, slot: u64) {
    let plan = Plan {
        accounts: 3,
        transactions: 2,
        entries: 2,
        led: false,
        dead: false,
        late_accounts: 0,
        beside: 0,
    };
    status(log, slot, Life::Created);
    for (lane, fact) in block_facts(slot, &plan) {
        log.record(slot, lane, fact);
    }
}

/// A plugin that is loaded in the middle of a slot cannot know what it missed.
#[test]
fn a_slot_whose_beginning_was_not_seen_is_sealed_as_partial() {
    let mut log = Log::new();
    let plan = Plan {
        accounts: 3,
        transactions: 2,
        entries: 2,
        led: false,
        dead: false,
        late_accounts: 0,
        beside: 0,
    };
    for (lane, fact) in block_facts(10, &plan) {
        log.record(10, lane, fact);
    }
    assert_eq!(log.end_batch(), 0);
    whole_block(&mut log, 11);
    assert!(log.end_batch() > 0);
    status(&mut log, 11, Life::Rooted);
    assert!(log.end_batch() > 0);
    assert!(log.seals(10).iter().all(|(_, seal)| seal.partial));
    assert!(log.seals(11).iter().all(|(_, seal)| !seal.partial));
    log.verify();
}

#[test]
fn statuses_after_the_seal_do_not_amend_it() {
    let mut log = Log::new();
    whole_block(&mut log, 10);
    assert!(log.end_batch() > 0);
    for life in [Life::Settled, Life::Settled, Life::Rooted] {
        status(&mut log, 10, life);
        assert_eq!(log.end_batch(), 0);
    }
    log.verify();
}

#[test]
fn a_late_account_amends_the_seals_of_every_lane() {
    let mut log = Log::new();
    whole_block(&mut log, 10);
    let first = log.end_batch();
    log.record(10, LANES.of_account(b"late"), Fact::Account);
    assert!(log.end_batch() >= first);
    assert_eq!(log.last_revision(10), Some(1));
    log.verify();
    log.verify_whole(10);
}

#[test]
fn a_block_without_entries_is_complete_when_it_settled() {
    let mut log = Log::new();
    let slots = LANES.of_slot(4);
    status(&mut log, 4, Life::Created);
    log.record(4, LANES.of_transaction(b"a"), Fact::Transaction);
    log.record(
        4,
        slots,
        Fact::Block {
            blockhash: [1; 32],
            transactions: 1,
            entries: 0,
        },
    );
    assert_eq!(log.end_batch(), 0);
    status(&mut log, 4, Life::Settled);
    assert!(log.end_batch() > 0);
    log.verify_whole(4);
}

#[test]
fn a_slot_executed_again_is_sealed_again_and_only_for_that_execution() {
    let mut log = Log::new();
    status(&mut log, 10, Life::Created);
    whole_block(&mut log, 10);
    log.end_batch();
    let first: BTreeMap<Lane, Seal> = log.seals(10).into_iter().collect();
    status(&mut log, 10, Life::Created);
    log.record(10, LANES.of_account(b"again"), Fact::Account);
    log.end_batch();
    assert_eq!(
        log.last_revision(10),
        Some(0),
        "the second execution is not whole yet"
    );
    whole_block(&mut log, 10);
    log.end_batch();
    let second: Vec<(Lane, Seal)> = log
        .seals(10)
        .into_iter()
        .filter(|(_, seal)| seal.revision == 1)
        .collect();
    assert!(!second.is_empty());
    for (lane, seal) in second {
        assert_eq!((seal.transactions, seal.entries, seal.accounts), (2, 2, 4));
        if let Some(first) = first.get(&lane) {
            assert!(seal.first_sequence > first.last_sequence, "{seal:?}");
        }
        assert_eq!(seal.last_sequence - seal.first_sequence + 1, seal.records);
    }
}

#[test]
fn a_lane_that_the_second_execution_leaves_out_is_sealed_as_empty() {
    let mut log = Log::new();
    status(&mut log, 10, Life::Created);
    // The block has two transactions: at least one of these three lanes gets none of them.
    let lanes = [Lane(2), Lane(3), Lane(4)];
    for lane in lanes {
        log.record(10, lane, Fact::Transaction);
    }
    whole_block(&mut log, 10);
    log.end_batch();
    let seals: BTreeMap<Lane, Seal> = log.seals(10).into_iter().collect();
    let mut empty = 0;
    for lane in lanes {
        let seal = &seals[&lane];
        assert!(seal.first_sequence > 0, "what lies before is not counted");
        if seal.records == 0 {
            empty += 1;
            assert_eq!(seal.first_sequence, 1);
        }
        let place = LANES.place(lane);
        let stated = seals.values().all(|other| {
            let mut rows = other.table.iter();
            rows.any(|row| {
                (row.topic, row.partition, row.records) == (place.0 as u32, place.1, seal.records)
            })
        });
        assert!(stated, "{seals:?}");
    }
    assert!(empty > 0);
}

#[test]
fn a_loss_of_an_abandoned_execution_is_still_stated() {
    let mut log = Log::new();
    status(&mut log, 10, Life::Created);
    log.record(10, LANES.of_transaction(b"a"), Fact::Transaction);
    let lane = LANES.of_transaction(b"b");
    log.lose(10, lane, Fact::Transaction);
    status(&mut log, 10, Life::Created);
    whole_block(&mut log, 10);
    log.end_batch();
    let lost: u64 = log.seals(10).iter().map(|(_, seal)| seal.lost).sum();
    assert_eq!(lost, 1);
}

#[test]
fn a_dead_slot_is_sealed_as_it_is() {
    let mut log = Log::new();
    status(&mut log, 10, Life::Created);
    log.record(10, LANES.of_transaction(b"a"), Fact::Transaction);
    assert_eq!(log.end_batch(), 0);
    status(&mut log, 10, Life::Dead);
    assert!(log.end_batch() > 0);
    log.verify_whole(10);
}

#[test]
fn without_roots_an_abandoned_slot_is_sealed_after_a_while() {
    let mut log = Log::new();
    log.record(10, LANES.of_transaction(b"a"), Fact::Transaction);
    for later in 1..FORCE_AFTER_SLOTS as u64 {
        whole_block(&mut log, 10 + later);
        log.end_batch();
    }
    assert_eq!(log.last_revision(10), None);
    whole_block(&mut log, 10 + FORCE_AFTER_SLOTS as u64);
    log.end_batch();
    assert_eq!(log.last_revision(10), Some(0));
    log.verify();
}

#[test]
fn a_jump_of_the_numbers_hurries_nothing() {
    let mut log = Log::new();
    let plan = Plan {
        accounts: 2,
        transactions: 2,
        entries: 1,
        led: false,
        dead: false,
        late_accounts: 0,
        beside: 0,
    };
    let facts = block_facts(18_144_001, &plan);
    let (early, trailing) = facts.split_at(3);
    for (lane, fact) in early {
        log.record(18_144_001, *lane, *fact);
    }
    whole_block(&mut log, 43_200_000);
    log.end_batch();
    assert_eq!(log.last_revision(18_144_001), None);
    for (lane, fact) in trailing {
        log.record(18_144_001, *lane, *fact);
    }
    status(&mut log, 18_144_001, Life::Rooted);
    status(&mut log, 43_200_000, Life::Rooted);
    log.end_batch();
    assert_eq!(log.last_revision(18_144_001), Some(0));
    assert_eq!(log.ledger.unsealed(), 0);
    log.verify();
    log.verify_whole(18_144_001);
}

#[test]
fn memory_is_bounded_and_what_comes_too_late_is_counted() {
    let mut log = Log::new();
    let newest = 2 * KEEP_SLOTS as u64;
    for slot in 0..newest {
        log.record(slot, LANES.of_transaction(b"a"), Fact::Transaction);
        log.end_batch();
        assert!(log.ledger.slots_held() <= KEEP_SLOTS);
    }
    log.record(3, LANES.of_transaction(b"a"), Fact::Transaction);
    assert_eq!(log.ledger.unsealed(), 1);
    status(&mut log, newest, Life::Rooted);
    log.end_batch();
    assert!(log.ledger.slots_held() <= KEEP_AFTER_ROOT_SLOTS + 1);
    log.verify();
}

/// While nothing can be sealed, a slot that is due waits as it is; beyond the limit the oldest are given up, and counted.
#[test]
fn slots_that_cannot_be_sealed_are_bounded_and_those_kept_are_sealed_whole() {
    let mut log = Log::new();
    let newest = KEEP_SLOTS as u64 + 50;
    for slot in 1..=newest {
        log.lose(slot, LANES.of_account(b"a"), Fact::Account);
        log.lose(slot, LANES.of_transaction(b"a"), Fact::Transaction);
        log.ledger.settle();
        assert!(log.ledger.slots_held() <= KEEP_SLOTS);
    }
    // What the root has passed is due, and not forgotten before it is sealed.
    status(&mut log, newest, Life::Rooted);
    log.ledger.settle();
    assert_eq!(log.ledger.slots_held(), KEEP_SLOTS);
    assert_eq!(log.ledger.seals_dropped(), 2 * 50);
    log.end_batch();
    log.verify();
    for slot in [51, 52, newest - 1] {
        log.verify_whole(slot);
    }
    assert!(log.last_revision(50).is_none());
    assert!(log.ledger.slots_held() <= KEEP_AFTER_ROOT_SLOTS + 1);
}

/// A slot that waits for room as due is executed anew: what was due is another attempt's.
#[test]
fn a_slot_executed_again_while_it_waits_is_not_sealed_half() {
    let mut log = Log::new();
    whole_block(&mut log, 10);
    status(&mut log, 10, Life::Created);
    log.record(10, LANES.of_account(b"again"), Fact::Account);
    assert_eq!(log.end_batch(), 0);
    whole_block(&mut log, 10);
    assert!(log.end_batch() > 0);
    assert_eq!(log.last_revision(10), Some(0));
    for (_, seal) in log.seals(10) {
        assert_eq!((seal.transactions, seal.entries), (2, 2));
    }
}

#[test]
fn the_snapshot_is_sealed_once_under_its_greatest_slot() {
    let mut log = Log::new();
    for slot in [5, 900, 30] {
        log.record(slot, LANES.of_account(&[slot as u8]), Fact::StartupAccount);
    }
    log.lose(STARTUP_SLOT, LANES.of_account(b"x"), Fact::StartupAccount);
    assert_eq!(log.end_batch(), 0);
    let seals = log.ledger.end_startup();
    assert!(
        seals
            .iter()
            .all(|due| due.seal.slot == 900 && due.seal.accounts == 4)
    );
    assert_eq!(seals.iter().map(|due| due.seal.records).sum::<u64>(), 3);
    assert_eq!(seals.iter().map(|due| due.seal.lost).sum::<u64>(), 1);
}

#[test]
fn a_loss_after_numbering_and_one_without_a_place_are_stated() {
    let mut log = Log::new();
    whole_block(&mut log, 10);
    log.end_batch();
    let lane = LANES.of_account(&[0, 10]);
    log.ledger.lost_after_numbering(10, lane);
    log.ledger.lost_unplaced(7);
    log.end_batch();
    let lost: u64 = log
        .seals(10)
        .iter()
        .filter(|(_, seal)| seal.revision == 1)
        .map(|(_, seal)| seal.lost)
        .sum();
    assert_eq!(lost, 8);
}

#[test]
fn a_shred_of_a_far_slot_hurries_nothing() {
    let mut log = Log::new();
    status(&mut log, 10, Life::Created);
    log.record(10, LANES.of_transaction(b"a"), Fact::Transaction);
    status(&mut log, 10_000_000, Life::Announced);
    assert_eq!(log.end_batch(), 0);
    let plan = Plan {
        accounts: 0,
        transactions: 1,
        entries: 1,
        led: false,
        dead: false,
        late_accounts: 0,
        beside: 0,
    };
    for (lane, fact) in block_facts(10, &plan) {
        if fact != Fact::Transaction {
            log.record(10, lane, fact);
        }
    }
    assert!(log.end_batch() > 0);
    log.verify_whole(10);
}
