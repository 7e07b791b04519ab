//! What can go wrong with a log, and what the caller should do about it.

use thiserror::Error;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the handler of an error should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The same call may succeed later.
    Retry,
    /// This record can never be written; leave it (dead-letter it) and go on.
    Drop,
    /// No retry can help: stop this part of the process.
    Stop,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error(
        "Kafka at {brokers} is not answering ({doing}: {reason}). Start the broker, or set `kafka.brokers` to its address"
    )]
    Unavailable {
        brokers: String,
        doing: String,
        reason: String,
    },

    #[error(
        "a newer writer with transactional id `{transactional_id}` has taken over. Run only one instance with this id"
    )]
    Fenced { transactional_id: String },

    #[error(
        "a record of {bytes} bytes for topic `{topic}` is larger than the broker accepts. Raise `message.max.bytes` on the broker and in `kafka.options`"
    )]
    TooLarge { topic: String, bytes: usize },

    #[error(
        "topic `{topic}` has no partition {partition}. Create the topic first, or check `topic_prefix` and the partition counts"
    )]
    UnknownPartition { topic: String, partition: u32 },

    #[error("topic `{topic}` does not exist. Create it first, or check `topic_prefix`")]
    UnknownTopic { topic: String },

    #[error(
        "topic `{topic}` has {found} partitions but {expected} are configured. Set the configured count to {found}, or use another `topic_prefix`"
    )]
    PartitionCount {
        topic: String,
        expected: u32,
        found: u32,
    },

    #[error(
        "offset {offset} of `{topic}`/{partition} is no longer (or not yet) on the log, which holds {low}..{high}. Reset the stored position, or raise the topic's retention"
    )]
    OffsetOutOfRange {
        topic: String,
        partition: u32,
        offset: i64,
        low: i64,
        high: i64,
    },

    #[error("kafka option `{option}`: {reason}")]
    Config { option: String, reason: String },

    #[error("the transaction was aborted ({reason})")]
    Aborted { reason: String },

    #[error(
        "whether the last transaction of `{transactional_id}` was committed is not known ({reason}). Make a new writer and read the log"
    )]
    Undecided {
        transactional_id: String,
        reason: String,
    },

    #[error("Kafka refused ({doing}): {reason}")]
    Refused { doing: String, reason: String },
}

impl Error {
    pub fn action(&self) -> Action {
        match self {
            Error::Unavailable { .. } | Error::Aborted { .. } => Action::Retry,
            Error::TooLarge { .. } => Action::Drop,
            Error::Fenced { .. }
            | Error::UnknownPartition { .. }
            | Error::UnknownTopic { .. }
            | Error::PartitionCount { .. }
            | Error::OffsetOutOfRange { .. }
            | Error::Config { .. }
            | Error::Undecided { .. }
            | Error::Refused { .. } => Action::Stop,
        }
    }
}
