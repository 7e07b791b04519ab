use super::*;
use proptest::prelude::*;

fn hash(n: u64) -> Blockhash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[31] = 1;
    Blockhash(bytes)
}

fn signature(n: u64) -> Signature {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Signature(bytes)
}

/// Block `n` of one chain: height and slot `n`, parent `n - 1`, one transaction `n`.
fn block(n: u64) -> BlockSummary {
    BlockSummary {
        slot: Slot(n),
        blockhash: hash(n),
        parent: hash(n.wrapping_sub(1)),
        height: Some(n),
        transactions: HashMap::from([(signature(n), None)]),
        partition: (n % 4) as u32,
        first_offset: (n * 10) as i64,
        next_offset: (n * 10 + 9) as i64,
    }
}

#[test]
fn coverage_reaches_to_the_first_hole() {
    let mut chain = Chain::default();
    for n in [1, 2, 4, 5] {
        chain.insert(block(n));
    }
    assert_eq!(chain.covered_from(), None);
    assert_eq!(chain.commit(&hash(5), Some(Commitment::Finalized)).len(), 2);
    assert_eq!(
        (chain.finalized_height(), chain.covered_from()),
        (Some(5), Some(4))
    );
    // The late block closes the hole, and with it finalizes all that is linked.
    let finalized: Vec<Slot> = chain
        .insert(block(3))
        .into_iter()
        .map(|(slot, _)| slot)
        .collect();
    assert_eq!(finalized, [Slot(3), Slot(2), Slot(1)]);
    assert_eq!(chain.covered_from(), Some(1));
}

#[test]
fn a_signature_is_found_where_it_is() {
    let mut chain = Chain::default();
    chain.insert(block(7));
    let landings = chain.landings(&signature(7));
    assert_eq!(landings.len(), 1);
    assert_eq!(
        (landings[0].slot, landings[0].commitment),
        (Slot(7), Commitment::Processed)
    );
    chain.commit(&hash(7), Some(Commitment::Confirmed));
    assert_eq!(
        chain.landings(&signature(7))[0].commitment,
        Commitment::Confirmed
    );
    chain.commit(&hash(7), None);
    assert_eq!(chain.landings(&signature(7)), []);
    assert_eq!(chain.landings(&signature(8)), []);
}

#[test]
fn a_block_without_height_takes_its_parents() {
    let mut chain = Chain::default();
    chain.insert(BlockSummary {
        height: None,
        ..block(3)
    });
    assert_eq!(chain.height_of(&hash(3)), None, "no parent to count from");
    chain.insert(block(4));
    chain.insert(BlockSummary {
        height: None,
        ..block(5)
    });
    assert_eq!(chain.height_of(&hash(5)), Some(5));
}

#[test]
fn a_restarted_reader_regains_what_is_kept() {
    let mut chain = Chain::default();
    let last = BLOCKS_KEPT + 100;
    for n in 1..=last {
        chain.insert(block(n));
        chain.commit(&hash(n), Some(Commitment::Finalized));
    }
    assert_eq!(chain.covered_from(), Some(100));
    assert_eq!(chain.height_of(&hash(99)), None);
    let offsets = chain.replay_offsets();
    for n in 100..104 {
        assert_eq!(offsets[&((n % 4) as u32)], (n * 10) as i64);
    }
    chain.read_up_to(9, 77);
    assert_eq!(chain.replay_offsets()[&9], 77);
}

#[test]
fn memory_is_bounded_while_nothing_is_finalized() {
    let mut chain = Chain::default();
    for n in 1..=(BLOCKS_MAX as u64 + 50) {
        chain.insert(block(n));
    }
    assert_eq!(chain.blocks.len(), BLOCKS_MAX);
    assert_eq!(chain.by_height.len(), BLOCKS_MAX);
}

proptest! {
    /// Blocks and statuses come in any order (partitions are read independently), some never come. Coverage never spans
    /// a missing block, and what counts as finalized is exactly what is linked to the tip.
    #[test]
    fn coverage_is_never_too_wide(
        order in Just((1u64..40).collect::<Vec<_>>()).prop_shuffle(),
        missing in proptest::collection::hash_set(1u64..40, 0..4),
        finalized_up_to in 1u64..40,
        statuses in proptest::collection::vec(1u64..40, 1..20),
    ) {
        let mut chain = Chain::default();
        let mut told = std::collections::HashSet::new();
        let mut statuses = statuses.into_iter();
        for n in order {
            if !missing.contains(&n) {
                told.extend(chain.insert(block(n)).into_iter().map(|(slot, _)| slot.0));
            }
            if let Some(status) = statuses.next().filter(|status| *status <= finalized_up_to) {
                told.extend(chain.commit(&hash(status), Some(Commitment::Finalized)).into_iter().map(|(slot, _)| slot.0));
            }
            if let (Some(tip), Some(from)) = (chain.finalized_height(), chain.covered_from()) {
                for n in from..=tip {
                    prop_assert!(chain.height_of(&hash(n)).is_some(), "{n} is not there");
                    prop_assert!(told.contains(&n));
                    prop_assert_eq!(chain.landings(&signature(n))[0].commitment, Commitment::Finalized);
                }
                prop_assert!(chain.height_of(&hash(from - 1)).is_none());
            }
        }
    }
}
