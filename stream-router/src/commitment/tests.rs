use event_schema::{Blockhash, Pubkey};

use super::*;

fn block(slot: u64, fork: u8) -> BlockId {
    BlockId::new(Slot(slot), Blockhash([fork; 32]))
}

fn source(instance: u64) -> SourceId {
    SourceId {
        validator: Pubkey([1; 32]),
        instance,
    }
}

fn changes(list: &[(u64, u8, Standing)]) -> Vec<Change> {
    list.iter()
        .map(|(slot, fork, standing)| Change {
            block: block(*slot, *fork),
            standing: *standing,
        })
        .collect()
}

#[test]
fn a_root_finalizes_its_ancestors_and_abandons_what_it_passes_by() {
    let mut commitments = Commitments::new(100);
    let one = source(1);
    commitments.on_block(one, block(1, 1), block(0, 1));
    commitments.on_block(one, block(2, 2), block(1, 1));
    commitments.on_block(one, block(3, 1), block(1, 1));
    commitments.on_block(one, block(4, 2), block(2, 2));
    let told = commitments.on_report(one, Slot(3), Standing::Finalized);
    assert_eq!(
        told,
        changes(&[
            (1, 1, Standing::Finalized),
            (2, 2, Standing::Abandoned),
            (3, 1, Standing::Finalized),
            (4, 2, Standing::Abandoned),
        ])
    );
}

#[test]
fn a_report_waits_for_the_block_its_source_holds() {
    let mut commitments = Commitments::new(100);
    let (one, two) = (source(1), source(2));
    assert!(
        commitments
            .on_report(two, Slot(5), Standing::Confirmed)
            .is_empty()
    );
    assert!(
        commitments
            .on_block(one, block(5, 1), block(4, 1))
            .is_empty()
    );
    assert_eq!(
        commitments.on_block(two, block(5, 2), block(4, 1)),
        changes(&[(5, 2, Standing::Confirmed)])
    );
    assert_eq!(commitments.standing(block(5, 1)), Standing::Processed);
}

#[test]
fn ancestors_that_come_late_are_finalized_at_once() {
    let mut commitments = Commitments::new(100);
    let one = source(1);
    commitments.on_block(one, block(9, 1), block(7, 1));
    commitments.on_report(one, Slot(9), Standing::Finalized);
    assert_eq!(
        commitments.on_block(one, block(7, 1), block(6, 1)),
        changes(&[(7, 1, Standing::Finalized)])
    );
    assert_eq!(
        commitments.on_block(one, block(8, 3), block(7, 1)),
        changes(&[(8, 3, Standing::Abandoned)])
    );
    assert_eq!(
        commitments.on_block(one, block(7, 2), block(6, 1)),
        changes(&[(7, 2, Standing::Abandoned)])
    );
}

#[test]
fn far_apart_slots_say_nothing_about_each_other() {
    let mut commitments = Commitments::new(100);
    let one = source(1);
    commitments.on_block(one, block(285_000_037, 1), block(285_000_036, 1));
    commitments.on_report(one, Slot(285_000_037), Standing::Finalized);
    assert!(
        commitments
            .on_block(one, block(18_144_001, 1), block(18_144_000, 1))
            .is_empty()
    );
    assert_eq!(
        commitments.on_report(one, Slot(18_144_001), Standing::Finalized),
        changes(&[(18_144_001, 1, Standing::Finalized)])
    );
}

#[test]
fn a_rival_of_a_finalized_parent_that_was_never_observed_is_abandoned() {
    let mut commitments = Commitments::new(100);
    let one = source(1);
    commitments.on_block(one, block(3, 1), block(2, 1));
    commitments.on_report(one, Slot(3), Standing::Finalized);
    assert_eq!(
        commitments.on_block(one, block(2, 2), block(1, 1)),
        changes(&[(2, 2, Standing::Abandoned)])
    );
}

#[test]
fn one_validators_dead_report_is_no_proof() {
    let mut commitments = Commitments::new(100);
    let (one, two) = (source(1), source(2));
    commitments.on_block(one, block(5, 1), block(4, 1));
    commitments.on_dead(two, Slot(5));
    assert_eq!(
        commitments.on_report(one, Slot(5), Standing::Finalized),
        changes(&[(5, 1, Standing::Finalized)])
    );
}

#[test]
fn memory_is_bounded() {
    let mut commitments = Commitments::new(50);
    for slot in 1..2_000 {
        commitments.on_block(source(1), block(slot, 1), block(slot - 1, 1));
        commitments.on_report(source(1), Slot(slot), Standing::Finalized);
        commitments.on_report(source(2), Slot(slot), Standing::Finalized);
    }
    assert_eq!(commitments.tree.len(), 50);
    assert!(commitments.standings.len() <= 200);
    assert!(commitments.finalized.len() <= 51);
    assert!(commitments.held.len() + commitments.waiting.len() <= 100);
}
