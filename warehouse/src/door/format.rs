//! How the blocks of a streamed result join into one document. Pure.
//!
//! The engine writes each fetched block as a complete document of its format. Row formats concatenate; formats with a
//! heading repeat it, so it is cut from all blocks but the first; the rest are fetched whole.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    Concatenate,
    /// Every block starts with this heading.
    Heading(Heading),
    /// Only a whole result is a document.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// Text lines; line breaks within double quotes do not count when `quoted`.
    Lines { count: u8, quoted: bool },
    /// A column count, the names, and the types unless `names_only`.
    RowBinary { names_only: bool },
}

impl Joining {
    pub fn of(format: &str) -> Self {
        let lines = |count, quoted| Self::Heading(Heading::Lines { count, quoted });
        match format {
            "TabSeparated"
            | "TSV"
            | "TabSeparatedRaw"
            | "TSVRaw"
            | "Raw"
            | "CSV"
            | "TSKV"
            | "JSONEachRow"
            | "NDJSON"
            | "JSONLines"
            | "JSONStringsEachRow"
            | "JSONCompactEachRow"
            | "JSONCompactStringsEachRow"
            | "RowBinary"
            | "Native"
            | "LineAsString"
            | "RawBLOB"
            | "Null"
            | "MsgPack" => Self::Concatenate,
            "TabSeparatedWithNames"
            | "TSVWithNames"
            | "JSONCompactEachRowWithNames"
            | "JSONCompactStringsEachRowWithNames" => lines(1, false),
            "TabSeparatedWithNamesAndTypes"
            | "TSVWithNamesAndTypes"
            | "JSONCompactEachRowWithNamesAndTypes"
            | "JSONCompactStringsEachRowWithNamesAndTypes" => lines(2, false),
            "CSVWithNames" => lines(1, true),
            "CSVWithNamesAndTypes" => lines(2, true),
            "RowBinaryWithNames" => Self::Heading(Heading::RowBinary { names_only: true }),
            "RowBinaryWithNamesAndTypes" => Self::Heading(Heading::RowBinary { names_only: false }),
            _ => Self::Whole,
        }
    }
}

impl Heading {
    /// Bytes of the heading at the start of `block`; `None` when the block is shorter than its heading.
    pub fn length(self, block: &[u8]) -> Option<usize> {
        match self {
            Self::Lines { count, quoted } => lines_length(block, count, quoted),
            Self::RowBinary { names_only } => row_binary_length(block, names_only),
        }
    }
}

fn lines_length(block: &[u8], count: u8, quoted: bool) -> Option<usize> {
    let mut left = count;
    let mut within = false;
    for (at, byte) in block.iter().enumerate() {
        match byte {
            b'"' if quoted => within = !within,
            b'\n' if !within => {
                left -= 1;
                if left == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn row_binary_length(block: &[u8], names_only: bool) -> Option<usize> {
    let (columns, mut at) = varint(block, 0)?;
    let strings = if names_only {
        columns
    } else {
        columns.checked_mul(2)?
    };
    for _ in 0..strings {
        let (length, start) = varint(block, at)?;
        at = start.checked_add(usize::try_from(length).ok()?)?;
        if at > block.len() {
            return None;
        }
    }
    Some(at)
}

fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// The MIME type a real server answers with.
pub fn content_type(format: &str) -> &'static str {
    if format.starts_with("JSONEachRow")
        || format == "NDJSON"
        || format == "JSONLines"
        || format.contains("EachRow")
    {
        "application/x-ndjson; charset=UTF-8"
    } else if format.starts_with("JSON") {
        "application/json; charset=UTF-8"
    } else if format.starts_with("TabSeparated") || format.starts_with("TSV") {
        "text/tab-separated-values; charset=UTF-8"
    } else if format.starts_with("CSV") {
        "text/csv; charset=UTF-8; header=absent"
    } else if format.starts_with("RowBinary")
        || matches!(format, "Native" | "Parquet" | "ORC" | "Avro" | "MsgPack")
    {
        "application/octet-stream"
    } else if format.starts_with("Arrow") {
        "application/vnd.apache.arrow.stream"
    } else if format == "XML" {
        "application/xml; charset=UTF-8"
    } else {
        "text/plain; charset=UTF-8"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_headings() {
        let csv = Heading::Lines {
            count: 1,
            quoted: true,
        };
        assert_eq!(csv.length(b"\"a\nb\",\"c\"\n1,2\n"), Some(10));
        assert_eq!(csv.length(b"\"a\n"), None);
        assert_eq!(
            Heading::Lines {
                count: 2,
                quoted: false
            }
            .length(b"a\nUInt8\n1\n"),
            Some(8)
        );
        let typed = Heading::RowBinary { names_only: false };
        assert_eq!(typed.length(b"\x01\x01x\x05UInt8\x0a\x0a"), Some(9));
        assert_eq!(typed.length(b"\x01\x01x\x05UIn"), None);
        assert_eq!(
            Heading::RowBinary { names_only: true }.length(b"\x02\x01x\x01y\x00"),
            Some(5)
        );
    }

    #[test]
    fn documents_are_fetched_whole() {
        for format in [
            "JSON",
            "JSONCompact",
            "Pretty",
            "Parquet",
            "ArrowStream",
            "XML",
            "Values",
            "Vertical",
            "SomeNewFormat",
        ] {
            assert_eq!(Joining::of(format), Joining::Whole, "{format}");
        }
    }
}
