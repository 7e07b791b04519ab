//! Compression of bodies, both ways: what a client asked for, and the coders that do it block by block.

use std::io::{self, Read, Write};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::native_block;

/// How one body is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coding {
    #[default]
    Plain,
    /// ClickHouse's own frames, in a body that calls itself plain.
    NativeFrames,
    Gzip,
    Deflate,
    Zstd,
    Lz4,
}

impl Coding {
    /// A `Content-Encoding` of a request.
    pub fn of_request(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Plain,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            "lz4" => Self::Lz4,
            _ => return None,
        })
    }

    /// The first coding of an `Accept-Encoding` that the door can write, in the client's order; a weight of 0 refuses.
    pub fn of_accepted(list: &str) -> Self {
        list.split(',')
            .filter_map(|item| {
                let (name, weight) = item.split_once(';').unwrap_or((item, ""));
                let refused = matches!(weight.trim(), "q=0" | "q=0.0");
                Self::of_request(name).filter(|coding| *coding != Self::Plain && !refused)
            })
            .next()
            .unwrap_or(Self::Plain)
    }

    /// `Content-Encoding` of a response, when there is one.
    pub fn header(self) -> Option<&'static str> {
        Some(match self {
            Self::Plain | Self::NativeFrames => return None,
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        })
    }

    /// Reads plain bytes out of a compressed body.
    pub fn reader(self, body: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Plain => Box::new(body),
            Self::NativeFrames => Box::new(native_block::FrameReader::new(body)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
            Self::Deflate => Box::new(flate2::read::ZlibDecoder::new(body)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(body)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        })
    }

    pub fn writer(self) -> io::Result<BlockWriter> {
        Ok(match self {
            Self::Plain => BlockWriter::Plain,
            Self::NativeFrames => BlockWriter::NativeFrames,
            Self::Gzip => BlockWriter::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Self::Deflate => {
                BlockWriter::Deflate(ZlibEncoder::new(Vec::new(), Compression::fast()))
            }
            Self::Zstd => {
                BlockWriter::Zstd(Box::new(zstd::stream::write::Encoder::new(Vec::new(), 1)?))
            }
            Self::Lz4 => BlockWriter::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new()))),
        })
    }
}

/// Compresses a body block by block; every block can be decoded as soon as it arrives.
pub enum BlockWriter {
    Plain,
    NativeFrames,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
}

impl BlockWriter {
    /// Whether bytes leave as they came.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    pub fn block(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        fn through<W: Write>(coder: &mut W, plain: &[u8]) -> io::Result<()> {
            coder.write_all(plain)?;
            coder.flush()
        }
        Ok(match self {
            Self::Plain => plain.to_vec(),
            Self::NativeFrames => {
                let mut out = Vec::new();
                native_block::compress_into(plain, &mut out);
                out
            }
            Self::Gzip(coder) => {
                through(coder, plain)?;
                std::mem::take(coder.get_mut())
            }
            Self::Deflate(coder) => {
                through(coder, plain)?;
                std::mem::take(coder.get_mut())
            }
            Self::Zstd(coder) => {
                through(coder, plain)?;
                std::mem::take(coder.get_mut())
            }
            Self::Lz4(coder) => {
                through(coder, plain)?;
                std::mem::take(coder.get_mut())
            }
        })
    }

    /// The end of the body.
    pub fn end(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Plain | Self::NativeFrames => Vec::new(),
            Self::Gzip(coder) => coder.finish()?,
            Self::Deflate(coder) => coder.finish()?,
            Self::Zstd(coder) => coder.finish()?,
            Self::Lz4(coder) => coder.finish().map_err(io::Error::other)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding_there_and_back() {
        let plain: Vec<u8> = (0..300_000_u32)
            .flat_map(|number| number.to_le_bytes())
            .collect();
        for coding in [
            Coding::Plain,
            Coding::NativeFrames,
            Coding::Gzip,
            Coding::Deflate,
            Coding::Zstd,
            Coding::Lz4,
        ] {
            let mut writer = coding.writer().unwrap();
            let mut body = Vec::new();
            for block in plain.chunks(70_001) {
                body.extend(writer.block(block).unwrap());
            }
            body.extend(writer.end().unwrap());
            let mut back = Vec::new();
            coding
                .reader(io::Cursor::new(body))
                .unwrap()
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == plain, "{coding:?}");
        }
    }

    #[test]
    fn the_client_chooses() {
        assert_eq!(Coding::of_accepted("br, zstd;q=0, gzip, lz4"), Coding::Gzip);
        assert_eq!(Coding::of_accepted("lz4,zstd"), Coding::Lz4);
        assert_eq!(Coding::of_accepted("br"), Coding::Plain);
        assert_eq!(Coding::of_accepted(""), Coding::Plain);
    }
}
