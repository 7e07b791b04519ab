//! Just enough SQL reading to route a request: where an `INSERT`'s text ends and its data begins, which output format a
//! statement names. Pure; the engine's own parser judges everything else.
//!
//! The engine cuts inline `INSERT` data at the first blank line, without an error when the cut falls between rows. So no
//! data ever reaches it inline: this module splits, and the streaming insert carries the rest.

use std::ops::Range;

use super::token::{Kind, Token, Tokens};

/// What a statement's beginning turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// No inline data can follow: run the whole text.
    Statement,
    /// `INSERT` with data: run `text[..head]` as a streaming insert in `format`; the rows are `text[data..]` and after.
    Insert {
        head: usize,
        format: String,
        data: usize,
        /// Of `INSERT … SELECT … FROM input('…')`, which reads the rows as a table: where `input(` stands.
        input: Option<Range<usize>>,
    },
    /// More bytes are needed to tell.
    Incomplete,
}

/// Tells an `INSERT` with data from everything else. `complete`: nothing follows `text`.
pub fn scan(text: &[u8], complete: bool) -> Scan {
    let mut tokens = Tokens::new(text).peekable();
    let unsure = if complete {
        Scan::Statement
    } else {
        Scan::Incomplete
    };
    // A leading bracket or comment is followed by no inline data.
    let Some(first) = tokens.next() else {
        return unsure;
    };
    if first.kind == Kind::Unended || (first.end == text.len() && !complete) {
        return unsure;
    }
    if !first.is(text, "INSERT") {
        return Scan::Statement;
    }
    skip_target(text, &mut tokens);
    let mut depth = 0_u32;
    let mut after_bracket = false;
    let mut selects = false;
    let mut input = None;
    while let Some(token) = tokens.next() {
        // The last token of an incomplete text may go on.
        if token.kind == Kind::Unended || (token.end == text.len() && !complete) {
            return unsure;
        }
        let opens = token.kind == Kind::Mark(b'(');
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Word
                if depth == 0 && token.is(text, "FORMAT") && (!selects || input.is_some()) =>
            {
                match tokens.peek() {
                    Some(name)
                        if name.kind == Kind::Word && (complete || name.end < text.len()) =>
                    {
                        let format = String::from_utf8_lossy(&text[name.start..name.end]);
                        return match data_start(text, name.end, complete) {
                            Some(data) => Scan::Insert {
                                head: token.start,
                                format: format.into_owned(),
                                data,
                                input,
                            },
                            None => Scan::Incomplete,
                        };
                    }
                    // A column or function of that name.
                    Some(_) if selects => {}
                    _ => return unsure,
                }
            }
            Kind::Word if selects => {
                let bracket = tokens
                    .peek()
                    .filter(|next| next.kind == Kind::Mark(b'(') && token.is(text, "input"));
                if let Some(bracket) = bracket {
                    input.get_or_insert(token.start..bracket.end);
                }
            }
            Kind::Word if (depth == 0 || after_bracket) && starts_query(text, &token) => {
                // `FROM INFILE` and `WATCH` name where the rows are.
                if token.is(text, "FROM") || token.is(text, "WATCH") {
                    return Scan::Statement;
                }
                selects = true;
            }
            Kind::Word if depth == 0 && token.is(text, "VALUES") => {
                return Scan::Insert {
                    head: token.start,
                    format: "Values".into(),
                    data: token.end,
                    input: None,
                };
            }
            Kind::Mark(b';') if depth == 0 => return Scan::Statement,
            _ => {}
        }
        after_bracket = opens;
    }
    if complete && selects {
        Scan::Statement
    } else if complete {
        // `INSERT INTO t` alone: rows in the default input format may follow it in the body, or none at all.
        Scan::Insert {
            head: text.len(),
            format: "Values".into(),
            data: text.len(),
            input: None,
        }
    } else {
        Scan::Incomplete
    }
}

fn starts_query(text: &[u8], token: &Token) -> bool {
    ["SELECT", "WITH", "WATCH", "FROM"]
        .iter()
        .any(|word| token.is(text, word))
}

/// Passes `INTO [TABLE] [FUNCTION] name[.name]`, so that a table may be called `values` or `format`.
fn skip_target(text: &[u8], tokens: &mut std::iter::Peekable<Tokens<'_>>) {
    for word in ["INTO", "TABLE", "FUNCTION"] {
        if tokens.peek().is_some_and(|token| token.is(text, word)) {
            tokens.next();
        }
    }
    loop {
        if tokens.peek().is_some_and(|token| {
            matches!(token.kind, Kind::Word | Kind::Quoted) && token.end < text.len()
        }) {
            tokens.next();
        }
        if tokens
            .peek()
            .is_none_or(|token| token.kind != Kind::Mark(b'.'))
        {
            return;
        }
        tokens.next();
    }
}

/// Data begins after blanks and one line break behind the format's name. `None`: not all of that is there yet.
fn data_start(text: &[u8], name_end: usize, complete: bool) -> Option<usize> {
    let mut at = name_end;
    while matches!(text.get(at), Some(b' ' | b'\t' | 0x0c)) {
        at += 1;
    }
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    match text.get(at) {
        Some(b'\n') => Some(at + 1),
        Some(_) => Some(at),
        None => complete.then_some(at),
    }
}

/// The output format a statement asks for by its `FORMAT` clause.
pub fn output_format(text: &[u8]) -> Option<String> {
    let mut depth = 0_i32;
    let mut found = None;
    let mut tokens = Tokens::new(text).peekable();
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Mark(b'(' | b'[' | b'{') => depth += 1,
            Kind::Mark(b')' | b']' | b'}') => depth -= 1,
            Kind::Word if depth == 0 && token.is(text, "FORMAT") => {
                if let Some(name) = tokens.peek().filter(|name| name.kind == Kind::Word) {
                    found = Some(String::from_utf8_lossy(&text[name.start..name.end]).into_owned());
                }
            }
            _ => {}
        }
    }
    found
}

/// The statement's first word, in capitals.
pub fn first_word(text: &[u8]) -> String {
    Tokens::new(text)
        .find(|token| token.kind != Kind::Mark(b'('))
        .and_then(|token| token.name(text))
        .unwrap_or_default()
        .to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
