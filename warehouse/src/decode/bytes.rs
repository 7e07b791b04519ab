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

    pub fn u16(&mut self) -> Result<u16, Unread> {
        self.array().map(u16::from_le_bytes)
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

    /// 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Unread> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unread::Malformed),
        }
    }

    /// A key behind a flag that says whether there is one.
    pub fn optional_key(&mut self) -> Result<Option<Key>, Unread> {
        self.flag()?.then(|| self.key()).transpose()
    }

    /// A key that is all zeros where there is none.
    pub fn nonzero_key(&mut self) -> Result<Option<Key>, Unread> {
        let key = self.key()?;
        Ok((key != [0; 32]).then_some(key))
    }

    /// A Borsh string, without the NULs that some programs fill it up with. The length is compared with what is there before
    /// anything is copied.
    pub fn text(&mut self) -> Result<String, Unread> {
        let length = usize::try_from(self.u32()?).map_err(|_| Unread::Malformed)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Unread::Malformed)?;
        Ok(text.trim_end_matches('\0').to_owned())
    }

    /// A bincode string: its length in eight bytes, then its bytes.
    pub fn skip_string(&mut self) -> Result<(), Unread> {
        let length = usize::try_from(self.u64()?).map_err(|_| Unread::Malformed)?;
        self.take(length).map(|_| ())
    }
}
