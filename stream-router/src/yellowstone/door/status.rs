//! How a stream's end is said in gRPC. Yellowstone's own clients reconnect on every code used here but
//! `INVALID_ARGUMENT`, and on `OUT_OF_RANGE` forget the slot they wanted to resume from.

use tonic::Status;

use super::metrics::Ended;
use crate::{
    access::{Refusal, Refused},
    account_state::SnapshotError,
    yellowstone::outbox::Ending,
};

/// `from_slot` is what the subscriber asked for last.
pub fn of(ending: Ending, from_slot: Option<u64>) -> (Ended, Status) {
    match ending {
        // Not RESOURCE_EXHAUSTED, which is for limits: here updates were lost to this stream.
        Ending::Lagged => (
            Ended::Lagged,
            Status::data_loss(
                "lagged: updates were not read in time; connect again with the last update's cursor, or with from_slot",
            ),
        ),
        Ending::Missed => (
            Ended::Lagged,
            Status::data_loss(
                "lagged: updates were not read in time, and these are not told again; connect again for new ones",
            ),
        ),
        Ending::SlotUnavailable { first_available } => {
            let wanted = from_slot.unwrap_or_default();
            // The words of Yellowstone's server: clients read both numbers from them.
            let text = match first_available {
                Some(first) => {
                    format!("broadcast from {wanted} is not available, last available: {first}")
                }
                None => format!("broadcast from {wanted} is not available; no slot is, yet"),
            };
            (Ended::SlotUnavailable, Status::out_of_range(text))
        }
        Ending::CursorUnusable(why) => (
            Ended::CursorUnusable,
            Status::invalid_argument(format!("the cursor cannot be used: {why}")),
        ),
        Ending::Failed(why) => (
            Ended::Failed,
            Status::internal(format!(
                "catching up from the log failed: {why}; connect again"
            )),
        ),
        Ending::Shutdown => (Ended::Shutdown, shutdown()),
    }
}

/// To a connection beyond the limit.
pub const TOO_MANY: &str =
    "too many connections (grpc.connections_max); try again later or elsewhere";

pub fn refused(Refusal { why, text }: Refusal) -> Status {
    match why {
        Refused::TokenMissing | Refused::TokenUnknown => Status::unauthenticated(text),
        Refused::KeyFilters | Refused::KeyAccounts => Status::invalid_argument(text),
        _ => Status::resource_exhausted(text),
    }
}

pub fn no_snapshot(error: &SnapshotError) -> Status {
    let text = error.to_string();
    match error {
        SnapshotError::Level => Status::invalid_argument(text),
        SnapshotError::TooLarge { .. } => Status::resource_exhausted(text),
        SnapshotError::Behind | SnapshotError::Log(_) => Status::unavailable(text),
    }
}

pub fn shutdown() -> Status {
    Status::unavailable("the router is shutting down; connect again")
}

pub fn stalled(seconds: u64) -> Status {
    Status::data_loss(format!(
        "lagged: nothing was read for {seconds} seconds; connect again with the last update's cursor, or with from_slot"
    ))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn every_ending_has_its_code() {
        let code = |ending| of(ending, Some(5)).1.code();
        assert_eq!(code(Ending::Lagged), Code::DataLoss);
        assert_eq!(
            code(Ending::CursorUnusable("old".into())),
            Code::InvalidArgument
        );
        assert_eq!(code(Ending::Failed("broker".into())), Code::Internal);
        assert_eq!(code(Ending::Shutdown), Code::Unavailable);
    }

    #[test]
    fn an_unavailable_slot_is_told_as_clients_read_it() {
        let first_available = Some(12);
        let (_, status) = of(Ending::SlotUnavailable { first_available }, Some(7));
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(
            status.message(),
            "broadcast from 7 is not available, last available: 12"
        );
    }
}
