use event_schema::Blockhash;

use super::*;

fn id(slot: u64) -> BlockId {
    BlockId::new(Slot(slot), Blockhash([slot as u8; 32]))
}

fn rival(slot: u64) -> BlockId {
    BlockId::new(Slot(slot), Blockhash([0xaa; 32]))
}

fn new() -> Applied {
    Applied::new(Progress::default(), &[], &[0], 1_000)
}

/// Applies all that can be.
fn run(applied: &mut Applied) -> Vec<u64> {
    let mut slots = Vec::new();
    while let Some((block, _)) = applied.next() {
        applied.apply(block);
        slots.push(block.slot.0);
    }
    slots
}

fn confirmed(applied: &mut Applied, block: BlockId, parent: BlockId, number: u64) {
    applied.publish(block, parent);
    applied.confirm(block, number);
}

#[test]
fn a_block_waits_for_its_parent() {
    let mut applied = new();
    confirmed(&mut applied, id(5), id(4), 1);
    assert_eq!(run(&mut applied), [5]);
    confirmed(&mut applied, id(8), id(7), 3);
    confirmed(&mut applied, id(9), id(8), 4);
    assert!(run(&mut applied).is_empty());
    assert_eq!(applied.held_back(), (2, Some(3)));
    confirmed(&mut applied, id(7), id(5), 6);
    assert_eq!(run(&mut applied), [7, 8, 9]);
    assert_eq!(applied.held_back(), (0, None));
    assert!(applied.progress().holes.is_empty());
}

#[test]
fn a_parent_that_never_comes_is_a_hole_and_stays_one() {
    let mut applied = new();
    confirmed(&mut applied, id(5), id(4), 1);
    run(&mut applied);
    confirmed(&mut applied, id(8), id(7), 3);
    applied.tick(5_000);
    applied.finalize(id(8));
    applied.tick(i64::MIN);
    assert_eq!(applied.finalized(), None);
    applied.tick(5_000);
    applied.tick(5_999);
    assert!(run(&mut applied).is_empty());
    applied.tick(6_000);
    assert_eq!(run(&mut applied), [8]);
    assert_eq!(applied.progress().holes, [(Slot(6), Slot(7))]);
    assert!(!applied.publish(id(7), id(5)), "too late");
    assert_eq!(applied.tip(), Some(id(8)));
}

#[test]
fn what_proves_abandoned_is_undone_first() {
    let mut applied = new();
    confirmed(&mut applied, id(5), id(4), 1);
    confirmed(&mut applied, rival(6), id(5), 2);
    confirmed(&mut applied, rival(7), rival(6), 3);
    assert_eq!(run(&mut applied), [5, 6, 7]);
    confirmed(&mut applied, id(6), id(5), 5);
    confirmed(&mut applied, id(8), id(6), 6);
    applied.abandon(rival(6));
    applied.abandon(rival(7));
    assert_eq!(applied.undone(), [rival(6), rival(7)]);
    assert!(run(&mut applied).is_empty());
    applied.is_undone();
    assert_eq!(run(&mut applied), [6, 8]);
    applied.finalize(id(8));
    assert_eq!(applied.finalized(), Some(id(8)));
    assert_eq!(applied.progress().chain, [id(8)]);
}

#[test]
fn a_place_that_was_never_written_down_is_looked_for_where_it_may_be() {
    let restored = |slot, offset| RestoredBlock {
        block: id(slot),
        parent: id(slot - 1),
        told: Standing::Processed,
        history: crate::state::History {
            published: slot,
            offset,
            ..crate::state::History::default()
        },
    };
    let progress = Progress {
        chain: [id(4)].into(),
        sequence: 1,
        ..Progress::default()
    };
    // The second was published by a life that ended at once, the third by a later one.
    let blocks = [
        restored(5, Some(50)),
        restored(6, None),
        restored(7, Some(70)),
    ];
    let applied = Applied::new(progress, &blocks, &[0], 0);
    let waiting = applied.waiting();
    let not_before: Vec<_> = waiting.map(|(_, block)| block.not_before).collect();
    assert_eq!(not_before, [Some(50), Some(50), Some(70)]);
}

#[test]
fn a_next_life_goes_on_where_the_last_one_was() {
    let restored = |slot, told, confirmed| RestoredBlock {
        block: id(slot),
        parent: id(slot - 1),
        told,
        history: crate::state::History {
            published: slot,
            confirmed,
            finalized: None,
            offset: Some(slot as i64 * 10),
        },
    };
    let progress = Progress {
        chain: [id(5), id(6)].into(),
        since: Slot(2),
        sequence: 9,
        ..Progress::default()
    };
    let blocks = [
        restored(5, Standing::Finalized, Some(50)),
        restored(6, Standing::Confirmed, Some(60)),
        restored(7, Standing::Confirmed, Some(70)),
        restored(8, Standing::Processed, None),
        restored(9, Standing::Abandoned, None),
    ];
    let mut applied = Applied::new(progress.clone(), &blocks, &[0], 0);
    let (next, waiting) = applied.next().expect("a confirmed block");
    assert_eq!((next, waiting.offset), (id(7), Some(70)));
    assert_eq!(applied.waiting().count(), 2);
    assert_eq!(run(&mut applied), [7]);
    let blocks = [restored(6, Standing::Abandoned, Some(60))];
    let applied = Applied::new(progress, &blocks, &[0], 0);
    assert_eq!(applied.undone(), [id(6)]);
    // A state that begins does not begin in the past.
    let blocks = [restored(5, Standing::Confirmed, Some(50))];
    let applied = Applied::new(Progress::default(), &blocks, &[0], 0);
    assert!(applied.next().is_none());
}

#[test]
fn what_is_filled_is_a_hole_no_longer() {
    let mut applied = new();
    let slots = |pairs: &[(u64, u64)]| -> VecDeque<(Slot, Slot)> {
        let pair = |(first, last): &(u64, u64)| (Slot(*first), Slot(*last));
        pairs.iter().map(pair).collect()
    };
    applied.hole(Slot(10), Slot(19));
    applied.hole(Slot(30), Slot(30));
    applied.fill(Slot(12), Slot(13));
    assert_eq!(
        applied.progress().holes,
        slots(&[(10, 11), (14, 19), (30, 30)])
    );
    // Skipped slots below a block may reach over the beginning of a hole.
    applied.fill(Slot(25), Slot(30));
    applied.fill(Slot(5), Slot(10));
    assert_eq!(applied.progress().holes, slots(&[(11, 11), (14, 19)]));
    assert_eq!(
        applied.progress().repaired,
        slots(&[(12, 13), (30, 30), (10, 10)])
    );
    assert!(applied.is_in_hole(Slot(11)) && !applied.is_in_hole(Slot(12)));
    applied.fill(Slot(40), Slot(50));
    assert_eq!(applied.progress().repaired.len(), 3, "was no hole");
}

#[test]
fn remembered_progress_of_an_earlier_release_is_read() {
    let earlier = r#"{"chain":[],"since":5,"holes":[[7,8]],"sequence":3}"#;
    let progress: Progress = serde_json::from_str(earlier).unwrap();
    assert_eq!(progress.holes, [(Slot(7), Slot(8))]);
    assert!(progress.repaired.is_empty());
}
