use super::*;

fn hash(byte: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[0] = byte as u8;
    hash
}

/// Whole and final, with its parent in the slot before.
fn whole(slot: u64) -> Stored {
    Stored {
        block: Some(StoredBlock {
            blockhash: hash(slot),
            parent_slot: slot - 1,
            parent_blockhash: hash(slot - 1),
            transactions: 3,
        }),
        transactions: 3,
        instructions_stated: 7,
        instructions: 7,
        raw: 3,
        rows: true,
        statuses: vec![(hash(slot), Standing::Finalized)],
    }
}

const RANGE: Range = Range { from: 10, to: 19 };

fn chain() -> (Shelf, BTreeSet<u64>) {
    (
        (10..20).map(|slot| (slot, whole(slot))).collect(),
        (10..20).collect(),
    )
}

#[test]
fn nothing_is_wrong_with_a_whole_chain() {
    let (shelf, slots) = chain();
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &Dropped::default()), []);
    assert_eq!(audit(&shelf, None, RANGE, &Dropped::default()), []);
}

#[test]
fn every_damage_is_found_and_nothing_else() {
    type Damage = fn(&mut Shelf);
    let damages: [(Damage, Finding, bool); 8] = [
        (
            |shelf| drop(shelf.remove(&14)),
            Finding::Missing { slot: 14 },
            false,
        ),
        (
            |shelf| shelf.get_mut(&14).unwrap().transactions = 2,
            Finding::Incomplete {
                slot: 14,
                what: "2 of 3 transactions".into(),
            },
            true,
        ),
        (
            |shelf| shelf.get_mut(&14).unwrap().instructions = 6,
            Finding::Incomplete {
                slot: 14,
                what: "6 instructions, its transactions have 7".into(),
            },
            true,
        ),
        (
            |shelf| shelf.get_mut(&14).unwrap().raw = 0,
            Finding::Incomplete {
                slot: 14,
                what: "0 of 3 transactions in their raw form".into(),
            },
            true,
        ),
        (
            |shelf| shelf.get_mut(&14).unwrap().statuses.clear(),
            Finding::NotFinal { slot: 14 },
            false,
        ),
        (
            |shelf| shelf.get_mut(&14).unwrap().statuses = vec![(hash(14), Standing::Abandoned)],
            Finding::NotOnChain { slot: 14 },
            true,
        ),
        (
            |shelf| {
                shelf
                    .get_mut(&15)
                    .unwrap()
                    .block
                    .as_mut()
                    .unwrap()
                    .parent_blockhash = hash(99)
            },
            Finding::Unlinked {
                slot: 15,
                parent_slot: 14,
            },
            true,
        ),
        // Told by the chain as missing, and without one by its child.
        (
            |shelf| drop(shelf.remove(&12)),
            Finding::Missing { slot: 12 },
            false,
        ),
    ];
    for (damage, expected, without_a_node) in damages {
        let (mut shelf, slots) = chain();
        damage(&mut shelf);
        assert_eq!(
            audit(&shelf, Some(&slots), RANGE, &Dropped::default()),
            [expected.clone()]
        );
        let alone = audit(&shelf, None, RANGE, &Dropped::default());
        assert_eq!(alone.contains(&expected), without_a_node, "{alone:?}");
    }
    let (mut shelf, _) = chain();
    shelf.remove(&14);
    let alone = audit(&shelf, None, RANGE, &Dropped::default());
    assert_eq!(
        alone,
        [Finding::ParentMissing {
            slot: 14,
            child: 15
        }]
    );
}

#[test]
fn skipped_leaders_are_no_gaps() {
    let (mut shelf, mut slots) = chain();
    for skipped in [13, 14] {
        shelf.remove(&skipped);
        slots.remove(&skipped);
    }
    let next = shelf.get_mut(&15).unwrap().block.as_mut().unwrap();
    (next.parent_slot, next.parent_blockhash) = (12, hash(12));
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &Dropped::default()), []);
    assert_eq!(audit(&shelf, None, RANGE, &Dropped::default()), []);
    // And what is stored in one of them is not the chain's.
    shelf.insert(13, whole(13));
    let found = audit(&shelf, Some(&slots), RANGE, &Dropped::default());
    assert_eq!(found, [Finding::NotOnChain { slot: 13 }]);
}

fn judged(shelf: &Shelf, slot: u64) -> Result<Deed, Refusal> {
    deed(shelf, slot, hash(slot), (slot - 1, Some(hash(slot - 1))), 3)
}

#[test]
fn what_is_whole_is_left_and_what_is_not_is_replaced() {
    let (mut shelf, _) = chain();
    assert_eq!(judged(&shelf, 14), Ok(Deed::Nothing));
    shelf.get_mut(&14).unwrap().statuses.clear();
    assert_eq!(judged(&shelf, 14), Ok(Deed::Finalize));
    shelf.get_mut(&14).unwrap().instructions = 1;
    assert_eq!(judged(&shelf, 14), Ok(Deed::Replace));
    shelf.get_mut(&14).unwrap().block = None;
    assert_eq!(judged(&shelf, 14), Ok(Deed::Replace));
    shelf.remove(&14);
    assert_eq!(judged(&shelf, 14), Ok(Deed::Insert));
    // Another block of the slot that never became final.
    let other = Stored {
        statuses: vec![(hash(77), Standing::Confirmed)],
        ..whole(14)
    };
    let mut other = other;
    other.block.as_mut().unwrap().blockhash = hash(77);
    // Its child names it, and is not final either.
    shelf.insert(14, other);
    assert_eq!(judged(&shelf, 14), Ok(Deed::Replace));
}

#[test]
fn a_block_of_another_chain_is_refused() {
    let (mut shelf, _) = chain();
    let foreign = |shelf: &Shelf, slot: u64, parent: u64| {
        deed(shelf, slot, hash(slot), (slot - 1, Some(hash(parent))), 3)
    };
    assert_eq!(foreign(&shelf, 14, 99), Err(Refusal::OtherParent(13)));
    assert_eq!(
        deed(&shelf, 14, hash(88), (13, None), 3),
        Err(Refusal::OtherChild(15))
    );
    shelf.remove(&15);
    assert_eq!(
        deed(&shelf, 14, hash(88), (13, None), 3),
        Err(Refusal::OtherFinal)
    );
    // What is not final says nothing about the chain.
    shelf.get_mut(&13).unwrap().statuses.clear();
    shelf.remove(&14);
    assert_eq!(foreign(&shelf, 14, 99), Ok(Deed::Insert));
}

#[test]
fn what_the_policy_dropped_is_not_missed_and_all_else_is() {
    let (mut shelf, slots) = chain();
    let dropping = |tables: &[&str]| {
        let mut dropped = Dropped::default();
        for table in tables {
            dropped.insert(0, table);
        }
        dropped
    };
    for stored in shelf.values_mut() {
        (stored.transactions, stored.instructions_stated) = (0, 0);
    }
    let transactions = dropping(&["transactions"]);
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &transactions), []);
    assert_eq!(
        audit(&shelf, Some(&slots), RANGE, &dropping(&["instructions"])).len(),
        10
    );
    shelf.get_mut(&14).unwrap().raw = 1;
    let found = audit(&shelf, Some(&slots), RANGE, &transactions);
    let what = "1 of 3 transactions in their raw form".to_owned();
    assert_eq!(found, [Finding::Incomplete { slot: 14, what }]);
    let both = dropping(&["transactions", "transactions_raw"]);
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &both), []);
    // A block that is not there is missed while blocks are kept.
    shelf.remove(&15);
    let missing = [Finding::Missing { slot: 15 }];
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &both), missing);
    let parent = [Finding::ParentMissing {
        slot: 15,
        child: 16,
    }];
    assert_eq!(audit(&shelf, None, RANGE, &both), parent);
    let blocks = dropping(&["transactions", "transactions_raw", "blocks"]);
    for chain in [Some(&slots), None] {
        assert_eq!(audit(&shelf, chain, RANGE, &blocks), []);
    }
    // Rows that are left of a slot whose block's row went, and other epochs.
    shelf.get_mut(&17).unwrap().block = None;
    assert_eq!(audit(&shelf, Some(&slots), RANGE, &blocks), []);
    let mut later = Dropped::default();
    later.insert(1, "blocks");
    assert!(!audit(&shelf, Some(&slots), RANGE, &later).is_empty());
}
