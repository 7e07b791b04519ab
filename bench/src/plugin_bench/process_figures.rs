//! What a process has used, from `/proc`.

use std::{collections::BTreeMap, fs};

/// The kernel's unit for times in `/proc/PID/stat`; fixed for user space on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds of all threads, those that ended included; 0 for a process that is gone. Resolution: 10 ms.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    seconds_of(&stat)
}

/// What a thread has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ThreadUse {
    pub cpu_seconds: f64,
    /// How often it slept and went on.
    pub wakeups: u64,
}

impl ThreadUse {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.cpu_seconds += other.cpu_seconds;
        self.wakeups += other.wakeups;
    }
}

/// By name of thread, of the threads there are; to the nanosecond.
pub fn thread_use(pid: u32) -> BTreeMap<String, ThreadUse> {
    let mut used = BTreeMap::<String, ThreadUse>::new();
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        // A thread that ends meanwhile has no more to tell.
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let (name, schedstat, status) = (read("comm"), read("schedstat"), read("status"));
        let first = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
        let wakeups = status
            .lines()
            .find_map(|line| first(line.strip_prefix("voluntary_ctxt_switches:")?));
        used.entry(name.trim().into()).or_default().add(ThreadUse {
            cpu_seconds: first(&schedstat).unwrap_or(0) as f64 / 1e9,
            wakeups: wakeups.unwrap_or(0),
        });
    }
    used
}

fn seconds_of(stat: &str) -> f64 {
    // The name, in parentheses, may hold anything; fields are counted from its end. The first one after it is field 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |number: usize| -> f64 {
        fields
            .split_whitespace()
            .nth(number - 3)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0.0)
    };
    (ticks(14) + ticks(15)) / TICKS_PER_SECOND
}

/// Resident memory now, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// The most resident memory so far, in KiB.
pub fn peak_resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let pid = std::process::id();
        let before = cpu_seconds(pid);
        let begin = Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed() < Duration::from_millis(60) || cpu_seconds(pid) <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
            assert!(begin.elapsed() < Duration::from_secs(60), "no tick counted");
        }
        let (now, peak) = (resident_kib(pid), peak_resident_kib(pid));
        assert!(now > 500 && peak >= now, "{now} KiB of {peak}");
        assert_eq!(cpu_seconds(u32::MAX), 0.0);
        let used = thread_use(pid);
        let sum: f64 = used.values().map(|used| used.cpu_seconds).sum();
        // On a busy machine it got little of that time.
        assert!((0.001..60.0).contains(&sum), "{used:?}");
        assert!(used.values().any(|used| used.wakeups > 0), "{used:?}");
    }
}
