//! Little-endian values from the front of a byte string. Running out is an answer, not a panic.

use super::{Key, Unread};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unread::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread> {
        self.take(N)?.try_into().map_err(|_| Unread::Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Unread> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Unread> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Unread> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn key(&mut self) -> Result<Key, Unread> {
        self.array()
    }

    /// A bincode string: its length in eight bytes, then its bytes.
    pub fn skip_string(&mut self) -> Result<(), Unread> {
        let length = usize::try_from(self.u64()?).map_err(|_| Unread::Malformed)?;
        self.take(length).map(|_| ())
    }
}
