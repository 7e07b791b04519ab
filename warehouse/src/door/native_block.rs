//! ClickHouse's own compressed framing, asked for by `compress=1` and `decompress=1`. Pure.
//!
//! A frame is a CityHash128 (version 1.0.2, high half first) of the rest, one method byte, the compressed size with its
//! nine header bytes, the plain size, and the data; integers are little-endian.

use std::io::{self, Read};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;

/// Plain bytes per frame written.
pub const FRAME_BYTES: usize = 1 << 20;
/// Largest frame accepted; the engine itself writes frames of at most 1 MiB by default.
const FRAME_BYTES_MAX: usize = 1 << 28;

/// Appends `plain` as LZ4 frames.
pub fn compress_into(plain: &[u8], out: &mut Vec<u8>) {
    for piece in plain.chunks(FRAME_BYTES) {
        let start = out.len();
        out.resize(start + CHECKSUM, 0);
        out.push(LZ4);
        let data = lz4_flex::block::compress(piece);
        // Pieces are at most FRAME_BYTES long, far below u32::MAX, before and after compression.
        out.extend_from_slice(&((data.len() + HEADER) as u32).to_le_bytes());
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        out.extend_from_slice(&data);
        let checksum = checksum(&out[start + CHECKSUM..]);
        out[start..start + CHECKSUM].copy_from_slice(&checksum);
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(bytes)
        .rotate_right(64)
        .to_le_bytes()
}

/// Reads frames from `inner` and yields their plain bytes.
pub struct FrameReader<R> {
    inner: R,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> FrameReader<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            plain: Vec::new(),
            at: 0,
        }
    }

    /// `false` at a clean end.
    fn next_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM + HEADER];
        let mut have = 0;
        while have < head.len() {
            match self.inner.read(&mut head[have..])? {
                0 if have == 0 => return Ok(false),
                0 => return Err(damaged("it ends within a frame's header")),
                read => have += read,
            }
        }
        let method = head[CHECKSUM];
        let size = |at: usize| {
            u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (compressed, plain) = (size(CHECKSUM + 1), size(CHECKSUM + 5));
        if compressed < HEADER || compressed > FRAME_BYTES_MAX || plain > FRAME_BYTES_MAX {
            return Err(damaged(
                "a frame's sizes are not plausible: is the body compressed at all?",
            ));
        }
        let mut frame = head[CHECKSUM..].to_vec();
        frame.resize(compressed, 0);
        self.inner
            .read_exact(&mut frame[HEADER..])
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged("it ends within a frame"),
                _ => error,
            })?;
        if checksum(&frame) != head[..CHECKSUM] {
            return Err(damaged("a frame's checksum does not match"));
        }
        let data = &frame[HEADER..];
        self.plain = match method {
            NONE => data.to_vec(),
            LZ4 => lz4_flex::block::decompress(data, plain)
                .map_err(|error| damaged(&error.to_string()))?,
            ZSTD => {
                zstd::bulk::decompress(data, plain).map_err(|error| damaged(&error.to_string()))?
            }
            other => {
                return Err(damaged(&format!(
                    "compression method {other:#04x} is not known"
                )));
            }
        };
        self.at = 0;
        Ok(true)
    }
}

fn damaged(problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the compressed body is damaged: {problem}"),
    )
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.plain.len() - self.at);
        buffer[..count].copy_from_slice(&self.plain[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn there_and_back(plain in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut framed = Vec::new();
            compress_into(&plain, &mut framed);
            let mut back = Vec::new();
            FrameReader::new(framed.as_slice()).read_to_end(&mut back).unwrap();
            prop_assert_eq!(back, plain);
        }

        #[test]
        fn damage_is_an_error(plain in proptest::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut framed = Vec::new();
            compress_into(&plain, &mut framed);
            let at = at.index(framed.len());
            framed[at] ^= 1_u8 << bit;
            prop_assert!(FrameReader::new(framed.as_slice()).read_to_end(&mut Vec::new()).is_err());
            prop_assert!(FrameReader::new(&framed[..framed.len() - 1]).read_to_end(&mut Vec::new()).is_err());
        }
    }
}
