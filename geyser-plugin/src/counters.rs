//! The plugin's figures: plain atomics, raised by callbacks and threads, rendered as Prometheus text.
//!
//! The balance that must hold once all is quiet: `callbacks - filtered + copies == delivered + waiting in the spill + lost`,
//! where a callback that several outputs record has copies. Seals are counted apart. Callbacks and losses are counted in the
//! shared memory, so that the balance of a validator that was killed can be drawn up by the next one.

mod page;

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_schema::{Kind, SourceId};

use crate::{
    histogram::Histogram,
    shared_memory::{SharedMemory, Sizes},
};

/// Why an observation did not reach the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum LossReason {
    /// The queue held its number of records.
    QueueRecords,
    /// The queue held its number of bytes.
    QueueBytes,
    /// The record is larger than Kafka may accept.
    Oversize,
    /// The validator reported with an older struct version, or with a key of the wrong length.
    Unreadable,
    /// The callback panicked.
    Panic,
    /// Kafka refused the record for good.
    Delivery,
    /// The plugin was unloaded while Kafka was away and the spill could not take the rest.
    Unload,
    /// The snapshot's accounts had filled their half of the queue.
    Startup,
    /// They came faster than `startup.records_per_second`.
    StartupRate,
    /// The queue was half full, and the record belongs to no block.
    Beside,
}

impl LossReason {
    pub const ALL: [Self; 10] = [
        Self::QueueRecords,
        Self::QueueBytes,
        Self::Oversize,
        Self::Unreadable,
        Self::Panic,
        Self::Delivery,
        Self::Unload,
        Self::Startup,
        Self::StartupRate,
        Self::Beside,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueRecords => "queue_records",
            Self::QueueBytes => "queue_bytes",
            Self::Oversize => "oversize",
            Self::Unreadable => "unreadable",
            Self::Panic => "panic",
            Self::Delivery => "delivery",
            Self::Unload => "unload",
            Self::Startup => "startup",
            Self::StartupRate => "startup_rate",
            Self::Beside => "beside",
        }
    }
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a callback reports.
pub const OBSERVED: [Kind; 7] = [
    Kind::Account,
    Kind::Slot,
    Kind::Transaction,
    Kind::Entry,
    Kind::BlockMeta,
    Kind::Deshred,
    Kind::ContactInfo,
];

/// Where callbacks of a kind are counted in a [`crate::shared_memory::Tally`].
#[inline]
const fn place(kind: Kind) -> usize {
    match kind {
        Kind::Account => 0,
        Kind::Slot => 1,
        Kind::Transaction => 2,
        Kind::Entry => 3,
        Kind::BlockMeta => 4,
        Kind::Deshred => 5,
        // No callback reports another.
        _ => 6,
    }
}

/// The last place: callbacks that no output records.
const FILTERED: usize = 7;

/// Every so many callbacks of a kind, and a thread, one is timed: the clock costs as much as a small callback.
pub const TIMED_ONE_IN: u64 = 64;

/// See the module. One per plugin instance: two instances in one process do not mix.
pub struct Counters {
    memory: Arc<SharedMemory>,
    delivered: [Count; 16],
    /// Of callbacks, by kind.
    durations: [Histogram; 16],
    /// From hand-over to Kafka to its acknowledgement.
    pub kafka_latency: Histogram,
    /// From a block's metadata, as the worker saw it, to the slot's first seal.
    pub seal_lag: Histogram,
    /// Copies of callbacks that more than one output records.
    pub copies: Count,
    /// Losses whose slot could not be written down and which the newest slot's seals state.
    pub lost_unplaced: Count,
    /// Of the lost, those that belong to no block and that no seal states.
    pub lost_beside: Count,
    pub panics: Count,
    /// Observations and seals of this instance written to the spill, in total.
    pub spilled: Count,
    pub spilled_seals: Count,
    /// Of those, how many have been handed on to Kafka.
    pub drained: Count,
    pub drained_seals: Count,
    /// Records an earlier instance left in the spill, handed on to Kafka.
    pub inherited: Count,
    pub inherited_lost: Count,
    pub spill_bytes: Count,
    /// Age of the oldest record in the spill, in seconds.
    pub spill_age_seconds: Count,
    /// Taken over from the memory of an instance that was killed.
    pub recovered: Count,
    /// What that instance had counted as lost, and its records that the spill could not take.
    pub predecessor_lost: Count,
    /// That, and what the killed ones in a row before it had lost.
    pub killed_lost: Count,
    /// 1 when the queue outlives the process.
    pub queue_named: Count,
    pub filter_generation: Count,
    pub spill_errors: Count,
    pub queue_records: Count,
    pub queue_bytes: Count,
    pub kafka_in_flight: Count,
    pub kafka_errors: Count,
    pub kafka_ready: Count,
    pub seals_sealed: Count,
    pub seals_amended: Count,
    /// Given up while there was room for them nowhere.
    pub seals_dropped: Count,
    /// Records of slots so old that no seal counts them any more.
    pub unsealed: Count,
}

/// The figures that are not zero, as the metrics page has them.
impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = self.render("");
        let shown = page.lines().filter(|line| {
            !line.starts_with('#') && !line.contains("_bucket") && !line.ends_with(" 0")
        });
        f.debug_list().entries(shown).finish()
    }
}

impl Default for Counters {
    /// Over memory of their own.
    fn default() -> Self {
        let sizes = Sizes {
            records: 1,
            record_bytes: 64,
            seals: 1,
            seal_bytes: 64,
        };
        let memory = SharedMemory::anonymous(sizes, SourceId::default(), &[]);
        // A few KiB that the system refuses end every program.
        Self::new(Arc::new(memory.expect("memory for counters")))
    }
}

impl Counters {
    pub fn new(memory: Arc<SharedMemory>) -> Self {
        Self {
            memory,
            delivered: Default::default(),
            durations: Default::default(),
            kafka_latency: Histogram::default(),
            seal_lag: Histogram::default(),
            copies: Count::default(),
            lost_unplaced: Count::default(),
            lost_beside: Count::default(),
            panics: Count::default(),
            spilled: Count::default(),
            spilled_seals: Count::default(),
            drained: Count::default(),
            drained_seals: Count::default(),
            inherited: Count::default(),
            inherited_lost: Count::default(),
            spill_bytes: Count::default(),
            spill_age_seconds: Count::default(),
            recovered: Count::default(),
            predecessor_lost: Count::default(),
            killed_lost: Count::default(),
            queue_named: Count::default(),
            filter_generation: Count::default(),
            spill_errors: Count::default(),
            queue_records: Count::default(),
            queue_bytes: Count::default(),
            kafka_in_flight: Count::default(),
            kafka_errors: Count::default(),
            kafka_ready: Count::default(),
            seals_sealed: Count::default(),
            seals_amended: Count::default(),
            seals_dropped: Count::default(),
            unsealed: Count::default(),
        }
    }

    /// Counts a callback; true when this one is to be timed.
    #[inline]
    pub fn callback(&self, kind: Kind) -> bool {
        let count = self.memory.header().tally().raise(place(kind));
        count.is_multiple_of(TIMED_ONE_IN)
    }

    #[cold]
    pub fn timed(&self, kind: Kind, took: Duration) {
        self.durations[kind as usize].add(took);
    }

    /// A callback that no output records.
    #[inline]
    pub fn filtered(&self) {
        self.memory.header().tally().raise(FILTERED);
    }

    pub fn delivered(&self, kind: Kind) {
        self.delivered[kind as usize].add(1);
    }

    pub fn lost(&self, reason: LossReason, count: u64) {
        self.memory.header().lost[reason as usize]
            .0
            .fetch_add(count, Ordering::Relaxed);
    }

    /// As [`Counters::lost`], of one record of this kind.
    pub fn lost_one(&self, reason: LossReason, kind: Kind) {
        self.lost(reason, 1);
        if kind.is_beside_blocks() {
            self.lost_beside.add(1);
        }
    }

    pub fn lost_for(&self, reason: LossReason) -> u64 {
        self.memory.header().lost[reason as usize]
            .0
            .load(Ordering::Relaxed)
    }

    pub fn callbacks_of(&self, kind: Kind) -> u64 {
        self.memory.header().tallied(place(kind))
    }

    pub fn callbacks_total(&self) -> u64 {
        OBSERVED
            .into_iter()
            .map(|kind| self.callbacks_of(kind))
            .sum()
    }

    pub fn filtered_total(&self) -> u64 {
        self.memory.header().tallied(FILTERED)
    }

    /// What must be accounted for: callbacks less the filtered, and their copies.
    pub fn records_total(&self) -> u64 {
        (self.callbacks_total() + self.copies.get()).saturating_sub(self.filtered_total())
    }

    /// Observations on the log, acknowledged by all replicas.
    pub fn delivered_total(&self) -> u64 {
        self.delivered.iter().map(Count::get).sum::<u64>() - self.delivered_seals()
    }

    pub fn delivered_seals(&self) -> u64 {
        self.delivered[Kind::Seal as usize].get()
    }

    pub fn lost_total(&self) -> u64 {
        // Of a killed instance's memory too, which is not taken on trust.
        LossReason::ALL
            .into_iter()
            .map(|reason| self.lost_for(reason))
            .fold(0, u64::saturating_add)
    }

    /// Observations of this instance that wait on disk.
    pub fn spill_pending(&self) -> u64 {
        self.spilled.get().saturating_sub(self.drained.get())
    }
}
