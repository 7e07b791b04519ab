use bytes::Bytes;
use event_log::Position;
use event_schema::{
    CanonicalHeader, CanonicalSeal, Kind,
    proto::{
        Message as _,
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateBlockMeta, SubscribeUpdateSlot,
            subscribe_update::UpdateOneof,
        },
    },
};
use proptest::prelude::*;

use super::*;

fn hash(fork: u8) -> Blockhash {
    Blockhash([fork; 32])
}

fn update(update: UpdateOneof) -> Bytes {
    SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    }
    .encode_to_vec()
    .into()
}

/// Header and value of the two records of an empty block.
fn block(slot: u64, fork: u8) -> Vec<(CanonicalHeader, Bytes)> {
    let meta = update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot,
        ..SubscribeUpdateBlockMeta::default()
    }));
    let seal = CanonicalSeal {
        slot,
        blockhash: vec![fork; 32],
        ..CanonicalSeal::default()
    }
    .encode_to_vec()
    .into();
    [(Kind::BlockMeta, meta), (Kind::Seal, seal)]
        .into_iter()
        .zip(0..)
        .map(|((kind, value), index)| {
            (
                CanonicalHeader {
                    kind,
                    slot: Slot(slot),
                    blockhash: hash(fork),
                    index,
                },
                value,
            )
        })
        .collect()
}

fn status(slot: u64, fork: u8, status: SlotStatus) -> Vec<(CanonicalHeader, Bytes)> {
    let value = update(UpdateOneof::Slot(SubscribeUpdateSlot {
        slot,
        status: status.into(),
        ..SubscribeUpdateSlot::default()
    }));
    vec![(
        CanonicalHeader {
            kind: Kind::Status,
            slot: Slot(slot),
            blockhash: hash(fork),
            index: 0,
        },
        value,
    )]
}

fn gap(slot: u64) -> Vec<(CanonicalHeader, Bytes)> {
    let value = Gap {
        first_slot: slot,
        last_slot: slot,
        reason: GapReason::NeverSealed.into(),
        ..Gap::default()
    };
    let header = CanonicalHeader {
        kind: Kind::Gap,
        slot: Slot(slot),
        blockhash: hash(0),
        index: 0,
    };
    vec![(header, value.encode_to_vec().into())]
}

/// One partition's log.
fn log(parts: Vec<Vec<(CanonicalHeader, Bytes)>>) -> Vec<Record> {
    parts
        .into_iter()
        .flatten()
        .zip(0..)
        .map(|((header, value), offset)| Record {
            position: Position {
                topic: "heliograph.canonical".into(),
                partition: 0,
                offset,
            },
            key: Bytes::new(),
            header: Bytes::copy_from_slice(&header.encode()),
            value,
            timestamp_ms: 1_000 + offset,
        })
        .collect()
}

fn slots(batch: &Batch) -> Vec<u64> {
    batch.blocks.iter().map(|block| block.slot.0).collect()
}

use SlotStatus::{SlotConfirmed, SlotDead, SlotFinalized};

#[test]
fn a_block_waits_for_its_confirmation() {
    let records = log(vec![block(1, 1), block(2, 1), status(1, 1, SlotConfirmed)]);
    let mut planner = Planner::default();
    for record in &records[..4] {
        assert_eq!(planner.push(record), Pushed::Taken);
    }
    assert!(planner.batch().is_empty());
    assert_eq!(planner.held(), 2);
    planner.push(&records[4]);
    // Slot 2, at offset 2, is still held: a reader must come back to it.
    assert_eq!(
        planner.extents()[&0],
        Extent {
            applied_to: 5,
            resume_at: 2
        }
    );
    assert_eq!(slots(&planner.take_batch()), [1]);
    assert!(planner.batch().is_empty());
}

#[test]
fn an_abandoned_block_that_was_only_held_is_dropped() {
    let records = log(vec![
        block(1, 1),
        block(1, 2),
        status(1, 1, SlotDead),
        status(1, 2, SlotConfirmed),
        status(1, 2, SlotFinalized),
    ]);
    let mut planner = Planner::default();
    for record in &records {
        assert_eq!(planner.push(record), Pushed::Taken);
    }
    let batch = planner.take_batch();
    assert_eq!(batch.deletes, []);
    assert_eq!(batch.blocks[0].blockhash, hash(2));
    assert_eq!(batch.statuses.len(), 3);
}

#[test]
fn a_delete_stands_alone() {
    let records = log(vec![
        block(1, 1),
        status(1, 1, SlotConfirmed),
        status(1, 1, SlotDead),
        block(1, 2),
        status(1, 2, SlotConfirmed),
    ]);
    let mut planner = Planner::default();
    for record in &records[..3] {
        assert_eq!(planner.push(record), Pushed::Taken);
    }
    assert_eq!(planner.push(&records[3]), Pushed::CommitFirst);
    assert_eq!(slots(&planner.take_batch()), [1]);
    assert_eq!(planner.push(&records[3]), Pushed::Taken);
    for record in &records[4..6] {
        assert_eq!(planner.push(record), Pushed::Taken);
    }
    assert_eq!(planner.push(&records[6]), Pushed::CommitFirst);
    assert_eq!(planner.take_batch().deletes, [Slot(1)]);
    assert_eq!(planner.push(&records[6]), Pushed::Taken);
    assert_eq!(planner.take_batch().blocks[0].blockhash, hash(2));
}

#[test]
fn damage_is_reported_once() {
    let mut records = log(vec![
        block(1, 1),
        status(1, 1, SlotConfirmed),
        status(1, 1, SlotFinalized),
    ]);
    records[2].value = Bytes::from_static(b"\xff");
    let mut planner = Planner::default();
    let pushed: Vec<_> = records.iter().map(|record| planner.push(record)).collect();
    assert!(matches!(pushed[2], Pushed::Damaged(_)), "{pushed:?}");
    let extents = planner.extents();
    planner.take_batch();
    let mut again = Planner::new(&extents);
    for record in &records {
        assert_eq!(again.push(record), Pushed::Taken);
    }
    assert!(again.batch().is_empty());
}

/// A random life of some slots in one partition. No two partitions have a slot in common.
fn life(partition: u64) -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec((0_u64..12, 0_u8..10), 1..12).prop_map(move |slots| {
        let mut published = Vec::new();
        let mut later = Vec::new();
        for ((slot, fate), index) in slots.into_iter().zip(0_u64..) {
            let slot = index * 100 + partition * 20 + slot;
            published.push(block(slot, 1));
            if fate == 9 {
                published.push(gap(slot));
            }
            let fates: &[SlotStatus] = match fate {
                0 => &[],
                1 => &[SlotDead],
                2 => &[SlotConfirmed],
                3 => &[SlotConfirmed, SlotDead],
                _ => &[SlotConfirmed, SlotFinalized],
            };
            later.push(
                fates
                    .iter()
                    .map(|fate| status(slot, 1, *fate))
                    .collect::<Vec<_>>(),
            );
            // Statuses trail by some slots.
            if later.len() > 2 {
                published.extend(later.remove(0));
            }
        }
        published.extend(later.into_iter().flatten());
        log(published)
    })
}

/// Batches of a run that is cut after `cuts` records each, and starts anew from its extents every time.
fn run(records: &[Record], cuts: &[usize]) -> Vec<Batch> {
    let number = records
        .first()
        .map_or(0, |record| record.position.partition);
    let mut batches = Vec::new();
    let mut extents = Extents::new();
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
    loop {
        let mut planner = Planner::new(&extents);
        let from = extents.get(&number).map_or(0, |extent| extent.resume_at);
        let mut left = cuts.next().unwrap_or(usize::MAX);
        for record in &records[from as usize..] {
            if record.position.offset >= extents.get(&number).map_or(0, |extent| extent.applied_to)
            {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            while planner.push(record) == Pushed::CommitFirst {
                batches.push(planner.take_batch());
            }
        }
        let after = planner.extents();
        batches.push(planner.take_batch());
        if after
            .get(&number)
            .is_some_and(|extent| extent.applied_to as usize == records.len())
        {
            return batches;
        }
        extents = after;
    }
}

/// Several partitions' logs, read in an order that `choices` make, from `from` to before `to`.
fn interleaved<'r>(
    logs: &'r [Vec<Record>],
    from: &Extents,
    to: Option<&Extents>,
    choices: &'r [u8],
) -> impl Iterator<Item = &'r Record> + use<'r> {
    let of = |extents: &Extents, place: usize| extents.get(&(place as u32)).copied();
    let mut left: Vec<_> = logs
        .iter()
        .zip(0..)
        .map(|(log, place)| {
            let begin = of(from, place).map_or(0, |extent| extent.resume_at as usize);
            let end = to.map_or(log.len(), |to| {
                of(to, place).map_or(0, |extent| extent.applied_to as usize)
            });
            log[begin.min(end)..end].iter().peekable()
        })
        .collect();
    let mut choices = choices.iter().cycle();
    std::iter::from_fn(move || {
        left.retain_mut(|log| log.peek().is_some());
        let choice = usize::from(*choices.next()?);
        let count = left.len();
        left.get_mut(choice.checked_rem(count)?)?.next()
    })
}

/// One log per partition.
fn partitions(lives: (Vec<Record>, Vec<Record>, Vec<Record>)) -> Vec<Vec<Record>> {
    let numbered = [lives.0, lives.1, lives.2].into_iter().zip(0..);
    numbered
        .map(|(mut log, partition)| {
            log.iter_mut()
                .for_each(|record| record.position.partition = partition);
            log
        })
        .collect()
}

/// Slots of blocks, statuses and deletes, whatever the batches.
fn flatten(batches: Vec<Batch>) -> (Vec<u64>, Vec<(u64, i64)>, Vec<Slot>) {
    let mut blocks: Vec<_> = batches.iter().flat_map(slots).collect();
    let statuses = batches.iter().flat_map(|batch| &batch.statuses);
    let mut statuses: Vec<_> = statuses
        .map(|status| (status.slot.0, status.offset))
        .collect();
    let mut deletes: Vec<_> = batches
        .into_iter()
        .flat_map(|batch| batch.deletes)
        .collect();
    blocks.sort_unstable();
    statuses.sort_unstable();
    deletes.sort_unstable();
    (blocks, statuses, deletes)
}

proptest! {
    /// A batch that was planned is rebuilt from its extents, however partitions interleave the second time.
    #[test]
    fn a_batch_is_rebuilt_in_any_order(
        lives in (life(0), life(1), life(2)),
        first in proptest::collection::vec(any::<u8>(), 1..40),
        second in proptest::collection::vec(any::<u8>(), 1..40),
        cuts in proptest::collection::vec(1_usize..12, 1..10),
    ) {
        let logs = partitions(lives);
        let (mut planner, mut before) = (Planner::default(), Extents::new());
        let mut cuts = cuts.iter().copied().cycle();
        let mut left = cuts.next().unwrap_or(1);
        let mut commit = |planner: &mut Planner| {
            let after = planner.extents();
            let batch = planner.take_batch();
            let mut again = Planner::new(&before);
            for record in interleaved(&logs, &before, Some(&after), &second) {
                prop_assert_eq!(again.push(record), Pushed::Taken);
            }
            prop_assert_eq!(again.take_batch(), batch);
            before = after;
            Ok(())
        };
        for record in interleaved(&logs, &Extents::new(), None, &first) {
            while planner.push(record) == Pushed::CommitFirst {
                commit(&mut planner)?;
            }
            left -= 1;
            if left == 0 {
                left = cuts.next().unwrap_or(1);
                commit(&mut planner)?;
            }
        }
    }

    /// Killed again and again, also while it reads again what it held: every block is inserted exactly once and every status
    /// recorded exactly once.
    #[test]
    fn kills_in_the_middle_of_reading_again_change_nothing(
        logs in (life(0), life(1), life(2)),
        lives in proptest::collection::vec(
            (1_usize..40, 1_usize..8, proptest::collection::vec(any::<u8>(), 1..20)), 0..12),
    ) {
        let logs = partitions(logs);
        let mut extents = Extents::new();
        let mut batches = Vec::new();
        let all = (usize::MAX, 3, vec![0, 1, 2]);
        for (length, every, choices) in lives.iter().chain([&all]) {
            let mut planner = Planner::new(&extents);
            let begin = extents.clone();
            let mut commit = |planner: &mut Planner| {
                extents = planner.extents();
                batches.push(planner.take_batch());
            };
            for (record, count) in interleaved(&logs, &begin, None, choices).take(*length).zip(1..) {
                while planner.push(record) == Pushed::CommitFirst {
                    commit(&mut planner);
                }
                if count % every == 0 {
                    commit(&mut planner);
                }
            }
            // What was not committed dies with it, except at the end.
            if *length == usize::MAX {
                commit(&mut planner);
            }
        }
        let undisturbed = logs.iter().flat_map(|log| run(log, &[])).collect();
        prop_assert_eq!(flatten(batches), flatten(undisturbed));
    }

    /// However often the sink starts anew, every block is inserted exactly once and every status recorded exactly once.
    #[test]
    fn restarts_change_nothing(records in life(0), cuts in proptest::collection::vec(1_usize..6, 0..20)) {
        prop_assert_eq!(flatten(run(&records, &cuts)), flatten(run(&records, &[])));
    }
}
