//! Pure: protobuf's wire form, read in place.
//!
//! Only the plain form is read, the one that every encoder writes: each field that is not repeated at most once, none that
//! the schema does not know. Anything else is `None` here and prost's to judge, so this has to be right only about what it
//! accepts: prost accepts that, too, and reads the same from it.

/// A number of 64 bits has seven in each byte; the last one is alone in its byte.
const NUMBER_BYTES_MAX: usize = 10;
const LAST_BYTE_MAX: u8 = 1;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    /// Eight bytes; no field that is looked into has this form.
    Double,
    Bytes(&'a [u8]),
}

/// Calls `visit` with every field in turn; ends with `None` as soon as it does, or at the first byte that is not plain.
pub fn fields<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(u32, Value<'a>) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let key = u32::try_from(number(&mut bytes)?).ok()?;
        let value = match key & 7 {
            0 => Value::Number(number(&mut bytes)?),
            1 => {
                bytes = bytes.get(8..)?;
                Value::Double
            }
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        visit(key >> 3, value)?;
    }
    Some(())
}

/// Takes a number from the front. Most have one byte or two.
#[inline]
fn number(bytes: &mut &[u8]) -> Option<u64> {
    match **bytes {
        [only, ref rest @ ..] if only < 0x80 => {
            *bytes = rest;
            Some(u64::from(only))
        }
        [low, high, ref rest @ ..] if high < 0x80 => {
            *bytes = rest;
            Some(u64::from(low & 0x7f) | u64::from(high) << 7)
        }
        _ => long_number(bytes),
    }
}

#[inline(never)]
fn long_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        if at + 1 == NUMBER_BYTES_MAX && *byte > LAST_BYTE_MAX {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = bytes.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Remembers which fields were there.
#[derive(Debug, Default)]
pub struct Once(u64);

impl Once {
    /// `None` for a field that is there again.
    pub fn take(&mut self, field: u32) -> Option<()> {
        let bit = 1u64.checked_shl(field)?;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new.then_some(())
    }
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    Number,
    Double,
    Bytes,
    Text,
    Message(&'static Shape),
    /// Repeated.
    Numbers,
    ManyBytes,
    Texts,
    Messages(&'static Shape),
}

/// A message's fields, from number 1 on.
#[derive(Debug)]
pub struct Shape(pub &'static [Form]);

impl Shape {
    /// That the bytes are a message of this shape in the plain form. Shapes do not contain themselves: how deep this goes
    /// is bounded by the schema.
    pub fn fits(&self, bytes: &[u8]) -> Option<()> {
        let mut once = Once::default();
        fields(bytes, |field, value| {
            let form = *self.0.get(field.checked_sub(1)? as usize)?;
            match form {
                Form::Number | Form::Double | Form::Bytes | Form::Text | Form::Message(_) => {
                    once.take(field)?;
                }
                Form::Numbers | Form::ManyBytes | Form::Texts | Form::Messages(_) => {}
            }
            match (form, value) {
                (Form::Number | Form::Numbers, Value::Number(_))
                | (Form::Double, Value::Double)
                | (Form::Bytes | Form::ManyBytes, Value::Bytes(_)) => Some(()),
                (Form::Text | Form::Texts, Value::Bytes(text)) => {
                    std::str::from_utf8(text).ok().map(drop)
                }
                (Form::Message(shape) | Form::Messages(shape), Value::Bytes(message)) => {
                    shape.fits(message)
                }
                (Form::Numbers, Value::Bytes(packed)) => numbers(packed),
                _ => None,
            }
        })
    }
}

/// That these are numbers, one after another.
fn numbers(packed: &[u8]) -> Option<()> {
    let mut begun = 0;
    for byte in packed {
        if *byte >= 0x80 {
            begun += 1;
            if begun == NUMBER_BYTES_MAX {
                return None;
            }
        } else if begun + 1 == NUMBER_BYTES_MAX && *byte > LAST_BYTE_MAX {
            return None;
        } else {
            begun = 0;
        }
    }
    (begun == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_schema::proto::{Message, confirmed_block::TransactionStatusMeta};
    use proptest::prelude::*;

    /// With a message that holds packed numbers and nothing else, prost says what numbers are.
    fn prost_reads(packed: &[u8]) -> bool {
        let mut message = vec![0x1a, packed.len() as u8];
        message.extend(packed);
        TransactionStatusMeta::decode(message.as_slice()).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Bytes at the edges of the form are as frequent as all others together.
        #[test]
        fn numbers_are_what_prost_takes_for_them(
            packed in prop::collection::vec(prop_oneof![Just(0x80), Just(0xff), Just(1), Just(2), any::<u8>()], 0..24)
        ) {
            prop_assert_eq!(numbers(&packed).is_some(), prost_reads(&packed));
            let mut rest = packed.as_slice();
            let mut all = Some(());
            while !rest.is_empty() && all.is_some() {
                all = number(&mut rest).map(drop);
            }
            prop_assert_eq!(all, numbers(&packed));
        }
    }
}
