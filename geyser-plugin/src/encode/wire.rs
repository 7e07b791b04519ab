//! Protobuf's wire format, appended to a buffer: proto3 rules (a default value is not written), canonical varints.
//!
//! A nested message is written in one pass: its length is guessed to need `width` bytes, and only a wrong guess moves
//! the body. The result is what prost writes, byte for byte, when fields are written in tag order.

use std::fmt::{self, Write as _};

use super::Out;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

pub(super) const fn varint_width(value: u64) -> usize {
    // 7 bits a byte; zero still takes one.
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

fn varint(out: &mut Out<'_>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits and the continuation mark.
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Out<'_>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// Also for enumerations and, as two's complement, `int64`.
pub(super) fn uint64(out: &mut Out<'_>, field: u32, value: u64) {
    if value != 0 {
        optional_uint64(out, field, Some(value));
    }
}

/// An `optional` field: written whenever it is there, zero included.
pub(super) fn optional_uint64(out: &mut Out<'_>, field: u32, value: Option<u64>) {
    if let Some(value) = value {
        key(out, field, VARINT);
        varint(out, value);
    }
}

pub(super) fn boolean(out: &mut Out<'_>, field: u32, value: bool) {
    uint64(out, field, u64::from(value));
}

pub(super) fn double(out: &mut Out<'_>, field: u32, value: f64) {
    if value != 0.0 {
        key(out, field, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Bytes or a string.
pub(super) fn bytes(out: &mut Out<'_>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        element(out, field, value);
    }
}

/// One element of a repeated field, or an `optional` field that is there: written even when empty.
pub(super) fn element(out: &mut Out<'_>, field: u32, value: &[u8]) {
    key(out, field, LENGTH_DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// As [`bytes`], of a value that lies in pieces of `length` bytes together.
pub(super) fn pieces<'a>(
    out: &mut Out<'_>,
    field: u32,
    length: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) {
    if length > 0 {
        key(out, field, LENGTH_DELIMITED);
        varint(out, length as u64);
        for piece in pieces {
            out.extend_from_slice(piece);
        }
    }
}

pub(super) fn packed_uint64(out: &mut Out<'_>, field: u32, values: &[u64]) {
    if values.is_empty() {
        return;
    }
    let length: usize = values.iter().map(|value| varint_width(*value)).sum();
    key(out, field, LENGTH_DELIMITED);
    varint(out, length as u64);
    for value in values {
        varint(out, *value);
    }
}

/// A nested message whose length probably takes `width` bytes: 1 below 128 bytes, 2 below 16 KiB, 3 below 2 MiB.
pub(super) fn message(
    out: &mut Out<'_>,
    field: u32,
    width: usize,
    body: impl FnOnce(&mut Out<'_>),
) {
    key(out, field, LENGTH_DELIMITED);
    let start = out.len();
    out.leave(width);
    body(out);
    let length = out.len().saturating_sub(start + width);
    let needed = varint_width(length as u64);
    if needed != width {
        out.shift(start + width, start + needed);
    }
    let mut rest = length as u64;
    let place = out.written(start, needed);
    for byte in &mut *place {
        *byte = (rest as u8) | 0x80;
        rest >>= 7;
    }
    if let Some(last) = place.last_mut() {
        *last &= 0x7f;
    }
}

/// What is shown in a few bytes, as a string: written even when empty.
pub(super) fn display(out: &mut Out<'_>, field: u32, value: &impl fmt::Display) {
    message(out, field, 1, |out| {
        // Too little room is remembered by `out` itself.
        let _ = write!(out, "{value}");
    });
}

/// A small unsigned number as a decimal string; nothing for `None`.
pub(super) fn decimal(out: &mut Out<'_>, field: u32, value: Option<u16>) {
    let Some(mut value) = value else { return };
    let mut digits = [0; 5];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    element(out, field, &digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::encoding;

    fn written(encode: impl FnOnce(&mut Out<'_>)) -> Vec<u8> {
        let mut room = vec![0xee; 20_000];
        let mut out = Out::new(&mut room);
        encode(&mut out);
        let length = out.finish().expect("enough room");
        room.truncate(length);
        room
    }

    proptest! {
        #[test]
        fn too_little_room_is_told_and_nothing_else_happens(
            length in 0_usize..300,
            room in 0_usize..320,
            width in 1_usize..=3,
        ) {
            let body = vec![7; length];
            let mut space = vec![0; room];
            let mut out = Out::new(&mut space);
            message(&mut out, 3, width, |out| {
                message(out, 1, width, |out| bytes(out, 2, &body));
                uint64(out, 4, 5);
            });
            let whole = written(|out| message(out, 3, width, |out| {
                message(out, 1, width, |out| bytes(out, 2, &body));
                uint64(out, 4, 5);
            }));
            if let Some(fit) = out.finish() {
                prop_assert_eq!(&space[..fit], &whole[..]);
            } else {
                // A guess that was too wide needs its room for a moment.
                prop_assert!(room < whole.len() + 2 * width);
            }
        }

        #[test]
        fn varints_are_prosts(value: u64) {
            let ours = written(|out| varint(out, value));
            let mut theirs = Vec::new();
            encoding::encode_varint(value, &mut theirs);
            prop_assert_eq!(varint_width(value), ours.len());
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_wrong_guess_of_the_length_changes_nothing(
            length in prop_oneof![0_usize..300, 16_000_usize..17_000],
            width in 1_usize..=5,
            before in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let body: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let ours = written(|out| {
                out.extend_from_slice(&before);
                message(out, 3, width, |out| out.extend_from_slice(&body));
            });
            let mut theirs = before;
            encoding::bytes::encode(3, &body, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn what_is_shown_is_a_string(address: std::net::SocketAddr) {
            let ours = written(|out| display(out, 17, &address));
            let mut theirs = Vec::new();
            encoding::string::encode(17, &address.to_string(), &mut theirs);
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn decimals_are_to_string(value: u16) {
            let ours = written(|out| decimal(out, 5, Some(value)));
            let mut theirs = Vec::new();
            encoding::string::encode(5, &value.to_string(), &mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }
}
