//! Many callbacks → one worker: a bounded ring of records, written in place.
//!
//! A callback reserves a descriptor and a range of bytes with one compare-and-swap, writes, and commits by storing a stamp.
//! The worker reads committed records in the order of reservation and gives them back in that order, once nobody needs them.
//! Nobody waits for anybody: a full ring is an answer, and a reservation that another thread has not committed yet only
//! hides the records behind it from the worker.
//!
//! Record number (24 bits) and byte position (40 bits, in units of 64 bytes) are packed into one 64-bit word, so that both
//! move together. Both wrap; a ring has at most 2²² records and 2³⁰ units, so old and new are never confused. A descriptor's
//! stamp is its record's number: what an earlier lap left there is another number.

#![allow(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::shared_memory::{DESCRIPTOR_BYTES, Heads, SharedMemory};

/// Bytes are handed out in cache lines: neighbours on different cores do not share one.
const UNIT: u64 = 64;
const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const UNITS_MASK: u64 = (1 << (64 - NUMBER_BITS)) - 1;
/// Cache lines that are asked for ahead of a reservation, and how far ahead they begin: an account of the commonest size
/// takes seven.
const LINES_AHEAD: u64 = 8;
const LINES_SKIPPED: u64 = 4;
/// Set in the stamp of a committed record, so that zeroed memory is none.
const COMMITTED: u32 = 1 << 31;

/// What is written beside a record's bytes. Its meaning is the caller's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    pub slot: u64,
    pub a: u64,
    pub b: u64,
    /// 0 is kept for records that were given up while they were written.
    pub tag: u8,
    /// Length of the first part of the bytes.
    pub head: u8,
    pub x: u8,
    pub y: u8,
}

#[repr(C, align(64))]
struct Descriptor {
    stamp: AtomicU32,
    /// What somebody else still has to say about the record before it may be released.
    outstanding: AtomicU32,
    note: Note,
    /// Position behind the record.
    end: u64,
    /// In units from the start of the bytes.
    start: u32,
    length: u32,
}

const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR_BYTES);

/// Why a record found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Records,
    Bytes,
}

/// See the module. Clones are the same ring.
#[derive(Debug, Clone)]
pub struct Ring {
    memory: Arc<SharedMemory>,
    which: Which,
    descriptors: *mut Descriptor,
    bytes: *mut u8,
    /// Less one.
    records_mask: u64,
    units: u64,
}

/// The two rings of a [`SharedMemory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Records,
    Seals,
}

// SAFETY: the pointers lead into the mapping that `memory` keeps alive. What they lead to is written by one thread at a time:
// between reservation and commit by the reserving one, between commit and release by nobody but through atomics.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

const fn number(packed: u64) -> u64 {
    packed >> (64 - NUMBER_BITS)
}

const fn position(packed: u64) -> u64 {
    packed & UNITS_MASK
}

const fn pack(number: u64, position: u64) -> u64 {
    (number & NUMBER_MASK) << (64 - NUMBER_BITS) | position & UNITS_MASK
}

const fn stamp_of(number: u64) -> u32 {
    (number & NUMBER_MASK) as u32 | COMMITTED
}

impl Ring {
    pub fn new(memory: Arc<SharedMemory>, which: Which) -> Self {
        let sizes = memory.sizes();
        let ((descriptors, bytes), records, size) = match which {
            Which::Records => (memory.records(), sizes.records, sizes.record_bytes),
            Which::Seals => (memory.seals(), sizes.seals, sizes.seal_bytes),
        };
        Self {
            memory,
            which,
            // Page- or line-aligned, see `SharedMemory`.
            descriptors: descriptors.cast(),
            bytes,
            records_mask: records - 1,
            units: size / UNIT,
        }
    }

    fn heads(&self) -> &Heads {
        let header = self.memory.header();
        match self.which {
            Which::Records => &header.records,
            Which::Seals => &header.seals,
        }
    }

    fn descriptor(&self, number: u64) -> *mut Descriptor {
        // SAFETY: the mask keeps the index below the number of descriptors.
        unsafe { self.descriptors.add((number & self.records_mask) as usize) }
    }

    /// Asks for the line that the next reservation will write. Reading it first and writing it then would fetch it twice from
    /// a thread that has just done the same.
    #[inline]
    pub fn approach(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch touches nothing, and processors that do not know this one take it for no instruction. The
        // intrinsic would become a prefetch for reading on the baseline that this is built for.
        unsafe {
            std::arch::asm!(
                "prefetchw [{line}]",
                line = in(reg) &raw const self.heads().reserved,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Room for a record of at most `most` bytes. Never waits.
    pub fn reserve(&self, most: usize) -> Result<Reservation<'_>, Full> {
        let need = (most as u64).div_ceil(UNIT).max(1);
        let heads = self.heads();
        let mut head = heads.reserved.0.load(Ordering::Relaxed);
        loop {
            // Acquire: what the worker read there is read.
            let released = heads.released.0.load(Ordering::Acquire);
            let used = number(head).wrapping_sub(number(released)) & NUMBER_MASK;
            if used > self.records_mask {
                return Err(Full::Records);
            }
            let at = position(head) & (self.units - 1);
            // A record is in one piece: what is left before the end is skipped.
            let skip = if at + need > self.units {
                self.units - at
            } else {
                0
            };
            let used = position(head).wrapping_sub(position(released)) & UNITS_MASK;
            if used + skip + need > self.units {
                return Err(Full::Bytes);
            }
            let end = position(head) + skip + need;
            match heads.reserved.0.compare_exchange_weak(
                head,
                pack(number(head) + 1, end),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let start = (position(head) + skip) & (self.units - 1);
                    self.fetch_ahead(number(head) + 2, end);
                    return Ok(Reservation {
                        ring: self,
                        number: number(head),
                        start,
                        end: end & UNITS_MASK,
                        capacity: (need * UNIT) as usize,
                        committed: false,
                    });
                }
                Err(now) => head = now,
            }
        }
    }

    /// Asks for the memory that the next records will be written to. The ring is larger than any cache, so a record's lines
    /// are far away when it is written; the next locked instruction would wait for all of them.
    #[inline]
    fn fetch_ahead(&self, number: u64, end: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: a prefetch touches nothing; the addresses are inside the mapping all the same.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(self.descriptor(number).cast());
                for ahead in 0..LINES_AHEAD {
                    let unit = (end + LINES_SKIPPED + ahead) & (self.units - 1);
                    _mm_prefetch::<_MM_HINT_ET0>(self.bytes.add((unit * UNIT) as usize).cast());
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (number, end);
    }

    /// Records reserved and not released.
    pub fn len(&self) -> usize {
        let heads = self.heads();
        let released = heads.released.0.load(Ordering::Acquire);
        let reserved = heads.reserved.0.load(Ordering::Acquire);
        (number(reserved).wrapping_sub(number(released)) & NUMBER_MASK) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes reserved and not released.
    pub fn held_bytes(&self) -> usize {
        let heads = self.heads();
        let released = heads.released.0.load(Ordering::Acquire);
        let reserved = heads.reserved.0.load(Ordering::Acquire);
        ((position(reserved).wrapping_sub(position(released)) & UNITS_MASK) * UNIT) as usize
    }

    pub fn capacity_records(&self) -> usize {
        self.records_mask as usize + 1
    }

    pub fn capacity_bytes(&self) -> usize {
        (self.units * UNIT) as usize
    }

    /// The first number that is not released, for who reads a ring from its beginning.
    pub fn first(&self) -> u64 {
        number(self.heads().released.0.load(Ordering::Acquire))
    }

    /// The number that the next reservation gets.
    pub fn next(&self) -> u64 {
        number(self.heads().reserved.0.load(Ordering::Acquire))
    }

    /// The record, once it is committed. The caller is the one reader and asks only for numbers between [`Ring::first`] and
    /// [`Ring::next`].
    pub fn get(&self, number: u64) -> Option<Held<'_>> {
        let descriptor = self.descriptor(number);
        // SAFETY: inside the mapping; the stamp is only touched as an atomic.
        let stamp = unsafe { &(*descriptor).stamp };
        if stamp.load(Ordering::Acquire) != stamp_of(number) {
            return None;
        }
        // SAFETY: committed, so its writer is done with it (the stamp was stored with release), and until it is released
        // nobody writes it but through atomics.
        let descriptor = unsafe { &*descriptor };
        let start = u64::from(descriptor.start) * UNIT;
        let length = descriptor.length as usize;
        // What an earlier process left is not taken on trust.
        if start as usize + length > self.capacity_bytes()
            || usize::from(descriptor.note.head) > length
        {
            return None;
        }
        Some(Held {
            descriptor,
            // SAFETY: inside the bytes, as was just checked.
            start: unsafe { self.bytes.add(start as usize) },
        })
    }

    /// The descriptor of a record that is not released, for a thread that only counts down.
    fn reported(&self, number: u64) -> &Descriptor {
        // SAFETY: what is touched through this reference by another thread than the worker are its atomics, and plain fields
        // that nobody writes before release.
        unsafe { &*self.descriptor(number) }
    }

    /// One of a record's outstanding reports is in.
    pub fn settle(&self, number: u64) {
        self.reported(number)
            .outstanding
            .fetch_sub(1, Ordering::AcqRel);
    }

    /// Gives back every record from `first` up to `end` that nobody waits for, in order; returns the first that is kept.
    pub fn release(&self, first: u64, end: u64) -> u64 {
        let mut number = first;
        let mut behind = None;
        while number != end & NUMBER_MASK {
            let descriptor = self.reported(number);
            if descriptor.outstanding.load(Ordering::Acquire) > 0 {
                break;
            }
            behind = Some(descriptor.end);
            number = (number + 1) & NUMBER_MASK;
        }
        if let Some(behind) = behind {
            self.heads()
                .released
                .0
                .store(pack(number, behind), Ordering::Release);
        }
        number
    }
}

/// The number after this one.
pub const fn following(number: u64) -> u64 {
    (number + 1) & NUMBER_MASK
}

/// Room that is this thread's until it commits. Dropped without a commit it becomes a record without content.
#[derive(Debug)]
pub struct Reservation<'a> {
    ring: &'a Ring,
    number: u64,
    start: u64,
    end: u64,
    capacity: usize,
    committed: bool,
}

impl Reservation<'_> {
    /// All the room there is, at least as much as was asked for. What is in it is undefined, though initialised.
    pub fn room(&mut self) -> &mut [u8] {
        // SAFETY: the range is inside the bytes, mapped and initialised, and reserved for this thread alone; `&mut self`
        // keeps this the only reference.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.ring.bytes.add((self.start * UNIT) as usize),
                self.capacity,
            )
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The first `length` bytes are the record.
    pub fn commit(mut self, note: Note, length: usize) {
        debug_assert!(length <= self.capacity && note.tag != 0);
        self.write(note, length.min(self.capacity));
    }

    fn write(&mut self, note: Note, length: usize) {
        self.committed = true;
        let descriptor = self.ring.descriptor(self.number);
        // SAFETY: the descriptor was reserved for this thread alone, and the worker does not look before the stamp is there.
        // Both numbers fit: a ring has at most 2³⁰ units, and no record is longer than 4 GiB.
        unsafe {
            (&raw mut (*descriptor).note).write(note);
            (&raw mut (*descriptor).end).write(self.end);
            (&raw mut (*descriptor).start).write(self.start as u32);
            (&raw mut (*descriptor).length).write(length as u32);
            (*descriptor).outstanding.store(0, Ordering::Relaxed);
            (*descriptor)
                .stamp
                .store(stamp_of(self.number), Ordering::Release);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.write(Note::default(), 0);
        }
    }
}

/// A committed record, as the reader sees it.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    descriptor: &'a Descriptor,
    start: *const u8,
}

impl<'a> Held<'a> {
    pub fn note(&self) -> Note {
        self.descriptor.note
    }

    /// The bytes behind the first `words` words.
    pub fn bytes(&self, words: usize) -> &'a [u8] {
        let length = self.descriptor.length as usize;
        let skipped = (words * 8).min(length);
        // SAFETY: inside the bytes, as `get` checked; nobody writes them before release.
        unsafe { std::slice::from_raw_parts(self.start.add(skipped), length - skipped) }
    }

    /// One of the words at the record's start, which the reader may write.
    pub fn word(&self, index: usize) -> Option<&'a AtomicU64> {
        let inside = (index + 1) * 8 <= self.descriptor.length as usize;
        // SAFETY: inside the record, aligned as records start on a line, and used as an atomic by everybody.
        inside
            .then(|| unsafe { AtomicU64::from_ptr(self.start.cast_mut().cast::<u64>().add(index)) })
    }

    /// Announces one more report that must come before the record is released.
    pub fn expect(&self) {
        self.descriptor.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    pub fn is_expecting(&self) -> bool {
        self.descriptor.outstanding.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests;
