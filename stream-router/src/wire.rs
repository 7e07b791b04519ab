//! Pure: protobuf's wire form, read in place.
//!
//! Only the plain form is read, the one that every encoder writes: each field that is not repeated at most once, none that
//! the schema does not know. Anything else is `None` here and prost's to judge, so this has to be right only about what it
//! accepts: prost accepts that, too, and reads the same from it.

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

/// Takes a number from the front.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte holds the 64th bit alone.
        if at == 9 && *byte > 1 {
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

fn numbers(mut packed: &[u8]) -> Option<()> {
    while !packed.is_empty() {
        number(&mut packed)?;
    }
    Some(())
}
