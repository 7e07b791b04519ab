//! Exchanging filters while callbacks run.
//!
//! A callback reads one atomic index and one cell that is never written again: no lock, no retry, no count that two
//! validator threads would fight over. The price is that an exchanged filter is kept until the plugin is unloaded, for
//! nobody knows when the last callback has left it. So exchanges are bounded, by number and by memory, and the next one
//! is refused with the way out.
//!
//! The usual means of reclaiming fail here: they keep a thread-local record per reader and clear it up by a destructor,
//! which would run unmapped code on the validator's threads once this library is gone.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::Filter;

/// Exchanges between loading and unloading.
pub const EXCHANGES_MAX: usize = 1024;
/// Memory of the filters that exchanges have brought, in bytes. A list of 100,000 addresses takes 4.9 MB.
pub const EXCHANGED_BYTES_MAX: usize = 256 << 20;

/// The filters that took effect together, one per output.
#[derive(Debug)]
pub struct Generation {
    number: usize,
    filters: Box<[Filter]>,
}

impl Generation {
    /// 0 since loading, then counting exchanges.
    pub fn number(&self) -> usize {
        self.number
    }

    /// In the order of the outputs.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }
}

/// See the module.
#[derive(Debug)]
pub struct Switch {
    first: Generation,
    /// Generation n + 1 is at n.
    later: Box<[OnceLock<Generation>]>,
    current: AtomicUsize,
    /// Bytes of all `later`. Held by who exchanges, never by a callback.
    exchanged_bytes: Mutex<usize>,
    bytes_max: usize,
}

/// Why an exchange did not happen; the filters of before stay in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    #[error(
        "the new configuration has {written} outputs, the running plugin {running}; outputs are added and removed by \
         `agave-validator plugin reload`"
    )]
    Outputs { running: usize, written: usize },
    #[error(
        "filters were exchanged {0} times since the plugin was loaded, and each is kept until it is unloaded; run \
         `agave-validator plugin reload` to begin anew"
    )]
    Exchanges(usize),
    #[error(
        "with these filters, those exchanged since the plugin was loaded would hold {needed} bytes of at most {most}, \
         and each is kept until it is unloaded; run `agave-validator plugin reload` to begin anew"
    )]
    Bytes { needed: usize, most: usize },
}

impl Switch {
    /// One filter per output.
    pub fn new(filters: Vec<Filter>) -> Self {
        Self::bounded(filters, EXCHANGES_MAX, EXCHANGED_BYTES_MAX)
    }

    pub(super) fn bounded(filters: Vec<Filter>, exchanges_max: usize, bytes_max: usize) -> Self {
        Self {
            first: Generation {
                number: 0,
                filters: filters.into(),
            },
            later: (0..exchanges_max).map(|_| OnceLock::new()).collect(),
            current: AtomicUsize::new(0),
            exchanged_bytes: Mutex::new(0),
            bytes_max,
        }
    }

    /// What is in force now. A callback asks once and uses the answer for all outputs.
    pub fn current(&self) -> &Generation {
        let number = self.current.load(Ordering::Acquire);
        number
            .checked_sub(1)
            // The cell was filled before its number was stored.
            .and_then(|at| self.later.get(at)?.get())
            .unwrap_or(&self.first)
    }

    /// For the thread that watches the configuration, not for callbacks. Returns the number of the new generation.
    pub fn replace(&self, filters: Vec<Filter>) -> Result<usize, ReplaceError> {
        let mut exchanged_bytes = self
            .exchanged_bytes
            .lock()
            // It guards a number that is always whole.
            .unwrap_or_else(PoisonError::into_inner);
        if filters.len() != self.first.filters.len() {
            return Err(ReplaceError::Outputs {
                running: self.first.filters.len(),
                written: filters.len(),
            });
        }
        let before = self.current.load(Ordering::Relaxed);
        let Some(cell) = self.later.get(before) else {
            return Err(ReplaceError::Exchanges(before));
        };
        let needed = *exchanged_bytes + filters.iter().map(Filter::held_bytes).sum::<usize>();
        if needed > self.bytes_max {
            return Err(ReplaceError::Bytes {
                needed,
                most: self.bytes_max,
            });
        }
        let number = before + 1;
        cell.get_or_init(|| Generation {
            number,
            filters: filters.into(),
        });
        self.current.store(number, Ordering::Release);
        *exchanged_bytes = needed;
        Ok(number)
    }

    /// How often `replace` may still succeed, memory permitting.
    pub fn exchanges_left(&self) -> usize {
        self.later.len() - self.current.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use event_schema::Pubkey;

    use super::*;
    use crate::filter::config::{AccountsConfig, DataSliceConfig, FilterConfig};

    /// A filter that carries a mark, which can be read back.
    fn marked(mark: usize) -> Filter {
        Filter::compile(&FilterConfig {
            accounts_data_slice: vec![DataSliceConfig {
                offset: 0,
                length: mark as u64,
            }],
            ..FilterConfig::default()
        })
        .unwrap()
    }

    fn mark_of(filter: &Filter) -> usize {
        filter.data_slices().length(&[0; 4096])
    }

    #[test]
    fn the_new_filters_are_in_force_and_the_old_remain_readable() {
        let switch = Switch::new(vec![marked(0)]);
        let before = switch.current();
        assert_eq!(switch.replace(vec![marked(1)]), Ok(1));
        assert_eq!(mark_of(&before.filters()[0]), 0);
        assert_eq!(mark_of(&switch.current().filters()[0]), 1);
        assert_eq!((before.number(), switch.current().number()), (0, 1));
        assert_eq!(switch.exchanges_left(), EXCHANGES_MAX - 1);
    }

    #[test]
    fn refusals_leave_all_as_it_was_and_say_the_way_out() {
        let switch = Switch::bounded(vec![marked(0)], 2, EXCHANGED_BYTES_MAX);
        let outputs = switch.replace(vec![marked(1), marked(1)]).unwrap_err();
        assert_eq!(
            outputs,
            ReplaceError::Outputs {
                running: 1,
                written: 2
            }
        );
        assert_eq!(switch.replace(vec![marked(1)]), Ok(1));
        assert_eq!(switch.replace(vec![marked(2)]), Ok(2));
        let exchanges = switch.replace(vec![marked(3)]).unwrap_err();
        assert_eq!(exchanges, ReplaceError::Exchanges(2));
        assert_eq!(switch.current().number(), 2);
        for error in [
            outputs,
            exchanges,
            ReplaceError::Bytes { needed: 2, most: 1 },
        ] {
            assert!(error.to_string().contains("plugin reload"));
        }
    }

    #[test]
    fn memory_of_exchanged_filters_is_bounded() {
        let large = || {
            let owners = (0..10_000_u32)
                .map(|number| {
                    let mut key = [7; 32];
                    key[..4].copy_from_slice(&number.to_le_bytes());
                    Pubkey(key)
                })
                .collect();
            let accounts = AccountsConfig {
                owners,
                ..AccountsConfig::default()
            };
            Filter::compile(&FilterConfig {
                accounts,
                ..FilterConfig::default()
            })
            .unwrap()
        };
        let one = large().held_bytes();
        // 32 bytes of key, 4 of position, 1 of control, in at most 16/7 as many places.
        assert!((370_000..900_000).contains(&one), "{one}");
        // The first is not counted: loading is the operator's choice.
        let switch = Switch::bounded(vec![large()], 100, 2 * one + one / 2);
        assert_eq!(switch.replace(vec![large()]), Ok(1));
        assert_eq!(switch.replace(vec![large()]), Ok(2));
        assert!(matches!(
            switch.replace(vec![large()]),
            Err(ReplaceError::Bytes { .. })
        ));
        // A small one still fits.
        assert_eq!(switch.replace(vec![marked(3)]), Ok(3));
    }

    #[test]
    fn readers_see_whole_generations_in_order() {
        const EXCHANGES: usize = 1000;
        const OUTPUTS: usize = 3;
        let outputs = |mark: usize| (0..OUTPUTS).map(|_| marked(mark)).collect::<Vec<_>>();
        let switch = Switch::new(outputs(0));
        let seen = [0; 3].map(AtomicUsize::new);
        // A reader that falls behind for ever must fail, not hang.
        let started = Instant::now();
        let in_time = || assert!(started.elapsed() < Duration::from_secs(30));
        thread::scope(|scope| {
            for seen in &seen {
                let switch = &switch;
                scope.spawn(move || {
                    let mut last = 0;
                    while last < EXCHANGES {
                        in_time();
                        let generation = switch.current();
                        let number = generation.number();
                        assert!(number >= last, "{number} after {last}");
                        assert_eq!(generation.filters().len(), OUTPUTS);
                        for filter in generation.filters() {
                            assert_eq!(mark_of(filter), number);
                        }
                        last = number;
                        seen.store(last, Ordering::Release);
                    }
                });
            }
            for number in 1..=EXCHANGES {
                assert_eq!(switch.replace(outputs(number)), Ok(number));
                // Now and then all readers catch up, so that they run beside exchanges and not after them.
                if number % 20 == 0 {
                    let behind = |seen: &AtomicUsize| seen.load(Ordering::Acquire) + 19 < number;
                    while seen.iter().any(behind) {
                        in_time();
                        thread::yield_now();
                    }
                }
            }
        });
    }

    #[test]
    fn exchanges_from_two_threads_are_one_after_the_other() {
        let switch = Switch::new(vec![marked(0)]);
        let exchange = || {
            (0..200)
                .map(|_| switch.replace(vec![marked(1)]).unwrap())
                .collect::<Vec<_>>()
        };
        let mut numbers = thread::scope(|scope| {
            let other = scope.spawn(exchange);
            let mut numbers = exchange();
            numbers.extend(other.join().unwrap());
            numbers
        });
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
        assert_eq!(switch.current().number(), 400);
    }
}
