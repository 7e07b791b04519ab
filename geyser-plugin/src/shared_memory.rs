//! The memory that callbacks write into: one mapping, laid out once, that outlives the process when it lies in a file.
//!
//! By default the file is in `/dev/shm`: memory with a name. A validator that is killed leaves it behind, and the next
//! instance of the plugin finds every record that the dead one had accepted and Kafka had not acknowledged. A file on a real
//! file system would be wrong here: the kernel may stop a thread that touches a page while it is written back.
//!
//! ```text
//! Header | descriptors and bytes of the records' ring | descriptors and bytes of the seals' ring
//! ```
//!
//! Everything is allocated and touched at load, so that no callback meets a page fault.

#![allow(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    mem::offset_of,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use event_schema::{Pubkey, SourceId};
use memmap2::{MmapOptions, MmapRaw};

use crate::{lane::Lanes, observation::Outputs};

/// First bytes of the file; the last two name the layout, and change with it.
const MAGIC: u64 = u64::from_le_bytes(*b"HELIOR02");
/// In its place while the memory is made anew over an older one: only [`Header::carried`] means anything.
const CARRIED: u64 = u64::from_le_bytes(*b"HELIOC02");

/// A counter that shares its cache line with nothing: callbacks on different cores raise different ones.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Padded(pub AtomicU64);

/// Counters in one line that, as a rule, one thread raises; see [`Header::tally`].
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Tally([AtomicU64; Tally::PLACES]);

impl Tally {
    pub const PLACES: usize = 8;

    /// Raises a counter; returns what it was.
    #[inline]
    pub fn raise(&self, place: usize) -> u64 {
        self.0[place].fetch_add(1, Ordering::Relaxed)
    }
}

/// How many threads may count without meeting another, if chance is kind.
const TALLIES: usize = 16;

/// Where a ring stands. Both pack a record's number (24 bits) and a position in 64-byte units (40 bits); see `ring.rs`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Heads {
    /// Callbacks reserve here.
    pub reserved: Padded,
    /// The worker gives back here.
    pub released: Padded,
}

/// How large the two rings are. Counts of records are powers of two; bytes are powers of two of at least 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Sizes {
    pub records: u64,
    pub record_bytes: u64,
    pub seals: u64,
    pub seal_bytes: u64,
}

/// Start of the mapping. Written by one instance at a time; atomics are what several threads write.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// Written last, so that a file without it was never finished.
    magic: AtomicU64,
    sizes: Sizes,
    validator: [u8; 32],
    instance: u64,
    outputs: u64,
    /// Accounts, transactions, slots and first lane of every output.
    lanes: [[u16; 4]; Outputs::MAX],
    pub records: Heads,
    pub seals: Heads,
    /// Of releases that counted callbacks here, by kind; zeros otherwise.
    _callbacks: [Padded; 16],
    /// By reason.
    pub lost: [Padded; 16],
    /// Of those releases, too: callbacks that no output records.
    _filtered: Padded,
    /// Next sequence of every lane.
    pub sequences: [AtomicU64; Lanes::MAX],
    // A release before these fields left zeros here.
    /// What killed instances in a row before this one had lost, all together.
    pub killed_lost: Padded,
    /// Records out of an earlier instance's spill that Kafka refused.
    pub inherited_lost: Padded,
    /// [`Header::killed_lost`] of the memory that is being made.
    carried: Padded,
    /// Of callbacks.
    tallies: [Tally; TALLIES],
}

impl Header {
    /// Of the calling thread, more or less: two threads that raise one counter hand its line to and fro, which costs each
    /// of them as much as the rest of a small callback. Threads are told apart by where their stacks lie. A
    /// thread-local would be the usual means, but that of a loaded library is allocated when a thread first touches it.
    #[inline]
    pub fn tally(&self) -> &Tally {
        let here = 0_u8;
        // Stacks are a few MiB apart; the multiplication spreads what is left.
        let stack = (&raw const here).addr() as u64 >> 20;
        let place = stack.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TALLIES.ilog2());
        &self.tallies[place as usize]
    }

    /// The sum of a counter over all tallies.
    pub fn tallied(&self, place: usize) -> u64 {
        // Of a killed instance's memory too, which is not taken on trust.
        self.tallies
            .iter()
            .map(|tally| tally.0[place].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

const PAGE: usize = 4096;
const HEADER_BYTES: usize = size_of::<Header>().next_multiple_of(PAGE);
// The rings begin there under this magic.
const _: () = assert!(HEADER_BYTES == 3 * PAGE);
/// Bytes of a descriptor; `ring.rs` asserts it.
pub const DESCRIPTOR_BYTES: usize = 64;

impl Sizes {
    /// Descriptors first, then bytes.
    fn records_at(self) -> usize {
        HEADER_BYTES
    }

    fn seals_at(self) -> usize {
        self.records_at() + self.records as usize * DESCRIPTOR_BYTES + self.record_bytes as usize
    }

    fn total(self) -> usize {
        self.seals_at() + self.seals as usize * DESCRIPTOR_BYTES + self.seal_bytes as usize
    }

    fn are_sound(self) -> bool {
        let count = |count: u64| count.is_power_of_two() && count <= 1 << 22;
        let bytes = |bytes: u64| bytes.is_power_of_two() && (64..=1 << 36).contains(&bytes);
        count(self.records)
            && count(self.seals)
            && bytes(self.record_bytes)
            && bytes(self.seal_bytes)
    }
}

/// What an earlier instance left under a name.
#[derive(Debug)]
pub enum Left {
    /// Nothing, or nothing that can be read.
    Nothing,
    /// Whoever has it holds its lock.
    Memory(SharedMemory),
    /// It was killed while it made its memory; this much is lost by those killed before it.
    Carried(u64),
}

/// See the module.
#[derive(Debug)]
pub struct SharedMemory {
    map: MmapRaw,
    sizes: Sizes,
    /// Held for its lock; `None` for memory without a name.
    file: Option<(File, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SharedMemoryError {
    pub path: String,
    pub problem: String,
}

impl SharedMemory {
    /// Memory that ends with the process.
    pub fn anonymous(sizes: Sizes, source: SourceId, outputs: &[Lanes]) -> io::Result<Self> {
        let map = MmapOptions::new()
            .len(sizes.total())
            .populate()
            .map_anon()?;
        let memory = Self {
            map: MmapRaw::from(map),
            sizes,
            file: None,
        };
        memory.start(source, outputs);
        Ok(memory)
    }

    pub fn left_behind(path: &Path) -> Result<Left, SharedMemoryError> {
        let failed = |error: io::Error| at(path, error.to_string());
        let file = match options().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
            Err(error) => return Err(failed(error)),
        };
        lock(&file, path)?;
        let length = file.metadata().map_err(failed)?.size() as usize;
        if length < HEADER_BYTES {
            return Ok(Left::Nothing);
        }
        let map = MmapOptions::new()
            .len(length)
            .map_raw(&file)
            .map_err(failed)?;
        // SAFETY: the mapping is at least a header long and page-aligned, and any bytes are a valid `Header`.
        let header = unsafe { &*map.as_ptr().cast::<Header>() };
        let sizes = header.sizes;
        Ok(match header.magic.load(Ordering::Acquire) {
            CARRIED => Left::Carried(header.carried.0.load(Ordering::Relaxed)),
            MAGIC if sizes.are_sound() && sizes.total() == length => Left::Memory(Self {
                map,
                sizes,
                file: Some((file, path.to_owned())),
            }),
            _ => Left::Nothing,
        })
    }

    /// New memory under this name, with every page in place. What was there before is gone, but for `killed_lost`: whoever
    /// is killed on the way leaves that to the next.
    pub fn create(
        path: &Path,
        sizes: Sizes,
        source: SourceId,
        outputs: &[Lanes],
        killed_lost: u64,
    ) -> Result<Self, SharedMemoryError> {
        let failed = |error: io::Error| at(path, error.to_string());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let file = options().create(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        carry(&file, killed_lost).map_err(failed)?;
        rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            0,
            sizes.total() as u64,
        )
        .map_err(|error| {
            // An empty file takes nothing; without the space it must not stay at its full length.
            let _ = file.set_len(0);
            at(
                path,
                format!("{} MiB cannot be allocated: {error}", sizes.total() >> 20),
            )
        })?;
        let map = MmapOptions::new()
            .len(sizes.total())
            .populate()
            .map_raw(&file)
            .map_err(failed)?;
        let memory = Self {
            map,
            sizes,
            file: Some((file, path.to_owned())),
        };
        memory
            .header()
            .killed_lost
            .0
            .store(killed_lost, Ordering::Relaxed);
        memory.start(source, outputs);
        Ok(memory)
    }

    fn start(&self, source: SourceId, outputs: &[Lanes]) {
        // Never paged out: a callback must not wait for a disk. Not every user may ask for it.
        let _ = self.map.lock();
        let header = self.map.as_mut_ptr().cast::<Header>();
        let mut lanes = [[0; 4]; Outputs::MAX];
        for (place, output) in lanes.iter_mut().zip(outputs) {
            *place = [
                output.accounts,
                output.transactions,
                output.slots,
                output.first,
            ];
        }
        // SAFETY: the mapping is long enough and page-aligned, what is not written here is zero but for what is carried over,
        // and nobody else knows it yet.
        unsafe {
            (&raw mut (*header).sizes).write(self.sizes);
            (&raw mut (*header).validator).write(source.validator.0);
            (&raw mut (*header).instance).write(source.instance);
            (&raw mut (*header).outputs).write(outputs.len() as u64);
            (&raw mut (*header).lanes).write(lanes);
        }
        self.header().magic.store(MAGIC, Ordering::Release);
    }

    pub fn header(&self) -> &Header {
        // SAFETY: the mapping holds a header for as long as `self` lives; after `start` only its atomics are written.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The instance that wrote here.
    pub fn source(&self) -> SourceId {
        let header = self.header();
        SourceId {
            validator: Pubkey(header.validator),
            instance: header.instance,
        }
    }

    /// Of the outputs it was made for.
    pub fn lanes(&self) -> Vec<Lanes> {
        let header = self.header();
        let count = (header.outputs as usize).min(Outputs::MAX);
        header.lanes[..count]
            .iter()
            .map(|[accounts, transactions, slots, first]| Lanes {
                accounts: *accounts,
                transactions: *transactions,
                slots: *slots,
                first: *first,
            })
            .collect()
    }

    /// Whether it outlives the process.
    pub fn is_named(&self) -> bool {
        self.file.is_some()
    }

    /// Descriptors and bytes of the ring for records.
    pub(crate) fn records(&self) -> (*mut u8, *mut u8) {
        self.parts(self.sizes.records_at(), self.sizes.records)
    }

    /// Descriptors and bytes of the ring for seals.
    pub(crate) fn seals(&self) -> (*mut u8, *mut u8) {
        self.parts(self.sizes.seals_at(), self.sizes.seals)
    }

    fn parts(&self, at: usize, count: u64) -> (*mut u8, *mut u8) {
        let start = self.map.as_mut_ptr();
        // SAFETY: both are inside the mapping, see `Sizes::total`.
        unsafe {
            (
                start.add(at),
                start.add(at + count as usize * DESCRIPTOR_BYTES),
            )
        }
    }

    /// Nothing in it is needed any more.
    pub fn remove(&self) {
        if let Some((_, path)) = &self.file {
            // Only its name: who still looks at its counters must find them.
            let _ = fs::remove_file(path);
        }
    }

    /// As [`SharedMemory::remove`], when nothing was ever written to its rings; what those before it had lost stays to be told.
    pub fn give_up(&self) {
        let killed_lost = self.header().killed_lost.0.load(Ordering::Relaxed);
        match &self.file {
            Some((file, _)) if killed_lost > 0 && carry(file, killed_lost).is_ok() => {}
            _ => self.remove(),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // What accounts hold is public; what this validator saw first is its owner's.
    options.read(true).write(true).mode(0o600);
    options
}

/// Empties the file but for what must outlive a kill on the way: what is allocated anew behind it is zero. Written as to a
/// file, not to memory, which without room for the page would be a bus error.
fn carry(file: &File, killed_lost: u64) -> io::Result<()> {
    file.write_all_at(
        &killed_lost.to_ne_bytes(),
        offset_of!(Header, carried) as u64,
    )?;
    // From here on the older memory is none.
    file.write_all_at(&CARRIED.to_ne_bytes(), offset_of!(Header, magic) as u64)?;
    let between = [0; offset_of!(Header, carried) - size_of::<u64>()];
    file.write_all_at(&between, size_of::<u64>() as u64)?;
    file.set_len(HEADER_BYTES as u64)
}

fn lock(file: &File, path: &Path) -> Result<(), SharedMemoryError> {
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => at(
            path,
            "in use by another plugin instance; give each its own `name`".into(),
        ),
        fs::TryLockError::Error(error) => at(path, error.to_string()),
    })
}

fn at(path: &Path, problem: String) -> SharedMemoryError {
    SharedMemoryError {
        path: path.display().to_string(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        records: 1024,
        record_bytes: 1 << 20,
        seals: 64,
        seal_bytes: 1 << 16,
    };

    const LANES: Lanes = Lanes {
        accounts: 3,
        transactions: 2,
        slots: 1,
        first: 0,
    };

    fn source(instance: u64) -> SourceId {
        SourceId {
            validator: Pubkey([9; 32]),
            instance,
        }
    }

    #[test]
    fn what_was_written_is_found_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        assert!(matches!(
            SharedMemory::left_behind(&path).unwrap(),
            Left::Nothing
        ));
        let memory = SharedMemory::create(&path, SIZES, source(5), &[LANES], 0).unwrap();
        memory.header().lost[1].0.store(77, Ordering::Relaxed);
        // Two at a time cannot have it.
        let error = SharedMemory::create(&path, SIZES, source(6), &[LANES], 0).unwrap_err();
        assert!(error.to_string().contains("own `name`"), "{error}");
        drop(memory);
        let Left::Memory(memory) = SharedMemory::left_behind(&path).unwrap() else {
            panic!("it was complete");
        };
        assert_eq!((memory.source(), memory.sizes()), (source(5), SIZES));
        assert_eq!(memory.lanes(), [LANES]);
        assert_eq!(memory.header().lost[1].0.load(Ordering::Relaxed), 77);
        drop(memory);
        let memory = SharedMemory::create(&path, SIZES, source(6), &[LANES], 9).unwrap();
        assert_eq!(memory.header().lost[1].0.load(Ordering::Relaxed), 0);
        assert_eq!(memory.header().killed_lost.0.load(Ordering::Relaxed), 9);
        memory.remove();
        assert!(!path.exists());
    }

    /// Killed at any moment of making its memory, the next one still knows what those before had lost.
    #[test]
    fn what_was_lost_outlives_a_kill_while_the_memory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        let carried = || match SharedMemory::left_behind(&path).unwrap() {
            Left::Carried(lost) => Some(lost),
            Left::Memory(_) | Left::Nothing => None,
        };
        let memory = SharedMemory::create(&path, SIZES, source(5), &[LANES], 0).unwrap();
        memory.header().lost[0].0.store(7, Ordering::Relaxed);
        drop(memory);
        let file = options().open(&path).unwrap();
        carry(&file, 7).unwrap();
        assert_eq!(carried(), Some(7));
        // Its room is there, its header not yet.
        file.set_len(SIZES.total() as u64).unwrap();
        assert_eq!(carried(), Some(7));
        drop(file);
        let memory = SharedMemory::create(&path, SIZES, source(6), &[LANES], 7).unwrap();
        assert_eq!(memory.header().lost[0].0.load(Ordering::Relaxed), 0);
        // Refused after all.
        memory.give_up();
        drop(memory);
        assert_eq!(carried(), Some(7));
        let memory = SharedMemory::create(&path, SIZES, source(7), &[LANES], 0).unwrap();
        memory.give_up();
        assert!(!path.exists());
    }

    #[test]
    fn every_thread_s_count_is_in_the_sum() {
        let memory = SharedMemory::anonymous(SIZES, source(1), &[LANES]).unwrap();
        let header = memory.header();
        let places: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            header.tally().raise(3);
                        }
                        (&raw const *header.tally()).addr()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!((header.tallied(3), header.tallied(2)), (12_000, 0));
        let apart: std::collections::BTreeSet<usize> = places.into_iter().collect();
        assert!(apart.len() >= 4, "{} tallies for 12 threads", apart.len());
    }

    #[test]
    fn foreign_or_unfinished_files_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        for length in [0, 10, 1 << 20] {
            fs::write(&path, vec![0xab; length]).unwrap();
            assert!(matches!(
                SharedMemory::left_behind(&path).unwrap(),
                Left::Nothing
            ));
        }
        drop(SharedMemory::create(&path, SIZES, source(5), &[LANES], 0).unwrap());
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        assert!(matches!(
            SharedMemory::left_behind(&path).unwrap(),
            Left::Nothing
        ));
    }
}
