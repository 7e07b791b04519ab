//! Room of a fixed size that an encoder appends to. What does not fit is not written, and remembered: the caller then takes
//! nothing of it.

/// See the module.
#[derive(Debug)]
pub struct Out<'a> {
    room: &'a mut [u8],
    length: usize,
    overflown: bool,
}

impl<'a> Out<'a> {
    pub fn new(room: &'a mut [u8]) -> Self {
        Self {
            room,
            length: 0,
            overflown: false,
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The length of what was written; `None` when something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.overflown).then_some(self.length)
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        match self.room.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.overflown = true,
        }
    }

    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        match self
            .room
            .get_mut(self.length..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.overflown = true,
        }
    }

    /// Skips `width` bytes that the caller fills in later.
    #[inline]
    pub(super) fn leave(&mut self, width: usize) {
        if self.room.len() - self.length >= width {
            self.length += width;
        } else {
            self.overflown = true;
        }
    }

    /// Moves what was written from `from` on to `to`; the end moves along. Needs room that `leave` would give.
    #[inline]
    pub(super) fn shift(&mut self, from: usize, to: usize) {
        let end = self.length;
        if to > from {
            self.leave(to - from);
        }
        if !self.overflown {
            self.room.copy_within(from..end, to);
            self.length = end - from + to;
        }
    }

    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    #[inline]
    pub(super) fn written(&mut self, from: usize, width: usize) -> &mut [u8] {
        self.room.get_mut(from..from + width).unwrap_or_default()
    }
}

/// For what shows itself as text.
impl std::fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// For foreign encoders that write to `io::Write`.
impl std::io::Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
