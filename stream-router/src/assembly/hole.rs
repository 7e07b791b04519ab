//! What an incomplete slot lacks, counted for the gap record and told to people.

use std::ops::RangeInclusive;

use event_schema::{GapReason, ObservedTopic};

use super::SourceSlot;
use crate::observation::Lane;

/// What is missing, for the gap record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// 0 when not known.
    pub records: u64,
    pub reason: GapReason,
    pub detail: String,
}

impl SourceSlot {
    /// What is missing now. `missing_in` tells the unread sequence numbers of a partition.
    pub fn hole(
        &self,
        missing_in: impl Fn(Lane, RangeInclusive<u64>) -> Vec<RangeInclusive<u64>>,
    ) -> Hole {
        let Some(seal) = &self.seal else {
            let held = self.held_total;
            return Hole {
                records: 0,
                reason: GapReason::NeverSealed,
                detail: format!("{held} records, no seal"),
            };
        };
        let mut lost = 0;
        let mut missing = 0;
        let mut details = Vec::new();
        for row in &seal.table {
            let Ok(topic) = ObservedTopic::try_from(row.topic) else {
                details.push(format!("unknown topic {}", row.topic));
                continue;
            };
            let lane = Lane {
                topic,
                partition: row.partition,
            };
            let (due, held) = if topic == ObservedTopic::Slots {
                let metas = u64::from(self.meta().is_some());
                (self.entries_due(seal) + 1, self.held_entries() + metas)
            } else {
                (
                    row.records.saturating_sub(self.counted_before(lane, seal)),
                    self.held(lane),
                )
            };
            let unfinished = self
                .lanes
                .get(&lane)
                .map(|slot| slot.chunks.unfinished_from(self.counted_from(lane)))
                .unwrap_or_default();
            lost += row.lost;
            missing += match topic {
                // Counted in values: an unfinished one lacks only some of its chunks. What was lost is due, too, and counted
                // above.
                ObservedTopic::Slots => {
                    let lacking = due.saturating_sub(held).saturating_sub(unfinished.values);
                    lacking.saturating_sub(row.lost) + unfinished.chunks_lacking
                }
                // Counted in records, chunks included. A set that something else interrupts lacks chunks all the same.
                _ => match due.saturating_sub(held) {
                    0 => unfinished.chunks_lacking,
                    missing => missing,
                },
            };
            if row.lost == 0 && due == held && unfinished.values == 0 {
                continue;
            }
            let unread = self
                .lanes
                .get(&lane)
                .and_then(|slot| slot.seal)
                .map(|own| missing_in(lane, own.first_sequence..=own.last_sequence))
                .unwrap_or_default();
            let mut detail = format!(
                "{topic:?}/{}: {held} of {due} records, {} lost at the source, missing sequences {}",
                row.partition,
                row.lost,
                ranges(&unread),
            );
            if unfinished.values > 0 {
                detail.push_str(&format!(
                    ", {} values lack {} chunks",
                    unfinished.values, unfinished.chunks_lacking
                ));
            }
            details.push(detail);
        }
        if seal.partial {
            details.push(
                "the source was loaded while the slot was executed, what came before is not known"
                    .into(),
            );
        }
        if self.damaged > 0 {
            details.push(format!("{} unreadable records", self.damaged));
        }
        Hole {
            records: lost + missing,
            reason: if lost > 0 {
                GapReason::LostAtSource
            } else {
                GapReason::MissingRecords
            },
            detail: details.join("; "),
        }
    }
}

fn ranges(ranges: &[RangeInclusive<u64>]) -> String {
    if ranges.is_empty() {
        return "not known".to_owned();
    }
    let texts = ranges.iter().take(16).map(|range| {
        if range.start() == range.end() {
            range.start().to_string()
        } else {
            format!("{}-{}", range.start(), range.end())
        }
    });
    let mut text = texts.collect::<Vec<_>>().join(",");
    if ranges.len() > 16 {
        text.push_str(&format!(" and {} more ranges", ranges.len() - 16));
    }
    text
}
