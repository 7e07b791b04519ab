//! Who may come in through either door, and how much of it: connections, keys, and what a key may have.

mod farewell;
mod gate;
mod line;
mod metrics;
mod pace;

pub use farewell::Farewell;
pub use gate::{Gate, Key, KeyView, Place, Size};
pub use line::{Line, Lines, Listening, Peer};
pub use metrics::Arrivals;
pub use pace::ByteRate;

/// Where clients put their token.
pub const TOKEN: &str = "x-token";

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// More connections than `connections_max`: told so.
    Connections,
    /// So many more that they were told in a few bytes, or not at all.
    Flood,
    /// A connection without a call.
    Silent,
    TokenMissing,
    TokenUnknown,
    KeyConnections,
    KeyFilters,
    KeyAccounts,
    /// A `Subscribe` without a message.
    NoRequest,
    Request,
    RequestSize,
    Filters,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Flood => "flood",
            Self::Silent => "silent",
            Self::TokenMissing => "token_missing",
            Self::TokenUnknown => "token_unknown",
            Self::KeyConnections => "key_connections",
            Self::KeyFilters => "key_filters",
            Self::KeyAccounts => "key_accounts",
            Self::NoRequest => "no_request",
            Self::Request => "request",
            Self::RequestSize => "request_size",
            Self::Filters => "filters",
        }
    }
}

/// Somebody is turned away, in words for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub why: Refused,
    pub text: String,
}

impl Refusal {
    pub fn new(why: Refused, text: impl Into<String>) -> Self {
        Self {
            why,
            text: text.into(),
        }
    }
}
