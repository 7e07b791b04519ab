//! What the validator's log tells of its slots. Pure.
//!
//! `bank frozen` is written by the thread that freezes the bank, at that moment, with nanoseconds; the workers' datapoints
//! hold the time they spent committing, which is where account callbacks run.

/// Makes the validator write what is read here.
pub const FILTER: &str = "warn,solana_runtime::bank=info,solana_metrics::metrics=trace";

/// What happened within a span of time, in nanoseconds since 1970.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Seen {
    /// From one slot's freezing to the next one's.
    pub slot_ms: Vec<f64>,
    pub commit_us: u64,
    /// Of the banking workers; votes are not theirs.
    pub transactions: u64,
}

pub fn read(log: &str, from: u128, to: u128) -> Seen {
    let mut seen = Seen::default();
    let mut last: Option<(u64, u128)> = None;
    for line in log.lines() {
        let Some((time, text)) = stamped(line).filter(|(time, _)| (from..=to).contains(time))
        else {
            continue;
        };
        if let Some(slot) = text.strip_prefix("bank frozen: ").and_then(first_number) {
            // A skipped slot's time belongs to none.
            if let Some((before, since)) = last
                && before + 1 == slot
            {
                seen.slot_ms.push((time - since) as f64 / 1e6);
            }
            last = Some((slot, time));
        } else if text.starts_with("datapoint: banking_stage_worker_timing") {
            seen.commit_us += field(text, "commit_us").unwrap_or(0);
        } else if text.starts_with("datapoint: banking_stage_worker_counts") {
            seen.transactions += field(text, "processed_transactions_count").unwrap_or(0);
        }
    }
    seen
}

fn first_number(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}

/// ` name=12i` → 12.
fn field(text: &str, name: &str) -> Option<u64> {
    text.split(' ')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        .and_then(|value| value.trim_end_matches('i').parse().ok())
}

/// `[2026-11-22T21:18:54.541852100Z INFO  target] text` → nanoseconds since 1970, text.
fn stamped(line: &str) -> Option<(u128, &str)> {
    let (head, text) = line.strip_prefix('[')?.split_once("] ")?;
    let stamp = head.split(' ').next()?.strip_suffix('Z')?;
    let (date, clock) = stamp.split_once('T')?;
    let mut date = date.split('-');
    let mut part = || date.next()?.parse::<i64>().ok();
    let days = days_since_1970(part()?, part()?, part()?);
    let (clock, fraction) = clock.split_once('.')?;
    let seconds = clock.split(':').try_fold(0, |sum: i64, part| {
        Some(sum * 60 + part.parse::<i64>().ok()?)
    })?;
    let nanos: u128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = u128::try_from(days * 86_400 + seconds).ok()?;
    Some((seconds * 1_000_000_000 + nanos, text))
}

/// Of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[2026-11-22T21:18:54.100000000Z INFO  solana_runtime::bank] bank frozen: 57 hash: DaA2 signature_count: 2 last
[2026-11-22T21:18:54.300000000Z TRACE solana_metrics::metrics] datapoint: banking_stage_worker_counts,id=0 max_queue_len=0i processed_transactions_count=3i retryable_transaction_count=0i
[2026-11-22T21:18:54.300000000Z TRACE solana_metrics::metrics] datapoint: banking_stage_worker_timing,id=0 cost_model_us=19i record_us=43i commit_us=46i find_us=97i
some line of another thread
[2026-11-22T21:18:54.500500000Z INFO  solana_runtime::bank] bank frozen: 58 hash: J9C6
[2026-11-22T21:18:55.200000000Z INFO  solana_runtime::bank] bank frozen: 60 hash: J9C6
[2026-11-22T21:18:55.600000000Z INFO  solana_runtime::bank] bank frozen: 61 hash: J9C6
";

    fn at(text: &str) -> u128 {
        stamped(&format!("[{text} INFO  x] y")).unwrap().0
    }

    #[test]
    fn slots_are_timed_between_neighbours_and_work_is_added_up() {
        let seen = read(LOG, 0, u128::MAX);
        assert_eq!(seen.slot_ms, [400.5, 400.0]);
        assert_eq!((seen.commit_us, seen.transactions), (46, 3));
        let late = read(LOG, at("2026-11-22T21:18:54.400Z"), u128::MAX);
        assert_eq!(late.slot_ms, [400.0]);
        assert_eq!((late.commit_us, late.transactions), (0, 0));
    }

    #[test]
    fn stamps_are_those_of_the_system_clock() {
        // `date -u -d … +%s`
        assert_eq!(at("1970-01-01T00:00:00.000000001Z"), 1);
        assert_eq!(at("2000-03-01T00:00:00.000Z"), 951_868_800_000_000_000);
        assert_eq!(
            at("2026-11-22T21:18:54.541852100Z"),
            1_795_382_334_541_852_100
        );
        assert_eq!(at("2028-02-29T12:00:00.5Z"), 1_835_438_400_500_000_000);
        assert!(stamped("[2026-13 nonsense] x").is_none());
        assert!(stamped("no stamp").is_none());
    }
}
