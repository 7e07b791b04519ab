//! The plugin's own threads give way to the validator's.
//!
//! On Linux every thread has a nice value and a set of CPUs of its own, and a new thread takes both from the one that starts
//! it. So one thread is started to start the others: it steps back, and whatever it starts (the worker, Kafka's client with its
//! threads, clients that the worker makes later) steps back with it. The validator's own thread keeps what it has.

use std::{fmt, io, panic, thread};

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::{CpuSet, sched_setaffinity},
};
use serde::{Deserialize, Serialize};

/// How the plugin's own threads share the machine with the validator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Threads {
    /// Added to the validator's nice value, 0 to 19. At 5 a thread gets a quarter of a processor that the validator wants for
    /// itself, and all of one that it does not.
    pub nice: u8,
    /// Where they may run, such as `2-3,7`; `null`: where the validator may.
    pub cpus: Option<String>,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            nice: 5,
            cpus: None,
        }
    }
}

/// The greatest nice value there is.
pub const NICE_MAX: u8 = 19;

impl Threads {
    /// The numbers in `cpus`; the error says what is wrong with it.
    pub fn cpu_numbers(&self) -> Result<Option<Vec<usize>>, String> {
        self.cpus.as_deref().map(numbers).transpose()
    }

    /// Runs `work` on a thread that has stepped back, and waits for it. Threads that it starts have stepped back as well.
    /// What the system refuses is said, and hinders nothing.
    pub fn start<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let loader = thread::Builder::new().name("hgStart".into()).spawn_scoped(
                scope,
                || {
                    let stepped_back = self.step_back();
                    log::info!(target: crate::LOG_TARGET, "heliograph: its threads {stepped_back}");
                    for refusal in stepped_back.refusals {
                        log::warn!(target: crate::LOG_TARGET, "heliograph: {refusal}");
                    }
                    work()
                },
            )?;
            Ok(loader
                .join()
                .unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
        })
    }

    /// Of the calling thread.
    fn step_back(&self) -> SteppedBack {
        let mut refusals = Vec::new();
        let validator = getpriority_process(None).unwrap_or(0);
        if self.nice > 0 {
            let nice = (validator + i32::from(self.nice)).min(NICE_MAX.into());
            if let Err(error) = setpriority_process(None, nice) {
                refusals.push(format!(
                    "`threads.nice`: the system refuses {nice}: {error}; its threads run like the validator's"
                ));
            }
        }
        let mut cpus = None;
        if let (Some(written), Ok(Some(numbers))) = (&self.cpus, self.cpu_numbers()) {
            let mut set = CpuSet::new();
            numbers.iter().for_each(|number| set.set(*number));
            match sched_setaffinity(None, &set) {
                Ok(()) => cpus = Some(written.clone()),
                Err(error) => refusals.push(format!(
                    "`threads.cpus`: the system refuses {written}: {error}; its threads run where the validator may. Name CPUs \
                     that this machine has and the validator may use"
                )),
            }
        }
        SteppedBack {
            validator,
            nice: getpriority_process(None).unwrap_or(validator),
            cpus,
            refusals,
        }
    }
}

/// What came of it.
struct SteppedBack {
    validator: i32,
    nice: i32,
    cpus: Option<String>,
    refusals: Vec<String>,
}

impl fmt::Display for SteppedBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            validator, nice, ..
        } = self;
        write!(f, "run at nice {nice} (the validator at {validator})")?;
        match &self.cpus {
            Some(cpus) => write!(f, " on CPUs {cpus}"),
            None => write!(f, " on the validator's CPUs"),
        }
    }
}

/// As the kernel writes sets of CPUs: `2-3,7`.
fn numbers(written: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| {
        let number: usize = text
            .trim()
            .parse()
            .map_err(|_| format!("`{}` is no CPU's number", text.trim()))?;
        if number >= CpuSet::MAX_CPU {
            return Err(format!("CPU {number} is beyond {}", CpuSet::MAX_CPU - 1));
        }
        Ok(number)
    };
    let mut numbers = Vec::new();
    for part in written.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("`{}` runs backwards", part.trim()));
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn sets_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("2-3,7"), Ok(vec![2, 3, 7]));
        assert_eq!(numbers(" 0 "), Ok(vec![0]));
        for (written, problem) in [
            ("", "no CPU's number"),
            ("1,,2", "no CPU's number"),
            ("3-1", "backwards"),
            ("-1", "no CPU's number"),
            ("99999", "beyond"),
            ("0-4294967296", "beyond"),
        ] {
            let refused = numbers(written).unwrap_err();
            assert!(refused.contains(problem), "{written}: {refused}");
        }
    }

    /// What a thread started by a thread started by `threads` finds, and what the caller finds afterwards.
    fn seen(threads: &Threads) -> ((i32, u32), (i32, u32)) {
        let look = || {
            let nice = getpriority_process(None).unwrap();
            (nice, sched_getaffinity(None).unwrap().count())
        };
        let inside = threads.start(|| thread::spawn(look).join().unwrap());
        (inside.unwrap(), look())
    }

    #[test]
    fn what_is_started_steps_back_and_the_caller_does_not() {
        let (nice, cpus) = (
            getpriority_process(None).unwrap(),
            sched_getaffinity(None).unwrap(),
        );
        let one = (0..CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu)).unwrap();
        let threads = Threads {
            nice: 3,
            cpus: Some(one.to_string()),
        };
        let expected = (nice + 3).min(19);
        assert_eq!(seen(&threads), ((expected, 1), (nice, cpus.count())));
        let as_it_is = Threads {
            nice: 0,
            cpus: None,
        };
        assert_eq!(
            seen(&as_it_is),
            ((nice, cpus.count()), (nice, cpus.count()))
        );
    }

    #[test]
    fn a_refusal_hinders_nothing() {
        let cpus = sched_getaffinity(None).unwrap();
        let none = (0..CpuSet::MAX_CPU).rev().find(|cpu| !cpus.is_set(*cpu));
        let threads = Threads {
            nice: 1,
            cpus: none.map(|cpu| cpu.to_string()),
        };
        let ((_, inside), (_, outside)) = seen(&threads);
        assert_eq!((inside, outside), (cpus.count(), cpus.count()));
    }
}
