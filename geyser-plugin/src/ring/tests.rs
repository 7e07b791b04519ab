use std::{collections::VecDeque, sync::atomic::AtomicBool};

use event_schema::SourceId;
use proptest::prelude::*;

use super::*;
use crate::shared_memory::Sizes;

fn ring(records: u64, bytes: u64) -> Ring {
    let sizes = Sizes {
        records,
        record_bytes: bytes,
        seals: 1,
        seal_bytes: 64,
    };
    let memory = SharedMemory::anonymous(sizes, SourceId::default(), &[]).unwrap();
    Ring::new(Arc::new(memory), Which::Records)
}

fn note(slot: u64) -> Note {
    Note {
        slot,
        tag: 1,
        ..Note::default()
    }
}

fn push(ring: &Ring, slot: u64, value: &[u8]) -> Result<(), Full> {
    let mut reservation = ring.reserve(value.len())?;
    reservation.room()[..value.len()].copy_from_slice(value);
    reservation.commit(note(slot), value.len());
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    /// Reserved, then given up.
    GiveUp(usize),
    /// Reads some and releases those.
    Take(usize),
}

proptest! {
    /// Against a plain queue: what goes in comes out, in order, and room is refused exactly when there is none.
    #[test]
    fn it_is_a_bounded_queue(steps in proptest::collection::vec(prop_oneof![
        3 => (0_usize..900).prop_map(Step::Push),
        1 => (0_usize..900).prop_map(Step::GiveUp),
        2 => (1_usize..6).prop_map(Step::Take),
    ], 1..400)) {
        let ring = ring(16, 4096);
        let mut model: VecDeque<Option<(u64, Vec<u8>)>> = VecDeque::new();
        let mut first = ring.first();
        for (serial, step) in steps.into_iter().enumerate() {
            let serial = serial as u64;
            match step {
                Step::Push(length) => {
                    let value: Vec<u8> = (0..length).map(|i| (i as u64 ^ serial) as u8).collect();
                    match push(&ring, serial, &value) {
                        Ok(()) => model.push_back(Some((serial, value))),
                        Err(Full::Records) => prop_assert_eq!(model.len(), 16),
                        // At most one record's length is lost to the end of the ring.
                        Err(Full::Bytes) => prop_assert!(ring.held_bytes() + 2 * length.max(1).next_multiple_of(64) > 4096),
                    }
                }
                Step::GiveUp(length) => if let Ok(reservation) = ring.reserve(length) {
                    drop(reservation);
                    model.push_back(None);
                }
                Step::Take(count) => {
                    let mut next = first;
                    for _ in 0..count {
                        let Some(expected) = model.pop_front() else { break };
                        let held = ring.get(next).unwrap();
                        match expected {
                            Some((slot, value)) => {
                                prop_assert_eq!(held.note(), note(slot));
                                prop_assert_eq!(held.bytes(0), value);
                            }
                            None => prop_assert_eq!(held.note().tag, 0),
                        }
                        next = following(next);
                    }
                    first = ring.release(first, next);
                    prop_assert_eq!(first, next);
                }
            }
            prop_assert_eq!(ring.len(), model.len());
        }
    }
}

#[test]
fn what_is_not_committed_hides_what_follows_and_nothing_else() {
    let ring = ring(8, 1024);
    let slow = ring.reserve(10).unwrap();
    push(&ring, 2, b"second").unwrap();
    assert!(ring.get(0).is_none());
    slow.commit(note(1), 0);
    assert_eq!(ring.get(0).unwrap().note().slot, 1);
    assert_eq!(ring.get(1).unwrap().bytes(0), b"second");
    // Not reserved yet, and after a whole lap still told apart from what lies there.
    assert!(ring.get(2).is_none());
    for slot in 3..100 {
        let first = ring.release(ring.first(), ring.next());
        push(&ring, slot, b"x").unwrap();
        assert_eq!(ring.get(first).unwrap().note().slot, slot);
        assert!(ring.get(following(first)).is_none());
    }
}

#[test]
fn a_record_waits_for_its_reports() {
    let ring = ring(8, 1024);
    for slot in 0..3 {
        push(&ring, slot, &[0; 16]).unwrap();
    }
    let held = ring.get(1).unwrap();
    held.expect();
    held.word(1).unwrap().store(7, Ordering::Relaxed);
    assert!(held.word(2).is_none());
    assert_eq!(ring.release(0, 3), 1);
    assert_eq!(ring.len(), 2);
    ring.settle(1);
    assert_eq!(ring.release(1, 3), 3);
    assert!(ring.is_empty() && ring.held_bytes() == 0);
}

/// Numbers wrap after 2²⁴ records, positions after 2⁴⁰ units: both are passed here.
#[test]
fn it_wraps() {
    let ring = ring(4, 256);
    let near = pack(NUMBER_MASK - 5, UNITS_MASK - 13);
    ring.heads().reserved.0.store(near, Ordering::Relaxed);
    ring.heads().released.0.store(near, Ordering::Relaxed);
    let mut first = ring.first();
    for slot in 0..50_u64 {
        push(&ring, slot, &slot.to_le_bytes()).unwrap();
        push(&ring, slot, &[7; 100]).unwrap();
        assert_eq!(ring.get(first).unwrap().bytes(0), slot.to_le_bytes());
        first = ring.release(first, ring.next());
        assert!(ring.is_empty());
    }
}

#[test]
fn threads_lose_and_tear_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 60_000;
    let ring = ring(256, 1 << 15);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let ring = &ring;
                scope.spawn(move || {
                    for serial in 0..EACH {
                        let length = 8 + ((serial * 37 + thread) % 300) as usize;
                        loop {
                            let Ok(mut room) = ring.reserve(length) else {
                                std::thread::yield_now();
                                continue;
                            };
                            room.room()[..length].fill((serial ^ thread) as u8);
                            room.commit(note(thread << 32 | serial), length);
                            break;
                        }
                    }
                })
            })
            .collect();
        let (ring, done) = (&ring, &done);
        let reader = scope.spawn(move || {
            let mut next = [0_u64; THREADS as usize];
            let mut first = ring.first();
            loop {
                let finished = done.load(Ordering::Acquire);
                let mut number = first;
                while number != ring.next() {
                    let Some(held) = ring.get(number) else { break };
                    let (thread, serial) = (held.note().slot >> 32, held.note().slot & 0xffff_ffff);
                    assert_eq!(serial, next[thread as usize], "each thread's order is kept");
                    next[thread as usize] += 1;
                    let length = 8 + ((serial * 37 + thread) % 300) as usize;
                    assert_eq!(held.bytes(0).len(), length);
                    assert!(
                        held.bytes(0)
                            .iter()
                            .all(|byte| *byte == (serial ^ thread) as u8)
                    );
                    number = following(number);
                }
                if number == first && finished {
                    return next;
                }
                first = ring.release(first, number);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
        assert_eq!(reader.join().unwrap(), [EACH; THREADS as usize]);
    });
}
