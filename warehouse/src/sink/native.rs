//! Rows as one Native block, ClickHouse's columnar wire format. Pure.
//!
//! A block is: columns, rows, then per column its name, its type and its values, one after another. The engine converts
//! each column to the table's own type, so low-cardinality and enumeration columns are sent as what they hold.

use bytes::Bytes;

use crate::engine::quote_text;

/// A value of a column.
pub trait NativeValue: Sized + 'static {
    /// The type written into the block.
    fn type_name() -> String;
    /// All values of the column, in row order.
    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>);
}

/// A row of one table: its columns are its fields.
pub trait TableRow: Sized {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    fn write_columns(rows: &[Self], out: &mut Vec<u8>);

    /// Names and types of the block's columns, as SQL.
    fn structure() -> String;

    /// The rows as one block.
    fn block(rows: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 * rows.len() + 256);
        write_length(Self::COLUMNS.len(), &mut out);
        write_length(rows.len(), &mut out);
        Self::write_columns(rows, &mut out);
        out
    }
}

/// Rows of one table as they are sent.
#[derive(Debug, Clone)]
pub struct TableBlock {
    pub table: &'static str,
    pub rows: usize,
    pub columns: &'static [&'static str],
    /// Names and types of the columns, as SQL.
    pub structure: String,
    pub bytes: Bytes,
}

impl TableBlock {
    /// The statement that takes [`Self::bytes`].
    pub fn statement(&self) -> String {
        format!("{} FORMAT Native", self.target())
    }

    /// A statement that stores the rows only where `condition` holds when it begins.
    pub fn statement_if(&self, condition: &str) -> String {
        format!(
            "{} SELECT * FROM input({}) WHERE {condition} FORMAT Native",
            self.target(),
            quote_text(&self.structure)
        )
    }

    fn target(&self) -> String {
        format!("INSERT INTO {} ({})", self.table, self.columns.join(", "))
    }

    pub fn of<R: TableRow>(rows: &[R]) -> Self {
        Self {
            table: R::TABLE,
            rows: rows.len(),
            columns: R::COLUMNS,
            structure: R::structure(),
            bytes: R::block(rows).into(),
        }
    }
}

pub fn write_column_head<T: NativeValue>(name: &str, out: &mut Vec<u8>) {
    for text in [name, T::type_name().as_str()] {
        write_length(text.len(), out);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Unsigned LEB128.
fn write_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

macro_rules! integers {
    ($($rust:ty => $name:literal),* $(,)?) => {$(
        impl NativeValue for $rust {
            fn type_name() -> String {
                $name.into()
            }

            fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
                for value in values {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    )*};
}

integers!(u8 => "UInt8", u16 => "UInt16", u32 => "UInt32", u64 => "UInt64", i8 => "Int8", i64 => "Int64", i128 => "Int128");

impl NativeValue for bool {
    fn type_name() -> String {
        "Bool".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        out.extend(values.map(|value| u8::from(*value)));
    }
}

impl<const N: usize> NativeValue for [u8; N] {
    fn type_name() -> String {
        format!("FixedString({N})")
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for value in values {
            out.extend_from_slice(value);
        }
    }
}

impl NativeValue for String {
    fn type_name() -> String {
        "String".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for value in values {
            write_length(value.len(), out);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

impl NativeValue for &'static str {
    fn type_name() -> String {
        "String".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for value in values {
            write_length(value.len(), out);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// Bytes of any length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl NativeValue for Blob {
    fn type_name() -> String {
        "String".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for Blob(value) in values {
            write_length(value.len(), out);
            out.extend_from_slice(value);
        }
    }
}

/// Unix seconds, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl NativeValue for Seconds {
    fn type_name() -> String {
        "DateTime('UTC')".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for Seconds(value) in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Unix milliseconds, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Millis(pub i64);

impl NativeValue for Millis {
    fn type_name() -> String {
        "DateTime64(3, 'UTC')".into()
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        for Millis(value) in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// A constant under the nulls: it is written, and never read.
pub trait Filler: NativeValue {
    const FILLER: &'static Self;
}

macro_rules! fillers {
    ($($rust:ty = $value:expr),* $(,)?) => {$(
        impl Filler for $rust {
            const FILLER: &'static Self = &$value;
        }
    )*};
}

fillers!(
    u8 = 0,
    u16 = 0,
    u32 = 0,
    u64 = 0,
    i64 = 0,
    [u8; 32] = [0; 32],
    [u8; 64] = [0; 64],
    bool = false,
    Seconds = Seconds(0),
    Millis = Millis(0),
    String = String::new(),
    Blob = Blob(Vec::new()),
);

impl<T: Filler> NativeValue for Option<T> {
    fn type_name() -> String {
        format!("Nullable({})", T::type_name())
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        let values: Vec<&'a Self> = values.collect();
        out.extend(values.iter().map(|value| u8::from(value.is_none())));
        T::write_column(
            &mut values
                .iter()
                .map(|value| value.as_ref().unwrap_or(T::FILLER)),
            out,
        );
    }
}

impl<T: NativeValue> NativeValue for Vec<T> {
    fn type_name() -> String {
        format!("Array({})", T::type_name())
    }

    fn write_column<'a>(values: &mut dyn Iterator<Item = &'a Self>, out: &mut Vec<u8>) {
        let values: Vec<&'a Self> = values.collect();
        let mut end = 0_u64;
        for value in &values {
            end += value.len() as u64;
            out.extend_from_slice(&end.to_le_bytes());
        }
        T::write_column(&mut values.iter().flat_map(|value| value.iter()), out);
    }
}

/// Declares a table's row: a struct whose fields are its columns.
macro_rules! table_row {
    ($(#[$doc:meta])* $row:ident in $table:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $row {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::sink::native::TableRow for $row {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn structure() -> String {
                let columns = [$((stringify!($field), <$type as $crate::sink::native::NativeValue>::type_name())),*];
                columns.map(|(name, kind)| format!("{name} {kind}")).join(", ")
            }

            fn write_columns(rows: &[Self], out: &mut Vec<u8>) {
                $(
                    $crate::sink::native::write_column_head::<$type>(stringify!($field), out);
                    <$type as $crate::sink::native::NativeValue>::write_column(&mut rows.iter().map(|row| &row.$field), out);
                )*
            }
        }
    };
}

pub(crate) use table_row;

#[cfg(test)]
mod tests {
    use super::*;

    table_row! { Sample in "sample" { a: u16, b: Option<u8>, c: Vec<String> } }

    #[test]
    fn writes_the_bytes_the_format_describes() {
        let rows = [
            Sample {
                a: 0x0a0a,
                b: None,
                c: vec!["x".into(), "yz".into()],
            },
            Sample {
                a: 1,
                b: Some(7),
                c: vec![],
            },
        ];
        let mut expected = vec![3, 2];
        expected.extend(b"\x01a\x06UInt16\x0a\x0a\x01\x00");
        expected.extend(b"\x01b\x0fNullable(UInt8)\x01\x00\x00\x07");
        expected.extend(b"\x01c\x0dArray(String)");
        expected.extend(2_u64.to_le_bytes());
        expected.extend(2_u64.to_le_bytes());
        expected.extend(b"\x01x\x02yz");
        assert_eq!(Sample::block(&rows), expected);
        assert_eq!(
            TableBlock::of(&rows).statement(),
            "INSERT INTO sample (a, b, c) FORMAT Native"
        );
        assert_eq!(
            TableBlock::of(&rows).statement_if("1 = 1"),
            "INSERT INTO sample (a, b, c) SELECT * FROM input('a UInt16, b Nullable(UInt8), c Array(String)') WHERE 1 = 1 FORMAT Native"
        );
    }

    #[test]
    fn long_lengths_take_several_bytes() {
        let mut out = Vec::new();
        write_length(300, &mut out);
        assert_eq!(out, [0xac, 0x02]);
    }
}
