//! A failure as a ClickHouse server words it: code, message, name, and the HTTP status that goes with the code.

use axum::http::StatusCode;

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServerError {
    pub code: u32,
    text: String,
}

/// Errors the door itself raises, with the codes and names of ClickHouse's `ErrorCodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    BadArguments,
    NotImplemented,
    SyntaxError,
    Readonly,
    QueryTooLarge,
    QuotaExceeded,
    TooManyQueries,
    CannotReadData,
    OutfileNotAllowed,
    UnknownSession,
    SessionLocked,
    AccessDenied,
    UnknownRole,
    AuthenticationFailed,
    Aborted,
    /// The server behind the door cannot be reached.
    Upstream,
    Engine,
}

impl Kind {
    fn code_and_name(self) -> (u32, &'static str) {
        match self {
            Self::BadArguments => (36, "BAD_ARGUMENTS"),
            Self::NotImplemented => (48, "NOT_IMPLEMENTED"),
            Self::SyntaxError => (62, "SYNTAX_ERROR"),
            Self::Readonly => (164, "READONLY"),
            Self::QueryTooLarge => (223, "QUERY_IS_TOO_LARGE"),
            Self::QuotaExceeded => (201, "QUOTA_EXCEEDED"),
            Self::TooManyQueries => (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
            Self::CannotReadData => (33, "CANNOT_READ_ALL_DATA"),
            Self::OutfileNotAllowed => (197, "INTO_OUTFILE_NOT_ALLOWED"),
            Self::UnknownSession => (372, "SESSION_NOT_FOUND"),
            Self::SessionLocked => (373, "SESSION_IS_LOCKED"),
            Self::AccessDenied => (497, "ACCESS_DENIED"),
            Self::UnknownRole => (512, "SET_NON_GRANTED_ROLE"),
            Self::AuthenticationFailed => (516, "AUTHENTICATION_FAILED"),
            Self::Aborted => (236, "ABORTED"),
            Self::Upstream => (210, "NETWORK_ERROR"),
            Self::Engine => (1002, "UNKNOWN_EXCEPTION"),
        }
    }
}

impl ServerError {
    /// An error of the door's own.
    pub fn new(kind: Kind, problem: impl std::fmt::Display) -> Self {
        let (code, name) = kind.code_and_name();
        let problem = problem.to_string();
        Self {
            code,
            text: format!(
                "Code: {code}. DB::Exception: {}. ({name})",
                problem.trim_end_matches('.')
            ),
        }
    }

    /// An error the engine reported; its text keeps the engine's words.
    pub fn of_engine(text: &str) -> Self {
        let text = text.trim_end();
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(code, _)| code.parse().ok());
        match code {
            Some(code) => Self {
                code,
                text: text.to_owned(),
            },
            None => Self::new(Kind::Engine, text),
        }
    }

    /// The body of the answer: one line that ends with the engine's version, as clients expect.
    pub fn body(&self, version: &str) -> String {
        if self.text.contains("(version ") {
            format!("{}\n", self.text)
        } else {
            format!("{} (version {version})\n", self.text)
        }
    }

    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 25 | 26 | 27 | 38 | 41 | 53 | 62 | 69 | 72 | 117 | 130 | 131 | 167 | 168 | 374
            | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 183 | 336 | 372 => {
                StatusCode::NOT_FOUND
            }
            159 => StatusCode::REQUEST_TIMEOUT,
            223 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            202 | 209 | 210 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_engines_words() {
        let error =
            ServerError::of_engine("Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)\n");
        assert_eq!((error.code, error.status()), (60, StatusCode::NOT_FOUND));
        assert_eq!(
            error.body("26.7.2.1 (heliograph embedded engine)"),
            "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE) (version 26.7.2.1 (heliograph embedded engine))\n"
        );
        assert_eq!(ServerError::of_engine("strange").code, 1002);
    }
}
