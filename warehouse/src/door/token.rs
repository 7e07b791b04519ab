//! ClickHouse's lexer, as far as telling text, names, literals and comments apart. Pure.
//!
//! Where one statement ends for us it must end for the engine too: a comment that we think ends earlier, or a literal that
//! begins for us alone, would hide what follows. So all that the engine's lexer takes is taken here in the same way: nested
//! comments, `//` and `#!`, here-documents, words with `$`, hexadecimal literals, typographic quotes and Unicode blanks.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// An identifier in backticks, double quotes or their typographic forms.
    Quoted,
    Literal,
    Mark(u8),
    /// A literal, comment or quoted name that does not end within the text.
    Unended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Splits SQL bytes into tokens, leaving out blanks and comments.
pub struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

/// What stands at a position, and where it ends.
enum Found {
    /// Blank or comment.
    Nothing(usize),
    Token(Kind, usize),
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn starts(&self, prefix: &[u8]) -> bool {
        self.rest().starts_with(prefix)
    }

    /// Position after the next `end`, searching from `from`.
    fn after(&self, from: usize, end: &[u8]) -> Option<usize> {
        find(self.text.get(from..)?, end).map(|found| from + found + end.len())
    }

    fn unended(&self) -> Found {
        Found::Token(Kind::Unended, self.text.len())
    }

    fn token_or_unended(&self, kind: Kind, end: Option<usize>) -> Found {
        end.map_or_else(|| self.unended(), |end| Found::Token(kind, end))
    }

    /// Position after the closing `quote`; a backslash or a doubled quote escapes.
    fn after_quote(&self, quote: u8) -> Option<usize> {
        let mut at = self.at + 1;
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'\\' => at += 2,
                found if *found == quote => {
                    if self.text.get(at + 1) == Some(&quote) {
                        at += 2;
                    } else {
                        return Some(at + 1);
                    }
                }
                _ => at += 1,
            }
        }
        None
    }

    /// Comments nest, as the SQL standard says.
    fn after_comment(&self) -> Option<usize> {
        let mut depth = 1_u32;
        let mut at = self.at + 2;
        loop {
            match self.text.get(at..at + 2)? {
                b"/*" => depth += 1,
                b"*/" => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 2);
                    }
                }
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
        }
    }

    /// `$tag$ … $tag$`; a tag is whatever stands between two dollars. Without an end it is no here-document.
    fn after_heredoc(&self) -> Option<usize> {
        let tag_end = self.after(self.at + 1, b"$")?;
        self.after(tag_end, &self.text[self.at..tag_end])
    }

    /// A literal of hexadecimal or binary digits: nothing escapes in it.
    fn after_digits_literal(&self) -> Option<usize> {
        let binary = matches!(self.text[self.at], b'b' | b'B');
        let digit = |byte: &u8| {
            if binary {
                matches!(byte, b'0' | b'1')
            } else {
                byte.is_ascii_hexdigit()
            }
        };
        let digits = self.text[self.at + 2..]
            .iter()
            .take_while(|b| digit(b))
            .count();
        let end = self.at + 2 + digits;
        (self.text.get(end) == Some(&b'\'')).then_some(end + 1)
    }

    fn found(&self) -> Option<Found> {
        let byte = *self.text.get(self.at)?;
        let next = self.text.get(self.at + 1).copied();
        let to_line_end = || match self.after(self.at, b"\n") {
            Some(end) => Found::Nothing(end),
            // More of the line may come.
            None => self.unended(),
        };
        Some(match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 => Found::Nothing(self.at + 1),
            b'-' if next == Some(b'-') => to_line_end(),
            b'/' if next == Some(b'/') => to_line_end(),
            b'#' if matches!(next, Some(b' ' | b'!')) => to_line_end(),
            b'/' if next == Some(b'*') => match self.after_comment() {
                Some(end) => Found::Nothing(end),
                None => self.unended(),
            },
            b'\'' => self.token_or_unended(Kind::Literal, self.after_quote(byte)),
            b'"' | b'`' => self.token_or_unended(Kind::Quoted, self.after_quote(byte)),
            b'x' | b'X' | b'b' | b'B' if next == Some(b'\'') => {
                self.token_or_unended(Kind::Literal, self.after_digits_literal())
            }
            b'$' => match self.after_heredoc() {
                Some(end) => Found::Token(Kind::Literal, end),
                None if next.is_some_and(is_word) => Found::Token(Kind::Word, self.word_end()),
                None => Found::Token(Kind::Mark(byte), self.at + 1),
            },
            _ if is_word(byte) => Found::Token(Kind::Word, self.word_end()),
            _ if self.starts("“".as_bytes()) => {
                self.token_or_unended(Kind::Quoted, self.after(self.at, "”".as_bytes()))
            }
            _ if self.starts("‘".as_bytes()) => {
                self.token_or_unended(Kind::Literal, self.after(self.at, "’".as_bytes()))
            }
            _ => match unicode_blank(self.rest()) {
                0 => Found::Token(Kind::Mark(byte), self.at + 1),
                length => Found::Nothing(self.at + length),
            },
        })
    }

    fn word_end(&self) -> usize {
        let length = self
            .rest()
            .iter()
            .take_while(|byte| is_word(**byte) || **byte == b'$')
            .count();
        self.at + length
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            match self.found()? {
                Found::Nothing(end) => self.at = end,
                Found::Token(kind, end) => {
                    self.at = end;
                    return Some(Token { kind, start, end });
                }
            }
        }
    }
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub fn is(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }

    /// The identifier it spells, unquoted and unescaped.
    pub fn name(&self, text: &[u8]) -> Option<String> {
        let bytes = &text[self.start..self.end];
        match self.kind {
            Kind::Word => Some(String::from_utf8_lossy(bytes).into_owned()),
            Kind::Quoted if bytes[0] >= 0x80 => {
                let quote = "“".len();
                Some(String::from_utf8_lossy(&bytes[quote..bytes.len() - quote]).into_owned())
            }
            Kind::Quoted => Some(unescaped(&bytes[1..bytes.len() - 1], bytes[0])),
            _ => None,
        }
    }
}

/// What a quoted text means: backslash escapes and doubled quotes, as the engine reads them.
pub fn unescaped(quoted: &[u8], quote: u8) -> String {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == quote && bytes.peek() == Some(&quote) {
            bytes.next();
        }
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'x') => {
                let mut digit = || {
                    bytes
                        .next()
                        .and_then(|byte| char::from(byte).to_digit(16))
                        .unwrap_or(0) as u8
                };
                let high = digit();
                out.push(high * 16 + digit());
            }
            Some(b'b') => out.push(0x08),
            Some(b'f') => out.push(0x0c),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'a') => out.push(0x07),
            Some(b'v') => out.push(0x0b),
            Some(b'e') => out.push(0x1b),
            Some(b'0') => out.push(0),
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

/// Length of the blank of Unicode that `text` begins with; 0: none. Texts copied from word processors have them.
fn unicode_blank(text: &[u8]) -> usize {
    const BLANKS: &[&str] = &[
        "\u{85}", "\u{a0}", "\u{1680}", "\u{180e}", "\u{2000}", "\u{2001}", "\u{2002}", "\u{2003}",
        "\u{2004}", "\u{2005}", "\u{2006}", "\u{2007}", "\u{2008}", "\u{2009}", "\u{200a}",
        "\u{200b}", "\u{200c}", "\u{200d}", "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}",
        "\u{2060}", "\u{3000}", "\u{feff}",
    ];
    BLANKS
        .iter()
        .find(|blank| text.starts_with(blank.as_bytes()))
        .map_or(0, |blank| blank.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        Tokens::new(text.as_bytes())
            .filter_map(|token| token.name(text.as_bytes()))
            .collect()
    }

    /// Each of these hid or disguised a call from an earlier lexer of ours while the engine ran it.
    #[test]
    fn nothing_hides_a_call() {
        for text in [
            "SELECT * FROM `\\x66ile`('x')",
            "SELECT * FROM “file”('x')",
            "SELECT * FROM file\u{a0}('x')",
            "SELECT 1 /* /* */ ' */ , * FROM file('x') -- '\n",
            "SELECT 1 AS a$b$, * FROM file('x') AS a$b$",
            "SELECT x'41', * FROM file('x') -- '\n",
            "SELECT 1 // '\n, * FROM file('x') -- '\n",
            "SELECT 1 #! '\n, * FROM file('x')",
            "SELECT $$ ' $$ , * FROM file('x') -- '\n",
        ] {
            assert!(
                names(text).contains(&"file".to_owned()),
                "{text}: {:?}",
                names(text)
            );
        }
    }

    #[test]
    fn what_is_quoted_is_no_name() {
        for text in [
            "SELECT 'file', $$file$$, $ a$ file $ a$, ‘file’, x'66696c65'",
            "SELECT 'it''s \\' file' /* file /* file */ file */ -- file\n",
        ] {
            assert_eq!(names(text), ["SELECT"], "{text}");
        }
    }

    #[test]
    fn unescapes() {
        assert_eq!(unescaped(b"a\\x41\\\\\\n``", b'`'), "aA\\\n`");
        assert_eq!(unescaped(b"\\x4", b'`'), "@");
        assert_eq!(unescaped(b"\\", b'`'), "\\");
    }

    proptest! {
        #[test]
        fn tokens_advance_and_never_overlap(text in proptest::collection::vec(prop_oneof![
            Just(b'\''), Just(b'$'), Just(b'/'), Just(b'*'), Just(b'\\'), Just(b'`'), Just(b'x'), Just(0xe2), Just(0x80), Just(0x9c), any::<u8>()
        ], 0..120)) {
            let mut at = 0;
            for token in Tokens::new(&text) {
                prop_assert!(token.start >= at && token.end > token.start && token.end <= text.len());
                at = token.end;
                token.name(&text);
            }
        }
    }
}
