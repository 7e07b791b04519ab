//! Records on disk while Kafka is away: append-only segments, checksummed, read back in order, bounded.
//!
//! Everything in a directory belongs to one instance at a time (a lock file says so). Segments that an earlier instance left
//! are drained first. A segment is deleted by the caller once Kafka has acknowledged all of it; a crash before that repeats
//! records with the same source and sequence, which readers recognise. Appends go to the page cache: they survive the
//! process, not a power cut.
//!
//! Segment: the 8 bytes `HELIOSP1`, then frames: body length u32, CRC-32 of the body u32, body. Body: topic u8 (output in its
//! upper half), key length u8, partition u32, header 62 bytes, key, value. Integers are little-endian.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use event_schema::{ObservedHeader, ObservedTopic};

const MAGIC: &[u8; 8] = b"HELIOSP1";
const FRAME_PREFIX_BYTES: u64 = 8;
const BODY_PREFIX_BYTES: usize = 1 + 1 + 4 + ObservedHeader::LENGTH;
/// Larger than any record: a greater length in a frame is damage.
const BODY_BYTES_MAX: u32 = 64 << 20;

/// Number of the first segment: there is always room before it.
const MIDDLE: u64 = 1 << 40;

/// A record as it is spilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Below 16.
    pub output: u8,
    pub topic: ObservedTopic,
    pub partition: u32,
    pub header: &'a [u8; ObservedHeader::LENGTH],
    pub key: &'a [u8],
    pub value: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    #[error("the spill holds its {0} bytes")]
    Full(u64),
    #[error("spill {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// A segment that was read to its end. [`Spill::delete`] it when its records are safe elsewhere.
#[derive(Debug)]
pub struct Finished {
    path: PathBuf,
    bytes: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// When its first record was written, or its last by an earlier instance.
    since: SystemTime,
    written: u64,
    read: u64,
}

/// A segment that [`Spill::prepend`] writes.
pub struct Prepended {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    frame: Vec<u8>,
}

impl Prepended {
    pub fn append(&mut self, frame: Frame<'_>) -> Result<(), SpillError> {
        encode(&mut self.frame, frame);
        self.written += self.frame.len() as u64;
        self.file
            .write_all(&self.frame)
            .map_err(|error| SpillError::Io(self.path.clone(), error))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Spill {
    dir: PathBuf,
    bytes_max: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    first_number: u64,
    next_number: u64,
    /// Appends to the last segment.
    writer: Option<File>,
    /// Reads the first one.
    reader: Option<BufReader<File>>,
    /// Body of the frame at the head, once read.
    head: Vec<u8>,
    head_ready: bool,
    frame: Vec<u8>,
    bytes: u64,
    damaged: u64,
    // Held for its lock.
    _lock: File,
}

impl Spill {
    /// Opens the directory, creating it when missing, and takes stock of what an earlier instance left.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, SpillError> {
        let failed = |error| SpillError::Io(dir.to_owned(), error);
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => failed(io::Error::other(
                "in use by another plugin instance; give each its own `spill.dir`, or its own `name`",
            )),
            TryLockError::Error(error) => failed(error),
        })?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".seg"))
                .and_then(|number| number.parse::<u64>().ok());
            if let Some(number) = number {
                let metadata = fs::metadata(&path).map_err(failed)?;
                found.push((
                    number,
                    Segment {
                        path,
                        since: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
                        written: metadata.len(),
                        read: 0,
                    },
                ));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            // Small enough that draining gives space back early.
            segment_bytes: (bytes_max / 8).clamp(1 << 20, 64 << 20),
            first_number: found.first().map_or(MIDDLE, |(number, _)| *number),
            next_number: found.last().map_or(MIDDLE, |(number, _)| number + 1),
            bytes: found.iter().map(|(_, segment)| segment.written).sum(),
            segments: found.into_iter().map(|(_, segment)| segment).collect(),
            writer: None,
            reader: None,
            head: Vec::new(),
            head_ready: false,
            frame: Vec::new(),
            damaged: 0,
            _lock: lock,
        })
    }

    /// Nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// On disk, segments that are read but not yet deleted included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segments whose rest could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    pub fn append(&mut self, frame: Frame<'_>) -> Result<(), SpillError> {
        encode(&mut self.frame, frame);
        let size = self.frame.len() as u64;
        if self.bytes + size + MAGIC.len() as u64 > self.bytes_max {
            return Err(SpillError::Full(self.bytes_max));
        }
        self.write(size)
    }

    /// As `append`, whatever the bound: for records out of a memory that has one.
    pub fn append_beyond(&mut self, frame: Frame<'_>) -> Result<(), SpillError> {
        encode(&mut self.frame, frame);
        self.write(self.frame.len() as u64)
    }

    /// Writes `self.frame`, of so many bytes.
    fn write(&mut self, size: u64) -> Result<(), SpillError> {
        if self
            .segments
            .back()
            .is_some_and(|last| last.written >= self.segment_bytes)
        {
            self.writer = None;
        }
        if self.writer.is_none() {
            self.start_segment()?;
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Err(SpillError::Io(
                self.dir.clone(),
                io::Error::other("no open segment"),
            ));
        };
        if let Err(error) = writer.write_all(&self.frame) {
            // Cut the torn frame off and go on in another segment: what follows a torn frame could not be read.
            let _ = writer.set_len(segment.written);
            let path = segment.path.clone();
            self.writer = None;
            return Err(SpillError::Io(path, error));
        }
        segment.written += size;
        self.bytes += size;
        Ok(())
    }

    /// Since when the oldest record has been waiting.
    pub fn age(&self) -> Duration {
        self.segments
            .front()
            .and_then(|segment| segment.since.elapsed().ok())
            .unwrap_or_default()
    }

    /// A segment before all others, for records that are older. It may exceed the bound: it takes what was in memory, which
    /// has a bound of its own. What was read of the others is read again.
    pub fn prepend(
        &mut self,
        write: impl FnOnce(&mut Prepended) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let number = self.first_number - 1;
        let path = self.dir.join(format!("{number:016}.seg"));
        let failed = |error| SpillError::Io(path.clone(), error);
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let mut segment = Prepended {
            path: path.clone(),
            file: BufWriter::with_capacity(256 << 10, file),
            written: MAGIC.len() as u64,
            frame: Vec::new(),
        };
        let written = segment
            .file
            .write_all(MAGIC)
            .map_err(failed)
            .and_then(|()| write(&mut segment))
            .and_then(|()| segment.file.flush().map_err(failed));
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.first_number = number;
        self.bytes += segment.written;
        self.reader = None;
        self.head_ready = false;
        if let Some(first) = self.segments.front_mut() {
            first.read = 0;
        }
        self.segments.push_front(Segment {
            path,
            since: SystemTime::now(),
            written: segment.written,
            read: 0,
        });
        Ok(())
    }

    /// The oldest record that was not read yet; segments that end on the way are handed to `finished`.
    pub fn peek(&mut self, finished: &mut Vec<Finished>) -> Option<Frame<'_>> {
        while !self.head_ready {
            let first = self.segments.front()?;
            if first.read.max(MAGIC.len() as u64) >= first.written {
                self.finish_first(finished);
                continue;
            }
            if let Err(error) = self.read_head() {
                self.damaged += 1;
                if let Some(first) = self.segments.front() {
                    log::error!(target: crate::LOG_TARGET,
                        "heliograph: {} is damaged after byte {} ({error}); the rest of this segment, {} bytes, is given up",
                        first.path.display(),
                        first.read,
                        first.written.saturating_sub(first.read),
                    );
                }
                self.finish_first(finished);
            }
        }
        decode(&self.head)
    }

    /// Past the record that `peek` showed.
    pub fn advance(&mut self) {
        if std::mem::take(&mut self.head_ready)
            && let Some(first) = self.segments.front_mut()
        {
            first.read += FRAME_PREFIX_BYTES + self.head.len() as u64;
        }
    }

    /// Puts segments back that were read to their end: all that is there is read again, from the beginning.
    pub fn read_again(&mut self, finished: impl DoubleEndedIterator<Item = Finished>) {
        self.reader = None;
        self.head_ready = false;
        if let Some(first) = self.segments.front_mut() {
            first.read = 0;
        }
        for Finished { path, bytes } in finished.rev() {
            // The last segment may be among them; it is not written to any more.
            self.segments.push_front(Segment {
                path,
                since: SystemTime::now(),
                written: bytes,
                read: 0,
            });
        }
    }

    pub fn delete(&mut self, finished: &Finished) {
        if let Err(error) = fs::remove_file(&finished.path) {
            log::error!(target: crate::LOG_TARGET,
                "heliograph: cannot delete {}: {error}",
                finished.path.display()
            );
        }
        self.bytes = self.bytes.saturating_sub(finished.bytes);
    }

    fn start_segment(&mut self) -> Result<(), SpillError> {
        let path = self.dir.join(format!("{:016}.seg", self.next_number));
        let failed = |error| SpillError::Io(path.clone(), error);
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        if let Err(error) = file.write_all(MAGIC) {
            // A full disk still makes files; the worker tries again every millisecond.
            let _ = fs::remove_file(&path);
            return Err(failed(error));
        }
        self.next_number += 1;
        self.bytes += MAGIC.len() as u64;
        self.writer = Some(file);
        self.segments.push_back(Segment {
            path,
            since: SystemTime::now(),
            written: MAGIC.len() as u64,
            read: 0,
        });
        Ok(())
    }

    fn finish_first(&mut self, finished: &mut Vec<Finished>) {
        self.reader = None;
        self.head_ready = false;
        if let Some(first) = self.segments.pop_front() {
            if self.segments.is_empty() {
                self.writer = None;
            }
            finished.push(Finished {
                path: first.path,
                bytes: first.written,
            });
        }
    }

    fn read_head(&mut self) -> io::Result<()> {
        let Some(first) = self.segments.front_mut() else {
            return Ok(());
        };
        if self.reader.is_none() {
            let mut reader = BufReader::with_capacity(256 << 10, File::open(&first.path)?);
            let mut magic = [0; MAGIC.len()];
            reader.read_exact(&mut magic)?;
            if magic != *MAGIC {
                return Err(io::Error::other("not a spill segment of this release"));
            }
            first.read = MAGIC.len() as u64;
            self.reader = Some(reader);
        }
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let mut prefix = [0; FRAME_PREFIX_BYTES as usize];
        reader.read_exact(&mut prefix)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = prefix;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > BODY_BYTES_MAX {
            return Err(io::Error::other("impossible frame length"));
        }
        self.head.resize(length as usize, 0);
        reader.read_exact(&mut self.head)?;
        if crc32fast::hash(&self.head) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(io::Error::other("checksum differs"));
        }
        if decode(&self.head).is_none() {
            return Err(io::Error::other("frame cannot be read"));
        }
        self.head_ready = true;
        Ok(())
    }
}

fn encode(out: &mut Vec<u8>, frame: Frame<'_>) {
    out.clear();
    out.extend_from_slice(&[0; FRAME_PREFIX_BYTES as usize]);
    // Keys have at most 64 bytes.
    out.extend_from_slice(&[frame.topic as u8 | frame.output << 4, frame.key.len() as u8]);
    out.extend_from_slice(&frame.partition.to_le_bytes());
    out.extend_from_slice(frame.header);
    out.extend_from_slice(frame.key);
    out.extend_from_slice(frame.value);
    let body = out.len() - FRAME_PREFIX_BYTES as usize;
    let checksum = crc32fast::hash(&out[FRAME_PREFIX_BYTES as usize..]);
    out[..4].copy_from_slice(&(body as u32).to_le_bytes());
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn decode(body: &[u8]) -> Option<Frame<'_>> {
    let (prefix, rest) = body.split_at_checked(BODY_PREFIX_BYTES)?;
    let topic = ObservedTopic::try_from(u32::from(prefix[0] & 0xf)).ok()?;
    let (key, value) = rest.split_at_checked(usize::from(prefix[1]))?;
    let partition = u32::from_le_bytes(prefix[2..6].try_into().ok()?);
    Some(Frame {
        output: prefix[0] >> 4,
        topic,
        partition,
        header: prefix[6..].try_into().ok()?,
        key,
        value,
    })
}

#[cfg(test)]
mod tests;
