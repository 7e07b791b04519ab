//! Ways to write the same call, so that a reader of text would lose its way.

use proptest::prelude::*;

/// One way to write a name, a blank or a statement, out of many.
#[derive(Debug, Clone)]
pub struct Disguise {
    name: u8,
    blank: u8,
    decoy: u8,
    wraps: Vec<u8>,
    pub as_reader: bool,
}

pub fn disguises() -> impl Strategy<Value = Disguise> {
    (
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(name, blank, decoy, wraps, as_reader)| Disguise {
            name,
            blank,
            decoy,
            wraps,
            as_reader,
        })
}

impl Disguise {
    pub fn name(&self, name: &str) -> String {
        let escaped: String = name.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        let (first, rest) = name.split_at(1);
        match self.name % 7 {
            0 => name.to_owned(),
            1 => format!("`{name}`"),
            2 => format!("\"{name}\""),
            3 => format!("`{escaped}`"),
            4 => format!("“{name}”"),
            5 => format!("\"\\{first}{rest}\"")
                .replace("\\f", "\\x66")
                .replace("\\n", "\\x6e"),
            _ => format!("`\\x{:02x}{rest}`", first.as_bytes()[0]),
        }
    }

    pub fn blank(&self) -> &'static str {
        [
            " ",
            "\n",
            "/* x */",
            "/* /* ' */ ' */",
            "\u{a0}",
            "\u{3000}",
            "\u{feff}",
            "-- '\n",
            "// '\n",
            "# '\n",
            "#! '\n",
            "\t\u{2003}\r\n",
        ][usize::from(self.blank) % 12]
    }

    /// Something ahead of the call that could make a reader of text lose its way.
    pub fn decoy(&self) -> &'static str {
        [
            "1",
            "'\\''",
            "'it''s'",
            "$a$ ' $a$",
            "$$ -- $$",
            "x'41'",
            "1 AS a$b$",
            "`a\\`b` FROM (SELECT 1 AS `a\\`b`)) AND 1 IN (SELECT 1",
            "0x41",
            "'--'",
            "'/*'",
        ][usize::from(self.decoy) % 11]
    }

    /// A statement that reads the table expression `call`.
    pub fn statement(&self, call: &str) -> String {
        let mut sql = format!("SELECT * FROM{}{call}", self.blank());
        for wrap in &self.wraps {
            sql = match wrap % 11 {
                0 => format!("SELECT * FROM ({sql})"),
                1 => format!("WITH w AS ({sql}) SELECT * FROM w"),
                2 => format!("SELECT * FROM (SELECT 1 WHERE 0) AS l RIGHT JOIN ({sql}) AS r ON 1"),
                3 => format!("({sql})"),
                4 => format!("SELECT * FROM view({sql})"),
                5 => format!("SELECT ({sql} LIMIT 1)"),
                6 => format!(
                    "SELECT * FROM (SELECT 1 WHERE toString(1) IN (SELECT toString(*) FROM ({sql}))) UNION ALL SELECT 1 WHERE 0"
                ),
                7 => format!("{sql} UNION ALL {sql}"),
                8 => format!("SELECT (SELECT groupArray(toString(*)) FROM ({sql}))"),
                9 => format!("SELECT * FROM ({sql}){}LIMIT 5", self.blank()),
                _ => format!(
                    "SELECT{}* FROM ({sql}) WHERE '' != {}",
                    self.blank(),
                    "'file('"
                ),
            };
        }
        format!(
            "SELECT * FROM (SELECT 1 WHERE 1 IN (SELECT toUInt8(1) FROM (SELECT {}))) AS d, ({sql}) AS s",
            self.decoy()
        )
    }
}
