use super::*;
use proptest::prelude::*;

fn leader(n: u8) -> Pubkey {
    Pubkey([n; 32])
}

fn hash(n: u8) -> Blockhash {
    Blockhash([n; 32])
}

fn turn(window: u64) -> Turn {
    Turn { window, repeat: 0 }
}

fn fresh(lifetime: Lifetime) -> Delivery {
    Delivery::new(Signature([1; 64]), hash(200), lifetime)
}

fn attempt(leader: Pubkey, outcome: Outcome) -> Attempt {
    Attempt {
        leader,
        window_slot: 0,
        outcome,
        took_us: 1,
    }
}

fn landing(n: u8, commitment: Commitment) -> Landing {
    Landing {
        slot: Slot(u64::from(n)),
        blockhash: hash(n),
        commitment,
        error: None,
    }
}

#[test]
fn each_leader_is_sent_to_once_per_turn() {
    let mut delivery = fresh(Lifetime::Unknown);
    assert_eq!(delivery.state(), State::Accepted);
    let targets = [leader(1), leader(2)];
    assert_eq!(delivery.take_turn(turn(5), &targets, None), targets);
    assert_eq!(delivery.state(), State::Sending);
    assert_eq!(delivery.take_turn(turn(5), &targets, None), []);
    assert_eq!(
        delivery.take_turn(turn(5), &[leader(2), leader(3)], None),
        [leader(3)]
    );
    assert_eq!(delivery.take_turn(turn(6), &targets, None), targets);
    let repeat = Turn {
        window: 6,
        repeat: 1,
    };
    assert_eq!(delivery.take_turn(repeat, &targets, None), targets);
}

#[test]
fn a_failed_attempt_is_repeated_at_once_but_not_for_ever() {
    let mut delivery = fresh(Lifetime::Unknown);
    let targets = [leader(1)];
    delivery.take_turn(turn(1), &targets, None);
    for _ in 1..SENDS_PER_LEADER_TURN_MAX {
        assert!(delivery.attempt_ended(
            attempt(leader(1), Outcome::ConnectionLost),
            &targets,
            None
        ));
    }
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::ConnectionLost), &targets, None));
    assert_eq!(delivery.attempts, u64::from(SENDS_PER_LEADER_TURN_MAX));
    delivery.take_turn(turn(2), &targets, None);
    assert!(delivery.attempt_ended(attempt(leader(1), Outcome::Unacked), &targets, None));
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::Acked), &targets, None));
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::QueueFull), &targets, None));
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::Unreachable), &targets, None));
    // The leader's turn is over: whoever leads now gets it instead.
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::Unacked), &[leader(2)], None));
}

#[test]
fn landing_stops_sending_and_an_abandoned_block_resumes_it() {
    let mut delivery = fresh(Lifetime::of_block(10));
    let targets = [leader(1)];
    delivery.take_turn(turn(1), &targets, Some(11));
    assert!(delivery.landed(landing(3, Commitment::Processed)));
    assert_eq!(delivery.state(), State::Landed);
    assert_eq!(delivery.take_turn(turn(2), &targets, Some(12)), []);
    assert!(!delivery.attempt_ended(attempt(leader(1), Outcome::Unacked), &targets, Some(12)));
    assert!(delivery.block_abandoned(Slot(3), &hash(3)));
    assert_eq!(delivery.state(), State::Sending);
    assert_eq!(delivery.take_turn(turn(2), &targets, Some(12)), targets);
}

#[test]
fn it_may_be_on_two_forks_and_the_surer_one_counts() {
    let mut delivery = fresh(Lifetime::of_block(10));
    delivery.landed(landing(3, Commitment::Processed));
    delivery.landed(landing(4, Commitment::Processed));
    assert_eq!(delivery.landing().unwrap().slot, Slot(4));
    delivery.block_committed(Slot(3), &hash(3), Commitment::Confirmed);
    assert_eq!(delivery.landing().unwrap().slot, Slot(3));
    delivery.block_abandoned(Slot(4), &hash(4));
    assert_eq!(delivery.state(), State::Landed);
    delivery.block_committed(Slot(3), &hash(3), Commitment::Finalized);
    assert!(delivery.settled());
    assert!(!delivery.block_abandoned(Slot(3), &hash(3)));
    assert!(!delivery.expire(Proof::Stream));
}

#[test]
fn an_error_in_the_block_is_a_failure() {
    let mut delivery = fresh(Lifetime::Unknown);
    delivery.landed(Landing {
        error: Some("\"AccountInUse\"".into()),
        ..landing(3, Commitment::Processed)
    });
    assert_eq!(delivery.state(), State::Failed);
}

#[test]
fn expiry_needs_the_whole_proof() {
    // Usable in blocks 11 to 160 as reported, and possible in 161.
    let delivery = fresh(Lifetime::of_block(10));
    assert_eq!(delivery.lifetime.last_possible(), Some(161));
    for (tip, covered_from, proven) in [
        (Some(162), Some(11), true),
        (Some(162), Some(1), true),
        (Some(161), Some(1), false),
        (Some(162), Some(12), false),
        (Some(162), None, false),
        (None, Some(1), false),
    ] {
        assert_eq!(
            delivery.absence_is_proven(tip, covered_from),
            proven,
            "{tip:?} {covered_from:?}"
        );
    }
    assert!(!fresh(Lifetime::Unknown).absence_is_proven(Some(u64::MAX), Some(0)));
    assert!(!fresh(Lifetime::Nonce(leader(1))).absence_is_proven(Some(u64::MAX), Some(0)));
}

#[test]
fn sending_ends_with_the_life_but_the_state_waits_for_the_proof() {
    let mut delivery = fresh(Lifetime::of_block(10));
    assert!(delivery.may_send(Some(161)));
    assert!(!delivery.may_send(Some(162)));
    assert_eq!(delivery.take_turn(turn(9), &[leader(1)], Some(162)), []);
    assert_ne!(delivery.state(), State::Expired);
    assert!(delivery.expire(Proof::Stream));
    assert_eq!(
        (delivery.state(), delivery.settled()),
        (State::Expired, true)
    );
}

#[test]
fn a_better_lifetime_replaces_a_worse_one_only() {
    let mut delivery = fresh(Lifetime::Unknown);
    assert!(delivery.learn_lifetime(Lifetime::seen_at(500, true)));
    assert!(!delivery.learn_lifetime(Lifetime::seen_at(900, true)));
    assert!(!delivery.learn_lifetime(Lifetime::Unknown));
    assert!(delivery.learn_lifetime(Lifetime::of_block(480)));
    assert!(!delivery.learn_lifetime(Lifetime::of_block(470)));
    assert_eq!(delivery.lifetime, Lifetime::of_block(480));
    let mut nonce = fresh(Lifetime::Nonce(leader(1)));
    assert!(!nonce.learn_lifetime(Lifetime::of_block(1)));
}

#[derive(Debug, Clone)]
enum Event {
    Turn { window: u64, leaders: Vec<u8> },
    Ended { leader: u8, outcome: Outcome },
    Landed { block: u8, error: bool },
    Committed { block: u8, commitment: Commitment },
    Abandoned { block: u8 },
    Height(u64),
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    let commitment = prop_oneof![Just(Commitment::Confirmed), Just(Commitment::Finalized)];
    prop_oneof![
        4 => (0u64..12, proptest::collection::vec(0u8..4, 0..3)).prop_map(|(window, leaders)| Event::Turn { window, leaders }),
        4 => (0u8..4, proptest::sample::select(Outcome::ALL.to_vec())).prop_map(|(leader, outcome)| Event::Ended { leader, outcome }),
        2 => (0u8..4, any::<bool>()).prop_map(|(block, error)| Event::Landed { block, error }),
        2 => (0u8..4, commitment).prop_map(|(block, commitment)| Event::Committed { block, commitment }),
        2 => (0u8..4).prop_map(|block| Event::Abandoned { block }),
        1 => (0u64..400).prop_map(Event::Height),
        1 => Just(Event::Expire),
    ]
}

proptest! {
    /// Whatever happens in whatever order.
    #[test]
    fn promises_hold(events in proptest::collection::vec(event(), 0..120)) {
        let mut delivery = fresh(Lifetime::of_block(100));
        let mut targets: Vec<Pubkey> = Vec::new();
        let mut height = None;
        let mut current = Turn::default();
        let mut sends = std::collections::HashMap::<(Turn, Pubkey, u32), u32>::new();
        let mut resumed = 0u32;
        let mut total = 0u64;
        for event in events {
            let before = delivery.clone();
            let mut due: Vec<Pubkey> = Vec::new();
            match event {
                Event::Turn { window, leaders } => {
                    targets = leaders.iter().map(|n| leader(*n)).collect();
                    targets.dedup();
                    current = current.max(turn(window));
                    due = delivery.take_turn(current, &targets, height);
                    if before.may_send(height) {
                        // Nobody in turn is left out.
                        for target in &targets {
                            prop_assert!(sends.contains_key(&(current, *target, resumed)) || due.contains(target));
                        }
                    }
                }
                Event::Ended { leader: n, outcome } => {
                    if delivery.attempt_ended(attempt(leader(n), outcome), &targets, height) {
                        prop_assert!(outcome.repeat_at_once() && targets.contains(&leader(n)));
                        due.push(leader(n));
                    }
                }
                Event::Landed { block, error } => {
                    let error = error.then(|| Arc::from("\"E\""));
                    delivery.landed(Landing { error, ..landing(block, Commitment::Processed) });
                }
                Event::Committed { block, commitment } => {
                    delivery.block_committed(Slot(u64::from(block)), &hash(block), commitment);
                }
                Event::Abandoned { block } => {
                    let had = !before.landings.is_empty();
                    delivery.block_abandoned(Slot(u64::from(block)), &hash(block));
                    if had && delivery.landings.is_empty() {
                        resumed += 1;
                    }
                }
                Event::Height(new) => height = height.max(Some(new)),
                Event::Expire => {
                    let proven = delivery.absence_is_proven(height, Some(0));
                    if proven {
                        prop_assert!(height > delivery.lifetime.last_possible());
                        delivery.expire(Proof::Stream);
                    }
                }
            }
            for leader in &due {
                // Nothing is sent that is in a block, settled, or past its life.
                prop_assert!(before.may_send(height));
                let count = sends.entry((current, *leader, resumed)).or_default();
                *count += 1;
                prop_assert!(*count <= u32::from(SENDS_PER_LEADER_TURN_MAX));
                total += 1;
            }
            prop_assert_eq!(delivery.attempts, total);
            prop_assert!(delivery.recent.len() <= ATTEMPTS_REMEMBERED);
            if before.settled() {
                prop_assert!(delivery.settled());
                prop_assert_eq!(delivery.state(), before.state());
                prop_assert_eq!(delivery.landing(), before.landing());
            }
            let in_block = matches!(delivery.state(), State::Landed | State::Failed);
            prop_assert_eq!(in_block, delivery.landing().is_some());
        }
    }
}
