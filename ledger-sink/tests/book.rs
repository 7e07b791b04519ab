//! The book at any crash: whatever the order of blocks and fates, however often it starts again from where it says, the
//! blocks it asks to write are those that were confirmed.

mod fixture;

use std::collections::BTreeSet;

use event_log::{Position, Record};
use event_schema::Topics;
use event_schema::proto::geyser::SlotStatus;
use fixture::{Block, transfer};
use ledger_sink::book::{Action, BlockId, PartitionBook};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Fate {
    Confirmed,
    Finalized,
    Abandoned,
    Open,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Confirmed),
        3 => Just(Fate::Finalized),
        1 => Just(Fate::Abandoned),
        1 => Just(Fate::Open),
    ]
}

/// The partition's records: blocks in order, each fate some blocks later.
fn records(fates: &[(Fate, usize)]) -> (Vec<Record>, BTreeSet<BlockId>) {
    let topics = Topics::new("heliograph");
    let blocks: Vec<Block> = (0..fates.len() as u64)
        .map(|slot| Block::new(slot, vec![transfer(1, 2, slot).build(0)]))
        .collect();
    let mut due: Vec<(usize, usize)> = fates
        .iter()
        .enumerate()
        .map(|(at, (_, delay))| (at + delay, at))
        .collect();
    due.sort();
    let mut out = Vec::new();
    let mut written = BTreeSet::new();
    let last = due.last().map_or(0, |(when, _)| *when);
    for now in 0..=last.max(blocks.len()) {
        if let Some(block) = blocks.get(now) {
            out.extend(block.records(&topics, 1));
        }
        for (_, at) in due.iter().filter(|(when, _)| *when == now) {
            let block = &blocks[*at];
            let statuses: &[SlotStatus] = match fates[*at].0 {
                Fate::Confirmed => &[SlotStatus::SlotConfirmed],
                Fate::Finalized => &[SlotStatus::SlotConfirmed, SlotStatus::SlotFinalized],
                Fate::Abandoned => &[SlotStatus::SlotDead],
                Fate::Open => &[],
            };
            out.extend(
                statuses
                    .iter()
                    .map(|status| block.status(&topics, 1, *status)),
            );
            if matches!(fates[*at].0, Fate::Confirmed | Fate::Finalized) {
                written.insert((block.slot.into(), block.blockhash()));
            }
        }
    }
    let records = out.into_iter().enumerate().map(|(offset, record)| Record {
        position: Position {
            topic: record.topic,
            partition: 0,
            offset: offset as i64,
        },
        key: record.key,
        header: record.header,
        value: record.value,
        timestamp_ms: 0,
    });
    (records.collect(), written)
}

proptest! {
    #[test]
    fn writes_what_was_confirmed_and_nothing_else(
        fates in proptest::collection::vec((fate(), 0..9usize), 0..14),
        crashes in proptest::collection::vec(1..25usize, 0..8),
        held_max in 1..6usize,
    ) {
        let (records, expected) = records(&fates);
        let mut written = BTreeSet::new();
        let mut book = PartitionBook::new(0, held_max);
        let mut at = 0usize;
        let mut crashes = crashes.into_iter();
        let mut until_crash = crashes.next();
        let mut steps = 0;
        while let Some(record) = records.get(at) {
            steps += 1;
            prop_assert!(steps < 20_000, "it goes in circles");
            at += 1;
            for action in book.push(record).unwrap() {
                match action {
                    Action::Post(entry) => {
                        written.insert((entry.slot, entry.blockhash));
                    }
                    Action::Finalize(id) => prop_assert!(written.contains(&id), "finality follows the writing"),
                    Action::Reread(offset) => at = offset as usize,
                    Action::Abandon(_) | Action::Gap { .. } => {}
                }
            }
            let resume = book.resume_offset();
            prop_assert!(resume <= at as i64);
            // A crash after this record: all that is left is what was written, and the position.
            if let Some(left) = &mut until_crash {
                *left -= 1;
                if *left == 0 {
                    book = PartitionBook::new(resume, held_max);
                    at = resume as usize;
                    until_crash = crashes.next();
                }
            }
        }
        prop_assert_eq!(written, expected);
    }
}
