use super::*;

fn rules() -> Rules {
    Rules {
        concurrency: 2,
        backoff_ms: 100,
        backoff_max_ms: 400,
        deadline_ms: 1_000,
        slots_max: 100,
    }
}

fn hole(first: u64, last: u64) -> Hole {
    Hole {
        first: Slot(first),
        last: Slot(last),
        named: true,
    }
}

fn book(first: u64, last: u64) -> Book<&'static str> {
    let mut book = Book::new(rules());
    assert_eq!(book.want(hole(first, last)), (last - first + 1, 0));
    book
}

#[test]
fn the_highest_slots_come_first_and_not_too_many_at_once() {
    let mut book = book(5, 9);
    assert_eq!(book.next(0), Some(Slot(9)));
    assert_eq!(book.next(0), Some(Slot(8)));
    assert_eq!(book.next(0), None);
    assert!(book.is_named(Slot(9)) && !book.is_named(Slot(8)));
    book.done(Slot(8));
    assert_eq!(book.next(0), Some(Slot(7)));
}

#[test]
fn a_link_names_the_parent_and_spares_what_lies_between() {
    let mut book = book(5, 9);
    assert_eq!(book.next(0), Some(Slot(9)));
    assert_eq!(book.linked(Slot(9), Slot(6)), 2);
    assert!(book.is_named(Slot(6)));
    assert_eq!(book.next(0), Some(Slot(6)));
    assert_eq!(book.next(0), Some(Slot(5)));
    assert_eq!(book.linked(Slot(6), Slot(4)), 0, "5 is being asked for");
    book.done(Slot(5));
    assert_eq!(book.wanted(), 0);
}

#[test]
fn pauses_double_up_to_the_longest_and_end_with_the_deadline() {
    let mut book = book(5, 5);
    let mut now = 0;
    let mut pauses = Vec::new();
    loop {
        assert_eq!(book.next(now), Some(Slot(5)));
        if !book.put_off(Slot(5), now) {
            break;
        }
        let due = book.due_ms().unwrap();
        assert_eq!(book.next(due - 1), None, "not before its time");
        pauses.push(due - now);
        now = due;
    }
    assert_eq!(pauses, [100, 200, 400]);
    assert_eq!((book.wanted(), book.due_ms()), (0, None));
    assert_eq!(book.want(hole(5, 5)), (1, 0), "it may be wanted again");
}

#[test]
fn an_unlinked_block_is_offered_again_or_asked_for_again() {
    let mut book = book(5, 9);
    for slot in [9, 8] {
        assert_eq!(book.next(0), Some(Slot(slot)));
    }
    assert!(book.keep(Slot(8), "eight", 0));
    assert_eq!(book.linked(Slot(9), Slot(8)), 0);
    assert_eq!(book.offer_again(), [(Slot(8), "eight")]);
    assert_eq!(book.due_ms(), None, "it is on its way");
    assert!(book.keep(Slot(8), "eight", 10));
    assert_eq!(book.next(1_000), Some(Slot(8)), "for too long alone");
    assert_eq!(book.offer_again(), []);
}

#[test]
fn few_blocks_are_kept() {
    let mut book = book(1, 50);
    for slot in (41..=50).rev() {
        assert_eq!(book.next(0), Some(Slot(slot)));
        assert!(book.keep(Slot(slot), "", 0));
    }
    let kept: Vec<u64> = book
        .offer_again()
        .into_iter()
        .map(|(slot, _)| slot.0)
        .collect();
    assert_eq!(kept, [50, 49], "the highest, which are linked first");
}

#[test]
fn while_nodes_are_away_most_slots_keep_their_time() {
    let mut book = Book::<()>::new(Rules {
        slots_max: 1_000,
        ..rules()
    });
    book.want(hole(1, 500));
    let mut tried = 0;
    while let Some(slot) = book.next(0) {
        tried += 1;
        assert!(book.put_off(slot, 0));
    }
    assert_eq!(tried, PUT_OFF_MAX);
}

#[test]
fn what_finds_no_room_is_told() {
    let mut book = Book::<()>::new(rules());
    assert_eq!(book.want(hole(1, 60)), (60, 0));
    assert_eq!(book.want(hole(41, 140)), (40, 60));
    assert_eq!(book.want(hole(41, 60)), (0, 0));
}
