//! Just enough SQL reading to route a request: where an `INSERT`'s text ends and its data begins, which output format a
//! statement names, and which table functions it calls. Pure; the engine's own parser judges everything else.
//!
//! The engine cuts inline `INSERT` data at the first blank line, without an error when the cut falls between rows. So no
//! data ever reaches it inline: this module splits, and the streaming insert carries the rest.

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
    },
    /// More bytes are needed to tell.
    Incomplete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// An identifier in backticks or double quotes.
    Quoted,
    Literal,
    Mark(u8),
    /// A literal, comment or quoted name that does not end within the text.
    Unended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Splits SQL bytes into tokens, leaving out blanks and comments.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn starts(&self, prefix: &[u8]) -> bool {
        self.text[self.at..].starts_with(prefix)
    }

    /// Position after `end`, searching from `from`.
    fn after(&self, from: usize, end: &[u8]) -> Option<usize> {
        let rest = self.text.get(from..)?;
        rest.windows(end.len())
            .position(|window| window == end)
            .map(|found| from + found + end.len())
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

    /// `$tag$ … $tag$`, when the text here starts one.
    fn after_heredoc(&self) -> Option<Option<usize>> {
        let rest = &self.text[self.at + 1..];
        let length = rest
            .iter()
            .position(|byte| !is_word(*byte) || *byte == b'$')?;
        if rest[length] != b'$' {
            return None;
        }
        let tag = &self.text[self.at..self.at + length + 2];
        Some(self.after(self.at + tag.len(), tag))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let byte = *self.text.get(self.at)?;
            let start = self.at;
            let (kind, end) = match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 => {
                    self.at += 1;
                    continue;
                }
                _ if self.starts(b"--") || self.starts(b"# ") || self.starts(b"#!") => {
                    match self.after(start, b"\n") {
                        Some(end) => {
                            self.at = end;
                            continue;
                        }
                        None => (Kind::Unended, self.text.len()),
                    }
                }
                _ if self.starts(b"/*") => match self.after(start + 2, b"*/") {
                    Some(end) => {
                        self.at = end;
                        continue;
                    }
                    None => (Kind::Unended, self.text.len()),
                },
                b'\'' => self
                    .after_quote(byte)
                    .map_or((Kind::Unended, self.text.len()), |end| (Kind::Literal, end)),
                b'"' | b'`' => self
                    .after_quote(byte)
                    .map_or((Kind::Unended, self.text.len()), |end| (Kind::Quoted, end)),
                b'$' => match self.after_heredoc() {
                    Some(Some(end)) => (Kind::Literal, end),
                    Some(None) => (Kind::Unended, self.text.len()),
                    None => (Kind::Mark(byte), start + 1),
                },
                _ if is_word(byte) => {
                    let length = self.text[start..]
                        .iter()
                        .take_while(|byte| is_word(**byte))
                        .count();
                    (Kind::Word, start + length)
                }
                _ => (Kind::Mark(byte), start + 1),
            };
            self.at = end;
            return Some(Token { kind, start, end });
        }
    }
}

impl Token {
    fn is(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }

    /// The identifier this token spells, unquoted.
    fn name(&self, text: &[u8]) -> Option<String> {
        let bytes = match self.kind {
            Kind::Word => &text[self.start..self.end],
            Kind::Quoted => &text[self.start + 1..self.end - 1],
            _ => return None,
        };
        Some(String::from_utf8_lossy(bytes).replace('\\', ""))
    }
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
    while let Some(token) = tokens.next() {
        // The last token of an incomplete text may go on.
        if token.kind == Kind::Unended || (token.end == text.len() && !complete) {
            return unsure;
        }
        let opens = token.kind == Kind::Mark(b'(');
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Word if (depth == 0 || after_bracket) && starts_query(text, &token) => {
                return Scan::Statement;
            }
            Kind::Word if depth == 0 && token.is(text, "VALUES") => {
                return Scan::Insert {
                    head: token.start,
                    format: "Values".into(),
                    data: token.end,
                };
            }
            Kind::Word if depth == 0 && token.is(text, "FORMAT") => {
                return match tokens.next() {
                    Some(name)
                        if name.kind == Kind::Word && (complete || name.end < text.len()) =>
                    {
                        let format =
                            String::from_utf8_lossy(&text[name.start..name.end]).into_owned();
                        match data_start(text, name.end, complete) {
                            Some(data) => Scan::Insert {
                                head: token.start,
                                format,
                                data,
                            },
                            None => Scan::Incomplete,
                        }
                    }
                    _ => unsure,
                };
            }
            Kind::Mark(b';') if depth == 0 => return Scan::Statement,
            _ => {}
        }
        after_bracket = opens;
    }
    if complete {
        // `INSERT INTO t` alone: rows in the default input format may follow it in the body, or none at all.
        Scan::Insert {
            head: text.len(),
            format: "Values".into(),
            data: text.len(),
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

/// The first called function whose lower-case name `refused` knows.
pub fn calls(text: &[u8], refused: impl Fn(&str) -> bool) -> Option<String> {
    let mut tokens = Tokens::new(text).peekable();
    while let Some(token) = tokens.next() {
        if tokens
            .peek()
            .is_some_and(|next| next.kind == Kind::Mark(b'('))
            && let Some(name) = token.name(text)
            && refused(&name.to_ascii_lowercase())
        {
            return Some(name);
        }
    }
    None
}

/// Whether the statement reads or writes a file of the door's machine: `INTO OUTFILE`, `FROM INFILE`.
pub fn touches_files(text: &[u8]) -> bool {
    let tokens: Vec<Token> = Tokens::new(text).collect();
    tokens.windows(2).any(|pair| {
        (pair[0].is(text, "INTO") && pair[1].is(text, "OUTFILE"))
            || (pair[0].is(text, "FROM") && pair[1].is(text, "INFILE"))
    })
}

#[cfg(test)]
mod tests;
