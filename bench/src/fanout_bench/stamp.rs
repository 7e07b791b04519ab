//! Pure: when an account was reported, and which one it was, in its data.

use std::time::Instant;

/// Bytes that a stamp takes at the beginning of the data.
pub const STAMP_BYTES: usize = 16;

/// Of this process.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since its start.
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// On the [`Clock`].
    pub at: u64,
    /// Contiguous over all that one driver reports.
    pub number: u64,
}

impl Stamp {
    /// Does nothing to data that is too short for one.
    pub fn write(self, data: &mut [u8]) {
        if let Some((at, rest)) = data.split_first_chunk_mut::<8>()
            && let Some((number, _)) = rest.split_first_chunk_mut::<8>()
        {
            *at = self.at.to_le_bytes();
            *number = self.number.to_le_bytes();
        }
    }

    pub fn read(data: &[u8]) -> Option<Self> {
        let (at, rest) = data.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            at: u64::from_le_bytes(*at),
            number: u64::from_le_bytes(*number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_written() {
        let stamp = Stamp { at: 7, number: 9 };
        let mut data = [1; STAMP_BYTES + 1];
        stamp.write(&mut data);
        assert_eq!(Stamp::read(&data), Some(stamp));
        assert_eq!(Stamp::read(&data[..STAMP_BYTES - 1]), None);
        assert_eq!(data[STAMP_BYTES], 1);
    }
}
