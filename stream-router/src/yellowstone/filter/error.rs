//! Why a request is refused: where, what, and what to send instead.

use std::fmt::Display;

/// Texts of clients are cut to this many characters in errors: a status travels in HTTP headers.
const QUOTED_CHARS: usize = 48;

/// A request that cannot be served. Sending it again unchanged cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}; {fix}")]
pub struct FilterError {
    place: String,
    problem: String,
    fix: String,
}

impl FilterError {
    pub(super) fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

/// One filter of a request: `accounts["usdc"]`.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub kind: &'static str,
    pub name: &'a str,
}

impl Place<'_> {
    pub fn error(
        &self,
        field: impl Display,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> FilterError {
        FilterError::new(
            format!("{}[{}].{field}", self.kind, quoted(self.name)),
            problem,
            fix,
        )
    }

    /// Of the filter as a whole.
    pub fn whole(&self, problem: impl Into<String>, fix: impl Into<String>) -> FilterError {
        FilterError::new(
            format!("{}[{}]", self.kind, quoted(self.name)),
            problem,
            fix,
        )
    }

    pub fn at_most(&self, field: &str, len: usize, max: Option<usize>) -> Result<(), FilterError> {
        match max {
            Some(max) if len > max => Err(self.error(
                field,
                format!("{len} are asked for"),
                format!("at most {max} are allowed"),
            )),
            _ => Ok(()),
        }
    }
}

/// A client's text, escaped and short.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
