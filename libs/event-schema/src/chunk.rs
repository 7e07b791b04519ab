//! Values longer than a record may be: cut by the writer, joined again by the reader, with a broker's default limits.
//!
//! A broker refuses records above 1 MiB unless told otherwise; an account may hold 10 MiB. A value longer than
//! [`CHUNK_BYTES_MAX`] is therefore written as a *set*: consecutive records of one partition with the same key, slot and
//! source, with consecutive sequences (in the canonical topic: consecutive indexes), all of [`Kind::Chunk`]. Each chunk
//! says which part of what it is, so that a reader who has all of them, in whatever order, has the value, and one who
//! misses one knows which. To a Yellowstone tool a chunk is an update without content: it is a protobuf message whose
//! only field is one that `SubscribeUpdate` does not have.
//!
//! ```text
//! field 15000, message:
//!   1 kind      uint32   what the whole value is, a `Kind`
//!   2 index     uint32   0 for the first chunk
//!   3 count     uint32   chunks in the set
//!   4 total     uint64   bytes of the whole value
//!   5 checksum  fixed32  CRC-32 (IEEE) of the whole value
//!   6 data      bytes    this chunk's part; the parts in order are the value
//! ```
//!
//! Seals count chunks as the records they are; see [`crate::Seal`].

use bytes::Bytes;
use prost::Message;

use crate::header::Kind;

/// Longest value of one record, a chunk's envelope included, bytes. With key, header and framing it stays below the
/// 1,048,588 bytes that a broker takes by default, and below the 1,000,000 bytes at which librdkafka closes a batch.
pub const CHUNK_BYTES_MAX: usize = 900 * 1024;
/// The most a chunk's envelope takes, bytes.
const ENVELOPE_BYTES: usize = 64;
/// Bytes of the value in each chunk but the last.
pub const CHUNK_DATA_BYTES: usize = CHUNK_BYTES_MAX - ENVELOPE_BYTES;
/// Longest value that may be cut, bytes: six times the largest account.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// The most chunks a reader accepts. A later writer may cut smaller ones than this release does.
pub const CHUNKS_MAX: u32 = 1_024;

/// Key of field 15000, length-delimited.
const FIELD: [u8; 3] = [0xc2, 0xa9, 0x07];

/// How many records a value of so many bytes takes.
pub const fn records_of(value_bytes: usize) -> usize {
    if value_bytes <= CHUNK_BYTES_MAX {
        1
    } else {
        value_bytes.div_ceil(CHUNK_DATA_BYTES)
    }
}

/// Why a value cannot be written in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncuttable {
    #[error("a value of {bytes} bytes is longer than the {VALUE_BYTES_MAX} that may be written")]
    Length { bytes: usize },
    #[error("a {} record is always written whole", .0.as_str())]
    Kind(Kind),
    #[error("{count} chunks are more than the {CHUNKS_MAX} that readers accept; cut larger ones")]
    Count { count: usize },
}

/// Cuts a value. Works for any length, but a value of at most [`CHUNK_BYTES_MAX`] bytes is to be written as it is.
pub fn chunks_of(kind: Kind, value: &[u8]) -> Result<Chunks<'_>, Uncuttable> {
    chunks_of_size(kind, value, CHUNK_DATA_BYTES)
}

/// Cuts a value into chunks that carry `data_bytes` each (0 counts as 1), for a broker that takes less than by default.
pub fn chunks_of_size(
    kind: Kind,
    value: &[u8],
    data_bytes: usize,
) -> Result<Chunks<'_>, Uncuttable> {
    if !kind.may_be_chunked() {
        return Err(Uncuttable::Kind(kind));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(Uncuttable::Length { bytes: value.len() });
    }
    let data_bytes = data_bytes.clamp(1, CHUNK_DATA_BYTES);
    let count = value.len().div_ceil(data_bytes).max(1);
    Ok(Chunks {
        kind,
        value,
        data_bytes,
        checksum: crc32fast::hash(value),
        index: 0,
        count: u32::try_from(count)
            .ok()
            .filter(|count| *count <= CHUNKS_MAX)
            .ok_or(Uncuttable::Count { count })?,
    })
}

/// A value's chunks, in order.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    kind: Kind,
    value: &'a [u8],
    data_bytes: usize,
    checksum: u32,
    index: u32,
    count: u32,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        if self.index == self.count {
            return None;
        }
        let from = self.index as usize * self.data_bytes;
        let chunk = Chunk {
            kind: self.kind,
            index: self.index,
            count: self.count,
            total: self.value.len() as u64,
            checksum: self.checksum,
            data: &self.value[from..self.value.len().min(from + self.data_bytes)],
        };
        self.index += 1;
        Some(chunk)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.count - self.index) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Chunks<'_> {}

/// One chunk to be written.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    kind: Kind,
    index: u32,
    count: u32,
    total: u64,
    checksum: u32,
    data: &'a [u8],
}

impl Chunk<'_> {
    pub fn index(&self) -> u32 {
        self.index
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends the record's value, at most [`CHUNK_BYTES_MAX`] bytes. A buffer with so much room does not grow.
    pub fn write(&self, out: &mut Vec<u8>) {
        // The five numbers, whose keys take a byte each, then the key of the data.
        let numbers = 5
            + varint_bytes(self.kind as u64)
            + varint_bytes(u64::from(self.index))
            + varint_bytes(u64::from(self.count))
            + varint_bytes(self.total)
            + 4;
        let data = 1 + varint_bytes(self.data.len() as u64) + self.data.len();
        out.extend_from_slice(&FIELD);
        write_varint(out, (numbers + data) as u64);
        for (key, number) in [
            (0x08, self.kind as u64),
            (0x10, u64::from(self.index)),
            (0x18, u64::from(self.count)),
            (0x20, self.total),
        ] {
            out.push(key);
            write_varint(out, number);
        }
        out.push(0x2d);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.push(0x32);
        write_varint(out, self.data.len() as u64);
        out.extend_from_slice(self.data);
    }
}

fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Why chunks are not what they say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a chunk that cannot be decoded: {0}")]
    Damaged(String),
    #[error("a chunk record without a chunk")]
    Empty,
    #[error("a chunk of kind {0}, which is never cut")]
    Kind(u32),
    #[error("chunk {index} of {count}; at most {CHUNKS_MAX} are accepted")]
    Number { index: u32, count: u32 },
    #[error(
        "chunk {index} of {count} holds {held} of {total} bytes; at most {VALUE_BYTES_MAX} are accepted"
    )]
    Size {
        index: u32,
        count: u32,
        held: usize,
        total: u64,
    },
    #[error("the chunks hold {held} bytes, the value has {total}")]
    Length { held: usize, total: u64 },
    #[error("the joined value has checksum {held:08x}, its chunks say {said:08x}")]
    Checksum { held: u32, said: u32 },
    #[error("chunk {index} where chunk {expected} was due")]
    Order { expected: u32, index: u32 },
    #[error("chunk {index} of {count} without those before it")]
    NoBeginning { index: u32, count: u32 },
    #[error("chunk {index} again")]
    Repeated { index: u32 },
    #[error("broken off after {held} of {count} chunks")]
    Interrupted { held: u32, count: u32 },
}

/// One chunk as it was read; its data shares the record's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What the whole value is.
    pub kind: Kind,
    pub index: u32,
    pub count: u32,
    /// Bytes of the whole value.
    pub total: u64,
    /// Of the whole value.
    pub checksum: u32,
    pub data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "15000")]
    chunk: Option<Fields>,
}

#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(uint64, tag = "4")]
    total: u64,
    #[prost(fixed32, tag = "5")]
    checksum: u32,
    #[prost(bytes = "bytes", tag = "6")]
    data: Bytes,
}

impl Piece {
    /// Reads a record of [`Kind::Chunk`]. What it returns is possible: a reader may reserve what it promises.
    pub fn read(value: &Bytes) -> Result<Self, ChunkError> {
        let fields = Envelope::decode(value.clone())
            .map_err(|error| ChunkError::Damaged(error.to_string()))?
            .chunk
            .ok_or(ChunkError::Empty)?;
        let kind = u8::try_from(fields.kind)
            .ok()
            .and_then(|byte| Kind::try_from(byte).ok())
            .filter(|kind| kind.may_be_chunked())
            .ok_or(ChunkError::Kind(fields.kind))?;
        let Fields {
            index,
            count,
            total,
            checksum,
            data,
            ..
        } = fields;
        if index >= count || count > CHUNKS_MAX {
            return Err(ChunkError::Number { index, count });
        }
        let held = data.len() as u64;
        // The others hold at least one byte each.
        let others = u64::from(count - 1);
        let possible = total <= VALUE_BYTES_MAX as u64
            && if others == 0 {
                held == total
            } else {
                held > 0 && held.saturating_add(others) <= total
            };
        if !possible {
            return Err(ChunkError::Size {
                index,
                count,
                held: data.len(),
                total,
            });
        }
        Ok(Self {
            kind,
            index,
            count,
            total,
            checksum,
            data,
        })
    }

    /// Both may be parts of one value. Their positions have to agree as well.
    pub fn fits(&self, other: &Self) -> bool {
        (self.kind, self.count, self.total, self.checksum)
            == (other.kind, other.count, other.total, other.checksum)
    }

    /// Position of the set's first chunk, given this one's. `None`: there is no such position.
    pub fn first_position(&self, own: u64) -> Option<u64> {
        own.checked_sub(u64::from(self.index))
    }
}

/// Joins a whole set, in order, with one copy.
pub fn join<'a>(pieces: impl IntoIterator<Item = &'a Piece> + Clone) -> Result<Bytes, ChunkError> {
    let held: usize = pieces
        .clone()
        .into_iter()
        .map(|piece| piece.data.len())
        .sum();
    let mut first: Option<&Piece> = None;
    let mut value = Vec::new();
    let mut due = 0;
    for piece in pieces {
        let first = *first.get_or_insert(piece);
        if piece.index != due || !piece.fits(first) {
            return Err(ChunkError::Order {
                expected: due,
                index: piece.index,
            });
        }
        if held as u64 != first.total {
            return Err(ChunkError::Length {
                held,
                total: first.total,
            });
        }
        value.reserve_exact(held - value.len());
        value.extend_from_slice(&piece.data);
        due += 1;
    }
    let first = first.ok_or(ChunkError::Empty)?;
    if due != first.count {
        return Err(ChunkError::Interrupted {
            held: due,
            count: first.count,
        });
    }
    let checksum = crc32fast::hash(&value);
    if checksum != first.checksum {
        return Err(ChunkError::Checksum {
            held: checksum,
            said: first.checksum,
        });
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests;
