//! What a host writes down about itself where its death cannot take it: callbacks begun and returned, by thread and kind.
//!
//! A file that is mapped by host and supervisor. What a thread stored before it was killed is in the page cache.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use event_schema::Kind;
use memmap2::{MmapOptions, MmapRaw};

/// Threads of a host.
pub const THREADS: usize = 5;
/// Kinds that a callback makes.
pub const KINDS: [Kind; 5] = [
    Kind::Account,
    Kind::Slot,
    Kind::Transaction,
    Kind::Entry,
    Kind::BlockMeta,
];

/// Words before the counts.
const FACTS: usize = 8;
const WORDS: usize = FACTS + THREADS * KINDS.len() * 2;

/// What else a host tells.
#[derive(Debug, Clone, Copy)]
pub enum Fact {
    /// Unix microseconds, just before the plugin was loaded.
    Started,
    /// 1 once the plugin is loaded.
    Loaded,
    /// The last slot for which a callback was begun; 0 for none.
    LastSlot,
    /// The last slot that was reported as rooted; 0 for none.
    Rooted,
    /// 1 once nothing is driven any more.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub struct CountSheet(MmapRaw);

/// Counts of one kind over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Callbacks {
    pub begun: u64,
    pub returned: u64,
}

impl CountSheet {
    /// A new one, all zero.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)?;
        file.set_len((WORDS * 8) as u64)?;
        Self::map(&file)
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != (WORDS * 8) as u64 {
            return Err(io::Error::other("not a count sheet of this program"));
        }
        Self::map(&file)
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(WORDS * 8).map_raw(file)?))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; everybody uses it as an atomic.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(index)) }
    }

    pub fn set(&self, fact: Fact, value: u64) {
        self.word(fact as usize).store(value, Ordering::Release);
    }

    pub fn get(&self, fact: Fact) -> u64 {
        self.word(fact as usize).load(Ordering::Acquire)
    }

    /// Makes a callback, written down before and after.
    pub fn around(&self, thread: usize, kind: Kind, callback: impl FnOnce()) {
        let place = FACTS + (thread * KINDS.len() + place_of(kind)) * 2;
        // One thread writes here.
        let raise = |word: &AtomicU64| {
            word.store(word.load(Ordering::Relaxed) + 1, Ordering::Release);
        };
        raise(self.word(place));
        callback();
        raise(self.word(place + 1));
    }

    pub fn callbacks(&self, kind: Kind) -> Callbacks {
        let mut sum = Callbacks::default();
        for thread in 0..THREADS {
            let place = FACTS + (thread * KINDS.len() + place_of(kind)) * 2;
            sum.begun += self.word(place).load(Ordering::Acquire);
            sum.returned += self.word(place + 1).load(Ordering::Acquire);
        }
        sum
    }

    /// The most callbacks that one thread had begun and not returned from.
    pub fn deepest(&self) -> u64 {
        let unreturned = |thread: usize| {
            (0..KINDS.len())
                .map(|kind| {
                    let place = FACTS + (thread * KINDS.len() + kind) * 2;
                    let [begun, returned] =
                        [place, place + 1].map(|word| self.word(word).load(Ordering::Acquire));
                    begun - returned
                })
                .sum::<u64>()
        };
        (0..THREADS).map(unreturned).max().unwrap_or(0)
    }
}

fn place_of(kind: Kind) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_mapping_sees_what_the_first_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet");
        let sheet = CountSheet::create(&path).unwrap();
        let other = CountSheet::open(&path).unwrap();
        for _ in 0..3 {
            sheet.around(4, Kind::BlockMeta, || {});
        }
        sheet.around(0, Kind::BlockMeta, || {
            let seen = other.callbacks(Kind::BlockMeta);
            assert_eq!((seen.begun, seen.returned), (4, 3));
            assert_eq!(other.deepest(), 1);
        });
        sheet.set(Fact::Rooted, 77);
        assert_eq!(other.get(Fact::Rooted), 77);
        assert_eq!(other.callbacks(Kind::Account), Callbacks::default());
        assert_eq!(other.callbacks(Kind::BlockMeta).returned, 4);
        assert_eq!(other.deepest(), 0);
    }
}
