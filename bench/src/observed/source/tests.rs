use std::{collections::BTreeSet, path::Path};

use event_log::{Position, Record};

use super::*;
use crate::{
    observed::{
        chain::{Chain, Temper},
        contents::Shape,
    },
    plugin_crash::audit::Audit,
};

fn contents() -> Contents {
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let shape = Shape {
        transactions: 30,
        entries: 3,
    };
    Contents::load(&blocks, shape).unwrap()
}

/// The audit of the real plugin's records judges these.
#[test]
fn it_numbers_and_seals_as_the_plugin_does() {
    let (contents, mut chain) = (contents(), Chain::new(3, 50, Temper::RESTLESS));
    let mut source = Source::new(1, &Topics::new("x"));
    let mut written = Vec::new();
    let mut blocks = 0;
    for _ in 0..40 {
        for moment in chain.slot() {
            blocks += u64::from(source.live(&moment, &contents, &mut written).is_some());
        }
    }
    let chunks = written.iter().filter(|w| w.kind == Kind::Chunk).count();
    assert!(
        chunks > 0,
        "there is an account above the limit of a record"
    );
    let mut audit = Audit::default();
    for (offset, written) in (0..).zip(&written) {
        let record = Record {
            position: Position {
                topic: Arc::clone(&written.record.topic),
                partition: written.lane.partition,
                offset,
            },
            key: written.record.key.clone(),
            header: written.record.header.clone(),
            value: written.record.value.clone(),
            timestamp_ms: 0,
        };
        audit.add(written.lane.topic, &record);
    }
    let found = audit.findings();
    assert_eq!(found.sealed_slots, blocks);
    assert_eq!(
        (found.holes, found.wrong_seals, found.unreadable),
        (0, 0, 0)
    );
    assert_eq!((found.repetitions, found.out_of_order), (0, 0));
}

#[test]
fn a_second_execution_is_sealed_by_itself_and_losses_are_stated() {
    let (contents, mut chain) = (contents(), Chain::new(3, 50, Temper::RESTLESS));
    let mut source = Source::new(1, &Topics::new("x"));
    let block = chain.extend();
    let rival = chain.rival(&block);
    let mut written = Vec::new();
    source.live(&Moment::Block(rival), &contents, &mut written);
    let first = written.len();
    source.live(&Moment::Dumped(block.name.slot), &contents, &mut written);
    source.live(&Moment::Block(block), &contents, &mut written);
    let seals = |records: &[Written]| -> BTreeSet<(u32, u64)> {
        let seals = records.iter().filter(|w| w.kind == Kind::Seal);
        seals
            .map(|w| Seal::decode(w.record.value.clone()).unwrap())
            .map(|seal| (seal.revision, seal.transactions))
            .collect()
    };
    let (before, after) = (seals(&written[..first]), seals(&written[first..]));
    let counted = |block| contents.transactions_of(block);
    assert_eq!(before, BTreeSet::from([(0, counted(&rival))]));
    let again = BTreeSet::from([(1, counted(&rival)), (2, counted(&block))]);
    assert_eq!(after, again);

    source.lose(1.0, rand::SeedableRng::seed_from_u64(1));
    written.clear();
    let values = source
        .live(&Moment::Block(chain.extend()), &contents, &mut written)
        .unwrap();
    assert_eq!(source.lost.len(), values.prints().len());
    let lost: u64 = written
        .iter()
        .filter(|w| w.kind == Kind::Seal)
        .map(|w| Seal::decode(w.record.value.clone()).unwrap().lost)
        .sum();
    assert_eq!(lost, source.lost.len() as u64);
}
