use super::*;
use proptest::prelude::*;

use crate::delivery::{MAX_PROCESSING_AGE, Outcome};

fn hash(n: u64) -> Blockhash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[31] = 1;
    Blockhash(bytes)
}

fn id(n: u64) -> DeliveryId {
    DeliveryId(Uuid::from_u128(n.into()))
}

fn signature(n: u64) -> Signature {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Signature(bytes)
}

fn leader(n: u8) -> Pubkey {
    Pubkey([n; 32])
}

/// Delivery `n`, signed over the blockhash of block `blockhash`.
fn entry(n: u64, blockhash: u64) -> Entry {
    Entry {
        delivery: Delivery::new(signature(n), hash(blockhash), Lifetime::Unknown),
        wire: Bytes::from(n.to_le_bytes().to_vec()),
        accepted_at_ms: 0,
    }
}

fn block(n: u64, transactions: &[u64]) -> BlockSummary {
    BlockSummary {
        slot: Slot(n),
        blockhash: hash(n),
        parent: hash(n.wrapping_sub(1)),
        height: Some(n),
        transactions: transactions.iter().map(|n| (signature(*n), None)).collect(),
        partition: (n % 4) as u32,
        first_offset: n as i64,
        next_offset: n as i64 + 1,
    }
}

fn finalize(book: &mut Book, n: u64) {
    book.status(Slot(n), hash(n), Some(Commitment::Finalized));
}

#[test]
fn accepted_sent_landed_finalized_stored_and_gone() {
    let mut book = Book::default();
    book.turn(
        Turn {
            window: 1,
            repeat: 0,
        },
        vec![leader(1), leader(2)],
    );
    book.block(block(5, &[]));
    book.open(id(1), entry(1, 5));
    let sends = book.take_sends();
    assert_eq!(
        sends.iter().map(|send| send.leader).collect::<Vec<_>>(),
        [leader(1), leader(2)]
    );
    assert_eq!(
        book.get(id(1)).unwrap().delivery.lifetime,
        Lifetime::of_block(5)
    );
    book.block(block(6, &[1]));
    book.turn(
        Turn {
            window: 2,
            repeat: 0,
        },
        vec![leader(2), leader(3)],
    );
    assert_eq!(book.take_sends(), []);
    let changed = book.take_changed(false);
    assert_eq!(changed[0].1.state(), State::Landed);
    book.stored([id(1)]);
    assert_eq!(book.len(), 1, "not settled yet");
    finalize(&mut book, 6);
    let changed = book.take_changed(false);
    assert!(changed[0].1.settled());
    book.not_stored([id(1)]);
    assert_eq!(book.take_changed(false).len(), 1, "still behind");
    book.stored([id(1)]);
    assert!(book.is_empty());
    let states: Vec<State> = book.take_transitions().into_iter().map(|t| t.to).collect();
    assert_eq!(states, [State::Sending, State::Landed]);
}

#[test]
fn what_landed_before_it_was_accepted_is_known() {
    let mut book = Book::default();
    book.turn(
        Turn {
            window: 1,
            repeat: 0,
        },
        vec![leader(1)],
    );
    book.block(block(5, &[]));
    book.block(block(6, &[1]));
    finalize(&mut book, 6);
    book.open(id(1), entry(1, 5));
    assert_eq!(book.take_sends(), [], "nothing to send");
    assert!(book.take_changed(false)[0].1.settled());
}

#[test]
fn a_blockhash_learnt_later_gives_the_exact_life() {
    let mut book = Book::default();
    book.open(id(1), entry(1, 50));
    assert!(matches!(book.questions()[..], [Question::Lifetime { .. }]));
    book.learn_lifetime(id(1), Lifetime::seen_at(60, true));
    assert_eq!(book.questions(), []);
    book.block(block(50, &[]));
    assert_eq!(
        book.get(id(1)).unwrap().delivery.lifetime,
        Lifetime::of_block(50)
    );
}

#[test]
fn an_abandoned_block_sends_again_at_once() {
    let mut book = Book::default();
    book.turn(
        Turn {
            window: 1,
            repeat: 0,
        },
        vec![leader(1)],
    );
    book.open(id(1), entry(1, 5));
    assert_eq!(book.take_sends().len(), 1);
    book.block(block(6, &[1]));
    book.status(Slot(6), hash(6), None);
    assert_eq!(book.take_sends().len(), 1);
    let lost = Attempt {
        leader: leader(1),
        window_slot: 4,
        outcome: Outcome::ConnectionLost,
        took_us: 1,
    };
    book.attempt_ended(id(1), lost);
    assert_eq!(book.take_sends().len(), 1, "a lost attempt is repeated");
}

#[test]
fn a_finalized_block_counts_even_when_its_own_status_lags() {
    // The status of block 6, which holds it, waits in another partition; the chain is finalized far beyond its life.
    let mut book = Book::default();
    for n in 5..=(5 + MAX_PROCESSING_AGE + 5) {
        book.block(block(n, if n == 6 { &[1] } else { &[] }));
    }
    book.open(id(1), entry(1, 5));
    finalize(&mut book, 5 + MAX_PROCESSING_AGE + 5);
    book.expire_proven();
    let delivery = &book.get(id(1)).unwrap().delivery;
    assert_eq!(delivery.state(), State::Landed);
    assert!(delivery.settled());
}

#[test]
fn beyond_a_hole_the_validator_is_asked() {
    let mut book = Book::default();
    let end = 5 + MAX_PROCESSING_AGE + 1 + BLOCKS_BEFORE_ASKING;
    for n in (5..=end + 1).filter(|n| *n != 70) {
        book.block(block(n, &[]));
    }
    book.open(id(1), entry(1, 5));
    finalize(&mut book, end);
    book.expire_proven();
    assert_eq!(book.questions(), [], "a lagging partition gets time");
    finalize(&mut book, end + 1);
    book.expire_proven();
    assert_ne!(book.get(id(1)).unwrap().delivery.state(), State::Expired);
    assert!(matches!(book.questions()[..], [Question::Absence { .. }]));
    book.absent(id(1));
    assert_eq!(
        book.get(id(1)).unwrap().delivery.proof(),
        Some(Proof::Validator)
    );
    assert_eq!(book.questions(), []);
}

/// A chain with forks, told out of order and with holes, against the plain truth.
#[derive(Debug, Clone)]
struct World {
    /// Of each block of the finalized chain: does it hold a transaction (by index)?
    held: Vec<Option<u64>>,
    /// Blocks that the stream never tells.
    missing: Vec<usize>,
    /// A transaction may sit in a block beside the chain.
    beside: Option<(usize, u64)>,
    /// Order keys: blocks are told by height with this much disorder.
    jitter: Vec<u8>,
}

const DELIVERIES: u64 = 4;
const LENGTH: usize = 230;

fn world() -> impl Strategy<Value = World> {
    (
        proptest::collection::vec(proptest::option::weighted(0.02, 0..DELIVERIES), LENGTH),
        proptest::collection::vec(0..LENGTH, 0..2),
        proptest::option::of((1..LENGTH, 0..DELIVERIES)),
        proptest::collection::vec(0u8..8, LENGTH),
    )
        .prop_map(|(mut held, missing, beside, jitter)| {
            // A signature lands once on one fork, and only within its life (blocks 1 to 151 for blockhash 0).
            let mut seen = std::collections::HashSet::new();
            for (n, transaction) in held.iter_mut().enumerate() {
                if transaction
                    .is_some_and(|t| n == 0 || n as u64 > MAX_PROCESSING_AGE + 1 || !seen.insert(t))
                {
                    *transaction = None;
                }
            }
            World {
                held,
                missing,
                beside,
                jitter,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Never a false end: expired only what is in no finalized block, landed and settled only what is in one; and when
    /// the stream has no hole, everything comes to its end.
    #[test]
    fn ends_are_true(world in world()) {
        let mut book = Book::default();
        for n in 0..DELIVERIES {
            book.open(id(n), entry(n, 0));
        }
        let mut order: Vec<usize> = (0..LENGTH).collect();
        order.sort_by_key(|n| n + usize::from(world.jitter[*n]));
        for n in order {
            if let Some((at, transaction)) = world.beside && at == n {
                let mut beside = block(n as u64, &[transaction]);
                beside.blockhash = hash(10_000 + n as u64);
                book.block(beside);
            }
            if !world.missing.contains(&n) {
                let held: Vec<u64> = world.held[n].into_iter().collect();
                book.block(block(n as u64, &held));
                finalize(&mut book, n as u64);
            }
            book.expire_proven();
            for delivery in 0..DELIVERIES {
                let landed = world.held.contains(&Some(delivery));
                let judged = &book.get(id(delivery)).unwrap().delivery;
                if judged.state() == State::Expired {
                    prop_assert!(!landed, "{} expired and is in a block", delivery);
                }
                if judged.settled() && judged.state() == State::Landed {
                    prop_assert!(landed, "{} landed and is in none", delivery);
                }
            }
        }
        if world.missing.is_empty() {
            for delivery in 0..DELIVERIES {
                prop_assert!(book.get(id(delivery)).unwrap().delivery.settled());
            }
        }
    }
}
