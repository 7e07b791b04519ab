//! What is missing in the stream, as `gapSubscribe` shows it.

use event_schema::{Gap, GapReason};
use serde_json::{Value, json};

/// Slots are null when it is not known which ones were in the records that are missing; records when their number is not.
pub fn gap_value(gap: &Gap) -> Value {
    let reason = match gap.reason() {
        GapReason::Unknown => "unknown",
        GapReason::LostAtSource => "lostAtSource",
        GapReason::MissingRecords => "missingRecords",
        GapReason::NeverSealed => "neverSealed",
    };
    let known = |number: u64| (number > 0).then_some(number);
    json!({
        "firstSlot": known(gap.last_slot).map(|_| gap.first_slot),
        "lastSlot": known(gap.last_slot),
        "records": known(gap.records),
        "reason": reason,
        "source": Some(gap.source.as_str()).filter(|source| !source.is_empty()),
        "detail": gap.detail,
    })
}
