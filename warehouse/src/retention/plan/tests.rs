use proptest::prelude::*;

use super::*;

const TABLES: [&str; 4] = ["blocks", "transactions", "swaps", "account_updates"];

const STATES: [NoteState; 4] = [
    NoteState::Dropping,
    NoteState::Dropped,
    NoteState::Returning,
    NoteState::Returned,
];

fn place(epoch: u64, table: &str) -> Place {
    Place {
        epoch,
        table: table.into(),
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    let epochs = || proptest::option::of(1u64..6);
    (epochs(), epochs(), any::<bool>()).prop_map(|(keep_epochs, cold_after_epochs, required)| {
        Rules {
            keep_epochs,
            cold_after_epochs,
            archive: Some("/archive".into()),
            require_archive: required,
        }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let tables = proptest::collection::btree_map(
        proptest::sample::select(&TABLES[..]).prop_map(str::to_owned),
        rules(),
        0..3,
    );
    (rules(), tables).prop_map(|(default, tables)| Policy {
        default,
        tables,
        storage_policy: "tiered".into(),
        cold_volume: "cold".into(),
    })
}

fn a_place() -> impl Strategy<Value = Place> {
    (0u64..9, proptest::sample::select(&TABLES[..])).prop_map(|(epoch, table)| place(epoch, table))
}

fn note() -> impl Strategy<Value = Note> {
    proptest::sample::select(&STATES[..]).prop_map(|state| Note {
        state,
        rows: 5,
        bytes: 50,
        newest_block: 7,
        archive: "/archive/a".into(),
        manifest_sha256: "aa".into(),
    })
}

fn state() -> impl Strategy<Value = State> {
    let partition = (0u64..9, 0u64..3).prop_map(|(rows, hot)| Partition {
        rows,
        bytes: rows * 10,
        bytes_hot: hot.min(rows),
        newest_block: rows,
    });
    let slots = 0..9 * SLOTS_PER_EPOCH;
    (
        proptest::option::of(slots),
        proptest::collection::btree_map(0u64..9, Just(3u64), 0..3),
        proptest::collection::btree_map(a_place(), partition, 0..20),
        proptest::collection::btree_map(a_place(), note(), 0..6),
    )
        .prop_map(|(finalized, undecided, partitions, notes)| State {
            finalized,
            undecided,
            partitions,
            notes,
        })
}

/// As the deeds leave it.
fn after(mut state: State, decisions: &[Decision]) -> State {
    for decision in decisions {
        match &decision.deed {
            Deed::Keep => {}
            Deed::Move => {
                let there = state.partitions.get_mut(&decision.place).unwrap();
                there.bytes_hot = 0;
            }
            Deed::Drop(_) | Deed::Finish => {
                state.partitions.remove(&decision.place);
                let note = Note {
                    state: NoteState::Dropped,
                    rows: decision.rows,
                    bytes: decision.bytes,
                    newest_block: 0,
                    archive: String::new(),
                    manifest_sha256: String::new(),
                };
                state.notes.insert(decision.place.clone(), note);
            }
        }
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_touched_that_must_not_be_and_a_second_run_does_nothing(
        policy in policy(), state in state(), archived in proptest::collection::btree_set(a_place(), 0..20),
    ) {
        let proof = |place: &Place| match archived.contains(place) {
            true => Proof::Archived(Archived::default()),
            false => Proof::Lacking("none".into()),
        };
        let decisions = plan(&policy, &state, proof);
        for decision in &decisions {
            let Place { epoch, table } = &decision.place;
            let rules = policy.rules(table);
            match &decision.deed {
                Deed::Keep => {
                    prop_assert!(decision.reason.is_some());
                    continue;
                }
                Deed::Finish => {
                    prop_assert!(state.partitions.get(&decision.place).is_none_or(|there| there.rows == 0));
                    continue;
                }
                Deed::Drop(proven) => {
                    prop_assert!(proven.is_some() == rules.require_archive);
                    prop_assert!(!rules.require_archive || archived.contains(&decision.place));
                    prop_assert!(rules.keep_epochs.is_some_and(|keep| epoch + keep <= epoch_of(state.finalized.unwrap())));
                }
                Deed::Move => {
                    prop_assert!(rules.cold_after_epochs.is_some_and(|keep| epoch + keep <= epoch_of(state.finalized.unwrap())));
                    prop_assert!(state.partitions[&decision.place].bytes_hot > 0);
                }
            }
            let finalized = state.finalized.unwrap();
            prop_assert!(last_slot(*epoch) + LEFT_TO_THE_STREAM <= finalized);
            prop_assert!(!state.undecided.contains_key(epoch));
            prop_assert!(table != "blocks" || policy.tables.contains_key("blocks"));
            let returning = state.notes.get(&decision.place).is_some_and(|note| note.state == NoteState::Returning);
            prop_assert!(!returning);
        }
        // Every partition is told of, once; those that are to go, oldest first.
        let there = state.partitions.values().filter(|there| there.rows > 0).count();
        let finished = decisions.iter().filter(|decision| decision.deed == Deed::Finish).count();
        prop_assert_eq!(decisions.len(), there + finished);
        prop_assert!(decisions.is_sorted_by_key(|decision| decision.place.epoch));
        let again = plan(&policy, &after(state, &decisions), proof);
        prop_assert!(again.iter().all(|decision| decision.deed == Deed::Keep), "{again:?}");
    }
}

#[test]
fn what_is_due_is_done_and_said() {
    let policy = Policy::parse(
        "[default]\nkeep_epochs = 3\ncold_after_epochs = 1\narchive = \"/archive\"\n[tables.swaps]\nrequire_archive = false",
    )
    .unwrap();
    let partition = Partition {
        rows: 5,
        bytes: 50,
        bytes_hot: 50,
        newest_block: 7,
    };
    let mut state = State {
        finalized: Some(last_slot(3) + LEFT_TO_THE_STREAM),
        ..State::default()
    };
    for epoch in 0..=5 {
        for table in TABLES {
            state
                .partitions
                .insert(place(epoch, table), partition.clone());
        }
    }
    state.undecided.insert(1, 432_005);
    let decide = |state: &State, place: &Place, proof: Proof| {
        let decision = super::decide(&policy, state, place, &partition, proof);
        (decision.deed, decision.reason)
    };
    let archived = || Proof::Archived(Archived::default());
    let lacking = || Proof::Lacking("x".into());
    let not_archived = Some(Reason::NotArchived("x".into()));
    let drop = (Deed::Drop(Some(Archived::default())), None);
    let kept = |reason| (Deed::Keep, Some(reason));
    for (epoch, table, proof, expected) in [
        (0, "transactions", archived(), drop.clone()),
        (0, "transactions", lacking(), (Deed::Move, not_archived)),
        (0, "swaps", lacking(), (Deed::Drop(None), None)),
        (0, "blocks", archived(), kept(Reason::NoRule)),
        (
            1,
            "transactions",
            archived(),
            kept(Reason::Undecided(432_005)),
        ),
        (2, "transactions", archived(), (Deed::Move, None)),
        (4, "transactions", archived(), kept(Reason::Newest)),
        (5, "transactions", archived(), kept(Reason::Newest)),
    ] {
        let place = place(epoch, table);
        assert_eq!(decide(&state, &place, proof), expected, "{place:?}");
    }
    // One slot earlier the stream may still be at the end of epoch 3.
    let third = place(3, "transactions");
    assert_eq!(decide(&state, &third, archived()), (Deed::Move, None));
    state.finalized = state.finalized.map(|slot| slot - 1);
    assert_eq!(
        decide(&state, &third, archived()),
        kept(Reason::BesideTheStream)
    );
    state.finalized = None;
    assert_eq!(
        decide(&state, &third, archived()),
        kept(Reason::NothingFinal)
    );
}

#[test]
fn a_drop_that_broke_off_is_ended_only_if_nothing_came_in() {
    let note = |state| Note {
        state,
        rows: 5,
        bytes: 50,
        newest_block: 7,
        archive: "/archive/a".into(),
        manifest_sha256: "aa".into(),
    };
    let left = |rows, newest_block| Partition {
        rows,
        newest_block,
        ..Partition::default()
    };
    let dropping = note(NoteState::Dropping);
    assert!(was_proven(&dropping, &left(3, 7), "aa"));
    assert!(!was_proven(&dropping, &left(3, 8), "aa"));
    assert!(!was_proven(&dropping, &left(6, 7), "aa"));
    assert!(!was_proven(&dropping, &left(3, 7), "bb"));
    assert!(!was_proven(&note(NoteState::Dropped), &left(3, 7), "aa"));
    let unarchived = Note {
        manifest_sha256: String::new(),
        ..dropping
    };
    assert!(!was_proven(&unarchived, &left(3, 7), ""));
}
