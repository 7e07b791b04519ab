//! Statements in a text. Pure.

use crate::door::{
    statement::{Scan, scan},
    token::{Kind, Tokens},
};

/// The first statement of `text` and where the next begins. Rows of an `INSERT … FORMAT` reach to the end: only the
/// server knows where they stop.
pub fn first(text: &[u8]) -> Option<(&[u8], usize)> {
    let begin = Tokens::new(text)
        .find(|token| token.kind != Kind::Mark(b';'))?
        .start;
    let rest = &text[begin..];
    if let Scan::Insert { format, .. } = scan(rest, true)
        && format != "Values"
    {
        return Some((rest, text.len()));
    }
    let end = Tokens::new(rest)
        .find(|token| token.kind == Kind::Mark(b';'))
        .map_or(rest.len(), |token| token.end);
    Some((&rest[..end], begin + end))
}

/// Whether a statement typed at a prompt is complete: a semicolon outside of literals and comments ends it, and so does
/// nothing but blanks.
pub fn is_complete(text: &str) -> bool {
    let tokens: Vec<_> = Tokens::new(text.as_bytes()).collect();
    tokens
        .last()
        .is_none_or(|token| token.kind == Kind::Mark(b';'))
}

/// Whether the statement is an `INSERT` whose rows are still to come.
pub fn wants_rows(statement: &str) -> bool {
    let text = statement.as_bytes();
    matches!(scan(text, true), Scan::Insert { data, .. } if text[data..].trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut rest = text.as_bytes();
        let mut found = Vec::new();
        while let Some((statement, next)) = first(rest) {
            found.push(String::from_utf8_lossy(statement).trim().to_owned());
            rest = &rest[next..];
        }
        found
    }

    #[test]
    fn finds_statements() {
        assert_eq!(
            split("SELECT 1; -- a; b\n SELECT ';', $$;$$ /* ; */;;\nSELECT 3"),
            ["SELECT 1;", "SELECT ';', $$;$$ /* ; */;", "SELECT 3"]
        );
        assert_eq!(
            split("SELECT 1; INSERT INTO t FORMAT CSV\n1;2\n3;4\n"),
            ["SELECT 1;", "INSERT INTO t FORMAT CSV\n1;2\n3;4"]
        );
        assert_eq!(
            split("INSERT INTO t VALUES (';'); SELECT 1"),
            ["INSERT INTO t VALUES (';');", "SELECT 1"]
        );
        assert!(split(" ;; -- nothing\n").is_empty());
    }

    #[test]
    fn knows_when_to_read_on() {
        for complete in ["SELECT 1;", "", "  \n", "SELECT ';' ; -- done\n"] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1 /* ;", "SELECT '\n;"] {
            assert!(!is_complete(open), "{open:?}");
        }
        assert!(wants_rows("INSERT INTO t FORMAT CSV") && wants_rows("INSERT INTO t"));
        assert!(!wants_rows("INSERT INTO t VALUES (1)") && !wants_rows("SELECT 1"));
    }
}
